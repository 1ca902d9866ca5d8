"""The report of a deployed run: what the sites sent of it, for their patients stay with them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fedmri.arm import Group
from fedmri.errors import CODES
from fedmri.machine.files import write_whole
from fedmri.reports.pages import figures
from fedmri.reports.pages.templates import template
from fedmri.reports.privacy import privacy_table
from fedmri.reports.reliability.from_sums import SummedReliability
from fedmri.reports.statistics.intervals import Estimate
from fedmri.reports.text.calibrated import summed_reliability, summed_tables
from fedmri.reports.text.counted_areas import area_table
from fedmri.reports.text.words import capital, metric_name, number, span
from fedmri.server.registry.home import ServerHome
from fedmri.server.views.history import History, finite, read_history, read_object
from fedmri.server.views.pooling import BY_SITE, Pooled, SiteScores, estimate, pool
from fedmri.server.views.status import RunStatus, read_run, run_folder

NOT_METRICS = ("loss", "seconds", "epsilon_at_least")


@dataclass(frozen=True)
class RunResult:
    """What a run showed, from aggregates alone.

    Attributes:
        status: The run, its rounds and its sites.
        plan: The plan, as it was signed.
        plan_sha256: What the sites approved.
        tests: The final model on each site's test patients.
        pooled: Every metric over the test patients of all sites, the primary one first.
        areas: By class, the ROC area over all test patients from counts, if the plan wants it.
        notes: Why stages found nothing after the test, or did without some sites.
        reliability: Coverage and temperatures from sums, if the plan wants them.
        refused: Code of each site that gave no scores of the final model.
    """

    status: RunStatus
    plan: Mapping[str, Any]
    plan_sha256: str
    tests: tuple[SiteScores, ...]
    pooled: tuple[Pooled, ...]
    areas: Mapping[str, Mapping[str, float]]
    notes: tuple[str, ...] = ()
    reliability: tuple[SummedReliability, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


def read_result(home: ServerHome, name: str) -> RunResult:
    """Return the result of a run, or of as much of it as there is.

    Raises:
        UsageError: There is no such run (U52), or one of its files is broken (U41).
    """
    status = read_run(home, name)
    folder = run_folder(home, name)
    history = read_history(folder / "metrics.jsonl")
    text = str(read_object(folder / "signed.json")["text"])
    tests = tuple(
        SiteScores(str(record["site"]), int(record["n_subjects"]), _metrics(record))
        for record in history.of_kind("test")
        if record["status"] == "ok"
    )
    names = list(dict.fromkeys(name for one in tests for name in one.metrics))
    names.sort(key=lambda name: name != status.metric)
    return RunResult(
        status=status,
        plan=json.loads(text),
        plan_sha256=hashlib.sha256(text.encode()).hexdigest(),
        tests=tests,
        pooled=tuple(pool(tests, name) for name in names),
        areas=next((dict(one["areas"]) for one in history.of_kind("found") if "areas" in one), {}),
        notes=(
            *area_table(history.records)["area_notes"],
            *summed_tables(history.records)["summed_notes"],
        ),
        reliability=summed_reliability(history.records),
        refused={
            str(record["site"]): str(record["status"])
            for record in history.of_kind("test")
            if record["status"] != "ok"
        },
    )


def write_run_report(home: ServerHome, name: str, path: Path) -> None:
    """Write the page of a run, which needs no other file; the same run gives the same bytes."""
    history = read_history(run_folder(home, name) / "metrics.jsonl")
    write_whole(path, render(read_result(home, name), history))


def result_json(result: RunResult) -> dict[str, Any]:
    """Return the result as JSON has it: null where a number is not defined."""
    return {
        "run": result.status.name,
        "status": result.status.status,
        "metric": result.status.metric,
        "plan_sha256": result.plan_sha256,
        "weights_sha256": result.status.sha256,
        "pooled": [
            {"metric": one.metric, "how": one.how, "sites": list(one.sites)}
            | {key: _or_none(value) for key, value in asdict(one.estimate).items()}
            for one in result.pooled
        ],
        "areas": {
            name: {key: finite(value) for key, value in area.items()}
            for name, area in result.areas.items()
        },
        "reliability": [_reliability_json(one) for one in result.reliability],
        "notes": list(result.notes),
        "sites": {
            one.site: {"n_subjects": one.n_subjects}
            | {name: finite(value) for name, value in one.metrics.items()}
            for one in result.tests
        },
    }


def _reliability_json(found: SummedReliability) -> dict[str, Any]:
    """Return temperature and coverage; null where there is none."""
    return {
        "temperature": found.temperature or None,
        "limit": found.limit if found.limit >= 0 else None,
        "coverage": {
            one.site or "all sites": {
                key: _or_none(value) for key, value in asdict(one.common).items()
            }
            for one in found.coverages()
        },
    }


def result_headline(result: RunResult) -> str:
    """Return what the run showed in one sentence that claims no more than aggregates allow."""
    if not result.pooled or not result.pooled[0].sites:
        return _why_untested(result)
    first = result.pooled[0]
    has_interval = first.estimate.has_interval
    interval = f"95 % interval {span(first.estimate)}" if has_interval else "no interval"
    opening = f"{capital(metric_name(first.metric))} {number(first.estimate.value)} ({interval})"
    patients = f"{first.estimate.n_subjects} test patients of {len(first.sites)} sites"
    caveat = "" if first.how != BY_SITE else "; not the metric of all patients taken together"
    return f"{opening} on {patients}: {first.how}{caveat}."


def area_sentence(name: str, area: Mapping[str, float]) -> str:
    """Return what counts of all sites say of the order of patients, in one sentence."""
    if not math.isfinite(area["value"]):
        return f"ROC area of {name} over all sites: no site had enough patients with and without."
    return (
        f"ROC area of {name} over {area['n_subjects']:.0f} patients, from counts: "
        f"{number(area['value'])}, off by {number(area['error_bound'])} at most."
    )


def _why_untested(result: RunResult) -> str:
    """Say why there is no score of the final model."""
    if result.tests:
        names = ", ".join(one.site for one in result.tests)
        return (
            f"The final model was tested at {names}, and no score left there: each site has too "
            "few test patients to report on (policy.min_subjects_reported in its site.yaml)."
        )
    if result.refused:
        said = ", ".join(f"{site} ({code})" for site, code in result.refused.items())
        return f"The final model was not tested: no site answered the order to test it: {said}."
    return f"The final model was not tested: the run is {result.status.status}."


def render(result: RunResult, history: History) -> str:
    """Return the page."""
    page = template("run_report.html.jinja", "fedmri.server.views")
    return page.render(_context(result, history))


def _context(result: RunResult, history: History) -> dict[str, Any]:
    primary = result.status.metric
    scores = figures.curves(list(history.of_kind("validation")), primary)
    used = [record for record in history.of_kind("round") if record["status"] == "ok"]
    losses = figures.curves(used, "loss")
    drawn = {line.label for lines in (scores, losses) for one in lines.values() for line in one}
    style = figures.styles([Group(label, "federated", (label,)) for label in sorted(drawn)])
    return {
        "run": result.status,
        "result": result,
        "headline": result_headline(result),
        "fedmri": version("fedmri"),
        "metrics": [one.metric for one in result.pooled],
        "by_site": [(one.site, one.n_subjects, _cells(one, result.pooled)) for one in result.tests],
        "untested": _untested(result),
        "score_curves": list(figures.draw_curves(scores, metric_name(primary), style, "score")),
        "loss_curves": list(figures.draw_curves(losses, "training loss", style, "loss")),
        "by_round": _by_round(result.status, history),
        "codes": CODES,
        **privacy_table(history.records),
        **area_table(history.records),
        **summed_tables(history.records),
        "plan_json": json.dumps(result.plan, indent=1, sort_keys=True, ensure_ascii=False),
    }


def _metrics(record: Mapping[str, Any]) -> dict[str, float]:
    metrics = dict(record["metrics"])
    return {name: float(value) for name, value in metrics.items() if name not in NOT_METRICS}


def _cells(scores: SiteScores, pooled: Sequence[Pooled]) -> list[Estimate]:
    values = [(one.metric, scores.metrics.get(one.metric, math.nan)) for one in pooled]
    return [estimate(metric, value, scores.n_subjects) for metric, value in values]


def _untested(result: RunResult) -> list[str]:
    tested = {one.site for one in result.tests if one.n_subjects}
    return [site.site for site in result.status.sites if site.site not in tested]


def _by_round(status: RunStatus, history: History) -> list[tuple[int, list[float | None]]]:
    """Return the primary metric on validation patients by round, in the order of the sites."""
    found = {
        (int(record["round"]), str(record["site"])): (record.get("metrics") or {})
        for record in history.of_kind("validation")
    }
    rounds = sorted({at for at, _ in found})
    return [
        (at, [finite(found.get((at, s.site), {}).get(status.metric)) for s in status.sites])
        for at in rounds
    ]


def _or_none(value: float) -> float | int | None:
    return value if isinstance(value, int) else finite(value)
