"""Pauses between two looks at what others may have sent."""

from __future__ import annotations

from dataclasses import dataclass, field

GROWTH = 1.25


@dataclass
class Pauses:
    """Short after something came, and longer the longer nothing does.

    So an order is answered at once while a round is on its way, and an idle machine has peace.

    Attributes:
        shortest_s: Seconds of the first pause.
        longest_s: Seconds of the last ones.
    """

    shortest_s: float
    longest_s: float
    _next_s: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin with the shortest: something came."""
        self._next_s = self.shortest_s

    def next_s(self) -> float:
        """Return the seconds of the next pause."""
        found = self._next_s
        self._next_s = min(self.longest_s, GROWTH * found)
        return found
