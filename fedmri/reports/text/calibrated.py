"""What validation patients mend, as tables: temperatures, and sets and intervals by site.

A simulation has its patients in one place, and a consortium has sums: the tables are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedmri.reports.reliability.coverage import PROMISED, Coverage
from fedmri.reports.reliability.from_sums import SummedReliability
from fedmri.reports.reliability.temperature import Tempered
from fedmri.reports.results import site_name
from fedmri.reports.text.found import found_by, found_notes, label_of
from fedmri.reports.text.words import DASH, number, with_interval

STAGE = "reliability"


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
            str(one.common.n_subjects),
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


def summed_reliability(records: Iterable[Mapping[str, Any]]) -> tuple[SummedReliability, ...]:
    """Return what sums over hospitals say of each model, as a run recorded it."""
    found = (one for one in found_by(STAGE, records) if one.get(STAGE))
    return tuple(SummedReliability.of(label_of(one), one) for one in found)


def summed_tables(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the tables of temperatures and coverage from sums, with notes, for a page."""
    held = tuple(records)
    found = summed_reliability(held)
    tempered = [one for model in found for one in model.temperatures()]
    covered = [one for model in found for one in model.coverages()]
    notes = found_notes(STAGE, "temperature or coverage", held)
    return {
        "summed_temperatures": temperature_rows(tempered),
        "summed_coverages": coverage_rows(covered),
        "summed_notes": [*notes, *(_sentence(one) for one in found)],
    }


def _sentence(found: SummedReliability) -> str:
    if not found.n:
        return f"{found.label}: no hospital has enough test patients for sums about probabilities."
    if not found.is_of_classes:
        return f"{found.label}: sums are over {found.n} test patients."
    share, confidence = (number(one) for one in (found.share_right, found.mean_confidence))
    said = (
        f"{found.label}: a share of {share} of {found.n} test patients was called right. "
        f"The called class had a mean probability of {confidence}."
    )
    return said if found.temperature else f"{said} No temperature fits best."
