"""Where a run stands is read from its files, at any moment of its life."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fedmri.errors import UsageError
from fedmri.server.registry.attendance import Attendance, Missed
from fedmri.server.registry.home import ServerHome
from fedmri.server.registry.presence import STALE_S
from fedmri.server.views.status import (
    RunStatus,
    as_json,
    chosen_run,
    read_run,
    read_server,
    run_folder,
)
from tests.server.conftest import Deploy, Trained, see


def records(path: Path) -> list[dict[str, Any]]:
    """Return the records of a run as they lie on disk."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("n_records", "stands", "waiting"),
    [
        (0, ("training", 0), "site01 site02 site03"),
        (2, ("training", 0), "site03"),  # two sites answered in round 1
        (3, ("training", 0), ""),  # all did, the mean is not yet made
        (4, ("validation", 1), "site01 site02 site03"),
        (6, ("validation", 1), "site03"),
        (7, ("training", 1), "site01 site02 site03"),
        (14, ("test", 2), "site01 site02 site03"),
        (16, ("test", 2), "site03"),
        (18, ("done", 2), ""),
    ],
)
def test_the_stage_and_who_is_waited_for_follow_from_the_records(
    n_records: int, stands: tuple[str, int], waiting: str, deploy: Deploy, coordinator: ServerHome
) -> None:
    """A round of three sites leaves 3 updates, 1 total, 3 validations; then 3 tests and the end."""
    deploy("tiny", n_records)
    run = read_run(coordinator, "tiny")
    assert (run.stage, run.round_index) == stands
    assert run.waiting_for == tuple(waiting.split())


def test_nobody_waits_for_who_refuses_or_was_passed_over(
    deploy: Deploy, coordinator: ServerHome
) -> None:
    """They have not answered, and no answer of theirs holds the run up."""
    attendance = Attendance(deploy("tiny", 4).path)
    attendance.refuse("site01", "", "no")
    attendance.miss("site02", Missed("waiting"))
    attendance.write()
    assert read_run(coordinator, "tiny").waiting_for == ("site03",)


def test_a_half_written_last_line_is_not_there_yet(deploy: Deploy, coordinator: ServerHome) -> None:
    """However much of the next line is on disk, the run stands where its whole lines say."""
    run = deploy("tiny", 8)
    path = run.path / "metrics.jsonl"
    whole, expected = path.read_bytes(), read_run(coordinator, "tiny")
    following = (deploy("other", 9).path / "metrics.jsonl").read_bytes()[len(whole) :]
    for n_bytes in (1, len(following) // 2, len(following) - 1):
        path.write_bytes(whole + following[:n_bytes])
        assert read_run(coordinator, "tiny") == expected


def test_a_broken_line_before_the_last_is_named(deploy: Deploy, coordinator: ServerHome) -> None:
    """Damage is not shown as if the run had recorded less."""
    path = deploy("tiny", 4).path / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], lines[1][:20] + "\n", *lines[2:]]))
    with pytest.raises(UsageError, match=r"metrics\.jsonl.*line 2.*\[U41\]"):
        read_run(coordinator, "tiny")


def test_bytes_and_means_are_those_of_the_records(deploy: Deploy, coordinator: ServerHome) -> None:
    """Bytes add up over rounds; a mean weighs each site by what it counted."""
    found = records(deploy("tiny").path / "metrics.jsonl")
    run = read_run(coordinator, "tiny")
    rounds = [record for record in found if record["kind"] == "round"]
    assert run.bytes_up == sum(record["bytes_up"] for record in rounds) > 0
    assert run.bytes_down == sum(record["bytes_down"] for record in rounds)
    last = [record for record in rounds if record["round"] == 2]
    total = sum(record["n_examples"] for record in last)
    loss = sum(record["n_examples"] * record["loss"] for record in last) / total
    assert run.rounds[1].loss == pytest.approx(loss)
    scores = [r for r in found if r["kind"] == "validation" and r["round"] == 2]
    n_subjects = sum(record["n_subjects"] for record in scores)
    metric = sum(r["n_subjects"] * r["metrics"]["balanced_accuracy"] for r in scores) / n_subjects
    assert run.rounds[1].metric == pytest.approx(metric)


def test_who_was_left_out_is_named_with_the_code(deploy: Deploy, coordinator: ServerHome) -> None:
    """A site that was too late in one round is told from one that was always there."""
    path = deploy("tiny", 7).path / "metrics.jsonl"
    found = records(path)
    found[1] |= {"status": "R05"}  # site02
    found[3] |= {"rejected": {"site02": "R05"}, "n_sites": 2}
    path.write_text("".join(json.dumps(record) + "\n" for record in found))
    run = read_run(coordinator, "tiny")
    assert run.rounds[0].rejected == {"site02": "R05"}
    left_out = {site.site: (site.n_rounds, site.left_out) for site in run.sites}
    assert left_out == {"site01": (1, {}), "site02": (0, {"R05": 1}), "site03": (1, {})}


def test_a_finished_run_tells_the_weights(
    deploy: Deploy, coordinator: ServerHome, trained: Trained
) -> None:
    """What was trained is known by the SHA-256 that the run recorded."""
    deploy("tiny")
    recorded = records(trained.folder / "metrics.jsonl")[-1]["sha256"]
    assert read_run(coordinator, "tiny").sha256 == recorded


@pytest.mark.parametrize("name", ["..", "../runs/tiny", "tiny/../tiny", "", ".tiny", "none"])
def test_a_name_is_looked_up_and_never_a_path(
    name: str, deploy: Deploy, coordinator: ServerHome
) -> None:
    """Only names that the server lists lead to a folder."""
    deploy("tiny", 0)
    with pytest.raises(UsageError, match=r"there are tiny.*\[U52\]"):
        run_folder(coordinator, name)


def test_a_broken_run_does_not_hide_the_others(deploy: Deploy, coordinator: ServerHome) -> None:
    """The list goes on and says which run cannot be read."""
    deploy("good", 3)
    (deploy("bad", 3).path / "signed.json").write_text("{}")
    status = read_server(coordinator)
    assert [run.name for run in status.runs] == ["good"]
    assert "signed.json" in status.broken["bad"]


def test_nobody_is_online_for_certain_once_the_server_is_silent(coordinator: ServerHome) -> None:
    """A file that a dead process left behind is no sign of life."""
    see(coordinator, {"site01": True, "site02": False})
    known = {member.site: member.is_online for member in read_server(coordinator).members}
    assert known == {"site01": True, "site02": False, "site03": False}
    path = coordinator.state / "sites-seen.json"
    written = path.stat().st_mtime - 2 * STALE_S
    os.utime(path, (written, written))
    silent = read_server(coordinator)
    assert not silent.is_server_running
    assert {member.is_online for member in silent.members} == {None}


def test_json_has_no_number_that_is_not_one(deploy: Deploy, coordinator: ServerHome) -> None:
    """Records hold NaN where a metric is not defined; JSON for others has null."""
    path = deploy("tiny").path / "metrics.jsonl"
    text = path.read_text().replace('"balanced_accuracy": 0.5', '"balanced_accuracy": NaN')
    path.write_text(text.replace('"seconds": 0.', '"seconds": NaN, "s": 0.', 1))
    assert "NaN" in text
    shown = json.dumps(as_json(read_server(coordinator)), allow_nan=False)
    assert json.loads(shown)["runs"][0]["waiting_for"] == []


def test_without_a_name_the_newest_run_that_goes_on_is_shown(
    deploy: Deploy, coordinator: ServerHome
) -> None:
    """A run that ended later does not push one that goes on out of sight."""
    deploy("a", 3, submitted="2026-01-01T00:00:00Z")
    deploy("b", 3, submitted="2026-01-02T00:00:00Z")
    deploy("c", submitted="2026-01-03T00:00:00Z")
    assert name_of(chosen_run(read_server(coordinator))) == "b"
    for name in ("a", "b"):
        deploy_state(coordinator, name, "failed")
    assert name_of(chosen_run(read_server(coordinator))) == "c"


def name_of(run: RunStatus | None) -> str:
    """Return the name of a run, or nothing."""
    return run.name if run else ""


def deploy_state(home: ServerHome, name: str, status: str) -> None:
    """Change where a run stands."""
    path = home.runs / name / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": status}))
