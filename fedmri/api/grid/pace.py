"""How far a study of several runs is, and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

Key = tuple[str, int]


class Pace:
    """Work that is done and that is left.

    A training takes a time of its own and a time for each step of an optimizer: both are fitted to
    the trainings so far. Between two runs lies the time of a report and of what precedes training.
    A run that has not begun is taken to be like the mean of those that have.

    Args:
        n_runs: Runs of the study.
        tell: Is given a line after each training.
        clock: Seconds that only grow.
    """

    def __init__(
        self, n_runs: int, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._n_runs, self._tell, self._clock = n_runs, tell, clock
        self._begun: list[tuple[int, float]] = []
        self._left: dict[Key, float] = {}
        self._seen: list[tuple[float, float, float]] = []
        self._between: list[float] = []
        self._last = 0.0

    def observe(self, record: Mapping[str, Any]) -> None:
        """Take in a record of the run that is on its way."""
        if record["kind"] == "begun":
            now = self._clock()
            if self._begun:  # what precedes the first run is done once
                self._between.append(now - self._last)
            keys = [(label, seed) for label, seed in record["runs"]]
            self._left = dict(zip(keys, record["work"], strict=True))
            self._begun.append((len(keys), sum(self._left.values())))
            self._last = now
        elif record["kind"] == "done" and (record["arm"], record["seed"]) in self._left:
            now, work = self._clock(), self._left.pop((record["arm"], record["seed"]))
            n, done, seconds = self._seen[-1] if self._seen else (0.0, 0.0, 0.0)
            self._seen.append((n + 1, done + work, seconds + now - self._last))
            self._last = now
            self._tell(self.line)

    def skip(self) -> None:
        """Take in that a run was done before."""
        self._n_runs -= 1

    @property
    def remaining_s(self) -> float:
        """Seconds until the end; NaN before anything is done."""
        if not self._seen:
            return float("nan")
        n_later = self._n_runs - len(self._begun)
        n_mean, work_mean = (
            sum(column) / len(self._begun) for column in zip(*self._begun, strict=True)
        )
        n_left = len(self._left) + n_mean * n_later
        work_left = sum(self._left.values()) + work_mean * n_later
        each, by_step = self._costs()
        between = sum(self._between) / len(self._between) if self._between else 0.0
        since = self._clock() - self._last
        rest: float = each * n_left + by_step * work_left + between * (n_later + 1)
        return max(0.0, rest - since)

    def _costs(self) -> tuple[float, float]:
        """Return seconds of a training and of a step that fit what was seen; none is below 0."""
        from scipy.optimize import nnls

        each, by_step = nnls([row[:2] for row in self._seen], [row[2] for row in self._seen])[0]
        return float(each), float(by_step)

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
