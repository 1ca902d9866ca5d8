"""LOSO: each site is also left out in turn, and tested with all of its patients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from fedmri.arm import Arm, Comparison, compared
from fedmri.plan import Plan
from fedmri.simulation.arms.arm_runs import ArmRun, ArmSites, left_out_runs
from fedmri.simulation.protocols.sites import Sites
from fedmri.simulation.settings import SimulationConfig


@dataclass(frozen=True)
class LeaveOneSiteOut:
    """What the protocol ``sites`` compares, and models that do not know the site they meet."""

    source: ClassVar[str] = "Geras and Sutton 2013, Multiple-source cross-validation, ICML"
    tests_whole_sites: ClassVar[bool] = True

    def runs(self, plan: Plan, config: SimulationConfig, sites: ArmSites) -> Iterator[ArmRun]:
        """Yield all of ``sites``, then the arms without each site."""
        yield from Sites().runs(plan, config, sites)
        for left_out in sites.names:
            yield from left_out_runs(left_out, plan, config, sites)

    def comparison(self, arms: Sequence[Arm]) -> Comparison:
        """Return the usual rows."""
        return compared(arms)
