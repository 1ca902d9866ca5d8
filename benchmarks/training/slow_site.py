"""One hospital that is several times slower: waiting for it, leaving it out, or adding it late.

    python benchmarks/training/slow_site.py SLOW_SITE [TIMES_SLOWER] [SETTING ...]

Settings are those of ``fedmri simulate``, such as ``experiment=lgg_tumour``. A fast hospital takes
one unit of time a round. Synchronous rounds take as long as the slow one, so all other arms have
TIMES_SLOWER as many rounds in the same time. They close without the slow hospital: ``dropped``
never uses it, ``added`` takes its late updates by FedBuff, ``in full`` without a discount. A last
arm waits for all in as many rounds, which takes TIMES_SLOWER the time. Prints the final model's
primary metric over all test patients, and over those of the slow hospital: means over the seeds of
``simulation.n_seeds``, and the lowest and highest of them.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from fedmri.config import load
from fedmri.simulation.study import Study, refuse_failed, run_study

SLOW, TIMES = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 4
SETTINGS = sys.argv[3:]
N_ROUNDS = load(SETTINGS).plan.rounds.n_rounds
"""Synchronous rounds."""


def arms() -> dict[str, tuple[int, int, list[str]]]:
    """Return the rounds, the simulated time and the settings of each arm."""
    early, slow = "rounds.close_at=0.5", f"simulation.slow=[{SLOW}:{TIMES}]"
    time = n_rounds = N_ROUNDS * TIMES
    late = [early, slow, "rounds.late=added"]
    return {
        "synchronous": (N_ROUNDS, time, []),
        "dropped": (n_rounds, time, [early, slow]),
        "added (FedBuff)": (n_rounds, time, late),
        "added in full": (n_rounds, time, [*late, "rounds.staleness_power=0"]),
        "synchronous, as many rounds": (n_rounds, n_rounds * TIMES, []),
    }


def scores(
    folder: Path, n_rounds: int, settings: list[str], cache: Path
) -> list[tuple[float, float]]:
    """Train an arm; return, by seed, the metric of all test patients, and of the slow site's."""
    own = [f"rounds.n_rounds={n_rounds}", "rounds.evaluate_every=0", f"simulation.cache={cache}"]
    own += ["simulation.arms=[federated]", "simulation.n_pictures=0"]
    experiment = load([*SETTINGS, *settings, *own])
    folder.mkdir()
    study = Study(experiment.plan, experiment.partition, experiment.simulation, folder, "benchmark")
    refuse_failed(run_study(study, lambda _: None), folder)
    records = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    name = experiment.plan.target.primary
    tested: dict[int, dict[str, tuple[float, int]]] = defaultdict(dict)
    for one in records:
        if one["kind"] == "test" and one["status"] == "ok" and one["n_subjects"]:
            tested[one["seed"]][one["site"]] = (one["metrics"][name], one["n_subjects"])
    return [(mean_of(sites), sites[SLOW][0]) for sites in tested.values()]


def mean_of(sites: Mapping[str, tuple[float, int]]) -> float:
    """Return the mean over the patients of all sites."""
    return sum(value * n for value, n in sites.values()) / sum(n for _, n in sites.values())


def told(values: Sequence[float]) -> str:
    """Return a mean, and the lowest and the highest of several."""
    span = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
    return f"{mean(values):.3f}{span}"


def main() -> None:
    """Train all arms and print a table."""
    print(f"| arm | rounds | simulated time | all | {SLOW} |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="fedmri-slow-") as name:
        for arm, (n_rounds, time, settings) in arms().items():
            folder, cache = Path(name) / arm.replace(" ", "-"), Path(name) / "cache"
            whole, own = zip(*scores(folder, n_rounds, settings, cache), strict=True)
            print(f"| {arm} | {n_rounds} | {time} | {told(whole)} | {told(own)} |", flush=True)


if __name__ == "__main__":
    main()
