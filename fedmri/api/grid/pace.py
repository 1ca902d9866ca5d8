"""How far a study of several runs is, and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

Key = tuple[str, int]


class Pace:
    """Work that is done and that is left, in steps of optimizers.

    The rest is estimated by the pace so far. A run that has not begun is taken to be like the mean
    of those that have.

    Args:
        n_runs: Runs that are left when the study begins.
        tell: Is given a line after each training.
        clock: Seconds that only grow.
    """

    def __init__(
        self, n_runs: int, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._n_runs, self._tell, self._clock = n_runs, tell, clock
        self._started: float | None = None
        self._begun: list[float] = []
        self._left: dict[Key, float] = {}
        self._done = 0.0

    def observe(self, record: Mapping[str, Any]) -> None:
        """Take in a record of the run that is on its way."""
        if record["kind"] == "start":
            if self._started is None:  # what was prepared before is prepared once
                self._started = self._clock()
            keys = [(label, seed) for label, seed in record["runs"]]
            self._left = dict(zip(keys, record["work"], strict=True))
            self._begun.append(sum(self._left.values()))
        elif record["kind"] == "done":
            self._done += self._left.pop((record["arm"], record["seed"]), 0.0)
            self._tell(self.line)

    def skip(self) -> None:
        """Take in that a run was done before."""
        self._n_runs -= 1

    @property
    def remaining_s(self) -> float:
        """Seconds until the end; NaN before anything is done."""
        if not self._done or self._started is None:
            return float("nan")
        mean = sum(self._begun) / len(self._begun)
        left = sum(self._left.values()) + mean * (self._n_runs - len(self._begun))
        return left * (self._clock() - self._started) / self._done

    @property
    def line(self) -> str:
        """Where the study stands, in a line."""
        minutes = self.remaining_s / 60
        if minutes != minutes:  # NaN
            rest = "time left unknown"
        elif minutes >= 10:
            rest = f"about {minutes:.0f} min left"
        else:
            rest = f"about {60 * minutes:.0f} s left"
        return f"run {len(self._begun)} of {self._n_runs}, {len(self._left)} trainings left; {rest}"
