"""A site's own gate: what it asks of an update before it lets it out, whatever the plan says.

Nothing here touches the update or the training: the attacks have networks and random numbers of
their own, and the update leaves as it is or not at all.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from fedmri.clients.egress.ledger import Ledger
from fedmri.data.batches.site_data import Split
from fedmri.errors import PrivacyError
from fedmri.leakage.inversion import InversionConfig
from fedmri.leakage.membership import losses_of, perfect
from fedmri.leakage.meter import Evidence, LeakageReport, attack
from fedmri.leakage.release import Release, unmeasured
from fedmri.leakage.sample import N_SUBJECTS, chosen_batches, joined, moved
from fedmri.models.weights import load_weights
from fedmri.privacy.stream import key_for
from fedmri.round import Batch, Update, Weights
from fedmri.stages.chain import chain
from fedmri.stages.stage import AtSite, Leaving, Place, Stage
from fedmri.training.computing.device import memory_explained, pick_device, reproducible
from fedmri.training.seeds import derive_seed
from fedmri.updates.filters import change_norm

log = logging.getLogger("fedmri.client")

N_CONTROLS = 8
"""Held-out images that a reconstruction is compared with."""


@dataclass(frozen=True)
class Outgoing:
    """An update that is about to leave, and the site that it was trained at."""

    at: AtSite
    leaving: Leaving

    @property
    def seen(self) -> Weights:
        """The entries as the server will see them."""
        received = self.leaving.received
        update = Update(self.at.site, self.leaving.arrays, 0, 0)
        for stage in reversed(chain(self.at.plan).values()):
            update = stage.incoming(update, received)
        return dict(update.weights)


@dataclass(frozen=True)
class Measured:
    """A line of the site's ledger of leakage, which never leaves; see ``LeakageReport``."""

    run: str
    round: int
    score: float
    max_leakage: float
    is_released: bool
    inversion: Mapping[str, float]
    membership: Mapping[str, float]
    epsilon_low: float
    delta: float
    seconds: float
    kind: Literal["leakage"] = "leakage"


@dataclass(frozen=True)
class Gate(Stage):
    """A site's own limits on an update: the last stage before it leaves.

    Attributes:
        max_norm: Largest L2 norm of the change of all parameters; 0 sets no limit.
        max_leakage: Highest score of the leakage meter; 0 does not measure, 1 measures and lets
            all out.
        every: Of so many updates one is measured, drawn by the site: round 1 always, of the others
            no server knows which.
        n_steps: Steps of each of the two searches for an image: the cost of a measurement.
        ledger: File that scores are written to.
        run: Name of the run.
        secret: The site's own, which draws what is measured.
    """

    max_norm: float = 0.0
    max_leakage: float = 0.0
    every: int = 1
    n_steps: int = 100
    ledger: Path | None = None
    run: str = ""
    secret: bytes = b""

    place: ClassVar[Place] = Place.UPDATES

    def outgoing(self, at: AtSite, leaving: Leaving) -> Leaving:
        """Return the update as it is, or refuse it; one of no patient is let out.

        Raises:
            PrivacyError: Its change is too large (P63) or not finite (P60), it leaks too much
                (P64), or how much cannot be measured (P61).
        """
        update = Outgoing(at, leaving)
        if at.n_subjects and self.max_norm:
            _refuse_large(update, self.max_norm)
        if at.n_subjects and self.max_leakage and self._is_drawn(update):
            self._refuse_leaking(update)
        return leaving

    def _is_drawn(self, update: Outgoing) -> bool:
        """Tell whether an update is measured; the same order, after a restart too, is told alike.

        Round numbers come from the server, which would know whom a count of them lets pass.
        """
        at = update.at
        if at.round_index == 1:
            return True
        key = key_for(self.secret, "gate", at.site, at.round_index, update.leaving.order())
        return int.from_bytes(key) % self.every == 0

    def _refuse_leaking(self, update: Outgoing) -> None:
        try:
            self._refuse_few(update)
            started = time.monotonic()
            report = measured(update, self.n_steps)
        except PrivacyError as error:
            if self.max_leakage < 1:
                raise
            log.warning("site %s: %s", update.at.site, error)
            return
        is_released = not report.is_above(self.max_leakage)
        self._note(report, update, time.monotonic() - started, is_released=is_released)
        if not is_released:
            what, want = "leakage of the update", f"a score of {self.max_leakage:g} at most"
            fix = "train with more patients or fewer steps, or with privacy.noise_multiplier"
            raise PrivacyError("P64", what, found=in_words(report), want=want, fix=fix)

    def _refuse_few(self, update: Outgoing) -> None:
        """Refuse to measure where even the best attack would not show what must not leave."""
        n, m = (
            len({(e.site, e.subject) for e in update.at.data.examples(s)}) for s in ("train", "val")
        )
        n, m = min(n, N_SUBJECTS), min(m, N_SUBJECTS)
        best = perfect(n, m).advantage if n and m else 0.0
        if best <= self.max_leakage < 1:
            found = f"{n} and {m} patients, of whom a perfect attack would score {best:.2f}"
            want = f"enough to score above {self.max_leakage:g} (policy.max_leakage)"
            raise unmeasured(found, want)

    def _note(
        self, report: LeakageReport, update: Outgoing, seconds: float, *, is_released: bool
    ) -> None:
        round_index = update.at.round_index
        log.info("site %s, round %d: leakage is %s", update.at.site, round_index, in_words(report))
        if self.ledger is None:
            return
        line = Measured(
            self.run,
            round_index,
            report.score,
            self.max_leakage,
            is_released,
            asdict(report.inversion),
            asdict(report.membership),
            report.epsilon_low,
            report.delta,
            round(seconds, 3),
        )
        Ledger(self.ledger).append(line)


def _refuse_large(update: Outgoing, max_norm: float) -> None:
    seen, received = update.seen, update.leaving.received
    names = sorted(update.leaving.parameters & received.keys())
    size = change_norm({name: seen[name] - received[name] for name in names})
    # an update that was clipped at this very norm may be off by the rounding of its weights
    rounding = torch.finfo(torch.float32).eps * change_norm({n: received[n] for n in names})
    if size > max_norm + rounding:
        what, want = "change of the model", f"a norm of {max_norm:g} at most"
        fix = "ask for a plan with filters.clip_norm, or raise policy.max_update_norm"
        raise PrivacyError("P63", what, found=f"a norm of {size:.4g}", want=want, fix=fix)


def gate_of(node: Mapping[str, Any], ledger: Path, secret: bytes) -> Gate:
    """Return the gate of a site's ``node_config``; without limits in it, one that is open."""
    return Gate(
        max_norm=float(node.get("max-update-norm", 0)),
        max_leakage=float(node.get("max-leakage", 0)),
        every=int(node.get("leakage-every", Gate.every)),
        n_steps=int(node.get("leakage-steps", Gate.n_steps)),
        ledger=Path(str(node.get("leakage-ledger", ledger))),
        run=str(node.get("run", "")),
        secret=secret,
    )


def measured(update: Outgoing, n_steps: int) -> LeakageReport:
    """Attack an update as the server will see it, on a sample of the site's patients.

    Args:
        update: The update.
        n_steps: Steps of each search for an image.

    Raises:
        PrivacyError: There is nothing to measure with (P61).
    """
    at, leaving = update.at, update.leaving
    assert at.network is not None, "an update was trained with a network"
    own, plan = at.network, at.plan
    seed = derive_seed(plan.seed, at.site, at.round_index, "leakage")
    device = pick_device(plan.train.device)
    task = at.learned.at_site(at.data.examples("train"))

    def build() -> nn.Module:
        network = deepcopy(own)  # with what no round brings, as it came to be by the last
        load_weights(network, leaving.local)
        return network.to(device)

    def patients(split: Split) -> Iterator[Batch]:
        batches = chosen_batches(at.data, split, seed)
        return (moved(batch, device) for batch in batches)

    release = Release(build, task.mean_loss, leaving.received, update.seen)
    delta = plan.privacy.delta_of(at.n_subjects)
    with reproducible(plan.train.n_threads), memory_explained(device):
        after = release.network(release.before | release.after)
        sought = next(patients("train"))
        evidence = Evidence(
            sought,
            joined(patients("val"), like=sought, n=N_CONTROLS),
            losses_of(after, task.mean_loss, patients("train")),
            losses_of(after, task.mean_loss, patients("val")),
        )
        return attack(release, evidence, InversionConfig(n_steps=n_steps, seed=seed), delta)


def in_words(report: LeakageReport) -> str:
    """Return a score and what it consists of, in one line."""
    image, people = report.inversion, report.membership
    return (
        f"a score of {report.score:.2f}: image rebuilt with SSIM {image.ssim:.2f} (control "
        f"{image.control_ssim:.2f}), members told with an area of {people.auc:.2f} "
        f"({people.low:.2f} to {people.high:.2f}; {people.n_members} and {people.n_others} "
        "patients)"
    )
