"""SIGKILL at random moments: the resumed study ends with the uninterrupted one's bits."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedmri.server.rounds.checkpoint import digest, load_weights_file
from tests.conftest import Command, Settings

FEDMRI = [sys.executable, "-c", "from fedmri.cli import main; main()"]


def simulate(cwd: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a simulation in a process group of its own."""
    return subprocess.Popen(
        [*FEDMRI, "simulate", *arguments],
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def model(cwd: Path, name: str) -> str:
    """Return the digest of the federated model's weights; its card holds the run's own name."""
    path = "arms/federated/seed-0/model.safetensors"
    weights, _ = load_weights_file(next((cwd / "runs").glob(f"*-{name}")) / path)
    return digest(weights)


def killed(cwd: Path, name: str, settings: list[str], after_s: float) -> Path:
    """Kill a simulation some time after its first round, check its files; return its folder."""
    started = simulate(cwd, *settings, f"name={name}")
    while started.poll() is None:
        if list((cwd / "runs").glob(f"*-{name}/arms/federated/seed-0/checkpoints/round-*")):
            break
        time.sleep(0.02)
    time.sleep(after_s)  # the moment of the kill is what is tested
    if started.poll() is None:
        os.killpg(started.pid, signal.SIGKILL)
    started.communicate()
    folder = next((cwd / "runs").glob(f"*-{name}"))
    for path in folder.rglob("round-*.safetensors"):
        load_weights_file(path)  # never half written
    return folder


@pytest.mark.parametrize(
    ("n_kills", "n_rounds"), [(1, 10), pytest.param(20, 40, marks=pytest.mark.slow)]
)
def test_a_killed_study_resumes_to_the_same_bits(
    tiny: Settings, here: Command, tmp_path: Path, n_kills: int, n_rounds: int
) -> None:
    """With state at the sites (FedBN, kept optimizers), in one process and in two workers."""
    settings = tiny(
        *(f"rounds.n_rounds={n_rounds}", "strategy=fedbn", "model.norm=batch"),
        *("train.is_optimizer_kept=true", "simulation.arms=[federated]"),
    )
    assert here("simulate", *settings, "name=whole", cwd=tmp_path).returncode == 0
    want = model(tmp_path, "whole")
    moments = random.Random(0)
    for number in range(n_kills):
        workers = f"simulation.workers={1 + number % 2}"
        after_s = moments.uniform(0, n_rounds / 10)
        name = f"killed{number}"
        folder = killed(tmp_path, name, [*settings, workers], after_s)
        assert here("simulate", "--resume", str(folder), cwd=tmp_path).returncode == 0
        assert model(tmp_path, name) == want


def descendants(pid: int) -> Iterator[int]:
    """Yield the processes that a process started, and those that they started."""
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, path.read_text(encoding="utf-8").split()):
            yield child
            yield from descendants(child)


def test_workers_end_with_the_study_that_is_killed(tiny: Settings, tmp_path: Path) -> None:
    """Orphans would go on writing to a folder that a resumed run writes to."""
    settings = tiny("rounds.n_rounds=400", "simulation.workers=2", "simulation.arms=[federated]")
    started = simulate(tmp_path, *settings, "name=orphans")
    while started.poll() is None and not list(
        (tmp_path / "runs").glob("*/arms/*/*/checkpoints/r*")
    ):
        time.sleep(0.05)
    workers = list(descendants(started.pid))
    assert len(workers) >= 3  # with the process that they are forked off
    os.kill(started.pid, signal.SIGKILL)
    started.communicate()
    end = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < end:
        time.sleep(0.05)
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
