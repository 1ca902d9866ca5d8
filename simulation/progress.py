"""What a person sees while a study runs: one bar an arm, with the running metric."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from fedmri.plan import Plan
from fedmri.server.records import Record


class Bars:
    """Progress bars on a terminal; silent in a pipe.

    Args:
        plan: What is learned; names the metric and counts the rounds.
        console: Where to draw.
    """

    def __init__(self, plan: Plan, console: Console) -> None:
        self._plan = plan
        self._lock = threading.Lock()
        self._tasks: dict[tuple[str, int], TaskID] = {}
        self._scores: dict[tuple[str, int], dict[str, float]] = {}
        self._progress = Progress(
            TextColumn("{task.description:<22}"),
            BarColumn(24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not (console.is_terminal or console.is_jupyter),
        )

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

    def __call__(self, record: Record) -> None:
        """Draw a record of the run; records come from several threads."""
        with self._lock:
            if record["kind"] == "start":
                for label, seed in record["runs"]:
                    self._add(label, seed)
                for text in () if self._progress.disable else record["advice"]:
                    self._progress.console.print(text, highlight=False)
            elif (record["arm"], record["seed"]) in self._tasks:
                self._update(record)

    def _add(self, label: str, seed: int) -> None:
        is_only_seed = seed == self._plan.seed
        name = label if is_only_seed else f"{label} seed {seed}"
        total = self._plan.rounds.n_rounds
        self._tasks[label, seed] = self._progress.add_task(name, total=total, note="waiting")

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
