"""What a hospital is told of itself: left out, let in again, stopped, resumed, shut out."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fedmri.server.runs import RunFolder
from fedmri.simulation import demo
from tests.e2e.conftest import plan_of
from tests.e2e.test_silent import records

pytestmark = pytest.mark.slow  # a story of two hundred seconds

PATIENCE_S = 240.0
ONE, SHUT_OUT = "site01", "site03"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the consortium lies."""
    return tmp_path_factory.mktemp("standing")


@pytest.fixture(scope="module")
def consortium(hospitals: Path, folder: Path) -> demo.Consortium:
    """Make a coordinator and three hospitals; nothing of them runs yet."""
    return demo.make_consortium(folder, demo.own_folders(hospitals, folder / "scans"))


@pytest.fixture(scope="module")
def processes(consortium: demo.Consortium) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Run it."""
    with demo.running(consortium) as found:
        yield found


def fedmri(at: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command on a folder, as its people do."""
    program = [str(Path(sys.executable).with_name("fedmri")), *words, "--dir", str(at)]
    return subprocess.run(program, capture_output=True, text=True, check=False, timeout=PATIENCE_S)


def status(consortium: demo.Consortium, site: str) -> dict[str, Any]:
    """Return what a hospital's own status says."""
    done = fedmri(consortium.sites[site].folder, "client", "status", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def until(is_so: Callable[[], bool], what: str) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(1)


def left_out(run: RunFolder) -> dict[int, dict[str, str]]:
    """Return the sites left out of each round, with the reason."""
    return {record["round"]: record["rejected"] for record in records(run, "round_total")}


def test_without_a_server_a_hospital_is_told_so(consortium: demo.Consortium) -> None:
    """Nothing runs: neither its client nor the server is green."""
    said = status(consortium, ONE)
    assert (said["is_running"], said["standing"]) == (False, "no answer")


def test_a_hospital_follows_what_the_coordinator_does(
    consortium: demo.Consortium, processes: dict[str, subprocess.Popen[bytes]]
) -> None:
    """A limit leaves it out and it is told; a larger one, stop, resume and revocation likewise."""
    until(lambda: status(consortium, ONE)["standing"] == "enrolled", "the server answers")
    server = consortium.server.folder
    assert fedmri(server, "server", "limit", ONE, "--max-patients", "1").returncode == 0
    rounds = ("rounds.n_rounds=400", "rounds.evaluate_every=0")
    wanted = (*rounds, "rounds.min_sites=2", "rounds.quorum=0.6")
    run = demo.submit(consortium, plan_of("name=told", *wanted))
    is_told_that_it_is_left_out(consortium, run)
    assert fedmri(server, "server", "limit", ONE, "--max-patients", "400").returncode == 0
    is_let_in_again(consortium, run)
    is_stopped_and_resumed_as_printed(server, run)
    n_rounds = max(left_out(run))
    assert fedmri(server, "server", "revoke", SHUT_OUT).returncode == 0
    assert processes[SHUT_OUT].wait(PATIENCE_S) == 5
    is_told_that_it_is_shut_out(consortium.sites[SHUT_OUT].folder)
    until(lambda: max(left_out(run)) > n_rounds + 1, "the others go on")
    assert status(consortium, ONE)["standing"] == "enrolled"
    assert fedmri(server, "server", "stop", run.name).returncode == 0


def is_told_that_it_is_left_out(consortium: demo.Consortium, run: RunFolder) -> None:
    """The site's own status names the round and the code."""
    until(lambda: ONE in left_out(run).get(1, {}), "it is left out of the first round")
    assert left_out(run)[1] == {ONE: "R42"}
    until(lambda: bool(status(consortium, ONE)["left_out"]), "it is told")
    said = fedmri(consortium.sites[ONE].folder, "client", "status").stdout
    assert "LEFT OUT: the update of round " in said
    assert "[R42]" in said


def is_let_in_again(consortium: demo.Consortium, run: RunFolder) -> None:
    """A run that goes on heeds the new limit, and the notice goes away."""
    before = max(left_out(run))
    until(lambda: any(n > before and not out for n, out in left_out(run).items()), "it is in again")
    until(lambda: not status(consortium, ONE)["left_out"], "it is told so")


def is_stopped_and_resumed_as_printed(server: Path, run: RunFolder) -> None:
    """The command returns when the run is over, so what it prints to go on works at once."""
    done = fedmri(server, "server", "stop", run.name)
    assert (done.returncode, run.note.status) == (0, "stopped"), done.stderr
    [advice] = [line for line in done.stdout.splitlines() if line.startswith("Go on with it: ")]
    resumed = fedmri(server, *advice.removeprefix("Go on with it: fedmri ").split())
    assert resumed.returncode == 0, resumed.stderr


def is_told_that_it_is_shut_out(folder: Path) -> None:
    """Client, status and doctor say so, each in a sentence."""
    output = (folder / "out.txt").read_text(encoding="utf-8")
    assert "[P12]" in output
    assert "Traceback" not in output
    said = fedmri(folder, "client", "status").stdout
    assert "REVOKED" in said
    assert "Its client does not run." in said
    doctor = fedmri(folder, "client", "doctor")
    assert doctor.returncode != 0
    assert "revoked" in doctor.stdout + doctor.stderr
