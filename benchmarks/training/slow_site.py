"""One hospital that is several times slower: waiting for it, leaving it out, or adding it late.

    python benchmarks/training/slow_site.py SLOW_SITE [TIMES_SLOWER] [SETTING ...]

Settings are those of ``fedmri simulate``, such as ``experiment=lgg_tumour``. A fast hospital takes
one unit of time a round. Synchronous rounds take as long as the slow one, so all other arms have
TIMES_SLOWER as many rounds in the same time. They close without the slow hospital: ``dropped``
never uses it, ``added`` takes its late updates by FedBuff, ``in full`` without a discount.
Prints the final model's primary metric over all test patients, and over those of the slow hospital.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from fedmri.config import load
from fedmri.simulation.study import Study, refuse_failed, run_study

SLOW, TIMES = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 4
SETTINGS = sys.argv[3:]
N_ROUNDS = load(SETTINGS).plan.rounds.n_rounds
"""Synchronous rounds."""


def arms() -> dict[str, tuple[int, list[str]]]:
    """Return the rounds and the settings of each arm; all take the same simulated time."""
    early, slow = "rounds.close_at=0.5", f"simulation.slow=[{SLOW}:{TIMES}]"
    n_rounds = N_ROUNDS * TIMES
    late = [early, slow, "rounds.late=added"]
    return {
        "synchronous": (N_ROUNDS, []),
        "dropped": (n_rounds, [early, slow]),
        "added (FedBuff)": (n_rounds, late),
        "added in full": (n_rounds, [*late, "rounds.staleness_power=0"]),
    }


def scores(folder: Path, n_rounds: int, settings: list[str], cache: Path) -> tuple[float, float]:
    """Train an arm; return the primary metric over all test patients, and over the slow site's."""
    own = [f"rounds.n_rounds={n_rounds}", "rounds.evaluate_every=0", f"simulation.cache={cache}"]
    own += ["simulation.arms=[federated]", "simulation.n_pictures=0"]
    experiment = load([*SETTINGS, *settings, *own])
    folder.mkdir()
    study = Study(experiment.plan, experiment.partition, experiment.simulation, folder, "benchmark")
    refuse_failed(run_study(study, lambda _: None), folder)
    records = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    name = experiment.plan.target.primary
    tested = {
        one["site"]: (one["metrics"][name], one["n_subjects"])
        for one in records
        if one["kind"] == "test" and one["status"] == "ok" and one["n_subjects"]
    }
    n_all = sum(n for _, n in tested.values())
    return sum(value * n for value, n in tested.values()) / n_all, tested[SLOW][0]


def main() -> None:
    """Train all arms and print a table."""
    print(f"| arm | rounds | simulated time | all | {SLOW} |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="fedmri-slow-") as name:
        for arm, (n_rounds, settings) in arms().items():
            folder, cache = Path(name) / arm.replace(" ", "-"), Path(name) / "cache"
            whole, own = scores(folder, n_rounds, settings, cache)
            row = f"| {arm} | {n_rounds} | {N_ROUNDS * TIMES} | {whole:.3f} | {own:.3f} |"
            print(row, flush=True)


if __name__ == "__main__":
    main()
