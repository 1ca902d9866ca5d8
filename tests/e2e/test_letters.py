"""The commands of a consortium whose sites have a folder in common, and some no network."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fedmri.clients.mailbox.looks import n_waiting
from fedmri.clients.process.home import ClientHome
from fedmri.server.runs import OVER, run_named
from fedmri.simulation import demo
from tests.conftest import TINY
from tests.e2e.test_standing import fedmri, until

pytestmark = pytest.mark.slow  # five processes, a minute

SETTINGS = [one for one in TINY if not one.startswith("simulation.")]


def answer_by_jobs(site: ClientHome, mailbox: Path, is_over: Callable[[], bool]) -> None:
    """Answer what waits for a site by one job after another, as its cron does."""
    while not is_over():
        if n_waiting(site, mailbox):
            job = fedmri(site.folder, "client", "once", "--mailbox", str(mailbox))
            assert job.returncode == 0, job.stderr
        time.sleep(0.5)


def test_the_commands_end_with_the_bits_of_a_simulation(
    hospitals: Path, run_tiny: Callable[..., Path], tmp_path: Path
) -> None:
    """One command of the coordinator, one of each hospital; one of them answers by single jobs."""
    made = demo.make_consortium(tmp_path / "c", demo.own_folders(hospitals, tmp_path / "scans"))
    simulated = run_tiny("simulated", "simulation.arms=[federated]", "rounds.n_rounds=1")
    mailbox, plan = tmp_path / "mailbox", tmp_path / "plan.yaml"
    mailbox.mkdir()
    plan.write_text("name: letters\nrounds: {n_rounds: 1}\n")
    program = str(Path(sys.executable).with_name("fedmri"))
    first, *others = made.sites.values()
    words = ["--mailbox", str(mailbox)]
    clients = [
        subprocess.Popen([program, "client", "start", *words, "--dir", str(site.folder)])
        for site in others
    ]
    sites = ["--sites", ",".join(made.sites), *words, "--dir", str(made.server.folder)]
    server = subprocess.Popen(
        [program, "server", "run", str(plan), *SETTINGS, *sites], stdout=subprocess.PIPE, text=True
    )
    try:
        answer_by_jobs(first, mailbox, lambda: server.poll() is not None)
        said, _ = server.communicate()
    finally:
        for process in clients:
            process.terminate()
            process.wait()
        server.terminate()
        server.wait()
    (arm,) = (simulated / "arms/federated").iterdir()
    lines = map(json.loads, (arm / "metrics.jsonl").read_text().splitlines())
    sha256 = next(line["sha256"] for line in lines if line["kind"] == "done")
    assert f"Run letters is finished: {sha256}." in said


@contextmanager
def started(*processes: subprocess.Popen[bytes]) -> Iterator[None]:
    """End processes when the work with them is done."""
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


def status(server: Path, run: str) -> dict[str, Any]:
    """Return what the coordinator reads of a run."""
    found: dict[str, Any] = json.loads(fedmri(server, "server", "status", run, "--json").stdout)
    return found


def test_some_dial_in_and_some_get_letters_with_the_bits_of_the_live_run(
    hospitals: Path, tmp_path: Path
) -> None:
    """By the commands alone: a live site, one that looks into the mailbox, one by single jobs."""
    made = demo.make_consortium(tmp_path / "c", demo.own_folders(hospitals, tmp_path / "scans"))
    server, (live, looking, single) = made.server.folder, made.sites.values()
    mailbox, plan = tmp_path / "mailbox", tmp_path / "plan.yaml"
    mailbox.mkdir()
    plan.write_text("name: both\nrounds: {n_rounds: 1, min_sites: 3}\n")
    submit = ["server", "run", str(plan), *SETTINGS, "--sites", ",".join(made.sites)]
    letters = ["--mailbox", str(mailbox)]
    mailed = ",".join([looking.consortium.site, single.consortium.site])
    with started(
        demo.command("server", "start", server), demo.command("client", "start", live.folder)
    ):
        with started(demo.command("client", "start", looking.folder, *letters)):
            done = fedmri(server, *submit, "--name", "mixed", *letters, "--mailed", mailed)
            assert done.returncode == 0, done.stderr
            run = run_named(made.server.runs, "mixed")
            answer_by_jobs(single, mailbox, lambda: run.note.status in OVER)
        assert not list(mailbox.rglob("*.letter"))
        seen = fedmri(single.folder, "client", "watch", "--once").stdout
        assert "Single jobs answer its orders." in seen
        assert f"Orders that wait in mailbox {mailbox}: 0." in seen
        assert "does not run" not in seen
        others = [demo.command("client", "start", one.folder) for one in (looking, single)]
        with started(*others):
            assert fedmri(server, *submit, "--name", "all-live").returncode == 0
            all_live = run_named(made.server.runs, "all-live")
            until(lambda: all_live.note.status in OVER, "the live run is over")
    mixed = status(server, "mixed")
    assert (mixed["status"], mixed["message"]) == ("finished", "")
    assert mixed["sha256"] == status(server, "all-live")["sha256"]
    assert [one["is_mailed"] for one in mixed["sites"]] == [False, True, True]
