"""Folds: every patient of every site is tested once in each repetition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from fedmri.arm import Arm, Comparison, compared
from fedmri.errors import require
from fedmri.plan import Plan
from fedmri.simulation.arms.arm_runs import ArmRun, ArmSites, marked
from fedmri.simulation.divisions import Fold
from fedmri.simulation.protocols.sites import Sites
from fedmri.simulation.settings import SimulationConfig


@dataclass(frozen=True)
class Folds:
    """What the protocol ``sites`` compares, over folds of the patients within each site.

    One fold is tested, the next one validates, and the others train.

    Attributes:
        n_folds: Parts of each site's patients.
        n_repeats: How often patients are dealt to folds anew; each is another set of trainings.
    """

    n_folds: int = 5
    n_repeats: int = 1
    source: ClassVar[str] = "Stone 1974, doi:10.1111/j.2517-6161.1974.tb00994.x"
    tests_whole_sites: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require(self.n_folds >= 3, "simulation.protocol.n_folds", self.n_folds, "3 or more")
        require(self.n_repeats >= 1, "simulation.protocol.n_repeats", self.n_repeats, "1 or more")

    def runs(self, plan: Plan, config: SimulationConfig, sites: ArmSites) -> Iterator[ArmRun]:
        """Yield all arms of ``sites`` for each fold."""
        for repeat in range(self.n_repeats):
            for number in range(self.n_folds):
                name = f"{repeat + 1}.{number + 1}"
                divided = sites.divided(plan, f"fold {name}", Fold(number, self.n_folds, repeat))
                yield from marked(Sites().runs(plan, config, divided), fold=name)

    def comparison(self, arms: Sequence[Arm]) -> Comparison:
        """Return the usual rows, each over all folds."""
        return compared(arms)
