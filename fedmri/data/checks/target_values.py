"""Whether each scan has the target that is to be learned, and whether its value can be true."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from fedmri.data.checks.probe import about
from fedmri.data.dicom.series import is_dicom
from fedmri.data.scans import Finding, Scan
from fedmri.round import Target

MISSING_WORDS = frozenset(
    {"", "na", "n/a", "#n/a", "#na", "nan", ".", "?", "-", "--", "none", "null", "missing"}
    | {"unknown", "not available", "#value!", "#div/0!", "#null!", "<na>"}
)
STANDS_FOR_MISSING = re.compile(r"(-?9{3,}|-9{1,2}|-8{2,}|-7{3,})(\.0*)?")
"""Numbers that tables of statistics programs hold where a value is missing."""

MAX_AGE_YEARS = 130
PER_YEAR = {"month": 12, "months": 12, "mo": 12, "week": 53, "weeks": 53, "day": 366, "days": 366}
NO_AGE = frozenset({"gap", "delta", "diff", "difference", "residual", "change", "z", "zscore"})


def target_findings(scans: Sequence[Scan], target: Target | None) -> list[Finding]:
    """Return why scans have no target that can be learned; each is left out.

    A number such as -999 or 9999 is a missing value (D59) where it lies far outside all others of
    its column. An age is never negative or above 130 years (D59).

    Args:
        scans: All scans of the data set.
        target: What is to be predicted; None looks at nothing.
    """
    if target is None:
        return []
    if target.kind == "segmentation":
        return [finding for scan in scans for finding in _without_label(scan, target)]
    if target.kind == "classification":
        return [finding for scan in scans for finding in _without_class(scan, target)]
    return _without_number(scans, target)


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


def _without_label(scan: Scan, target: Target) -> list[Finding]:
    if target.name in scan.labels:
        return []
    if target.name in scan.unpaired:
        return [about(scan, "D55", scan.unpaired[target.name])]
    there = ", ".join(scan.labels) or "none"
    is_series = any(path.is_dir() or is_dicom(path) for path in scan.images.values())
    where = f": put {target.name}.nii.gz into the subject's folder" if is_series else ""
    return [about(scan, "D16", f"no label {target.name!r} among {there}{where}")]


def _without_class(scan: Scan, target: Target) -> list[Finding]:
    value = scan.columns.get(target.name)
    if value is None:
        return [_no_column(scan, target)]
    if value in target.classes:
        return []
    reason = f"{target.name} is {value!r}, not one of {', '.join(target.classes)}"
    return [about(scan, "D16", reason)]


def _without_number(scans: Sequence[Scan], target: Target) -> list[Finding]:
    cells = [scan.columns.get(target.name) for scan in scans]
    plain = [text for text in cells if text and not STANDS_FOR_MISSING.fullmatch(text)]
    others = [number for text in plain if math.isfinite(number := _number(text))]
    limit = max_age(target.name)
    return [
        _no_column(scan, target) if text is None else about(scan, code, f"{target.name} is {why}")
        for scan, text in zip(scans, cells, strict=True)
        for code, why in _faults(text, others, limit)
    ]


def _faults(
    text: str | None, others: Sequence[float], limit: float | None
) -> Iterable[tuple[str, str]]:
    """Yield the code and the reason of what is wrong with a cell."""
    if text is None:
        yield "D16", ""
    elif text.casefold() in MISSING_WORDS:
        yield "D16", f"{text!r}: the value is missing"
    elif not math.isfinite(_number(text)):
        yield "D16", f"{text!r}, not a number"
    elif is_stand_in(text, others):
        yield "D59", f"{text}, which stands for a missing value"
    elif limit is not None and not 0 <= _number(text) <= limit:
        yield "D59", f"{text}, and no age is below 0 or above {limit:g}"


def _no_column(scan: Scan, target: Target) -> Finding:
    there = ", ".join(scan.columns) or "none"
    return about(scan, "D16", f"no column {target.name!r} among {there}")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
