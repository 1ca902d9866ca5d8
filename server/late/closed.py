"""Which answers each round took: on the disk before the model moves, so that it can be repeated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fedmri.machine.files import append_line, whole_lines

FILE = "taken.jsonl"
"""In the folder of a run; a simulation that starts with it takes what it says."""


@dataclass(frozen=True)
class Closed:
    """A round that is closed.

    Attributes:
        taken: Sites whose answer it took, each with the round that it had trained for.
        out: Sites that are busy with an order still, each with the round of that.
        left_out: Why other sites were left out, by code; an answer that was taken may be, too.
    """

    taken: Mapping[str, int]
    out: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)


class ClosedRounds:
    """The closed rounds of a run, in a file of one line each; the last line of a round counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rounds: dict[int, Closed] = {}
        for line in whole_lines(path):
            closed = Closed(line["taken"], line["out"], line.get("left_out", {}))
            self._put(int(line["round"]), closed)

    def of(self, round_index: int) -> Closed | None:
        """Return a closed round; None where it has yet to be."""
        return self._rounds.get(round_index)

    def add(self, round_index: int, closed: Closed) -> None:
        """Write a round down, on the disk when this returns; one that took the same stays."""
        known = self.of(round_index)
        if known is None or (known.taken, known.out) != (closed.taken, closed.out):
            append_line(self._path, {"round": round_index, **asdict(closed)})
            self._put(round_index, closed)

    def forget(self, round_index: int) -> None:
        """Forget a round and all after it: they cannot be repeated, and are held anew."""
        if any(known >= round_index for known in self._rounds):
            self.add(round_index, Closed({}))

    def let_go(self, before: int) -> None:
        """Keep older rounds on the disk alone: no later one asks for them."""
        self._rounds = {r: one for r, one in self._rounds.items() if r >= before}

    def _put(self, round_index: int, closed: Closed) -> None:
        """Put a round in place of what was known of it and of all later ones."""
        self._rounds = {r: one for r, one in self._rounds.items() if r < round_index}
        if closed.taken:
            self._rounds[round_index] = closed
