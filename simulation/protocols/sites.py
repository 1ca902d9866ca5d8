"""Sites: every model is tested on test patients of every site."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from fedmri.arm import Arm, Comparison, compared
from fedmri.plan import Plan
from fedmri.simulation.arms.arm_runs import (
    ArmRun,
    ArmSites,
    federated_runs,
    local_runs,
    personalised_runs,
    pooled_runs,
)
from fedmri.simulation.settings import SimulationConfig


@dataclass(frozen=True)
class Sites:
    """The federation beside all data in one place, and beside each site alone."""

    source: ClassVar[str] = "Sheller et al. 2020, doi:10.1038/s41598-020-69250-1"
    tests_whole_sites: ClassVar[bool] = False

    def runs(self, plan: Plan, config: SimulationConfig, sites: ArmSites) -> Iterator[ArmRun]:
        """Yield federations, the pool, each site, and the federation's model at each site."""
        yield from federated_runs(plan, config, sites)
        yield from pooled_runs(plan, config, sites)
        yield from local_runs(plan, config, sites)
        yield from personalised_runs(plan, config, sites)

    def comparison(self, arms: Sequence[Arm]) -> Comparison:
        """Return the usual rows."""
        return compared(arms)
