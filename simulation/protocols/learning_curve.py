"""Learning curve: what fewer patients at each site, or fewer sites, would have given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from fedmri.arm import Arm, Comparison, compared
from fedmri.errors import require
from fedmri.plan import Plan
from fedmri.simulation.arms.arm_runs import ArmRun, ArmSites, federated_runs, marked, pooled_runs
from fedmri.simulation.divisions import FewTrained
from fedmri.simulation.protocols.sites import Sites
from fedmri.simulation.settings import SimulationConfig


@dataclass(frozen=True)
class LearningCurve:
    """What the protocol ``sites`` compares, and the federation and the pool on less.

    All are tested on the same patients. The patients, or sites, of a smaller number are among those
    of a larger one.

    Attributes:
        by: Training patients of each site, or sites that take part.
        counts: Numbers to train on; empty takes 2, 4, 8 and so on, below what there is.
    """

    by: Literal["patients", "sites"] = "patients"
    counts: tuple[int, ...] = ()
    source: ClassVar[str] = "Cortes et al. 1993, Learning curves, NIPS 6, 327-334"
    tests_whole_sites: ClassVar[bool] = False

    def __post_init__(self) -> None:
        is_positive = all(count > 0 for count in self.counts)
        require(is_positive, "simulation.protocol.counts", self.counts, "positive numbers")

    def runs(self, plan: Plan, config: SimulationConfig, sites: ArmSites) -> Iterator[ArmRun]:
        """Yield all of ``sites``, then the arms on less."""
        n_all = len(sites.names) if self.by == "sites" else _most_trained(sites)
        for run in Sites().runs(plan, config, sites):
            is_on_curve = run.arm.role in ("federated", "pooled", "balanced")
            yield replace(run, arm=replace(run.arm, size=n_all * is_on_curve))
        for count in self._counts(n_all):
            part = f"{count} {self.by if count > 1 else self.by.removesuffix('s')}"
            fewer = self._fewer(plan, sites, count, part)
            less = (*federated_runs(plan, config, fewer), *pooled_runs(plan, config, fewer))
            yield from marked(less, part=part, size=count)

    def comparison(self, arms: Sequence[Arm]) -> Comparison:
        """Return the usual rows, and one for each number."""
        return compared(arms)

    def _counts(self, n_all: int) -> list[int]:
        wanted = self.counts or tuple(2**power for power in range(1, n_all.bit_length()))
        return sorted({count for count in wanted if count < n_all})

    def _fewer(self, plan: Plan, sites: ArmSites, count: int, part: str) -> ArmSites:
        if self.by == "sites":
            return sites.only(sites.names[:count])
        return sites.divided(plan, part, FewTrained(count))


def _most_trained(sites: ArmSites) -> int:
    """Return the training patients of the largest site."""
    from fedmri.data.preparation.prepared import read_site  # torch loads here

    scans = [read_site(path).scans for path in sites.sites.values()]
    return max(len({scan.subject for scan in own if scan.split == "train"}) for own in scans)
