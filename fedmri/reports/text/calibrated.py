"""What validation patients mend, as tables: temperatures, and sets and intervals by site."""

from __future__ import annotations

from collections.abc import Sequence

from fedmri.reports.reliability.coverage import PROMISED, Coverage
from fedmri.reports.reliability.temperature import Tempered
from fedmri.reports.results import site_name
from fedmri.reports.text.words import DASH, number, with_interval


def temperature_rows(found: Sequence[Tempered]) -> tuple[list[str], list[list[str]]]:
    """Return the head and the cells of the table of temperatures."""
    head = ["Model", "Temperature", "Of", "Calibration error", "Of a perfect model"]
    head += ["Brier score, all classes", "Minus that as it is", "Hospitals with their own"]
    rows = [
        [
            one.label,
            one.how,
            _span_of(one),
            number(one.ece),
            number(one.null),
            number(one.brier),
            with_interval(one.gained, is_signed=True),
            str(one.n_own) if one.n_own else DASH,
        ]
        for one in found
    ]
    return head, rows


def _span_of(one: Tempered) -> str:
    low, high = number(one.lowest), number(one.highest)
    return low if low == high else f"{low} to {high}"


def coverage_rows(found: Sequence[Coverage]) -> tuple[list[str], list[list[str]]]:
    """Return the head and the cells of the table of coverage by site."""
    size = "classes in a set" if all(one.is_of_classes for one in found) else "width"
    head = ["Model and site", "Held under one limit", f"Mean {size}"]
    head += ["Held under limits of each site", f"Mean {size} then"]
    head += ["Test patients", "Validation patients", "Shown"]
    rows = [
        [
            f"{one.label}: {site_name(one.site) if one.site else 'all sites'}",
            with_interval(one.common),
            number(one.common_size),
            with_interval(one.own) if one.is_own or not one.site else DASH,
            number(one.own_size) if one.is_own or not one.site else DASH,
            str(one.common.n_patients),
            str(one.n_validation),
            _shown(one),
        ]
        for one in found
    ]
    return head, rows


def _shown(one: Coverage) -> str:
    """Return whether the promise is kept under one limit, as far as the interval tells."""
    if one.common.high < PROMISED:
        return "broken"
    return "kept" if one.common.low >= PROMISED else "not contradicted"
