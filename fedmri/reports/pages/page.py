"""The report of a run: one page that needs no network, no script and no other file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from markupsafe import Markup

from fedmri.arm import ALL, Group
from fedmri.errors import CODES
from fedmri.machine.files import write_unsynced
from fedmri.reports.budget import budget_rows
from fedmri.reports.label_losses import label_loss_sentences
from fedmri.reports.own_task import refuse_other_task
from fedmri.reports.pages import figure_files as files
from fedmri.reports.pages import figures, pictures, probability_figures
from fedmri.reports.pages.templates import template
from fedmri.reports.privacy import privacy_table
from fedmri.reports.results import ManifestFinding, Results, load_results
from fedmri.reports.statistics.intervals import Estimate
from fedmri.reports.summary import Summary, summarise
from fedmri.reports.text.calibrated import coverage_rows, summed_tables, temperature_rows
from fedmri.reports.text.counted_areas import area_table
from fedmri.reports.text.tables import difference_table, group_rows, result_rows
from fedmri.reports.text.told_site import telling_rows, telling_sentences
from fedmri.reports.text.verdicts import (
    benefit_rows,
    calibration_rows,
    five_sentences,
    given_rows,
)
from fedmri.reports.text.words import comparisons, metric_name
from fedmri.reports.told_site import told_table
from fedmri.tasks.task import Task

WATTS_OF_A_CORE = 10.0
"""A server's core with its share of memory and cooling; between 5 and 20 in practice."""
MAX_LISTED = 1000
"""Of the scans left out, so many stand in the page; all are in the manifest."""


def write_report(run: Path, task: Task) -> tuple[Path, Summary]:
    """Write ``report.html`` and ``figures/`` into a run folder; the same run gives the same bytes.

    Args:
        run: Folder that a run wrote.
        task: Its task.

    Returns:
        The file, and the numbers that it shows.

    Raises:
        UsageError: The run folder cannot be read (U10 to U14).
    """
    results = load_results(run)
    refuse_other_task(results, task)
    summary = summarise(results, task)
    path = run / "report.html"
    context = _context(results, summary)
    write_unsynced(path, template("report.html.jinja").render(context))
    files.write_figures(results, *context["files"])
    return path, summary


def _context(results: Results, summary: Summary) -> dict[str, Any]:
    environment = results.environment
    head, rows = result_rows(summary)
    difference_head, differences = difference_table(summary)
    excluded = [finding for finding in results.findings if finding.is_excluded]
    budget_head, budgets = budget_rows(summary.budgets)
    images, n_more = pictures.shown(pictures.load_pictures(results.run))
    return {
        "name": results.run.resolve().name,
        "environment": environment,
        "facts": _facts(environment),
        "summary": summary,
        "sentences": five_sentences(summary),
        "benefits": benefit_rows(summary.benefits),
        "given": given_rows(summary.given),
        "calibrations": calibration_rows(summary.calibrations),
        "temperatures": temperature_rows(summary.temperatures),
        "groups": group_rows(summary.groups),
        "coverages": coverage_rows(summary.coverages),
        "telling": telling_sentences(summary.telling),
        "told": telling_rows(summary.telling),
        "watt_hours": _watt_hours(results),
        "watts": WATTS_OF_A_CORE,
        "comparisons": comparisons(summary),
        "result_head": head,
        "result_rows": rows,
        "federated": [row.label for row in summary.rows if row.group.role == "federated"],
        "difference_head": difference_head,
        "difference_rows": differences,
        "matrix": _matrix(summary),
        "pictures": images,
        "n_more_pictures": n_more,
        "truth_color": pictures.TRUTH_COLOR,
        "predicted_color": pictures.PREDICTED_COLOR,
        "usage": results.usage,
        "exclusions": excluded[:MAX_LISTED],
        "n_excluded": len(excluded),
        "label_losses": label_loss_sentences(results.run / "label_losses.tsv"),
        "codes": CODES,
        "code_counts": _code_counts(results.findings),
        "failures": list(_failures(results)),
        "costs": _costs(results),
        "budget_head": budget_head,
        "budget_rows": budgets,
        **privacy_table(results.records),
        **area_table(results.records),
        **summed_tables(results.records),
        "config": results.config,
        **_drawings(results, summary),
    }


def _watt_hours(results: Results) -> float:
    """Return the energy of all training, at a fixed power of one busy core."""
    seconds = sum(float(record.get("seconds") or 0) for record in results.of_kind("round"))
    return seconds * WATTS_OF_A_CORE / 3600


def _code_counts(findings: Sequence[ManifestFinding]) -> list[tuple[str, int, int]]:
    """Return by code how many scans were left out for it, and how many were kept all the same."""
    scans: dict[str, tuple[set[tuple[str, str, str]], set[tuple[str, str, str]]]] = {}
    for finding in findings:
        excluded, kept = scans.setdefault(finding.code, (set(), set()))
        scan = finding.site, finding.subject, finding.session
        (excluded if finding.is_excluded else kept).add(scan)
    return [(code, len(scans[code][0]), len(scans[code][1])) for code in sorted(scans)]


def _drawings(results: Results, summary: Summary) -> dict[str, Any]:
    own = [row for row in summary.rows if row.label != ALL and row.group.role != "baseline"]
    forest_rows = [row for row in own if not row.group.is_beside]
    scores = figures.validation_curves(results, summary.metric)
    losses = figures.loss_curves(results)
    drawn = {
        line.label for lines in (scores, losses) for of_site in lines.values() for line in of_site
    }
    groups = [row.group for row in summary.rows if row.label != ALL]
    style = figures.styles([*groups, *_undrawn(results, drawn - {g.label for g in groups})])
    name = metric_name(summary.metric)
    sized = [row for row in summary.rows if row.group.size and summary.metric in row.overall]
    sized = sized if len({row.group.size for row in sized}) > 1 else []
    judged = summary.calibrations
    is_decided = any(one.decisions for one in judged)
    drawn_once = {
        "forest": figures.forest(summary, forest_rows, style),
        "size": figures.size_curve(summary, sized, style) if sized else Markup(),
        "calibration": probability_figures.calibration(summary, style) if judged else Markup(),
        "selection": probability_figures.selection(summary, style) if judged else Markup(),
        "decisions": probability_figures.decisions(summary, style) if is_decided else Markup(),
    }
    has_matrix = bool(summary.matrix.rows)
    for_files = drawn_once | ({"matrix": figures.matrix(summary)} if has_matrix else {})
    by_site = {
        "score": list(figures.draw_curves(scores, name, style, "score")),
        "loss": list(figures.draw_curves(losses, "training loss", style, "loss")),
    }
    tables = {
        "forest": files.score_table(summary, forest_rows),
        "size": files.size_table(summary, sized),
        "matrix": files.matrix_table(summary),
        "calibration": files.calibration_table(summary),
        "selection": files.selection_table(summary),
        "decisions": files.decision_table(summary),
        "site_from_embeddings": told_table(summary.telling),
        **{files.curve_name("score", site): files.curve_table(own) for site, own in scores.items()},
        **{files.curve_name("loss", site): files.curve_table(own) for site, own in losses.items()},
    }
    return {
        **drawn_once,
        "files": (_named(for_files, by_site), {n: t for n, t in tables.items() if t[1]}),
        "score_curves": by_site["score"],
        "loss_curves": by_site["loss"],
        "size_key": _key("size-key", style, [row.label for row in sized if not row.group.part]),
        "calibration_key": _key("calibration-key", style, [one.label for one in judged]),
        "curve_key": _key("curve-key", style, [label for label in style if label in drawn]),
        "forest_key": _key("forest-key", style, [row.label for row in forest_rows]),
    }


def _named(
    once: Mapping[str, Markup], by_site: Mapping[str, Sequence[tuple[str, Markup]]]
) -> dict[str, Markup]:
    """Return all drawings by the names of their files."""
    curves = {
        files.curve_name(kind, site): drawing
        for kind, drawings in by_site.items()
        for site, drawing in drawings
    }
    return {**{name: drawing for name, drawing in once.items() if drawing}, **curves}


def _undrawn(results: Results, labels: Set[str]) -> list[Group]:
    """Return rows of arms that were trained, and are in curves alone as they were not tested."""
    return [Group(one, results.comparison.arm(one).role, (one,)) for one in sorted(labels)]


def _key(
    name: str, style: Mapping[str, figures.Style], labels: Sequence[str]
) -> list[tuple[str, Markup]]:
    return [(label, figures.key(style[label], f"{name}{i}")) for i, label in enumerate(labels)]


def _facts(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the environment as lines, nested values as JSON."""
    lines: list[tuple[str, str]] = []
    for name in ("fedmri", "versions", "machine", "data_fingerprints"):
        value = environment.get(name)
        entries = value.items() if isinstance(value, dict) else [("", value)]
        title = name.replace("_", " ")
        lines += [(f"{title} {entry}".strip(), _plain(text)) for entry, text in entries]
    return [line for line in lines if line[1]]


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _matrix(summary: Summary) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the rows of the matrix with the colour of each cell: darker is better."""
    cells = summary.matrix.cells
    # The baseline would take the whole range of colours and leave one for all the models.
    trained = [
        row
        for is_baseline, row in zip(summary.matrix.are_baselines, cells, strict=True)
        if not is_baseline
    ]
    values = [c.value for row in trained for c in row if c is not None and math.isfinite(c.value)]
    low, high = min(values, default=0.0), max(values, default=0.0)
    lines = []
    named = zip(summary.matrix.rows, summary.matrix.owners, cells, strict=True)
    for label, owner, row in named:
        line = [
            {"estimate": cell, "is_own": site == owner, "back": _shade(cell, low, high, summary)}
            for site, cell in zip(summary.matrix.columns, row, strict=True)
        ]
        lines.append((label, line))
    return lines


def _shade(cell: Estimate | None, low: float, high: float, summary: Summary) -> str:
    if cell is None or not math.isfinite(cell.value):
        return "#ffffff"
    share = (cell.value - low) / (high - low) if high > low else 0.5
    share = min(1.0, max(0.0, share))
    share = share if summary.is_higher_better else 1 - share
    dark, light = (92, 166, 214), (246, 250, 253)  # the text has a contrast of 5 on either
    mixed = [round(a * share + b * (1 - share)) for a, b in zip(dark, light, strict=True)]
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def _failures(results: Results) -> Iterator[tuple[str, int, int, str, str]]:
    """Yield arm, seed, round, site and code of every update that was not used."""
    seen = set()
    for record in results.of_kind("round"):
        if record.get("status") != "ok":
            entry = _failure(record, str(record.get("site")))
            seen.add(entry[:4])
            yield (*entry, str(record.get("status")))
    for record in results.of_kind("round_total"):
        for site, code in dict(record.get("rejected") or {}).items():
            entry = _failure(record, str(site))
            if entry not in seen:
                yield (*entry, str(code))


def _failure(record: Mapping[str, Any], site: str) -> tuple[str, int, int, str]:
    return (
        str(record.get("arm")),
        int(record.get("seed", 0)),
        int(record.get("round", 0)),
        site,
    )


def _costs(results: Results) -> list[tuple[str, str, int, int, float, float, float]]:
    """Return arm, site, rounds, steps, seconds, bytes down and up, all seeds together.

    A secure sum hides steps: they are 0 then.
    """
    costs: dict[tuple[str, str], list[float]] = {}
    for record in results.of_kind("round"):
        entry = costs.setdefault((str(record.get("arm")), str(record.get("site"))), [0.0] * 5)
        entry[0] += 1
        for place, name in enumerate(("n_steps", "seconds", "bytes_down", "bytes_up"), start=1):
            entry[place] += float(record.get(name) or 0)
    return [
        (arm, site, int(entry[0]), int(entry[1]), entry[2], entry[3], entry[4])
        for (arm, site), entry in costs.items()
    ]
