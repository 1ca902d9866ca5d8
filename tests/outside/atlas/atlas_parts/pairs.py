"""Pairs: each hospital is tested with a model that one other hospital alone has trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from fedmri.arm import Arm, Comparison, Group
from fedmri.plan import Plan
from fedmri.simulation.arms.arm_runs import ArmRun, ArmSites, federated_runs, local_runs
from fedmri.simulation.settings import SimulationConfig


@dataclass(frozen=True)
class Pairs:
    """The federation beside the models of single sites, each a row of its own."""

    source: ClassVar[str] = "made for a test"
    tests_whole_sites: ClassVar[bool] = False

    def runs(self, plan: Plan, config: SimulationConfig, sites: ArmSites) -> Iterator[ArmRun]:
        """Yield the federation and each site."""
        yield from federated_runs(plan, config, sites)
        yield from local_runs(plan, config, sites)

    def comparison(self, arms: Sequence[Arm]) -> Comparison:
        """Return a row for each arm: nothing is averaged."""
        rows = (Group(f"{arm.label} alone", arm.role, (arm.label,)) for arm in arms)
        return Comparison(tuple(arms), tuple(rows))
