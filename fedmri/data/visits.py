"""A patient's visits as one example: which sessions, in which order, and how long between them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from typing import TypeVar

from fedmri.data.scans import Finding, Scan, ScanTable, about, number
from fedmri.data.settings import OF_VISIT, SourceConfig

ACQ_TIME = "acq_time"
"""Column of BIDS for the time of a session."""
DAYS_A_YEAR = 365.25
Value = TypeVar("Value")
_BEGIN = datetime(1800, 1, 1)  # dates of BIDS have no zone, and may be shifted


def joined(table: ScanTable, source: SourceConfig) -> ScanTable:
    """Return a table in which the last visits of a patient at a site are one scan.

    It is the scan of the last visit, whose truth counts, with the images of all of them. Images
    have the names of ``source.channels``, and intervals stand in ``source.intervals``. Who has one
    session needs no time. Of several, one without a time is left out: nobody knows its place.

    Args:
        table: What was read, a scan each session.
        source: How many visits are wanted, and which column has their time.
    """
    if source.visits == 1:
        return table
    patients: dict[tuple[str, str, str], list[Scan]] = defaultdict(list)
    for scan in table.scans:
        patients[scan.site, *scan.patient].append(scan)
    scans, findings = list[Scan](), list[Finding]()
    for visits in patients.values():
        timed, without = _in_order(visits, source.visit_time or ACQ_TIME)
        findings += without
        if timed:
            scans.append(_one(timed[-source.visits :], source))
    return replace(table, scans=tuple(scans), findings=(*table.findings, *findings))


def by_visit(images: Mapping[str, Value]) -> list[dict[str, Value]]:
    """Return what belongs to images, visit by visit: two visits need not lie in the same place."""
    found: dict[str, dict[str, Value]] = defaultdict(dict)
    for name, value in images.items():
        found[name.partition(OF_VISIT)[2]][name] = value
    return list(found.values())


def _in_order(
    visits: Sequence[Scan], column: str
) -> tuple[list[tuple[float, Scan]], list[Finding]]:
    """Return days and visits by time, and a finding for each visit that has no place (D90)."""
    if len(visits) == 1:
        return [(0.0, visits[0])], []
    days = [_days(visit.columns.get(column, "")) for visit in visits]
    texts = [visit.columns.get(column, "") or "missing" for visit in visits]
    is_mixed = len({is_date for value, is_date in days if math.isfinite(value)}) > 1
    why = "and others of the patient are of another kind" if is_mixed else "no date and no number"
    timed, findings = list[tuple[float, Scan]](), list[Finding]()
    for (value, _), text, visit in zip(days, texts, visits, strict=True):
        if is_mixed or not math.isfinite(value):
            reason = f"{column} is {text}, {why}: the visit has no place among {len(visits)}"
            findings.append(about(visit, "D90", reason))
        else:
            timed.append((value, visit))
    return sorted(timed, key=lambda one: (one[0], one[1].session)), findings


def _days(text: str) -> tuple[float, bool]:
    """Return a time in days, NaN where it is none, and whether it is a date."""
    if not math.isnan(value := number(text)):
        return value, False
    try:
        since = datetime.fromisoformat(text.strip()).replace(tzinfo=None) - _BEGIN
    except ValueError:
        return math.nan, False
    return since.total_seconds() / 86400, True


def _one(timed: Sequence[tuple[float, Scan]], source: SourceConfig) -> Scan:
    """Return visits as one scan; those that are missing come first."""
    n_missing, n_each = source.visits - len(timed), len(source.modalities)
    days = [when for when, _ in timed]
    since = [0.0, *(later - earlier for earlier, later in pairwise(days))]
    years = [f"{gap / DAYS_A_YEAR:.4f}" for gap in since]
    names = [source.channels[i * n_each :][:n_each] for i in range(n_missing, source.visits)]
    images = {
        name: visit.images[modality]
        for (_, visit), own in zip(timed, names, strict=True)
        for modality, name in zip(source.modalities, own, strict=True)
        if modality in visit.images
    }
    cells = dict(zip(source.intervals, [""] * n_missing + years, strict=True))
    last = timed[-1][1]
    return replace(last, images=images, columns={**last.columns, **cells}, images_of={})
