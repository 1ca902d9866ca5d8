"""What a run has recorded so far: read while the run goes on, by whoever watches it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fedmri.errors import UsageError, told
from fedmri.round import Target
from fedmri.tasks.registry import TASKS

KEYS = ("kind", "round", "site", "stage")
"""What a record is told apart by: of those that are alike, the last counts."""


@dataclass(frozen=True)
class PlanFacts:
    """What a view must know of a plan; reading the whole plan would load the training library.

    Attributes:
        target: What is learned.
        n_rounds: Rounds of training.
        evaluate_every: Rounds between scores on the validation patients; 0 scores never.
    """

    target: Target
    n_rounds: int
    evaluate_every: int


@dataclass(frozen=True)
class History:
    """The records of one run in order, the last of each kind, round and site."""

    records: tuple[Mapping[str, Any], ...]

    def of_kind(self, kind: str, round_index: int | None = None) -> Sequence[Mapping[str, Any]]:
        """Return the records of a kind, of one round or of all."""
        return self._index.get((kind, round_index), ())

    def of_site(self, kind: str, site: str) -> list[Mapping[str, Any]]:
        """Return a site's records of a kind."""
        return [record for record in self.of_kind(kind) if record.get("site") == site]

    @property
    def sites(self) -> set[str]:
        """Every site that a record names."""
        return {str(record["site"]) for record in self.records if "site" in record}

    @cached_property
    def _index(self) -> dict[tuple[str, int | None], list[Mapping[str, Any]]]:
        found: dict[tuple[str, int | None], list[Mapping[str, Any]]] = {}
        for record in self.records:
            for round_index in {None, record.get("round")}:
                found.setdefault((record["kind"], round_index), []).append(record)
        return found


@dataclass(frozen=True)
class _Read:
    """What was read of a file so far.

    Attributes:
        n_bytes: Up to the end of the last whole line.
        n_lines: Whole lines.
        end: The last bytes of these: a resumed run cuts its file and writes on.
        kept: The last record of each kind, round and site.
        history: The same, in order.
    """

    n_bytes: int = 0
    n_lines: int = 0
    end: bytes = b""
    kept: Mapping[tuple[Any, ...], Mapping[str, Any]] = field(default_factory=dict)
    history: History = field(default_factory=lambda: History(()))


_READ: dict[Path, _Read] = {}
"""By file, the one read last at the end: a watcher asks for a long file again and again."""
N_FILES, N_END = 16, 4096


def read_history(path: Path) -> History:
    """Return the records of ``metrics.jsonl``; none where there is no file yet.

    The last line may be half written: it is left out until it is whole. Only what was added since
    the last call is read.

    Raises:
        UsageError: Another line is no record (U41).
    """
    before = _READ.pop(path, _Read())
    try:
        with path.open("rb") as file:
            file.seek(before.n_bytes - len(before.end))
            if file.read(len(before.end)) != before.end:
                before = _Read()
                file.seek(0)
            found = _read_on(path, before, file.read())
    except FileNotFoundError:
        return History(())
    _READ[path] = found
    for other in list(_READ)[:-N_FILES]:
        _READ.pop(other, None)
    return found.history


def _read_on(path: Path, before: _Read, more: bytes) -> _Read:
    *whole, torn = more.split(b"\n")
    if not whole:
        return before
    kept = dict(before.kept)
    for number, line in enumerate(whole, start=before.n_lines + 1):
        record = _record(line)
        if record is None:
            raise broken_file(path, f"no record at line {number}", "one JSON object a line")
        kept[tuple(record.get(key) for key in KEYS)] = record
    n_more = len(more) - len(torn)
    return _Read(
        before.n_bytes + n_more,
        before.n_lines + len(whole),
        (before.end + more[:n_more])[-N_END:],
        kept,
        History(tuple(kept.values())),
    )


def _record(line: bytes) -> Mapping[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "kind" in record else None


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file.

    Raises:
        UsageError: It is missing or no JSON object (U41).
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise broken_file(path, told(error), "a file to read") from error
    except ValueError as error:
        raise broken_file(path, "no JSON", "a JSON object") from error
    if not isinstance(values, dict):
        raise broken_file(path, f"a {type(values).__name__}", "a JSON object")
    return values


def read_plan_facts(path: Path) -> PlanFacts:
    """Return what a view needs of ``signed.json``; who runs the plan checks its signature.

    Raises:
        UsageError: It is missing or holds no plan (U41).
    """
    try:
        plan = json.loads(read_object(path)["text"])["plan"]
        target, rounds = plan["target"], plan["rounds"]
        return PlanFacts(
            TASKS.made(target),
            int(rounds["n_rounds"]),
            int(rounds["evaluate_every"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise broken_file(path, f"no plan ({type(error).__name__})", "a signed plan") from error


def broken_file(path: Path, found: str, want: str) -> UsageError:
    """Return the error of a file in a run folder that cannot be read (U41)."""
    fix = f"restore {path.name} from the backup of the server's folder"
    return UsageError("U41", f"{path}", found=found, want=want, fix=fix)


def finite(value: object) -> float | None:
    """Return a number, or None where there is none: JSON has no NaN."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None  # type: ignore[arg-type]  # just seen


def weighted_mean(pairs: Iterable[tuple[object, object]]) -> float | None:
    """Return the mean of values by weights; what is not finite or weighs nothing is left out."""
    total = n_total = 0.0
    for value, weight in pairs:
        number, share = finite(value), finite(weight)
        if number is not None and share:
            total, n_total = total + share * number, n_total + share
    return total / n_total if n_total else None
