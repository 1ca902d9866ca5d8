"""Cells that hold a target: whether it is there, and whether its value can be true."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from fedmri.data.dicom.series import is_dicom
from fedmri.data.scans import Finding, Scan, about, number
from fedmri.data.target import LabelMap

MISSING_WORDS = frozenset(
    {"", "na", "n/a", "#n/a", "#na", "nan", ".", "?", "-", "--", "none", "null", "missing"}
    | {"unknown", "not available", "#value!", "#div/0!", "#null!", "<na>"}
)
STANDS_FOR_MISSING = re.compile(r"(-?9{3,}|-9{1,2}|-8{2,}|-7{3,})(\.0*)?")
"""Numbers that tables of statistics programs hold where a value is missing."""

MAX_AGE_YEARS = 130
PER_YEAR = {"month": 12, "months": 12, "mo": 12, "week": 53, "weeks": 53, "day": 366, "days": 366}
NO_AGE = frozenset({"gap", "delta", "diff", "difference", "residual", "change", "z", "zscore"})


def max_age(name: str) -> float | None:
    """Return the highest age that a column can hold, in its unit; None where it holds no age."""
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]
    if "age" not in words or NO_AGE & set(words):
        return None
    return float(MAX_AGE_YEARS * next((PER_YEAR[word] for word in words if word in PER_YEAR), 1))


def is_stand_in(text: str, others: Iterable[float]) -> bool:
    """Tell whether a number stands for a missing value: its form is known, and it lies far off.

    Args:
        text: The cell.
        others: Numbers of the column that have no such form.
    """
    if not STANDS_FOR_MISSING.fullmatch(text):
        return False
    value, known = float(text), list(others)
    if not known:
        return True
    low, high = min(known), max(known)
    if value < 0:
        return low >= 0 or value < low - (high - low)
    return not low - (high - low) <= value <= high + (high - low)


def without_label(scan: Scan, label_map: LabelMap) -> list[Finding]:
    """Return why a scan has no label map that can be learned."""
    name = label_map.name
    if name in scan.labels:
        return []
    if name in scan.unpaired:
        return [about(scan, "D55", scan.unpaired[name])]
    there = ", ".join(scan.labels) or "none"
    where = _wanted_at(scan, name)
    return [about(scan, "D16", f"no label {name!r} among {there}{where and f': {where}'}")]


def _wanted_at(scan: Scan, name: str) -> str:
    """Return in words where a label has to lie; empty where others are found, whose names help."""
    if any(path.is_dir() or is_dicom(path) for path in scan.images.values()):
        return f"put {name}.nii.gz into the subject's folder"
    parts = next(iter(scan.images.values())).parent.parts if scan.images else ()
    if scan.labels or f"sub-{scan.subject}" not in parts:
        return ""
    below = parts[parts.index(f"sub-{scan.subject}") :]
    labels = [part for part in below if part.startswith(("sub-", "ses-"))]
    pipeline, _, suffix = name.rpartition("/")
    file = "_".join([*labels, suffix])
    return f"want derivatives/{'/'.join([pipeline or 'PIPELINE', *below])}/{file}.nii.gz"


def without_class(scan: Scan, column: str, classes: Sequence[str]) -> list[Finding]:
    """Return why a cell holds none of some classes."""
    value = scan.columns.get(column)
    if value is None:
        return [no_column(scan, column)]
    if value in classes:
        return []
    reason = f"{column} is {value!r}, not one of {', '.join(classes)}"
    return [about(scan, "D16", reason)]


def without_number(scans: Sequence[Scan], column: str) -> list[Finding]:
    """Return which cells of a column hold no number that can be true, and why.

    A number such as -999 or 9999 is a missing value (D59) where it lies far outside all others of
    its column. An age is never negative or above 130 years (D59).
    """
    cells = [scan.columns.get(column) for scan in scans]
    plain = [text for text in cells if text and not STANDS_FOR_MISSING.fullmatch(text)]
    others = [value for text in plain if math.isfinite(value := number(text))]
    limit = max_age(column)
    return [
        no_column(scan, column) if text is None else about(scan, code, f"{column} is {why}")
        for scan, text in zip(scans, cells, strict=True)
        for code, why in _faults(text, others, limit)
    ]


def _faults(
    text: str | None, others: Sequence[float], limit: float | None
) -> Iterable[tuple[str, str]]:
    """Yield the code and the reason of what is wrong with a cell."""
    if text is None:
        yield "D16", ""
    elif is_missing(text):
        yield "D16", f"{text!r}: the value is missing"
    elif not math.isfinite(number(text)):
        yield "D16", f"{text!r}, not a number"
    elif is_stand_in(text, others):
        yield "D59", f"{text}, which stands for a missing value"
    elif limit is not None and not 0 <= number(text) <= limit:
        yield "D59", f"{text}, and no age is below 0 or above {limit:g}"


def no_column(scan: Scan, column: str) -> Finding:
    """Return the finding of a table that lacks a column."""
    there = ", ".join(scan.columns) or "none"
    return about(scan, "D16", f"no column {column!r} among {there}")


def is_missing(text: str) -> bool:
    """Tell whether a cell says that its value is not known."""
    return text.strip().casefold() in MISSING_WORDS
