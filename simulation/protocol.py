"""What a protocol is: which models are trained, on whom they are tested, and how they are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

from fedmri.arm import Arm, Comparison
from fedmri.parts import Registry

if TYPE_CHECKING:
    from fedmri.plan import Plan
    from fedmri.simulation.arms.arm_runs import ArmRun, ArmSites
    from fedmri.simulation.settings import SimulationConfig


class StudyProtocol(Protocol):
    """How a question is put to data. Its class is a frozen dataclass without fields.

    Attributes:
        source: Where it is described.
        tests_whole_sites: Whether ``ArmSites.whole`` is asked for: sites with all their patients on
            the side of tests.
    """

    source: ClassVar[str]
    tests_whole_sites: ClassVar[bool]

    def runs(self, plan: Plan, config: SimulationConfig, sites: ArmSites) -> Iterator[ArmRun]:
        """Yield the trainings of one seed, which is the plan's."""
        ...

    def comparison(self, arms: Sequence[Arm]) -> Comparison:
        """Return how the arms are read as rows of the table; references are among them."""
        ...


PROTOCOLS = Registry[StudyProtocol](
    "simulation.protocol", "fedmri.simulation", ("protocols",), "fedmri.protocols"
)
