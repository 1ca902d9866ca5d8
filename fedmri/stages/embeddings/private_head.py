"""The last layer from noised sums over patients, released once: privacy with few patients."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.claims import Claim, Claims
from fedmri.errors import ConfigError, require
from fedmri.harmonize.sums import Arrays
from fedmri.round import Weights
from fedmri.stages.noised import SumsRelease, released
from fedmri.stages.on_embeddings import OnEmbeddings, embeddings_at
from fedmri.stages.stage import AtSite, Made, When

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fedmri.plan import Plan
    from fedmri.privacy.head_sums import HeadSums, Patients
    from fedmri.stages.public_place import PublicPlace
    from fedmri.tasks.task import Coded


log = logging.getLogger("fedmri.client")

FAR = 2.0
"""Length of a patient's numbers, of which 1 counts, that clipping changes beyond use."""


@dataclass(frozen=True)
class PrivateHead(OnEmbeddings):
    """The last layer is fitted once by least squares, from sums over patients, after all rounds.

    A patient's embeddings are averaged over its images, and projected to few numbers by a public
    projection. What lies under the last layer is as the plan's weights have it.

    Attributes:
        n_numbers: Numbers that a patient's embedding is projected to. Fewer bear more noise.
        noise_multiplier: Standard deviation of the noise on the sums, in units of the most that
            one patient can add; 0 adds none.
        n_shares: Hospitals whose noise makes the whole together. Above 1, ``secagg.threshold`` must
            be above it: no sum is then seen with less noise, even by one hospital that knows its
            own.
    """

    n_numbers: int = 16
    noise_multiplier: float = 0.0
    n_shares: int = 1

    when: ClassVar[When] = When.AFTER_ROUNDS
    is_alone: ClassVar[bool] = True
    claims: ClassVar[Claims] = frozenset(
        {Claim.SUM_IS_ENOUGH, Claim.UPDATE_UNTOUCHED, Claim.BLIND_TO_PATIENTS}
    )
    asks: ClassVar[Claims] = frozenset({Claim.ONE_MODEL})
    source: ClassVar[str] = "Mehta et al. 2022, arXiv:2211.13403"
    consent: ClassVar[str] = "sums of products of few numbers and answers of training patients"

    def __post_init__(self) -> None:
        for name in ("n_numbers", "n_shares"):
            value = getattr(self, name)
            require(value >= 1, f"stages.private_head.{name}", value, "1 or more")
        noise = self.noise_multiplier
        require(0 <= noise < math.inf, "stages.private_head.noise_multiplier", noise, "0 or more")

    def refuse(self, plan: Plan) -> None:
        """Refuse a plan without a bounded answer an image, or in which noise hides nobody.

        Raises:
            ConfigError: Answers have no bound (C03), the network trains without noise beside the
                noised sums, or shares of noise could be seen apart (C01).
            HarmonizeError: The network answers each voxel (H22), or the sums have no noise beside
                that of training (H23).
        """
        if not self.noise_multiplier or plan.target.answer == "voxel":
            super().refuse(plan)
        _coded(plan)
        _refuse_unknown_shape(plan)
        key = "stages.private_head"
        is_covered = not self.noise_multiplier or plan.privacy.is_on
        n_rounds = plan.rounds.n_rounds
        require(is_covered or n_rounds == 0, "rounds.n_rounds", n_rounds, f"0 with {key} and noise")
        others = any(one.when is not When.NEVER and one is not self for one in plan.stages)
        noise, want = self.noise_multiplier, "0 where other stages are fitted by sums as well"
        require(not (noise and others), f"{key}.noise_multiplier", noise, want)
        threshold = plan.secagg.threshold if plan.secagg.is_on else 0
        want = "1, or with secagg.is_on less than secagg.threshold"
        is_hidden = self.n_shares == 1 or self.n_shares < threshold
        require(is_hidden, f"{key}.n_shares", self.n_shares, want)

    @property
    def noise(self) -> Mapping[str, float]:
        """Its noise, by the unit that it hides."""
        return {"patient": self.noise_multiplier} if self.noise_multiplier else {}

    def alone(self) -> PrivateHead:
        """Return it with all of its noise at one data holder."""
        return PrivateHead(self.n_numbers, self.noise_multiplier)

    def fit(self, made: Made) -> HeadSums:
        """Return the two releases of sums."""
        from fedmri.privacy.head_sums import HeadSums

        n_numbers = min(self.n_numbers, made.n_features)
        n_answers = made.plan.target.n_outputs
        return HeadSums(n_numbers, n_answers, self.noise_multiplier, self.n_shares)

    def own_sums(self, at: AtSite, step: int, shared: Arrays) -> Arrays:
        """Return this site's sums over patients, with its share of the plan's noise."""
        from fedmri.privacy.head_sums import N_SITES

        fit, patients = self.fit(at.made), self.patients(at)
        if step == 0:
            _warn_of_far(at.site, patients)
        sums = fit.site_sums(step, patients, shared)
        if not self.noise_multiplier:
            return sums
        one = {N_SITES: sums.pop(N_SITES)}  # that it answers is no secret
        noise = fit.noise_of(step)
        std, asked = noise / math.sqrt(self.n_shares), ("private head", step)
        return {**released(at, SumsRelease(asked, sums, std, noise, "patient")), **one}

    def finished(self, made: Made, fitted: Arrays) -> Weights:
        """Return the last layer: projection, place and model in one."""
        import torch

        from fedmri.privacy.head_sums import CENTRE, CONSTANT, MODEL, RADIUS

        place, scores = self._place(made), fitted[MODEL] * _coded(made.plan).per_code
        slopes = scores[1:] * math.sqrt(1 - CONSTANT**2) / fitted[RADIUS]
        weight = place.projection @ slopes
        bias = CONSTANT * scores[0] - fitted[CENTRE] @ slopes - place.centre @ weight
        found = {}
        for name in made.layout.head:
            old, new = made.entries[name], weight.T if made.entries[name].ndim > 1 else bias
            found[name] = torch.from_numpy(new.copy()).to(old.dtype).reshape(old.shape)
        return found

    def patients(self, at: AtSite) -> Patients:
        """Return each training patient's numbers and answer, in the order of patients."""
        import numpy as np

        from fedmri.privacy.head_sums import Patients

        values = embeddings_at(at, "train").values.numpy()
        truths = np.array([one.target for one in at.data.examples("train")], dtype=np.float64)
        codes = _coded(at.plan).coded(truths)
        own, place = _by_patient(at.patients), self._place(at.made)
        numbers = (own @ values - place.centre) @ place.projection
        return Patients(numbers, own @ codes.reshape(len(truths), -1))

    def _place(self, made: Made) -> PublicPlace:
        from fedmri.stages.public_place import public_place

        return public_place(made, self.n_numbers)


def _warn_of_far(site: str, patients: Patients) -> None:
    """Tell the site, and nobody else, where most of its patients would be clipped."""
    lengths = (patients.numbers**2).sum(axis=1) ** 0.5
    if (n_far := int((lengths > FAR).sum())) * 2 > len(lengths):
        log.warning(
            "site %s: %d of %d patients are unlike the public images that scale the private head; "
            "it will fit badly: look at data.prepare.scaling and the model's weights",
            *(site, n_far, len(lengths)),
        )


def _by_patient(patients: list[tuple[str, str]]) -> NDArray[np.float64]:
    """Return what takes examples to means over patients, shape ``(patients, examples)``."""
    import numpy as np

    names = {name: row for row, name in enumerate(sorted(set(patients)))}
    member = np.zeros((len(names), len(patients)))
    member[[names[one] for one in patients], np.arange(len(patients))] = 1
    return np.asarray(member / np.maximum(member.sum(axis=1, keepdims=True), 1))


def _coded(plan: Plan) -> Coded:
    """Return the task, whose answers have codes of a length of 1 at most (C03)."""
    from fedmri.tasks.task import Coded

    if isinstance(plan.target, Coded):
        return plan.target
    raise ConfigError(
        "C03",
        "stage private_head",
        found=f"{plan.target.title}, whose answers have no bounded code",
        want="a target such as classification or regression",
        fix="leave the stage out, or choose another target",
    )


def _refuse_unknown_shape(plan: Plan) -> None:
    """Refuse images whose size is not known beforehand: public images have to be like them."""
    want = "one size for all images with stages.private_head, such as data.prepare.size=[64,64]"
    require(0 not in plan.shape, "data.prepare.size", plan.shape, want)
