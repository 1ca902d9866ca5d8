"""Late: half of each round's change leaves at once; the site adds the other half a round later."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from fedmri.claims import Claim, Claims
from fedmri.stages.stage import AtSite, Leaving, Place, Stage


@dataclass(frozen=True)
class Late(Stage):
    """A part of the change waits on the site's own disk.

    Attributes:
        share: Share of the change that leaves at once.
    """

    share: float = 0.5

    place: ClassVar[Place] = Place.UPDATES
    is_alone: ClassVar[bool] = False
    claims: ClassVar[Claims] = frozenset({Claim.SUM_IS_ENOUGH})
    source: ClassVar[str] = "made for a test"
    consent: ClassVar[str] = "half of the change leaves a round later"

    def outgoing(self, at: AtSite, leaving: Leaving) -> Leaving:
        """Hold a share of the change back, and add what waited."""
        arrays, waiting = dict(leaving.arrays), {}
        for name in sorted(leaving.parameters & arrays.keys()):
            change = arrays[name] - leaving.received[name]
            if name in at.kept:
                change = change + at.kept[name]
            arrays[name] = leaving.received[name] + self.share * change
            waiting[name] = (1 - self.share) * change
        return replace(leaving, arrays=arrays).keeping("late", waiting)
