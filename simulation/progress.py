"""What a person sees while a study runs: one bar an arm, with the running metric."""

from __future__ import annotations

import threading
import time
from io import StringIO
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from fedmri.models.pretrained import Fit
from fedmri.plan import Plan
from fedmri.server.rounds.records import Record

REDRAWN_S = 0.25
"""Seconds from one drawing in a notebook to the next."""
WIDTH = 110
"""Letters of a line in a notebook."""


class Bars:
    """Progress bars on a terminal and in a notebook; silent in a pipe.

    A notebook is drawn to without rich's own way: that one needs ipywidgets in the notebook's
    server, and shows nothing where they are missing.

    Args:
        plan: What is learned; names the metric and counts the rounds.
        console: Where to draw.
    """

    def __init__(self, plan: Plan, console: Console) -> None:
        self._plan = plan
        self._lock = threading.Lock()
        self._tasks: dict[tuple[str, int], TaskID] = {}
        self._said: set[str] = set()
        self._scores: dict[tuple[str, int], dict[str, float]] = {}
        self._progress = Progress(
            TextColumn("{task.description:<22}"),
            BarColumn(24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal or console.is_jupyter,
        )
        self._cell = _Cell(self._progress) if console.is_jupyter else None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()
        if self._cell is not None:
            self._cell.draw()

    def __call__(self, record: Record) -> None:
        """Draw a record of the run; records come from several threads."""
        with self._lock:
            if record["kind"] == "begun":
                for label, seed in record["runs"]:
                    self._add(label, seed)
                self._say(*record["advice"])
            elif record["kind"] == "start":
                self._say(f"Network: {Fit.of(record).summary}.")
            elif (record["arm"], record["seed"]) in self._tasks:
                self._update(record)
            if self._cell is not None:
                self._cell.draw_if_due()

    def _add(self, label: str, seed: int) -> None:
        is_only_seed = seed == self._plan.seed
        name = label if is_only_seed else f"{label} seed {seed}"
        total = self._plan.rounds.n_rounds
        self._tasks[label, seed] = self._progress.add_task(name, total=total, note="waiting")

    def _say(self, *texts: str) -> None:
        """Print texts above the bars, each once: arms and seeds may say the same."""
        is_seen = self._cell is not None or not self._progress.disable
        for text in texts if is_seen else ():
            if text not in self._said:
                self._progress.console.print(text, highlight=False)
            self._said.add(text)

    def _update(self, record: Record) -> None:
        key = (record["arm"], record["seed"])
        task = self._tasks[key]
        if record["kind"] == "round":
            self._progress.update(task, note=f"{record['site']} {record['status']}")
        elif record["kind"] == "round_total":
            self._progress.update(task, completed=record["round"])
        elif record["kind"] in {"validation", "test"} and record["status"] == "ok":
            metric = self._plan.target.primary
            value = record["metrics"].get(metric, float("nan"))
            note = f"{record['kind']} {metric} {value:.3f} at {record['site']}"
            self._progress.update(task, note=note)
        elif record["kind"] == "done":
            self._progress.update(task, completed=self._plan.rounds.n_rounds, note="done")


class _Cell:
    """The output of a notebook's cell, in which one text is drawn over and over."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._shown: Any = None
        self._drawn_s = 0.0

    def draw_if_due(self) -> None:
        """Draw, unless that was done just before."""
        if time.monotonic() - self._drawn_s >= REDRAWN_S:
            self.draw()

    def draw(self) -> None:
        """Draw the bars as plain text."""
        from IPython.display import display

        self._drawn_s = time.monotonic()
        lines = StringIO()
        plain = Console(file=lines, width=WIDTH, force_jupyter=False, legacy_windows=False)
        plain.print(self._progress.get_renderable())
        text = {"text/plain": lines.getvalue().rstrip()}
        if self._shown is None:
            self._shown = display(text, raw=True, display_id=True)  # type: ignore[no-untyped-call]  # IPython's
        else:
            self._shown.update(text, raw=True)
