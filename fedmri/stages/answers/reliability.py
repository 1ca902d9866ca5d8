"""Whether answers can be taken at their word: a temperature and coverage by site, from sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from fedmri.claims import Claims
from fedmri.errors import require
from fedmri.harmonize.sums import Arrays
from fedmri.stages.on_answers import SUMS_OF_ANSWERS, no_fit
from fedmri.stages.stage import AtSite, Made, Place, Stage, When
from fedmri.tasks.task import Case, Ranked, Task, single

if TYPE_CHECKING:
    from fedmri.evaluate.reliability.by_sums import Answered, ReliabilitySums, SiteAnswers
    from fedmri.plan import Plan


@dataclass(frozen=True)
class Reliability(Stage):
    """Calibration and coverage over all patients, which no site sees by itself.

    After the final test each hospital sums over its validation patients. The sums give one
    temperature of the probabilities, and one limit of sets or intervals. Then it sums over its test
    patients under both, and under its own.

    Attributes:
        n_least: Patients behind what a hospital sends; its own floor holds besides.
    """

    n_least: int = 5

    place: ClassVar[Place] = Place.ANSWERS
    when: ClassVar[When] = When.AFTER_TEST
    is_alone: ClassVar[bool] = False
    claims: ClassVar[Claims] = SUMS_OF_ANSWERS
    source: ClassVar[str] = (
        "Guo et al. 2017, arXiv:1706.04599 (temperature); Lei et al. 2018, "
        "doi:10.1080/01621459.2017.1307116 (limits)"
    )
    consent: ClassVar[str] = (
        "numbers of validation patients by range of error, each number of several patients, and "
        "how their mean loss changes with temperature; then of test patients the mean confidence, "
        "squared error, and size of sets or intervals, and how many of them these hold"
    )

    def __post_init__(self) -> None:
        require(self.n_least >= 1, "reliability.n_least", self.n_least, "1 or more")

    def refuse(self, plan: Plan) -> None:
        """Refuse a target without classes or values (C03)."""
        _form(plan.target)

    def fit(self, made: Made) -> ReliabilitySums:
        """Return the sums of both steps."""
        from fedmri.evaluate.reliability.by_sums import ReliabilitySums

        return ReliabilitySums(*_form(made.plan.target), self.n_least)

    def first(self, sites: Sequence[str]) -> Arrays:
        """Return what each site finds its own row by."""
        from fedmri.harmonize.embeddings.domain_head import site_numbers

        return site_numbers(sites)

    def own_sums(self, at: AtSite, step: int, shared: Arrays) -> Arrays:
        """Return this site's part, by its own floor where that is higher."""
        fit = replace(self.fit(at.made), n_least=self._least(at))
        return fit.site_sums(step, self._answers(at, shared), shared)

    def counts(self, at: AtSite) -> tuple[int, int]:
        """Return the fewest patients behind a sum; those of training where nobody is counted."""
        sizes = [len(at.validated()), len(at.tested())]
        n_least = min((n for n in sizes if n >= self._least(at)), default=0)
        return (n_least, n_least) if n_least else super().counts(at)

    def _least(self, at: AtSite) -> int:
        return max(self.n_least, at.account.n_least)

    def _answers(self, at: AtSite, shared: Arrays) -> SiteAnswers:
        import torch

        from fedmri.evaluate.reliability.by_sums import SITES, SiteAnswers
        from fedmri.harmonize.embeddings.domain_head import place_of

        row = place_of(at.site, torch.from_numpy(shared[SITES]))
        n_outputs = max(1, self.fit(at.made).n_classes)
        validated, tested = (
            _answered(at.learned.clipped(side()), n_outputs) for side in (at.validated, at.tested)
        )
        return SiteAnswers(validated, tested, row)

    def recorded(self, made: Made, fitted: Arrays) -> Mapping[str, Any]:
        """Return the temperature, the limit, and the sums of each site in the order of names."""
        from fedmri.evaluate.reliability.by_sums import SITES

        alone = ("temperature", "limit")
        sums = {n: v.tolist() for n, v in fitted.items() if n not in (*alone, SITES)}
        return {"reliability": {**{n: float(fitted[n][0]) for n in alone}, "sums": sums}}


def _form(task: Task) -> tuple[int, float]:
    """Return the number of classes and the largest error of a value; one of them is 0 (C03)."""
    if isinstance(task, Ranked) and task.are_exclusive:
        return task.n_outputs, 0.0
    if task.answer == "image" and "mae" in task.ranges:
        return 0, float(task.ranges["mae"][1])
    raise no_fit("reliability", task, "a classification or a regression")


def _answered(cases: Sequence[Case], n_outputs: int) -> Answered:
    import numpy as np

    from fedmri.evaluate.reliability.by_sums import Answered

    said = np.array([case.prediction[:n_outputs] for case in cases], dtype=np.float64)
    truth = np.array([single(case.truth) for case in cases], dtype=np.float64)
    return Answered(said.reshape(-1, n_outputs), truth)
