"""A summary on terminals of several widths: nothing is cut."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fedmri.reports.results import load_results
from fedmri.reports.summary import Summary, summarise
from fedmri.reports.text.terminal import show_summary
from fedmri.tasks.task import Task

WriteRun = Callable[..., Path]
ARMS = ("federated", "pooled", "local-A", "linear", "baseline")


def shown(summary: Summary, width: int) -> str:
    """Return what a terminal of this many columns shows, having checked that nothing is cut."""
    file = io.StringIO()
    show_summary(summary, Console(file=file, width=width))
    text = file.getvalue()
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert max(map(len, text.splitlines())) <= width
    return text


def predict(arm: str, seed: int, site: str, i: int) -> dict[str, Any]:
    """Return a score that tells hospital and model."""
    return {"scores": {"dice": int(site[-2:]) / 100 + 0.001 * ARMS.index(arm)}}


@pytest.fixture
def many(write_run: WriteRun, segmentation: Task) -> Summary:
    """Return the summary of forty hospitals."""
    sites = {f"hospital-of-town-{i:02d}": 2 for i in range(1, 41)}
    arms = [arm for arm in ARMS if not arm.startswith("local")]
    return summarise(load_results(write_run(sites, predict, arms=arms)), segmentation)


@pytest.mark.parametrize("width", [80, 140])
def test_forty_hospitals_are_read_line_by_line(many: Summary, width: int) -> None:
    """Every hospital has a line with the score of every model, and all sites stand apart."""
    text = shown(many, width)
    for i in range(1, 41):
        (line,) = [line for line in text.splitlines() if f"hospital-of-town-{i:02d} " in line]
        scores = [float(score) for score in re.findall(r"\b0\.\d+", line)]
        assert scores == pytest.approx([i / 100 + 0.001 * model for model in (0, 1, 3, 4)])
    (overall,) = [line for line in text.splitlines() if "│ federated" in line]
    assert "0.205 (" in overall


def test_many_models_at_many_hospitals_take_several_tables(
    write_run: WriteRun, segmentation: Task
) -> None:
    """A table shows as many strategies as there is room for; each stands in one."""
    names = ("fedavg", "fedprox", "feddyn", "fedadam", "fedyogi", "median", "ditto", "krum")
    arms = [f"federated:{name}" for name in names]
    sites = dict.fromkeys(("Northern Hospital", "Southern Hospital", "Harbour Clinic"), 3)
    run = write_run(sites, lambda *_: {"scores": {"dice": 0.5}}, arms=arms)
    text = shown(summarise(load_results(run), segmentation), 60)
    assert text.count("Dice by site") > 1
    for arm in arms:
        assert len(re.findall(rf"\b{arm}\b", text)) >= 2


def test_a_wide_terminal_shows_every_model_and_site_in_one_table(
    full_run: Path, segmentation: Task
) -> None:
    """There is a row for each model and a column for each site."""
    summary = summarise(load_results(full_run), segmentation, n_bootstrap=200)
    text = shown(summary, 160)
    assert "by site" not in text
    for name in ("federated", "pooled", "local (own site)", "DU", "HT", "CS", "EZ (external)"):
        assert name in text


def test_a_name_as_long_as_the_terminal_is_folded(write_run: WriteRun, segmentation: Task) -> None:
    """No letter of it is lost."""
    site = "Universitätsklinikum-" + "ä" * 90
    run = write_run({site: 3}, lambda *_: {"scores": {"dice": 0.5}}, arms=["federated", "pooled"])
    text = shown(summarise(load_results(run), segmentation), 80)
    assert text.count("ä") >= site.count("ä")


def test_markup_in_a_name_stays_text(write_run: WriteRun, segmentation: Task) -> None:
    """A hospital called [red] is shown so."""
    run = write_run({"[red]": 3}, lambda *_: {"scores": {"dice": 0.5}}, arms=["federated"])
    assert "[red]" in shown(summarise(load_results(run), segmentation), 80)
