"""The commands that show a consortium, as a coordinator meets them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fedmri.commands.server import view as server_view
from fedmri.errors import UsageError
from fedmri.server.registry.home import ServerHome
from tests.conftest import program
from tests.server.conftest import Deploy


def fedmri(home: ServerHome, *words: str) -> Result:
    """Call a command of the server; a refusal is raised as it would be to `main`."""
    command = ["server", *words, "--dir", str(home.folder)]
    return CliRunner().invoke(program(), command, catch_exceptions=False, env={"COLUMNS": "140"})


def test_status_names_sites_and_runs(coordinator: ServerHome, deploy: Deploy) -> None:
    """Without a run all that there is, with one its round and its sites."""
    deploy("tiny", 9)
    everything = fedmri(coordinator, "status").stdout
    assert "3 of 3 sites online" in everything
    assert "tiny" in everything
    one = fedmri(coordinator, "status", "tiny").stdout
    assert "round 2 of 2" in one
    assert "Waiting for site03." in one


def test_a_machine_reads_status_and_list(coordinator: ServerHome, deploy: Deploy) -> None:
    """`--json` prints one object and nothing else."""
    deploy("tiny", 9)
    assert json.loads(fedmri(coordinator, "status", "tiny", "--json").stdout)["round_index"] == 1
    assert json.loads(fedmri(coordinator, "status", "--json").stdout)["is_server_running"]
    listed = json.loads(fedmri(coordinator, "list", "--json").stdout)
    assert ([run["name"] for run in listed["runs"]], listed["broken"]) == (["tiny"], {})


def test_list_of_no_run_says_how_to_make_one(coordinator: ServerHome) -> None:
    """A new server is no error."""
    assert "fedmri server run PLAN.yaml" in fedmri(coordinator, "list").stdout


@pytest.mark.parametrize("words", [["status"], ["list"], ["logs", "x"], ["watch"]])
def test_a_folder_that_is_no_servers_is_named(words: list[str], tmp_path: Path) -> None:
    """A mistyped --dir is not shown as a server without sites."""
    with pytest.raises(UsageError, match=r"\[U21\]"):
        fedmri(ServerHome(tmp_path), *words)


def test_logs_end_with_the_lines_that_were_asked_for(
    coordinator: ServerHome, deploy: Deploy
) -> None:
    """`--tail` counts lines from the end; without it all are printed."""
    (deploy("tiny", 9).path / "log.txt").write_text("one\ntwo\nthree \x1b[2J\n")
    assert fedmri(coordinator, "logs", "tiny", "--tail", "2").stdout == "two\nthree \ufffd[2J\n"
    assert fedmri(coordinator, "logs", "tiny").stdout.startswith("one\n")


def test_a_run_that_has_not_begun_has_no_log(coordinator: ServerHome, deploy: Deploy) -> None:
    """The message says that the server has not begun with it."""
    deploy("tiny", 0)
    with pytest.raises(UsageError, match=r"the server has begun.*\[U42\]"):
        fedmri(coordinator, "logs", "tiny")


def test_logs_follow_a_run_to_its_end(
    coordinator: ServerHome, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written while the command waits is printed, the last line included."""
    run = deploy("tiny", 9)
    log = run.path / "log.txt"
    log.write_text("one\n")

    def go_on() -> Iterator[None]:
        append(log, "two\n")
        yield
        append(log, "last\n")
        run.change(status="failed")
        yield

    steps = go_on()
    monkeypatch.setattr(server_view, "wait", lambda: next(steps))
    assert fedmri(coordinator, "logs", "tiny", "--follow").stdout == "one\ntwo\nlast\n"


def append(path: Path, text: str) -> None:
    """Add to a log."""
    with path.open("a") as file:
        file.write(text)


def test_fetch_says_where_the_report_lies(
    coordinator: ServerHome, deploy: Deploy, tmp_path: Path
) -> None:
    """The result in one sentence, and the file; or all of it as JSON."""
    deploy("tiny")
    said = fedmri(coordinator, "fetch", "tiny", str(tmp_path / "a")).stdout
    assert said.startswith("Balanced accuracy 0.250 (no interval)")
    assert f"Report: {tmp_path / 'a' / 'report.html'}" in said
    as_json = fedmri(coordinator, "fetch", "tiny", str(tmp_path / "b"), "--json").stdout
    assert json.loads(as_json)["run"] == "tiny"


def test_watch_in_a_pipe_draws_once(coordinator: ServerHome, deploy: Deploy) -> None:
    """A script that calls it gets the state and goes on."""
    deploy("tiny", 9)
    assert "round 2 of 2" in fedmri(coordinator, "watch", "tiny").stdout
