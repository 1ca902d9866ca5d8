"""The drawings of a report, as SVG that is the same text each time it is drawn."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fedmri.arm import AT_HOME, Comparison, Group
from fedmri.reports.results import Record, Results, site_name
from fedmri.reports.statistics.intervals import Estimate
from fedmri.reports.summary import Row, Summary
from fedmri.reports.text.words import metric_name, number

INK, FAINT = "#1f2933", "#c8ced6"
# Okabe and Ito 2008: told apart by readers with any colour vision, and in grey by their dashes.
LEFT_OUT = "left out"
ONE_FEDERATION = Comparison((), ())
"""Arms of a run in a deployment."""
FIRST_FOLD = "1.1"
_OF_FOLD = f" (fold {FIRST_FOLD})"
_STYLES: dict[str, tuple[str, Any, str]] = {
    "federated": ("#0072B2", "solid", "o"),
    "pooled": ("#007A5A", "dashed", "s"),
    "local": ("#D55E00", "dashdot", "^"),
    "personalised": ("#56B4E9", "dashed", "v"),
    "votes": ("#8C5A2B", (0, (3, 1)), "d"),
    "ensemble": ("#B8860B", "dashdot", "P"),
    "balanced": ("#4B7A9E", (0, (5, 1)), "h"),
    LEFT_OUT: ("#A8508A", (0, (1, 1)), "D"),
    "linear": ("#7A5C00", (0, (4, 2)), "p"),
    "table": ("#6B4C9A", (0, (2, 1)), "h"),
    "baseline": ("#5f6b7a", "dotted", "x"),
}
_MORE = (("#56B4E9", "dashed", "v"), ("#B8860B", "dashdot", "P"), ("#000000", "dotted", "*"))
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "fedmri",
    "svg.fonttype": "none",
    "text.parse_math": False,  # a site may be called $x$
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": "#8a94a1",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e7eb",
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "lines.linewidth": 1.6,
}


@dataclass(frozen=True)
class Style:
    """How one model is drawn everywhere on the page."""

    color: str
    dashes: Any
    marker: str


@dataclass(frozen=True)
class Line:
    """One model's values by round at one site: the mean over seeds, and each seed."""

    label: str
    rounds: tuple[int, ...]
    mean: tuple[float, ...]
    seeds: tuple[tuple[tuple[int, ...], tuple[float, ...]], ...]


def styles(groups: Sequence[Group]) -> dict[str, Style]:
    """Return a style for each model, by its label; several strategies are told apart."""
    more = itertools.cycle(_MORE)
    taken: set[str] = set()
    chosen = {}
    for group in groups:
        kind = LEFT_OUT if group.is_left_out and group.role == "federated" else group.role
        is_new = kind in _STYLES and kind not in taken
        taken.add(kind)
        chosen[group.label] = Style(*(_STYLES[kind] if is_new or kind == "local" else next(more)))
    return chosen


def svg(figure: Figure, *, alt: str, name: str) -> Markup:
    """Return a figure as an SVG element with a text for those who do not see it."""
    return _element(_drawn(figure), alt, name)


def _drawn(figure: Figure) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    return re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)


def _element(text: str, alt: str, name: str) -> Markup:
    # Identifiers are unique in a file, and many files share the page.
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r'(<svg[^>]*?) width="[\d.]+pt"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[\d.]+pt"', r"\1", text, count=1)
    spoken = f'role="img" aria-label="{escape(alt)}"' if alt else 'aria-hidden="true"'
    return Markup(text.replace("<svg", f"<svg {spoken}", 1))


def panel(width: float, height: float) -> tuple[Figure, Any]:
    """Return a figure of a size in inches, and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def curves(
    records: Sequence[Record], value: str, comparison: Comparison = ONE_FEDERATION
) -> dict[str, list[Line]]:
    """Return the lines of each site, by label of the model.

    Args:
        records: Round or validation records.
        value: ``loss``, or a metric of validation records.
        comparison: What the arms are; without it, all are of one federation.
    """
    found: dict[tuple[str, str], dict[int, dict[int, float]]] = {}
    for record in records:
        number = (record.get("metrics") or {}).get(value, record.get(value))
        arm, site = str(record.get("arm")), str(record.get("site"))
        of = comparison.arm(arm)
        is_elsewhere = of.role in AT_HOME and of.site != site
        is_one_of_many = of.left_out or of.part or of.fold not in ("", FIRST_FOLD)
        if number is None or is_elsewhere or is_one_of_many:
            continue
        label = f"{of.role} (own site)" if of.role in AT_HOME else arm.removesuffix(_OF_FOLD)
        seed = found.setdefault((site, label), {}).setdefault(int(record.get("seed", 0)), {})
        seed[int(record.get("round", 0))] = float(number)
    lines: dict[str, list[Line]] = {}
    # What was pooled is trained and validated as one site of its own: last, after the real ones.
    for (site, label), seeds in sorted(found.items(), key=lambda entry: _pooled_last(entry[0])):
        lines.setdefault(site, []).append(_line(label, seeds))
    return lines


def _pooled_last(key: tuple[str, str]) -> tuple[bool, str, str]:
    site, label = key
    return site == label, site, label


def _line(label: str, seeds: Mapping[int, Mapping[int, float]]) -> Line:
    rounds = sorted({number for of_seed in seeds.values() for number in of_seed})
    complete = [number for number in rounds if all(number in of_seed for of_seed in seeds.values())]
    mean = [float(np.mean([of_seed[number] for of_seed in seeds.values()])) for number in complete]
    each = [
        (tuple(sorted(of_seed)), tuple(of_seed[number] for number in sorted(of_seed)))
        for _, of_seed in sorted(seeds.items())
    ]
    return Line(label, tuple(complete), tuple(mean), tuple(each))


def draw_curves(
    lines: Mapping[str, Sequence[Line]], title: str, style: Mapping[str, Style], name: str
) -> Iterator[tuple[str, Markup]]:
    """Yield each site and its drawing; all sites share the range of values."""
    values = [v for of_site in lines.values() for line in of_site for v in line.mean]
    values = [value for value in values if np.isfinite(value)]
    with mpl.rc_context(STYLE):
        for number, (site, of_site) in enumerate(lines.items()):
            figure, axes = panel(3.3, 2.3)
            for line in of_site:
                _draw_line(axes, line, style[line.label])
            if values and min(values) < max(values):
                margin = 0.06 * (max(values) - min(values))
                axes.set_ylim(min(values) - margin, max(values) + margin)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
            axes.set_xlabel("round")
            axes.set_ylabel(title)
            ends = "; ".join(
                f"{line.label} ends at {line.mean[-1]:.3f}" for line in of_site if line.mean
            )
            alt = f"{title} by round at {site_name(site)}: {ends}"
            yield site, svg(figure, alt=alt, name=f"{name}{number}")


def _draw_line(axes: Any, line: Line, style: Style) -> None:
    if len(line.seeds) > 1:
        for rounds, values in line.seeds:
            axes.plot(rounds, values, color=style.color, linewidth=0.7, alpha=0.35)
    every = max(1, len(line.rounds) // 6)
    axes.plot(
        line.rounds,
        line.mean,
        color=style.color,
        linestyle=style.dashes,
        marker=style.marker,
        markersize=4,
        markevery=every,
    )


def forest(summary: Summary, rows: Sequence[Row], style: Mapping[str, Style]) -> Markup:
    """Draw each site's score with its interval, one mark a model."""
    groups = [*summary.sites, *summary.external_sites, "all sites"]
    height = 0.6 + len(groups) * 0.15 * (1.3 + len(rows))
    with mpl.rc_context({**STYLE, "axes.grid.axis": "x"}):
        figure, axes = panel(4.6, height)
        position, ticks = 0.0, []
        for group in groups:
            ticks.append(position + 0.5 * (len(rows) - 1))
            for row in rows:
                found = row.overall if group == "all sites" else row.by_site.get(group, {})
                _draw_estimate(axes, found.get(summary.metric), position, style[row.label])
                position += 1
            axes.axhline(position, color=FAINT, linewidth=0.6)
            position += 1.3
        if (new := summary.new_site) is not None:
            groups.append("a new hospital (95 % prediction)")
            ticks.append(position)
            axes.plot([new.low, new.mean, new.high], [position] * 3, color=INK, marker="|")
            position += 2.3
        axes.set_ylim(position - 1.3, -0.9)
        axes.set_yticks(ticks, [site_name(group) for group in groups])
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"{metric_name(summary.metric)} (95 % interval)")
        alt = (
            f"{metric_name(summary.metric)} by site and model with intervals; "
            "the same numbers stand in the matrix of sites and in the result table"
        )
        return svg(figure, alt=alt, name="forest")


def size_curve(summary: Summary, rows: Sequence[Row], style: Mapping[str, Style]) -> Markup:
    """Draw the primary metric by the number of patients or sites that were learned from."""
    name = metric_name(summary.metric)
    with mpl.rc_context(STYLE):
        figure, axes = panel(4.6, 2.8)
        for role in dict.fromkeys(row.group.role for row in rows):
            own = sorted((row for row in rows if row.group.role == role), key=_size)
            found = [(row.group.size, row.overall[summary.metric]) for row in own]
            look = style[own[-1].label]
            values = [one.value for _, one in found]
            axes.plot([size for size, _ in found], values, color=look.color, linestyle=look.dashes)
            for size, one in found:
                if one.has_interval:
                    axes.plot([size, size], [one.low, one.high], color=look.color, linewidth=0.9)
                axes.plot([size], [one.value], color=look.color, marker=look.marker, markersize=5)
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted({row.group.size for row in rows}))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        axes.set_xlabel("patients of each site, or sites, that were learned from")
        axes.set_ylabel(name)
        alt = f"{name} by what was learned from; the same numbers stand in the result table"
        return svg(figure, alt=alt, name="size")


def _size(row: Row) -> int:
    return row.group.size


def matrix(summary: Summary) -> Markup:
    """Draw the score of each model at each test site, for the file: the page has a table."""
    found = summary.matrix
    values = np.array(
        [[np.nan if cell is None else cell.value for cell in cells] for cells in found.cells]
    )
    with mpl.rc_context(STYLE):
        n_rows, n_columns = values.shape
        figure, axes = panel(2.2 + 0.7 * n_columns, 0.9 + 0.32 * n_rows)
        axes.grid(visible=False)
        axes.imshow(values, cmap="Blues", alpha=0.6, aspect="auto")
        axes.set_xticks(range(n_columns), [site_name(site) for site in found.columns])
        axes.set_yticks(range(n_rows), found.rows)
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                axes.text(column, row, number(float(value)), ha="center", va="center")
        alt = "score of each model (rows) at each site where it was tested (columns)"
        return svg(figure, alt=alt, name="matrix")


def _draw_estimate(axes: Any, estimate: Estimate | None, at: float, style: Style) -> None:
    if estimate is None:
        return
    if estimate.has_interval:
        axes.plot([estimate.low, estimate.high], [at, at], color=style.color, linewidth=1.6)
    marker = {"marker": style.marker, "markersize": 5, "linestyle": "none"}
    axes.plot([estimate.value], [at], color=style.color, **marker)


def key(style: Style, name: str) -> Markup:
    """Return the small drawing that explains a style in a legend."""
    return _element(_key_drawn(style), "", name)


@cache  # each legend of a page explains the same few styles
def _key_drawn(style: Style) -> str:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(0.5, 0.16))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(0, 1)
        axes.plot([0.05, 0.95], [0, 0], color=style.color, linestyle=style.dashes)
        axes.plot([0.5], [0], color=style.color, marker=style.marker, markersize=5)
        return _drawn(figure)


def validation_curves(results: Results, metric: str) -> dict[str, list[Line]]:
    """Return the primary metric on validation patients, by site."""
    return curves(list(results.of_kind("validation")), metric, results.comparison)


def loss_curves(results: Results) -> dict[str, list[Line]]:
    """Return the training loss by site."""
    used = [record for record in results.of_kind("round") if record.get("status") == "ok"]
    return curves(used, "loss", results.comparison)
