"""What stages found after the test, as a run recorded it: whose it is, and who is not in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fedmri.errors import explained

Record = Mapping[str, Any]


def found_by(stage: str, records: Iterable[Record]) -> Iterator[Record]:
    """Yield the records of what a stage found."""
    return (one for one in records if (one["kind"], one.get("stage")) == ("found", stage))


def label_of(record: Record) -> str:
    """Return the arm and the seed of a record."""
    return f"{record.get('arm')}, seed {record.get('seed', 0)}"


def found_notes(stage: str, what: str, records: Iterable[Record]) -> list[str]:
    """Return a sentence or two where a stage found nothing, or did without some sites.

    Args:
        stage: Name of the stage.
        what: What it finds, such as ``area``.
        records: Of a run.
    """
    return [note for one in found_by(stage, records) if (note := _note(what, one))]


def _note(what: str, record: Record) -> str:
    label, status = label_of(record), record.get("status", "ok")
    if status == "H01":
        return (
            f"{label}: no {what} was found, for the sums over hospitals cannot be true (H01). "
            "Under secure sums, nobody sees which hospital sent wrong numbers."
        )
    if status != "ok":
        return f"{label}: no {what} was found ({status})."
    if left_out := record.get("left_out"):
        return f"{label}: the {what} is without these hospitals: {explained(left_out)}."
    return ""
