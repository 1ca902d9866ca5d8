"""A U-Net planned from a federated fingerprint beside a fixed one, on TCGA-LGG under one budget.

    python benchmarks/training/planned.py FOLDER LGG [SIDE] [ROUNDS] [SEEDS]

LGG is TCGA-LGG as BIDS with masks, three hospitals as sites. The fixed U-Net trains first. From the
sums of its hospitals' training scans nnU-Net's rules plan a network for slices of SIDE pixels (64).
Medians over sites are compared with those of the pooled scans. Both networks have the same width,
slices, steps and seeds, and are scored on the same patients. Stopped, the same command goes on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedmri.api.grid.file import StudyFile
from fedmri.api.grid.study_grid import StudyGrid
from fedmri.api.result import StudyResult
from fedmri.api.submission.comparing import compare_runs
from fedmri.harmonize.images.fingerprint import SHAPE, SPACING, TARGET, TENTH, ScanGrid
from fedmri.models.planning import UNetPlan, planned
from fedmri.models.registry import MODELS
from fedmri.reports.text.words import with_interval
from fedmri.simulation.sites import StudySites
from fedmri.simulation.unet_plan import fingerprint, training_grids

N_OUTPUTS = 2
"""Background and tumour."""
MOST_APART = 1e-6
"""Largest relative difference between a median over sites and that of the pool."""
FIXED = {"model": ["unet"]}


def main() -> None:
    """Train both networks, and print the fingerprint, the plan and a line for each network."""
    folder, lgg, *more = sys.argv[1:]
    side, n_rounds, n_seeds = [*map(int, more), *(64, 6, 3)[len(more) :]]
    shared = _shared(lgg, side, n_rounds, n_seeds)
    first = _trained(Path(folder), shared, [FIXED])
    sites = StudySites.read(first[0] / "prepared" / "sites.json").sites.values()
    plan = slices_plan([training_grids(path) for path in sites], side)
    every = _trained(Path(folder), shared, [FIXED, _of_plan(plan)])
    print("network\tparameters\tseconds a seed\tDice\tminus the fixed one\tshown")
    for one, run in zip(compare_runs(every), every, strict=True):
        minus = with_interval(one.difference, is_signed=True)
        print(*_cost(run, n_seeds), with_interval(one.score), minus, one.verdict, sep="\t")


def slices_plan(sites: Sequence[Sequence[ScanGrid]], side: int) -> UNetPlan:
    """Return the plan for slices that are resampled to ``side`` pixels; print what it is made of.

    Raises:
        ValueError: A median over sites is not that of the pool.
    """
    found = fingerprint(sites)
    apart = _difference_from_pool(found, [grid for grids in sites for grid in grids])
    for name, values in found.items():
        print(f"{name}\t{np.round(values, 4).tolist()}")
    print(f"largest relative difference from the pool\t{apart:.1e}")
    if not apart < MOST_APART:
        raise ValueError(f"medians over sites differ from those of the pool by {apart}")
    own_mm, own_sides = found[TARGET][:2], found[SHAPE][:2]  # within the plane of a slice
    plan = planned((own_mm * own_sides / side).tolist(), [side, side], N_OUTPUTS)
    volume = planned(found[TARGET].tolist(), found[SHAPE].tolist(), N_OUTPUTS)
    for name, one in (("slices", plan), ("volumes, not trained", volume)):
        print(f"plan of {name}\tpatch {one.patch}, strides {one.topology.strides}", end="")
        print(f", kernels {one.topology.kernels}", flush=True)
    return plan


def _difference_from_pool(found: dict[str, Any], pool: Sequence[ScanGrid]) -> float:
    """Return the largest relative difference between medians over sites and NumPy's of the pool."""
    spacing = np.array([grid.spacing_mm for grid in pool])
    sides = np.array([grid.shape for grid in pool])
    pooled = {
        SPACING: np.median(spacing, axis=0),
        TENTH: np.sort(spacing, axis=0)[int(np.ceil(0.1 * len(pool))) - 1],
        SHAPE: np.median(sides * spacing / found[TARGET], axis=0),
    }
    return max(float(np.abs(found[name] / one - 1).max()) for name, one in pooled.items())


def _cost(run: Path, n_seeds: int) -> tuple[str, int, int]:
    """Return a network's name, its parameters and how long a seed trained."""
    model = StudyResult.open(run).model()
    records = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    seconds = sum(row["seconds"] for row in records if row["kind"] == "round")
    n_parameters = sum(value.numel() for value in model.network.parameters())
    return MODELS.name_of(model.card.plan.model), n_parameters, round(seconds / n_seeds)


def _shared(lgg: str, side: int, n_rounds: int, n_seeds: int) -> dict[str, Any]:
    return {
        "experiment": "lgg_tumour",
        "data.source.path": str(Path(lgg).absolute()),
        "data.prepare.size": [side, side],
        "model.width": 8,
        "model.norm": "group",
        "rounds.n_rounds": n_rounds,
        "rounds.evaluate_every": 0,
        "train.n_threads": 1,
        "train.device": "cpu",
        "simulation.arms": ["federated"],
        "simulation.n_seeds": n_seeds,
        "simulation.n_pictures": 0,
        "simulation.workers": 1,
    }


def _of_plan(plan: UNetPlan) -> dict[str, list[Any]]:
    own = {key: one for key, one in plan.settings.items() if key.startswith("model.")}
    return {"model": ["dynunet"], **{key: [one] for key, one in own.items()}}


def _trained(folder: Path, shared: dict[str, Any], grid: list[Mapping[str, Any]]) -> list[Path]:
    file = StudyFile("planned", shared, grid)
    result = StudyGrid(file, folder).run(tell=lambda line: print(line, file=sys.stderr))
    return [one.folder for one in result.variants]


if __name__ == "__main__":
    main()
