"""The page that judges a harmonization: the same features and models before and after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fedmri.reports.pages import figures
from fedmri.reports.pages.templates import template
from fedmri.reports.statistics.bounds import Evidence
from fedmri.reports.statistics.influence import mean_of
from fedmri.reports.statistics.intervals import Estimate, estimate_of
from fedmri.reports.statistics.metrics import metric_of
from fedmri.reports.statistics.spread import Strata, pooled_strata, spread_of, t_bounds
from fedmri.reports.text.words import number, span, with_interval

Array = NDArray[np.float64]
N_BINS = 24
BEFORE, AFTER = "#D55E00", "#0072B2"


@dataclass(frozen=True)
class Feature:
    """One feature by site, before and after."""

    name: str
    before: Mapping[str, Array]
    after: Mapping[str, Array]


@dataclass(frozen=True)
class Table:
    """A table of the page with a sentence that says what stands in it."""

    title: str
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class BeforeAfter:
    """All that the page shows.

    Attributes:
        title: What was harmonized.
        lead: What came of it, in a sentence.
        facts: Names and values of settings.
        cautions: Codes and sentences.
        tables: Measures before and after.
        features: Drawn by site.
        drawn: Which features these are.
    """

    title: str
    lead: str
    facts: tuple[tuple[str, str], ...]
    cautions: tuple[tuple[str, str], ...]
    tables: tuple[Table, ...]
    features: tuple[Feature, ...]
    drawn: str = "The features in which sites differed most before."


def write_page(path: Path, shown: BeforeAfter) -> None:
    """Write the page; the same values give the same bytes, and it needs no other file."""
    drawings = [(f.name, histograms(f, f"feature{k}")) for k, f in enumerate(shown.features)]
    page = template("before_after.html.jinja").render(shown=shown, drawings=drawings)
    path.write_text(page, encoding="utf-8")


def task_rows(
    sites: Sequence[str], subjects: Sequence[str], errors: Mapping[str, Array]
) -> tuple[tuple[str, ...], ...]:
    """Return mean errors with 95 % intervals over subjects, and each one's gain over the first.

    Subjects vary within their sites, and are the same for all columns: differences are paired. A
    subject with several rows counts by the mean of them.

    Args:
        sites: Site of each row.
        subjects: Subject of each row.
        errors: By name, shape ``(n,)`` each.
    """
    keys = list(zip(sites, subjects, strict=True))
    order = sorted(set(keys))
    place = {key: k for k, key in enumerate(order)}
    index = np.array([place[key] for key in keys])
    strata = pooled_strata([site for site, _ in order])
    counts = np.bincount(index, minlength=len(order))
    means = {
        name: np.bincount(index, values, len(order)) / counts for name, values in errors.items()
    }
    first = next(iter(means.values()))
    return tuple(
        (
            name,
            with_interval(_mean_error(values, strata)),
            "" if values is first else _signed(_difference(values - first, strata)),
        )
        for name, values in means.items()
    )


def histograms(feature: Feature, name: str) -> Markup:
    """Draw one row a site: its histogram before and after, all on one axis each."""
    sites = list(feature.before)
    sides = (("before", feature.before, BEFORE), ("after", feature.after, AFTER))
    with mpl.rc_context({**figures.STYLE, "axes.grid.axis": "x"}):
        figure = Figure(figsize=(6.4, 0.7 + 0.26 * len(sites)), layout="constrained")
        for axes, (title, values, color) in zip(
            figure.subplots(1, 2, sharey=True), sides, strict=True
        ):
            everything = np.concatenate([v[np.isfinite(v)] for v in values.values()])
            edges = _edges(everything)
            for k, site in enumerate(sites):
                own = values[site][np.isfinite(values[site])]
                heights = np.histogram(np.clip(own, edges[0], edges[-1]), edges)[0]
                top = k - 0.85 * heights / max(1, heights.max(initial=0))
                axes.fill_between(edges, k, np.append(top, top[-1]), step="post", color=color)
                if len(own):
                    axes.plot([own.mean()] * 2, [k, k - 0.85], color=figures.INK, linewidth=1)
            axes.set_title(title)
            axes.set_yticks(range(len(sites)), sites)
            axes.set_ylim(len(sites) - 0.9, -1)
        alt = f"Histogram of {feature.name} by site before and after, with each site's mean"
        return figures.svg(figure, alt=alt, name=name)


def _edges(values: Array) -> Array:
    """Return edges between the 0.5th and 99.5th percentile; what lies beyond is in the end bins."""
    low, high = np.percentile(values, [0.5, 99.5]) if len(values) else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, N_BINS + 1)


def _mean_error(values: Array, strata: Strata) -> Estimate:
    """Return a mean error with the interval of a mean absolute error."""
    (part,), n = mean_of(values), len(values)
    spread = spread_of(part.influence[None] / n, np.zeros(1), strata)
    method = metric_of("mae").method
    if method is None:
        return estimate_of(part.value, np.nan, np.nan, n)
    bounds = method(Evidence((part,), (spread,), (1.0,), np.eye(1), n))
    return estimate_of(part.value, bounds.low, bounds.high, n)


def _difference(values: Array, strata: Strata) -> Estimate:
    value, n = float(values.mean()), len(values)
    spread = spread_of((values - value)[None] / n, np.zeros(1), strata)
    low, high = t_bounds(value, spread)
    return estimate_of(value, low, high, n)


def _signed(estimate: Estimate) -> str:
    gain = number(estimate.value, is_signed=True)
    return f"{gain} ({span(estimate, is_signed=True)})"
