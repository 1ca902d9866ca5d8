"""A summary in words, as a table on screen, as Markdown and as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fedmri.reports.intervals import Estimate
from fedmri.reports.models import ALL, OWN, is_federated
from fedmri.reports.results import site_name
from fedmri.reports.summary import Difference, Row, Summary

if TYPE_CHECKING:
    from rich.table import Table

DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
_METRIC_NAMES = {
    "auc": "AUC",
    "brier": "Brier score",
    "dice": "Dice",
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "hd95_mm": "HD95 (mm)",
    "jaccard": "Jaccard index",
    "macro_f1": "macro F1",
    "n_both_empty": "both empty",
    "n_false_alarms": "false alarms",
    "n_missed": "missed",
    "pearson": "Pearson correlation",
    "r2": "R²",
}
_MODEL_NAMES = {
    "federated": "federated training",
    "pooled": "training on pooled data",
    OWN: "each site's own model at that site",
    ALL: "the mean of the local models at all sites",
    "baseline": "the baseline that looks at no image",
}


def metric_name(name: str) -> str:
    """Return a metric as it is written in a text."""
    return _METRIC_NAMES.get(name, name.replace("_", " "))


def model_name(label: str) -> str:
    """Return a model as it is written in a sentence."""
    return _MODEL_NAMES.get(label, label)


def number(value: float, *, is_signed: bool = False) -> str:
    """Return a number with three or so digits that mean something; a dash where there is none."""
    if not math.isfinite(value):
        return DASH
    digits = 3 if abs(value) < 10 else 2 if abs(value) < 100 else 1
    text = f"{abs(value):.{digits}f}"
    is_zero = float(text) == 0
    sign = "" if is_zero else MINUS if value < 0 else "+" if is_signed else ""
    return sign + text


def span(estimate: Estimate, *, is_signed: bool = False) -> str:
    """Return an interval: ``0.71 to 0.83``."""
    if not estimate.has_interval:
        return "no interval"
    low, high = (number(end, is_signed=is_signed) for end in (estimate.low, estimate.high))
    return f"{low} to {high}"


def with_interval(estimate: Estimate | None, *, is_signed: bool = False) -> str:
    """Return a value and its interval: ``0.78 (0.71 to 0.83)``."""
    if estimate is None:
        return DASH
    shown = span(estimate, is_signed=is_signed)
    return f"{number(estimate.value, is_signed=is_signed)} ({shown})"


def headline(summary: Summary) -> str:
    """Return what the run showed in one sentence that claims no more than its intervals do."""
    first = summary.rows[0]
    metric = metric_name(summary.metric)
    estimate = first.overall.get(summary.metric)
    if estimate is None:
        return f"No site that took part was tested under {first.label}."
    n_sites = len([site for site in first.by_site if site in summary.sites])
    interval = f"95 % interval {span(estimate)}" if estimate.has_interval else "no interval"
    article = "an" if metric[0] in "aeiouA" else "a"
    seeds = f", mean of {first.n_seeds} seeds" if first.n_seeds > 1 else ", one seed"
    opening = (
        f"{capital(model_name(first.label))} reached {article} {metric} of "
        f"{number(estimate.value)} "
        f"({interval}) on {_count(estimate.n_patients, 'test patient')} of "
        f"{_count(n_sites, 'site')}{seeds}"
    )
    return ": ".join([opening, *comparisons(summary)[:1]]) + "."


def capital(text: str) -> str:
    """Return a text as it begins a sentence."""
    return text[:1].upper() + text[1:]


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def comparisons(summary: Summary) -> list[str]:
    """Return what each difference of the first model showed, as parts of a sentence."""
    first = summary.rows[0].label
    return [
        _comparison(summary, difference, summary.row(difference.reference))
        for difference in summary.differences
        if difference.label == first and difference.reference != ALL
    ]


def _comparison(summary: Summary, difference: Difference, reference: Row | None) -> str:
    name = model_name(difference.reference)
    value = reference.overall.get(summary.metric) if reference else None
    reached = f"{number(value.value)}; " if value else ""
    gained = number(difference.estimate.value, is_signed=True)
    detail = f"({reached}difference {gained}, {span(difference.estimate, is_signed=True)})"
    match difference.verdict:
        case "better" | "worse":
            return f"{difference.verdict} than {name} {detail}"
        case "no difference shown":
            return f"no difference shown from {name} {detail}"
        case _:
            return f"whether it differs from {name} cannot be said {detail}"


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
    return head, [_result_row(row, metrics, has_within=has_within) for row in summary.rows]


def _is_within_different(summary: Summary) -> bool:
    pairs = [(row.within_sites, row.overall.get(summary.metric)) for row in summary.rows]
    return any(
        within is not None and overall is not None and abs(within.value - overall.value) > 1e-9
        for within, overall in pairs
    )


def _result_row(row: Row, metrics: Sequence[str], *, has_within: bool) -> list[str]:
    estimates = [row.overall.get(name) for name in metrics]
    n_patients = max((e.n_patients for e in estimates if e is not None), default=0)
    pairs = zip(metrics, estimates, strict=True)
    cells = [row.label, *(_count_or_score(name, estimate) for name, estimate in pairs)]
    if has_within:
        cells.insert(2, with_interval(row.within_sites))
    return [*cells, str(n_patients), str(row.n_seeds)]


def _count_or_score(name: str, estimate: Estimate | None) -> str:
    """Return a count as it is, and a score with its interval."""
    if name.startswith("n_") and estimate is not None and math.isfinite(estimate.value):
        return f"{estimate.value:g}" if estimate.value < 1 else f"{estimate.value:.4g}"
    return with_interval(estimate)


def difference_rows(summary: Summary) -> list[list[str]]:
    """Return the cells of the table of differences."""
    return [
        [
            f"{difference.label} minus {difference.reference}",
            with_interval(difference.estimate, is_signed=True),
            difference.verdict,
            str(difference.estimate.n_patients),
        ]
        for difference in summary.differences
    ]


DIFFERENCE_HEAD = ("Comparison", "Difference (95 % interval)", "Shown", "Patients")


def result_table(summary: Summary) -> Table:
    """Return the result table for the terminal: primary metric over all and by site."""
    from rich.table import Table
    from rich.text import Text

    metric = metric_name(summary.metric)
    table = Table(title=f"{capital(metric)}, test patients (95 % interval)", title_justify="left")
    table.add_column("model")
    sites = (*summary.sites, *summary.external_sites)
    for name in ("all sites", *sites):
        table.add_column(Text(site_name(name)), justify="right")
    for row in summary.rows:
        by_site = [row.by_site.get(site, {}).get(summary.metric) for site in sites]
        values = [DASH if e is None else number(e.value) for e in by_site]
        cells = [row.label, with_interval(row.overall.get(summary.metric)), *values]
        style = "bold" if is_federated(row.label) else None
        table.add_row(*(Text(cell) for cell in cells), style=style)
    return table


def as_markdown(summary: Summary) -> str:
    """Return the headline, the result table, the differences and the notes as Markdown."""
    head, rows = result_rows(summary)
    parts = [
        _markdown_text(headline(summary)),
        "\n".join(f"- {_markdown_text(part)}" for part in comparisons(summary)[1:]),
        _markdown_table(head, rows),
        _markdown_table(list(DIFFERENCE_HEAD), difference_rows(summary)),
        "\n".join(f"- {_markdown_text(note)}" for note in summary.notes),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


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
