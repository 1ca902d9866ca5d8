"""The ROC area over all hospitals' test patients, from counts of binned scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from fedmri.claims import Claims
from fedmri.errors import require
from fedmri.harmonize.sums import Arrays
from fedmri.stages.on_answers import SUMS_OF_ANSWERS, no_fit
from fedmri.stages.stage import AtSite, Made, Place, Stage, When
from fedmri.tasks.task import Ranked, Task

if TYPE_CHECKING:
    from fedmri.evaluate.scores.area_counts import AreaCounts, Rank
    from fedmri.plan import Plan


@dataclass(frozen=True)
class CountedAuc(Stage):
    """The area over all patients, which no mean of the hospitals' own areas is.

    After the final test each hospital counts its test patients by class and bin of probability.
    Bins are merged until each holds enough patients of one class. So a patient's score is known to
    lie in a range, and the area has an error bound.

    Attributes:
        n_bins: Bins of one width in logits.
        n_least: Patients of one class behind each count; a hospital's own floor holds besides.
    """

    n_bins: int = 64
    n_least: int = 5

    place: ClassVar[Place] = Place.ANSWERS
    when: ClassVar[When] = When.AFTER_TEST
    is_alone: ClassVar[bool] = False
    claims: ClassVar[Claims] = SUMS_OF_ANSWERS
    source: ClassVar[str] = "Hanley and McNeil 1982, doi:10.1148/radiology.143.1.7063747"
    consent: ClassVar[str] = (
        "numbers of test patients by class, and by the lowest and highest bin of their "
        "probability, each number of several patients"
    )

    def __post_init__(self) -> None:
        require(self.n_bins in range(2, 1025), "counted_auc.n_bins", self.n_bins, "2 to 1024")
        require(self.n_least >= 1, "counted_auc.n_least", self.n_least, "1 or more")

    def refuse(self, plan: Plan) -> None:
        """Refuse a target without classes (C03)."""
        ranked(plan.target)

    def fit(self, made: Made) -> AreaCounts:
        """Return the sums of counts."""
        from fedmri.evaluate.scores.area_counts import AreaCounts

        return AreaCounts(len(ranked(made.plan.target).ranked), self.n_bins, self.n_least)

    def own_sums(self, at: AtSite, step: int, shared: Arrays) -> Arrays:
        """Return this site's counts of its test patients, by its own floor where that is higher."""
        fit = replace(self.fit(at.made), n_least=self._least(at))
        return fit.site_sums(step, self._ranks(at), shared)

    def counts(self, at: AtSite) -> tuple[int, int]:
        """Return the test patients who are counted; those of training where nobody is."""
        n_counted = max((len(truth) for _, truth in self._ranks(at)), default=0)
        return (n_counted, n_counted) if n_counted else super().counts(at)

    def _least(self, at: AtSite) -> int:
        return max(self.n_least, at.account.n_least)

    def _ranks(self, at: AtSite) -> list[Rank]:
        """Return what may be counted here: of each area all patients, or nobody."""
        task, n_least = ranked(at.learned), self._least(at)
        found = task.ranks(at.learned.clipped(at.tested()))
        sides = [(int(truth.sum()), int((~truth).sum())) for _, truth in found]
        is_enough = [min(of_area) >= n_least for of_area in sides]
        # counts of all classes but one would tell how few are in the last
        is_any_small = any(0 < n < n_least for of_area in sides for n in of_area)
        if task.are_exclusive and is_any_small:
            is_enough = [False] * len(found)
        return [
            rank if is_in else (rank[0][:0], rank[1][:0])
            for rank, is_in in zip(found, is_enough, strict=True)
        ]

    def recorded(self, made: Made, fitted: Arrays) -> Mapping[str, Any]:
        """Return the area of each class, with its error bound, interval and patients."""
        from fedmri.evaluate.scores.area_counts import AREA

        rows = zip(*(fitted[name].tolist() for name in AREA), strict=True)
        found = [dict(zip(AREA, row, strict=True)) for row in rows]
        return {"areas": dict(zip(ranked(made.plan.target).ranked, found, strict=True))}


def ranked(task: Task) -> Ranked:
    """Return a task whose patients have an order of probability, or refuse it (C03)."""
    if isinstance(task, Ranked):
        return task
    raise no_fit("counted_auc", task, "a classification, whose patients have probabilities")
