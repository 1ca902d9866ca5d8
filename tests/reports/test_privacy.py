"""Epsilon in the reports: both bounds, by site, and nothing where there is no guarantee."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedmri.reports.pages.page import write_report
from fedmri.reports.privacy import BROKEN, SitePrivacy, privacy_of
from fedmri.tasks.task import Task

WriteRun = Callable[..., Path]
FIXED = {"arm": "federated", "seed": 0, "status": "ok"}


def spent(round_index: int, site: str, epsilon: float) -> dict[str, Any]:
    """Return the record of a round at a site."""
    metrics = {"loss": math.nan, "epsilon": epsilon, "delta": 0.001}
    return {"kind": "round", "round": round_index, "site": site, **FIXED, **metrics}


def of_test(site: str, **metrics: float) -> dict[str, Any]:
    """Return the record of a test at a site."""
    return {"kind": "test", "round": 9, "site": site, **FIXED, "metrics": metrics}


def test_the_last_round_counts_and_the_audit_stands_beside_it() -> None:
    """Epsilon adds up over rounds; a site without an audit, or of another arm, has no bound."""
    records = [
        *(spent(2, "A", 1.5), spent(1, "A", 1.0), spent(1, "B", 2.0)),
        *(of_test("A", dice=0.5, epsilon_at_least=0.7), of_test("B", dice=0.5)),
        of_test("C", epsilon_at_least=3.0),
        {**of_test("B", epsilon_at_least=9.0), "arm": "pooled"},
        {"kind": "round", "round": 3, "site": "B", **FIXED, "status": "P31"},
    ]
    first, second = privacy_of(records)
    assert first == SitePrivacy("federated", 0, "A", 1.5, 0.001, 0.7)
    assert (second.site, second.epsilon) == ("B", 2.0)
    assert math.isnan(second.at_least)
    assert [first.verdict, second.verdict] == ["no contradiction", "not audited"]


@pytest.mark.parametrize(("low", "is_broken"), [(1.0, False), (1.001, True), (math.nan, False)])
def test_bounds_that_exclude_each_other_are_broken(low: float, is_broken: bool) -> None:
    """Nothing can have lost more than its upper bound."""
    one = SitePrivacy("federated", 0, "A", 1.0, 0.001, low)
    assert one.is_broken == is_broken
    assert (one.verdict == BROKEN) == is_broken


def test_the_page_shows_both_bounds_and_their_unit(write_run: WriteRun, segmentation: Task) -> None:
    """By site, with delta and unit; a broken audit is in bold; a name is only text."""
    run = write_run({"A": 6, "<b>": 6}, lambda *_: {"scores": {"dice": 0.5}})
    plain = write_report(run, segmentation)[0].read_text()
    assert 'id="privacy"' not in plain
    assert "psilon" not in plain
    records = [spent(1, "A", 1.5), spent(1, "<b>", 2.0), of_test("A", epsilon_at_least=1.75)]
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in records))
    text = write_report(run, segmentation)[0].read_text()
    assert 'href="#privacy"' in text
    assert "Privacy loss of one patient at one site" in text
    broken = (
        '<tr class="strong"><th scope="row">federated, seed 0: A</th><td>1.500</td><td>0.001</td>'
    )
    assert f"{broken}<td>1.750</td><td>{BROKEN}</td></tr>" in text
    assert "federated, seed 0: &lt;b&gt;</th><td>2.000</td>" in text
    assert "not audited" in text
