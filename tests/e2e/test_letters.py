"""The commands of a consortium that has a folder in common and no network."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fedmri.simulation import demo
from tests.conftest import TINY
from tests.e2e.test_standing import fedmri

pytestmark = pytest.mark.slow  # five processes, a minute

SETTINGS = [one for one in TINY if not one.startswith("simulation.")]


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
        while server.poll() is None:
            assert fedmri(first.folder, "client", "once", *words).returncode == 0
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
