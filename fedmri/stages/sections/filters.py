"""Filters of an update before it leaves: clipped, or its largest entries alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from fedmri.stages.stage import AtSite, Leaving, Place, Stage

if TYPE_CHECKING:
    from fedmri.plan import FilterConfig


@dataclass(frozen=True)
class Filters(Stage):
    """The filters of a plan; see ``fedmri.updates.filters``."""

    config: FilterConfig

    place: ClassVar[Place] = Place.UPDATES

    def outgoing(self, at: AtSite, leaving: Leaving) -> Leaving:
        """Filter the change of the parameters."""
        from fedmri.updates.filters import filtered_update

        arrays = filtered_update(leaving.arrays, leaving.received, leaving.parameters, self.config)
        return replace(leaving, arrays=arrays)
