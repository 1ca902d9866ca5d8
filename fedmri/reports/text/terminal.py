"""A summary on a terminal of any width."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from fedmri.reports.budget import budget_rows
from fedmri.reports.results import site_name
from fedmri.reports.summary import Row, Summary
from fedmri.reports.text.words import (
    DASH,
    capital,
    metric_name,
    number,
    verdict_lines,
    with_interval,
)

ALL_SITES = "all sites"


def show_summary(summary: Summary, console: Console) -> None:
    """Print the primary metric over all and by site, the verdicts, and what training took.

    Sites stand beside each other where the terminal has room for them, and below each other where
    it has not. No name and no number is cut.
    """
    console.print(_scores(summary, console))
    for line in _below(summary):
        console.print(Text(line, style="italic"))
    if summary.budgets:
        console.print(_budgets(summary))


def _scores(summary: Summary, console: Console) -> RenderableType:
    sites = (*summary.sites, *summary.external_sites)
    wide = _models_by_site(summary, sites)
    if _width(wide, console) <= console.width:
        return wide
    by_site = _in_parts(summary, sites, console)
    return Group(_models_by_site(summary, ()), *by_site)


def _models_by_site(summary: Summary, sites: Sequence[str]) -> Table:
    table = _table(_title(summary), "model", [ALL_SITES, *map(site_name, sites)])
    for row in summary.rows:
        overall = with_interval(row.overall.get(summary.metric))
        cells = [row.label, overall, *(_score(row, site, summary) for site in sites)]
        table.add_row(*map(Text, cells), style="bold" if row.group.role == "federated" else None)
    return table


def _in_parts(summary: Summary, sites: Sequence[str], console: Console) -> Iterator[Table]:
    """Yield tables of a row for each site, with as many models in each as there is room for."""
    left = list(summary.rows)
    while left:
        n_models = len(left)
        table = _sites_by_model(summary, sites, left)
        while n_models > 1 and _width(table, console) > console.width:
            n_models -= 1
            table = _sites_by_model(summary, sites, left[:n_models])
        del left[:n_models]
        yield table


def _sites_by_model(summary: Summary, sites: Sequence[str], rows: Sequence[Row]) -> Table:
    metric = capital(metric_name(summary.metric))
    table = _table(f"{metric} by site", "site", [row.label for row in rows])
    for site in sites:
        scores = [_score(row, site, summary) for row in rows]
        table.add_row(*map(Text, (site_name(site), *scores)))
    return table


def _table(title: str, first: str, others: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(Text(name), justify="right", overflow="fold")
    return table


def _title(summary: Summary) -> str:
    return f"{capital(metric_name(summary.metric))}, test patients (95 % interval)"


def _score(row: Row, site: str, summary: Summary) -> str:
    estimate = row.by_site.get(site, {}).get(summary.metric)
    return DASH if estimate is None else number(estimate.value)


def _width(table: Table, console: Console) -> int:
    unlimited = console.options.update(max_width=10_000)
    return Measurement.get(console, unlimited, table).maximum


def _below(summary: Summary) -> list[str]:
    """Return what stands below the table on screen: seeds, verdicts and other hospitals."""
    seeds = sorted({row.n_seeds for row in summary.rows})
    counts = " or ".join(map(str, seeds))
    lines = [f"Trained with {counts} {'seed' if seeds == [1] else 'seeds'}."]
    lines += [f"{capital(part)}." for part in verdict_lines(summary)]
    first = summary.rows[0]
    if first.hospitals is not None and first.hospitals.has_interval:
        lines.append(f"Another set of hospitals, {first.label}: {with_interval(first.hospitals)}.")
    return lines


def _budgets(summary: Summary) -> Table:
    head, rows = budget_rows(summary.budgets)
    first, *others = [name.lower() for name in head]
    table = _table("Training budget, sites together, a seed", first, others)
    for row in rows:
        table.add_row(*row)
    return table
