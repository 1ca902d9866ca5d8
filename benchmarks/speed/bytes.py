"""Bytes per round of each form of update, with the final test metric beside it.

    python benchmarks/speed/bytes.py                              on the embedded data set
    python benchmarks/speed/bytes.py FOLDER experiment=… key=value   on a BIDS data set

Every form trains the same federation from the same seeds (``simulation.n_seeds``, by default 3);
only ``transport`` differs. The metric is the mean over all sites' test patients.
"""

from __future__ import annotations

import json
import logging
import statistics
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmri.config import load
from fedmri.simulation.study import Study, refuse_failed, run_study

FORMS = (
    ("weights", "fp32"),
    ("weights", "bf16"),
    ("weights", "fp16"),
    ("difference", "bf16"),
    ("difference", "fp16"),
    ("difference", "int8"),
)


@dataclass(frozen=True)
class Measured:
    """What a form of update cost and gave.

    Attributes:
        metric: Name of the metric.
        bytes_up: Bytes of one site's update.
        bytes_down: Bytes of what a site is sent.
        finals: Final metric of each seed.
    """

    metric: str
    bytes_up: int
    bytes_down: int
    finals: tuple[float, ...]


def measure(settings: list[str], folder: Path) -> Measured:
    """Train the federation with these settings and return what is in its records."""
    experiment = load(settings)
    study = Study(experiment.plan, experiment.partition, experiment.simulation, folder, "bytes.py")
    refuse_failed(run_study(study, lambda _: None), folder)
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    answers = [r for r in records if r["kind"] == "round" and r["status"] == "ok"]
    metric = experiment.plan.target.primary
    return Measured(
        metric,
        max(r["bytes_up"] for r in answers),
        max(r["bytes_down"] for r in answers),
        finals(records, metric),
    )


def finals(records: list[dict[str, Any]], metric: str) -> tuple[float, ...]:
    """Return the mean of a metric over all sites' test patients, by seed."""
    total, n_total = defaultdict[int, float](float), defaultdict[int, int](int)
    for record in records:
        if record["kind"] == "test" and record["status"] == "ok" and record["n_subjects"]:
            total[record["seed"]] += record["n_subjects"] * record["metrics"][metric]
            n_total[record["seed"]] += record["n_subjects"]
    return tuple(total[seed] / n_total[seed] for seed in sorted(total))


def row(form: tuple[str, str], found: Measured, full: Measured) -> str:
    """Return a line of the table; ``full`` is what float32 weights cost and gave."""
    change = [a - b for a, b in zip(found.finals, full.finals, strict=True)]
    cells = [
        " ".join(form),
        f"{found.bytes_up / 1e6:.3f}",
        f"{found.bytes_up / full.bytes_up:.3f}",
        f"{statistics.mean(found.finals):.4f}",
        " ".join(f"{value:.4f}" for value in found.finals),
        f"{statistics.mean(change):+.4f} ({min(change):+.4f} to {max(change):+.4f})",
    ]
    return f"| {' | '.join(cells)} |"


def main(arguments: list[str]) -> None:
    """Measure every form and print the table."""
    paths = [text for text in arguments if "=" not in text]
    given = [text for text in arguments if "=" in text]
    source = [f"data.source.path={paths[0]}"] if paths else []
    common = ["simulation.n_seeds=3", *given, *source, "simulation.arms=[federated]"]
    full: Measured | None = None
    with tempfile.TemporaryDirectory() as scratch:
        for update, dtype in FORMS:
            folder = Path(scratch) / f"{update}-{dtype}"
            folder.mkdir()
            transport = [f"transport.update={update}", f"transport.dtype={dtype}"]
            found = measure([*common, *transport], folder)
            if full is None:
                full = found
                print(f"down {full.bytes_down / 1e6:.3f} MB a site and round, always in full\n")
                print(
                    f"| update | MB up | share | {full.metric} | by seed | minus fp32 (by seed) |"
                )
                print("| --- | --- | --- | --- | --- | --- |", flush=True)
            print(row((update, dtype), found, full), flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    main(sys.argv[1:])
