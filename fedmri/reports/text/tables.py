"""A summary as tables of a page, as Markdown and as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

from fedmri.reports.groups import GroupScore
from fedmri.reports.results import site_name
from fedmri.reports.statistics.intervals import Estimate
from fedmri.reports.summary import Difference, Row, Summary
from fedmri.reports.text.verdicts import elsewhere_sentences
from fedmri.reports.text.words import (
    DASH,
    capital,
    comparisons,
    headline,
    metric_name,
    short_name,
    strategies_of,
    verdict,
    with_interval,
)

HOSPITALS = "Another set of hospitals (95 % interval)"
"""Head of a column: hospitals as random units, each of the same weight."""


def p_text(value: float) -> str:
    """Return a p-value: ``0.031``, ``< 0.001``, or a dash."""
    if not math.isfinite(value):
        return DASH
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def result_rows(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Return the head and the cells of the result table, the same in every form of it."""
    metrics = list(dict.fromkeys(name for row in summary.rows for name in row.overall))
    metrics.sort(key=lambda name: name != summary.metric)
    arrow = "higher is better" if summary.is_higher_better else "lower is better"
    names = [capital(metric_name(name)) for name in metrics]
    names[:1] = [f"{name} (95 % interval), {arrow}" for name in names[:1]]
    head = ["Model", *names, "Patients", "Seeds"]
    has_within = _is_within_different(summary)
    if has_within:
        head.insert(2, f"{names[0].partition(' (')[0]} within sites")
    rows = [_result_row(row, metrics, has_within=has_within) for row in summary.rows]
    if any(row.hospitals is not None for row in summary.rows):
        head.insert(-2, HOSPITALS)
        for cells, row in zip(rows, summary.rows, strict=True):
            cells.insert(-2, with_interval(row.hospitals))
    return head, rows


def _is_within_different(summary: Summary) -> bool:
    pairs = [(row.within_sites, row.overall.get(summary.metric)) for row in summary.rows]
    return any(
        within is not None and overall is not None and abs(within.value - overall.value) > 1e-9
        for within, overall in pairs
    )


def _result_row(row: Row, metrics: Sequence[str], *, has_within: bool) -> list[str]:
    estimates = [row.overall.get(name) for name in metrics]
    n_subjects = max((e.n_subjects for e in estimates if e is not None), default=0)
    pairs = zip(metrics, estimates, strict=True)
    cells = [row.label, *(_count_or_score(name, estimate) for name, estimate in pairs)]
    if has_within:
        cells.insert(2, with_interval(row.within_sites))
    return [*cells, str(n_subjects), str(row.n_seeds)]


def _count_or_score(name: str, estimate: Estimate | None) -> str:
    """Return a count as it is, and a score with its interval."""
    if name.startswith("n_") and estimate is not None and math.isfinite(estimate.value):
        return f"{estimate.value:g}" if estimate.value < 1 else f"{estimate.value:.4g}"
    return with_interval(estimate)


def difference_table(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Return the head and the cells of the table of differences.

    One model has a row for each reference; several strategies have a column for each.
    """
    if rows := strategies_of(summary):
        return _differences_by_strategy(summary, rows)
    cells = [
        [
            f"{difference.label} minus {difference.reference}",
            with_interval(difference.estimate, is_signed=True),
            verdict(difference),
            p_text(difference.p_adjusted),
            with_interval(difference.hospitals, is_signed=True),
            str(difference.estimate.n_subjects),
        ]
        for difference in summary.differences
    ]
    head = [
        "Comparison",
        "Difference (95 % interval)",
        "Shown",
        "Adjusted p",
        HOSPITALS,
        "Patients",
    ]
    return head, cells


def _differences_by_strategy(
    summary: Summary, rows: Sequence[Row]
) -> tuple[list[str], list[list[str]]]:
    references = list(dict.fromkeys(difference.reference for difference in summary.differences))
    found = {(d.label, d.reference): d for d in summary.differences}
    cells = [
        [row.label, *(_shown(found.get((row.label, reference))) for reference in references)]
        for row in rows
    ]
    return ["Model", *(f"minus {short_name(summary.group(name))}" for name in references)], cells


def _shown(difference: Difference | None) -> str:
    if difference is None:
        return DASH
    return f"{with_interval(difference.estimate, is_signed=True)}: {verdict(difference)}"


def group_rows(found: Sequence[GroupScore]) -> tuple[list[str], list[list[str]]]:
    """Return the head and the cells of the table of groups of patients."""
    head = ["Group", "Patients", "Score (95 % interval)", "Minus all others", "Adjusted p", "Shown"]
    rows = [
        [
            f"{one.column.replace('_', ' ')}: {one.group}",
            str(one.score.n_subjects),
            with_interval(one.score),
            with_interval(one.against_rest, is_signed=True),
            p_text(one.p_adjusted),
            one.verdict,
        ]
        for one in found
    ]
    return head, rows


WEIGHTS = "Scores over all hospitals weigh each patient alike."


def as_markdown(summary: Summary) -> str:
    """Return the headline, all tables of scores and the notes as Markdown."""
    weighed = (WEIGHTS,) if len(summary.sites) > 1 else ()
    head, rows = result_rows(summary)
    parts = [
        _markdown_text(headline(summary)),
        "\n".join(f"- {_markdown_text(part)}" for part in comparisons(summary)),
        _markdown_table(head, rows),
        _markdown_table(*difference_table(summary)),
        " ".join(_markdown_text(sentence) for sentence in elsewhere_sentences(summary)),
        _markdown_table(*outside_table(summary)),
        "\n".join(f"- {_markdown_text(note)}" for note in (*weighed, *summary.notes)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def outside_table(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Return the head and the cells of the scores at sites that took no part; none without any."""
    sites = summary.external_sites
    rows = [
        [row.label, *(with_interval(row.by_site[site].get(summary.metric)) for site in sites)]
        for row in summary.rows
        if sites and all(site in row.by_site for site in sites)
    ]
    named = (f"{site_name(site)}, {_n_subjects(summary, site)} patients" for site in sites)
    return ["At sites that took no part", *named], rows


def _n_subjects(summary: Summary, site: str) -> int:
    found = (row.by_site[site].values() for row in summary.rows if site in row.by_site)
    return max((one.n_subjects for scores in found for one in scores), default=0)


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(_markdown_text(cell) for cell in line) + " |" for line in lines
    )


def _markdown_text(text: str) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
    return " ".join(escaped.split())


def as_json(summary: Summary) -> str:
    """Return every number of the summary as JSON; null where a number is not defined."""
    return json.dumps(_finite(dataclasses.asdict(summary)), indent=2, ensure_ascii=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
