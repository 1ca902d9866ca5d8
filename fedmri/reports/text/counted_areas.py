"""Areas over all patients that hospitals' counts gave, beside the mean of their own areas."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fedmri.reports.statistics.intervals import Estimate
from fedmri.reports.text.found import found_by, found_notes, label_of
from fedmri.reports.text.words import DASH, number, span

CAPTION = "ROC area over the test patients of all hospitals, from counts alone"
STAGE = "counted_auc"
HEAD = (
    "Arm and seed",
    "Class",
    "Area",
    "Off by at most",
    "Interval with that error",
    "Patients",
    "Mean of the hospitals' own areas",
)


def area_table(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the head, the rows and the caption of a page's table of areas, and notes below it.

    Args:
        records: Of a run: of what was found after the test, and of the tests of each site.
    """
    held = tuple(records)
    rows = [row for record in found_by(STAGE, held) for row in _rows(record, held)]
    head = {"area_head": HEAD, "area_rows": rows, "area_caption": CAPTION}
    return head | {"area_notes": found_notes(STAGE, "area", held)}


def _rows(record: Mapping[str, Any], records: Iterable[Mapping[str, Any]]) -> Iterator[list[str]]:
    areas: Mapping[str, Mapping[str, float]] = record.get("areas") or {}
    label = label_of(record)
    # of several classes, a site's own area is a mean over these
    beside = number(_mean_of_sites(record, records)) if len(areas) == 1 else DASH
    for name, area in areas.items():
        n = int(area["n_subjects"]) if math.isfinite(area["n_subjects"]) else 0
        value, bound = number(area["value"]), number(area["error_bound"])
        interval = span(Estimate(area["value"], area["low"], area["high"], n))
        yield [label, name, value, bound, interval, str(n), beside]


def _mean_of_sites(record: Mapping[str, Any], records: Iterable[Mapping[str, Any]]) -> float:
    """Return the mean of the areas that sites sent, weighted by patients."""
    total, n_total = 0.0, 0
    for test in records:
        is_same = (test.get("arm"), test.get("seed")) == (record.get("arm"), record.get("seed"))
        if test["kind"] != "test" or not is_same or test.get("status") != "ok":
            continue
        area, n = float((test.get("metrics") or {}).get("auc", math.nan)), int(test["n_subjects"])
        if math.isfinite(area):
            total, n_total = total + n * area, n_total + n
    return total / n_total if n_total else math.nan
