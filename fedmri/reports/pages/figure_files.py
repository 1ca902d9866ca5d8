"""Every figure of a report as a file of its own: SVG to look at, CSV to draw it anew."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence

from markupsafe import Markup

from fedmri.evaluate.estimate import Estimate
from fedmri.machine.file_names import file_name
from fedmri.machine.files import write_unsynced
from fedmri.reports.pages.figures import Line
from fedmri.reports.results import Results, site_name
from fedmri.reports.summary import Row, Summary

FOLDER = "figures"
Table = tuple[tuple[str, ...], Sequence[Sequence[object]]]
ESTIMATE = ("value", "low", "high", "n_subjects")


def write_figures(
    results: Results, drawings: Mapping[str, Markup], tables: Mapping[str, Table]
) -> None:
    """Write the drawings and the numbers behind them into ``figures/`` of the run folder."""
    folder = results.run / FOLDER
    folder.mkdir(exist_ok=True)
    for name, drawing in drawings.items():
        write_unsynced(folder / f"{name}.svg", _alone(drawing))
    for name, (head, rows) in tables.items():
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([head, *rows])
        write_unsynced(folder / f"{name}.csv", text.getvalue())


def _alone(drawing: Markup) -> str:
    """Return a drawing of a page as a file: with a size, and on white."""
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', drawing)
    size = f' width="{box[1]}pt" height="{box[2]}pt" style="background:#fff"' if box else ""
    text = str(drawing)  # a Markup would escape what is put into it
    return '<?xml version="1.0" encoding="utf-8"?>\n' + text.replace("<svg", f"<svg{size}", 1)


def curve_name(kind: str, site: str) -> str:
    """Return the name of the figure of one site's curves."""
    return f"{kind}-{file_name(site)}"


def curve_table(lines: Sequence[Line]) -> Table:
    """Return what is drawn of a site's curves."""
    rows = [
        (line.label, number, value)
        for line in lines
        for number, value in zip(line.rounds, line.mean, strict=True)
    ]
    return ("model", "round", "mean_over_seeds"), rows


def score_table(summary: Summary, rows: Sequence[Row]) -> Table:
    """Return what the forest plot shows."""
    return ("where", "model", *ESTIMATE), list(_scores(summary, rows))


def _scores(summary: Summary, rows: Sequence[Row]) -> Iterator[tuple[object, ...]]:
    for where in (*summary.sites, *summary.external_sites, "all sites"):
        for row in rows:
            found = row.overall if where == "all sites" else row.by_site.get(where, {})
            if (one := found.get(summary.metric)) is not None:
                yield site_name(where), row.label, one.value, one.low, one.high, one.n_subjects
    if (new := summary.new_site) is not None:
        yield "a new hospital", "federated (site left out)", new.mean, new.low, new.high, ""


def size_table(summary: Summary, rows: Sequence[Row]) -> Table:
    """Return what the learning curve by size shows."""
    found = [
        (row.group.role, row.group.size, one.value, one.low, one.high, one.n_subjects)
        for row in rows
        if (one := row.overall.get(summary.metric)) is not None
    ]
    return ("role", "size", *ESTIMATE), found


def matrix_table(summary: Summary) -> Table:
    """Return the matrix of sites."""
    matrix = summary.matrix
    rows = [
        (label, site_name(site), cell.value, cell.low, cell.high, cell.n_subjects)
        for label, cells in zip(matrix.rows, matrix.cells, strict=True)
        for site, cell in zip(matrix.columns, cells, strict=True)
        if cell is not None
    ]
    return ("model", "tested_at", *ESTIMATE), rows


def calibration_table(summary: Summary) -> Table:
    """Return the points of the calibration plot."""
    rows = [(one.label, *point) for one in summary.calibrations for point in one.points]
    return ("model", "mean_probability", "share_right", "n_subjects"), rows


def selection_table(summary: Summary) -> Table:
    """Return the points of the errors of the surest patients."""
    rows = [(one.label, *point) for one in summary.calibrations for point in one.selected]
    return ("model", "share_kept", "share_wrong", "n_subjects"), rows


def decision_table(summary: Summary) -> Table:
    """Return net benefits by threshold; ``gain`` is over the better of treating all and none."""
    rows = [
        (one.label, at.threshold, *_ends(at.model), at.treat_all, *_ends(at.gain), one.n_subjects)
        for one in summary.calibrations
        for at in one.decisions
    ]
    benefit, gain = (tuple(f"{of}{end}" for end in ("", "_low", "_high")) for of in ("net", "gain"))
    return ("model", "threshold", *benefit, "treat_all", *gain, "n_subjects"), rows


def _ends(found: Estimate) -> tuple[float, float, float]:
    return found.value, found.low, found.high
