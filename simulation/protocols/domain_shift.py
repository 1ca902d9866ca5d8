"""Domain shift: each value of a column, such as the field strength, is left out of training."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from fedmri.arm import Arm, Comparison, compared
from fedmri.errors import ConfigError
from fedmri.plan import Plan
from fedmri.simulation.arms.arm_runs import ArmRun, ArmSites, federated_runs, marked, pooled_runs
from fedmri.simulation.divisions import COLUMN, OtherDomain
from fedmri.simulation.protocols.sites import Sites
from fedmri.simulation.settings import SimulationConfig

MOST_VALUES = 8


@dataclass(frozen=True)
class DomainShift:
    """What the protocol ``sites`` compares, and models that never saw one kind of patient.

    For each value of a column the arms train on all patients with another value. They are tested on
    the test patients that have it, whom the models of all patients are tested on too.

    Attributes:
        column: Column of the subject tables, such as a field strength or a manufacturer.
    """

    column: str = ""
    source: ClassVar[str] = "Koh et al. 2021, WILDS, arXiv:2012.07421"
    tests_whole_sites: ClassVar[bool] = False

    def runs(self, plan: Plan, config: SimulationConfig, sites: ArmSites) -> Iterator[ArmRun]:
        """Yield all of ``sites``, then the arms without each value of the column.

        Raises:
            ConfigError: The column has one value, or too many (C11).
        """
        yield from Sites().runs(plan, config, sites)
        values = json.loads((sites.folder / COLUMN).read_text(encoding="utf-8"))
        for value in self._known(values):
            part = f"without {self.column}={value}"
            others = sites.divided(plan, part, OtherDomain(values, value))
            runs = (*federated_runs(plan, config, others), *pooled_runs(plan, config, others))
            yield from marked(runs, part=part)

    def comparison(self, arms: Sequence[Arm]) -> Comparison:
        """Return the usual rows, and one for each value."""
        return compared(arms)

    def _known(self, values: Mapping[str, Mapping[str, str]]) -> list[str]:
        counts = {value for own in values.values() for value in own.values() if value}
        if not 2 <= len(counts) <= MOST_VALUES:
            found = f"{len(counts)} values of {self.column!r}: {', '.join(sorted(counts)[:5])}"
            want, what = f"2 to {MOST_VALUES} values", "setting simulation.protocol.column"
            fix = "name a column of few kinds, such as a field strength or a manufacturer"
            raise ConfigError("C11", what, found=found, want=want, fix=fix)
        return sorted(counts)
