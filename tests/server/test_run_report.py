"""The report of a deployed run says what aggregates allow, on one page that stands alone."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fedmri.errors import UsageError
from fedmri.evaluate.reliability.by_sums import ReliabilitySums
from fedmri.server.registry.home import ServerHome
from fedmri.server.views.fetch import fetch_run
from fedmri.server.views.run_report import (
    area_sentence,
    read_result,
    result_headline,
    result_json,
    write_run_report,
)
from fedmri.trained.file.card import CardScore
from fedmri.trained.file.model_file import read_model
from tests.server.conftest import Deploy, Trained
from tests.server.test_status import records

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SECTIONS = ["result", "sites", "curves", "failed", "cost", "reproduce", "methods"]


def test_the_report_needs_no_network_and_names_every_site(
    deploy: Deploy, coordinator: ServerHome, tmp_path: Path, trained: Trained
) -> None:
    """Every site and every metric stands in the page; nothing is loaded from anywhere."""
    deploy("tiny")
    page = tmp_path / "report.html"
    write_run_report(coordinator, "tiny", page)
    text = page.read_text()
    assert all(site in text for site in trained.sites)
    assert re.findall(r'<section id="(\w+)"', text) == SECTIONS
    assert "Balanced accuracy" in text
    bare = text.replace("http://www.w3.org", "")
    assert not re.search(r'(src|href)="(?!#|data:)|https?://|<script|@import|url\((?!#)', bare)


def test_an_area_from_counts_stands_with_its_error_bound(
    deploy: Deploy, coordinator: ServerHome, tmp_path: Path
) -> None:
    """On the page, in JSON and in a sentence; of a class without patients nothing is said."""
    path = deploy("tiny").path / "metrics.jsonl"
    area = {"value": 0.71, "error_bound": 0.042, "low": 0.5, "high": 0.9, "n_subjects": 40.0}
    areas = {"mass": area, "spots": dict.fromkeys(area, math.nan)}
    found = {"kind": "found", "round": 2, "stage": "counted_auc", "status": "ok", "areas": areas}
    with path.open("a") as file:
        file.write(f"{json.dumps(found)}\n")
    write_run_report(coordinator, "tiny", tmp_path / "page")
    assert "<td>0.710</td><td>0.042</td><td>0.500 to 0.900</td>" in (tmp_path / "page").read_text()
    result = read_result(coordinator, "tiny")
    shown = result_json(result)["areas"]
    assert shown == {"mass": area, "spots": dict.fromkeys(area)}
    assert "over 40 patients" in area_sentence("mass", area)
    assert "off by 0.042 at most" in area_sentence("mass", area)
    assert "no site had enough patients" in area_sentence("spots", result.areas["spots"])


def test_coverage_from_sums_stands_by_site_with_who_is_not_in_it(
    deploy: Deploy, coordinator: ServerHome, trained: Trained, tmp_path: Path
) -> None:
    """By hand: 27 of 30 and 14 of 20 held, 41 of 50 together; the third site sent odd sums."""
    fit = ReliabilitySums(2, 0.0, 5)
    sums = {name: [0.0, 0.0, 0.0] for name in fit.names}
    sums |= {"n": [30.0, 20.0, 0.0], "held": [27.0, 14.0, 0.0], "held_own": [30.0, 20.0, 0.0]}
    sums |= {"size": [45.0, 20.0, 0.0], "right": [24.0, 16.0, 0.0]}
    reliability = {"temperature": 1.5, "limit": 0.4, "sums": sums}
    left_out = {trained.sites[2]: "H01"}
    found = {"kind": "found", "round": 2, "stage": "reliability", "status": "ok"}
    found |= {"sites": trained.sites, "left_out": left_out, "reliability": reliability}
    with (deploy("tiny").path / "metrics.jsonl").open("a") as file:
        file.write(f"{json.dumps(found)}\n")
    result = read_result(coordinator, "tiny")
    [told] = result_json(result)["reliability"]
    assert (told["temperature"], told["limit"]) == (1.5, 0.4)
    shares = {site: one["value"] for site, one in told["coverage"].items()}
    assert shares == {"all sites": 0.82, trained.sites[0]: 0.9, trained.sites[1]: 0.7}
    assert any(f"without these hospitals: {trained.sites[2]} (H01" in n for n in result.notes)
    assert any("a share of 0.800 of 50 test patients" in note for note in result.notes)
    write_run_report(coordinator, "tiny", tmp_path / "page")
    page = (tmp_path / "page").read_text()
    assert "promises 90 %, from sums over sites" in page
    assert "1.500" in page
    assert all(note.partition(" (H01")[0] in page for note in result.notes)


def test_a_private_run_shows_both_bounds_and_scores_neither(
    deploy: Deploy, coordinator: ServerHome, tmp_path: Path
) -> None:
    """Epsilon of each site stands in a section of its own; the audit is no metric of the model."""
    path = deploy("tiny").path / "metrics.jsonl"
    changed = records(path)
    for record in changed:
        if record["kind"] == "round":
            record |= {"epsilon": 0.5 * record["round"], "delta": 0.02}
        elif record["kind"] == "test":
            record["metrics"]["epsilon_at_least"] = 1.25
    path.write_text("".join(f"{json.dumps(record)}\n" for record in changed))
    write_run_report(coordinator, "tiny", tmp_path / "page")
    text = (tmp_path / "page").read_text()
    assert re.findall(r'<section id="(\w+)"', text) == [*SECTIONS[:4], "privacy", *SECTIONS[4:]]
    cells = "<td>1.000</td><td>0.02</td><td>1.250</td><td>BROKEN"
    assert text.count(cells) == len({r["site"] for r in changed if r["kind"] == "test"})
    result = result_json(read_result(coordinator, "tiny"))
    assert "epsilon_at_least" not in json.dumps(result)


def test_the_headline_says_that_the_metric_is_not_of_all_patients(
    deploy: Deploy, coordinator: ServerHome
) -> None:
    """Balanced accuracies 1, 0, 0 of 1, 2, 1 patients: 0.25 by patients, and no interval."""
    deploy("tiny")
    assert result_headline(read_result(coordinator, "tiny")) == (
        "Balanced accuracy 0.250 (no interval) on 4 test patients of 3 sites: mean of the sites' "
        "values, weighted by patients; not the metric of all patients taken together."
    )


def test_a_run_without_a_test_has_a_report_that_says_so(
    deploy: Deploy, coordinator: ServerHome, tmp_path: Path
) -> None:
    """A run that stopped half way, or before its first round, is reported as far as it came."""
    for name, n_records in (("none", 0), ("half", 9)):
        deploy(name, n_records, status="failed", message="quorum was missed")
        write_run_report(coordinator, name, tmp_path / name)
        text = (tmp_path / name).read_text()
        assert "The final model was not tested: the run is failed." in text
        assert "quorum was missed" in text


def test_markup_in_a_message_stays_text(
    deploy: Deploy, coordinator: ServerHome, tmp_path: Path
) -> None:
    """What a run says of its end cannot become part of the page."""
    deploy("tiny", 3, status="failed", message="<script>alert(1)</script>")
    write_run_report(coordinator, "tiny", tmp_path / "page")
    assert "<script>" not in (tmp_path / "page").read_text()


def test_the_same_run_gives_the_same_report(
    deploy: Deploy, coordinator: ServerHome, tmp_path: Path
) -> None:
    """A report can be compared byte by byte."""
    deploy("tiny")
    for name in ("first", "second"):
        write_run_report(coordinator, "tiny", tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_the_result_as_json_holds_sites_and_pooled(deploy: Deploy, coordinator: ServerHome) -> None:
    """Accuracy is a mean over patients: it has an interval; NaN becomes null."""
    run = deploy("tiny")
    result = result_json(read_result(coordinator, "tiny"))
    json.dumps(result, allow_nan=False)
    tests = [r for r in records(run.path / "metrics.jsonl") if r["kind"] == "test"]
    n = {record["site"]: record["n_subjects"] for record in tests}
    assert {site: values["n_subjects"] for site, values in result["sites"].items()} == n
    (accuracy,) = [one for one in result["pooled"] if one["metric"] == "accuracy"]
    right = sum(record["n_subjects"] * record["metrics"]["accuracy"] for record in tests)
    assert accuracy["value"] == pytest.approx(right / sum(n.values()))
    assert accuracy["low"] < accuracy["value"] < accuracy["high"]
    assert result["pooled"][0]["low"] is None


def test_a_fetched_run_is_complete_and_checked(
    deploy: Deploy, coordinator: ServerHome, tmp_path: Path
) -> None:
    """Model, records, plan and report lie in the folder, the model byte for byte."""
    run = deploy("tiny")
    fetch_run(coordinator, "tiny", tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"model.safetensors", "metrics.jsonl", "signed.json", "report.html"} <= names
    for name in ("model.safetensors", "metrics.jsonl", "signed.json"):
        assert (tmp_path / "out" / name).read_bytes() == (run.path / name).read_bytes()


def test_a_fetched_model_has_the_scores_that_the_sites_told(
    deploy: Deploy, coordinator: ServerHome, tmp_path: Path
) -> None:
    """Values, bounds and patients of its card are those of the run's report."""
    deploy("tiny")
    result = fetch_run(coordinator, "tiny", tmp_path / "out")
    card = read_model(tmp_path / "out" / "model.safetensors").card
    wanted = {
        one.metric: CardScore.of(e.value, e.low, e.high, e.n_subjects)
        for one in result.pooled
        if math.isfinite((e := one.estimate).value)
    }
    assert card.scores
    assert card.scores == {name: found for name, found in wanted.items() if name in card.scores}
    assert wanted.keys() - card.scores.keys() <= {"is_adapted"}


def test_another_model_than_the_recorded_one_is_refused(
    deploy: Deploy, coordinator: ServerHome, tmp_path: Path
) -> None:
    """One changed bit of a weight is found."""
    path = deploy("tiny").path / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"as recorded.*\[U44\]"):
        fetch_run(coordinator, "tiny", tmp_path / "out")


def test_a_run_without_a_model_is_fetched_when_asked_for(
    deploy: Deploy, coordinator: ServerHome, tmp_path: Path
) -> None:
    """What there is of a failed run comes with --partial and not by mistake."""
    deploy("tiny", 9, status="failed")
    with pytest.raises(UsageError, match=r"the run is failed.*\[U42\]"):
        fetch_run(coordinator, "tiny", tmp_path / "out")
    fetch_run(coordinator, "tiny", tmp_path / "out", is_partial=True)
    assert (tmp_path / "out" / "report.html").exists()


def test_nothing_is_written_over(deploy: Deploy, coordinator: ServerHome, tmp_path: Path) -> None:
    """A folder with a file in it stays as it is."""
    deploy("tiny")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(UsageError, match=r"\[U43\]"):
        fetch_run(coordinator, "tiny", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt install chromium")
def test_a_browser_opens_the_report_without_complaint(
    deploy: Deploy, coordinator: ServerHome, tmp_path: Path
) -> None:
    """All sections arrive in its document, and its console stays empty."""
    deploy("tiny")
    page = tmp_path / "report.html"
    write_run_report(coordinator, "tiny", page)
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}",
        "--enable-logging=stderr", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert re.findall(r'<section id="(\w+)"', done.stdout) == SECTIONS
    assert "CONSOLE" not in done.stderr
