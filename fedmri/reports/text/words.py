"""A summary in words: names, numbers with intervals, and what was shown."""

from __future__ import annotations

import math
from collections.abc import Sequence, Set

from fedmri.arm import ALL, OWN, Group
from fedmri.reports.statistics.intervals import Estimate
from fedmri.reports.statistics.metrics import metric_of
from fedmri.reports.statistics.verdicts import is_of_few_trainings
from fedmri.reports.summary import Difference, Row, Summary

DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
_MODEL_NAMES = {
    "federated": "federated training",
    "pooled": "training on pooled data",
    OWN: "each site's own model at that site",
    ALL: "the mean of the local models at all sites",
    "linear": "the linear baseline",
    "table": "the linear model of covariates alone",
    "baseline": "the baseline that looks at no image",
}


def metric_name(name: str) -> str:
    """Return a metric as it is written in a text."""
    return metric_of(name).title


def model_name(group: Group) -> str:
    """Return a model as it is written in a sentence."""
    return _MODEL_NAMES.get(group.label, short_name(group))


def short_name(group: Group) -> str:
    """Return the strategy of one of several federated models; the label of any other."""
    return group.strategy or group.label


def number(value: float, *, is_signed: bool = False, more: int = 0) -> str:
    """Return a number with three or so digits that mean something; a dash where there is none.

    Args:
        value: The number.
        is_signed: Whether a plus is written.
        more: Digits more.
    """
    if not math.isfinite(value):
        return DASH
    digits = 3 if abs(value) < 10 else 2 if abs(value) < 100 else 1
    text = f"{abs(value):.{digits + more}f}"
    is_zero = float(text) == 0
    sign = "" if is_zero else MINUS if value < 0 else "+" if is_signed else ""
    return sign + text


def span(estimate: Estimate, *, is_signed: bool = False) -> str:
    """Return an interval: ``0.71 to 0.83``."""
    if not estimate.has_interval:
        return "no interval"
    ends = (estimate.low, estimate.high)
    for more in range(4):  # an interval is never shown as one number
        low, high = (number(end, is_signed=is_signed, more=more) for end in ends)
        if low != high:
            return f"{low} to {high}"
    return "no interval"


def with_interval(estimate: Estimate | None, *, is_signed: bool = False) -> str:
    """Return a value and its interval: ``0.78 (0.71 to 0.83)``."""
    if estimate is None:
        return DASH
    shown = span(estimate, is_signed=is_signed)
    return f"{number(estimate.value, is_signed=is_signed)} ({shown})"


def verdict(difference: Difference) -> str:
    """Return a verdict: ``better``, or ``better, of 3 trainings`` below five trainings."""
    n = difference.n_trainings
    if difference.verdict not in {"better", "worse"} or not is_of_few_trainings(n):
        return difference.verdict
    return f"{difference.verdict}, of {'one training' if n == 1 else f'{n} trainings'}"


def headline(summary: Summary) -> str:
    """Return what the run showed in a sentence or two that claim no more than the intervals do."""
    if rows := strategies_of(summary):
        return _range_of(summary, rows)
    first = summary.rows[0]
    metric = metric_name(summary.metric)
    estimate = first.overall.get(summary.metric)
    if estimate is None:
        return f"No site that took part was tested under {first.label}."
    interval = f"95 % interval {span(estimate)}" if estimate.has_interval else "no interval"
    article = "an" if metric[0] in "aeiouA" else "a"
    opening = (
        f"{capital(model_name(first.group))} reached {article} {metric} of "
        f"{number(estimate.value)} ({interval}) {_tested_on(summary, first, estimate)}"
    )
    return ": ".join([opening, *_of_first(summary)[:1]]) + "."


def _tested_on(summary: Summary, row: Row, estimate: Estimate) -> str:
    n_sites = len([site for site in row.by_site if site in summary.sites])
    seeds = f"mean of {row.n_seeds} seeds" if row.n_seeds > 1 else "one seed"
    patients = _count(estimate.n_subjects, "test patient")
    return f"on {patients} of {_count(n_sites, 'site')}, {seeds}"


def capital(text: str) -> str:
    """Return a text as it begins a sentence."""
    return text[:1].upper() + text[1:]


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def comparisons(summary: Summary) -> list[str]:
    """Return what each further difference showed, as parts of a sentence.

    Of one model those after the headline's; of several strategies what each reference showed.
    """
    if rows := strategies_of(summary):
        found = {d.reference: None for d in summary.differences if d.reference != ALL}
        labels = {row.label for row in rows}
        return [_verdicts(summary, labels - {name}, name) for name in found]
    return _of_first(summary)[1:]


def strategies_of(summary: Summary) -> list[Row]:
    """Return the rows of the strategies that were compared; none where there was one."""
    rows = [row for row in summary.rows if row.group.strategy]
    return [row for row in rows if summary.metric in row.overall] if len(rows) > 1 else []


def _range_of(summary: Summary, rows: Sequence[Row]) -> str:
    ranked = sorted(rows, key=lambda row: row.overall[summary.metric].value)
    if not summary.is_higher_better:
        ranked.reverse()
    low, high = (row.overall[summary.metric] for row in (ranked[0], ranked[-1]))
    return (
        f"{len(rows)} strategies over the same rounds reached {metric_name(summary.metric)} from "
        f"{number(low.value)} ({short_name(ranked[0].group)}) to "
        f"{number(high.value)} ({short_name(ranked[-1].group)}, {span(high)}) "
        f"{_tested_on(summary, ranked[-1], high)}. None was chosen beforehand: the best of "
        "several, picked by the patients that it is scored on, looks better than it is."
    )


def _verdicts(summary: Summary, labels: Set[str], reference: str) -> str:
    """Return which strategies were better or worse than a reference."""
    named: dict[str, list[str]] = {}
    for difference in summary.differences:
        if difference.reference == reference and difference.label in labels:
            named.setdefault(verdict(difference), []).append(
                short_name(summary.group(difference.label))
            )
    parts = [f"{shown}: {', '.join(names)}" for shown, names in sorted(named.items())]
    return f"against {model_name(summary.group(reference))}, {'; '.join(parts)}"


def verdict_lines(summary: Summary) -> list[str]:
    """Return what each difference showed, one line a reference, without numbers."""
    found = dict.fromkeys(d.reference for d in summary.differences)
    labels = {d.label for d in summary.differences}
    lines = [_verdicts(summary, labels, name) for name in found]
    n = len(summary.differences)
    return [*lines, f"verdicts are adjusted for {n} comparisons (Holm)"] if n > 1 else lines


def _of_first(summary: Summary) -> list[str]:
    first = summary.rows[0].label
    return [
        _comparison(summary, difference, summary.row(difference.reference))
        for difference in summary.differences
        if difference.label == first and difference.reference != ALL
    ]


def _comparison(summary: Summary, difference: Difference, reference: Row | None) -> str:
    name = model_name(summary.group(difference.reference))
    value = reference.overall.get(summary.metric) if reference else None
    reached = f"{number(value.value)}; " if value else ""
    gained = number(difference.estimate.value, is_signed=True)
    detail = f"({reached}difference {gained}, {span(difference.estimate, is_signed=True)})"
    match difference.verdict:
        case "better" | "worse":
            shown, _, of = verdict(difference).partition(", ")
            return f"{shown} than {name}{f', {of}' if of else ''} {detail}"
        case "no difference shown":
            return f"no difference shown from {name} {detail}"
        case _:
            return f"whether it differs from {name} cannot be said {detail}"
