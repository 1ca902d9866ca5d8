"""A study of 60 trainings, killed ten times: are finished ones lost, and is the time left right?

The made data set is used. Each kill is a SIGKILL of the whole process group at a random moment.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

N_KILLS, N_SEEDS, RATES = 10, 3, [0.001 * (1 + n) for n in range(20)]
SETTINGS = {
    "experiment": "smoke",
    "data": {"prepare": {"shape": [16, 16, 16], "spacing_mm": 12}},
    "model": {"width": 4},
    "train": {"local_steps": 2},
    "partition": {"n_sites": 3},
    "simulation": {
        "arms": ["federated"],
        "n_seeds": N_SEEDS,
        "n_pictures": 0,
        "workers": 1,
    },
}
FEDMRI = [sys.executable, "-c", "from fedmri.cli import main; main()"]


def start(file: Path, out: Path) -> subprocess.Popen[str]:
    """Start the study in a process group of its own."""
    command = [*FEDMRI, "study", str(file), "--out", str(out)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stderr=pipe, text=True, start_new_session=True)


def finished(out: Path) -> dict[str, int]:
    """Return when each training was finished."""
    return {str(p): p.stat().st_mtime_ns for p in out.glob("steps/trainings/[0-9a-f]*")}


def whole_study(file: Path, out: Path) -> list[tuple[float, float]]:
    """Run the study; return after each training the time left as told, and as it was."""
    process, told = start(file, out), []
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"about (\d+) (min|s) left", line):
            seconds = float(found[1]) * (60 if found[2] == "min" else 1)
            told.append((time.monotonic(), seconds))
    assert process.wait() == 0
    end = time.monotonic()
    return [(seconds, end - at) for at, seconds in told]


def killed_study(file: Path, out: Path, every_s: float) -> tuple[int, int]:
    """Run the study with kills; return how many kills there were, and trainings that were lost."""
    moments, n_kills, n_lost, known = random.Random(0), 0, 0, dict[str, int]()
    while True:
        process = start(file, out)
        if n_kills < N_KILLS:
            time.sleep(moments.uniform(0.5, 1.5) * every_s)
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        now = finished(out)
        n_lost += sum(now.get(path) != at for path, at in known.items())
        known = now
        if process.returncode == 0:
            return n_kills, n_lost
        n_kills += 1


def main() -> None:
    """Print what was lost, whether the tables are the same, and the error of the time left."""
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "study.yaml"
        grid = {"train.lr": RATES}
        file.write_text(json.dumps({"settings": SETTINGS, "grid": grid}))
        started = time.monotonic()
        told = whole_study(file, Path(place) / "whole")
        took = time.monotonic() - started
        n_kills, n_lost = killed_study(file, Path(place) / "killed", took / N_KILLS)
        tables = [(Path(place) / out / "study.md").read_text() for out in ("whole", "killed")]
    print(f"{len(RATES) * N_SEEDS} trainings in {len(RATES)} runs, {took:.0f} s without a kill")
    print(
        f"{n_kills} kills: {n_lost} finished trainings lost, same tables {tables[0] == tables[1]}"
    )
    for share in (0.25, 0.5, 0.75):
        said, was = told[int(share * len(told))]
        print(f"after {share:.0%}: {said:.0f} s left were told, {was:.0f} s were left")


main()
