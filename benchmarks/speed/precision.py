"""A simulated round in the chosen precision over a bare float32 loop of the same steps.

    python benchmarks/speed/precision.py          all networks (about 15 minutes on 2 cores)
    python benchmarks/speed/precision.py unet3d   one of them

The choice is the one that ``fedmri simulate`` makes. Two sites train, side by side in one run with
the bare loop and with the same round in float32. They take turns, each in a new process, for one
that has trained keeps its memory. Medians are printed.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
from rounds import N_REPEATS, Bench, bare, engine, print_ratios, timed_apart

from fedmri.assembly import settled
from fedmri.config import load
from fedmri.data.preparation.prepare import prepare_scans
from fedmri.data.preparation.prepared import write_site
from fedmri.data.scans import Scan
from fedmri.plan import Plan

MASKS = ("model=unet", "target=segmentation", "target.name=mask", "target.classes=[lesion]")
VOLUME = (*MASKS, "data.prepare.dimension=3d")
SLICES = ("data.prepare.dimension=2d", "data.prepare.shape=[0,128,128]")
UNET_2D = (*MASKS, "train.batch_size=8", *SLICES)
NETWORKS = {
    "unet3d": (*VOLUME, "model.width=16", "data.prepare.shape=[64,64,64]", "train.batch_size=1"),
    "densenet121": ("model=densenet121", "model.norm=group", "train.batch_size=16", *SLICES),
    "wide unet": (*UNET_2D, "model.width=32"),
    "narrow unet": (*UNET_2D, "model.width=8"),
}
"""Settings of each network, with the images and batches of the bars."""
COMMON = (
    *("experiment=smoke", "train.optimizer=sgd", "train.momentum=0", "train.lr=0.0001"),
    *("train.clip_grad_norm=0", "rounds.n_rounds=2", "rounds.evaluate_every=0"),
    *("train.local_steps=6", "rounds.checkpoint_every=2"),
)


def make_bench(folder: Path, settings: tuple[str, ...], n_sites: int = 2) -> Bench:
    """Write sites with one batch of examples each."""
    plan = load([*COMMON, *settings]).plan
    sites = [f"site{number:02}" for number in range(1, n_sites + 1)]
    return Bench(plan, {site: _write_site(folder, plan, site) for site in sites})


def _write_site(folder: Path, plan: Plan, site: str) -> Path:
    draws, is_volume = np.random.default_rng(int(site[-2:])), len(plan.shape) == 3
    shape = plan.shape if is_volume else (*plan.shape, plan.train.batch_size)
    image = draws.normal(100, 20, shape).astype(np.float32)
    files = {"image": image, "lesion": (image > 120).astype(np.uint8)}
    for name, values in files.items():
        nib.save(nib.Nifti1Image(values, np.eye(4)), folder / f"{site}-{name}.nii")
    scan = Scan(
        site,
        f"{site}p0",
        "",
        dict.fromkeys(plan.data.source.modalities, folder / f"{site}-image.nii"),
        {plan.target.name: folder / f"{site}-lesion.nii"},
        {plan.target.name: plan.target.classes[0]},  # type: ignore[attr-defined]  # both have some
    )
    prepared = prepare_scans(
        [scan], plan.target, plan.data, {scan.subject: "train"}, folder / "cache"
    )
    path = folder / "prepared" / f"{site}.json"
    write_site(path, prepared)
    return path


def measure(name: str, folder: Path) -> None:
    """Print the ratios of one network."""
    bench = make_bench(folder, NETWORKS[name])
    plain = replace(bench.plan.train, precision="fp32", memory_format="contiguous")
    chosen = settled(bench.plan, folder / "memory.json").train
    benches = {
        "bare": (bare, plain),
        "round in float32": (engine, plain),
        "round as chosen": (engine, chosen),
    }
    print(f"\n{name}: precision {chosen.precision}, memory {chosen.memory_format}", flush=True)
    times: dict[str, list[tuple[float, float]]] = {label: [] for label in benches}
    for _ in range(N_REPEATS):
        for label, (work, train) in benches.items():
            one = replace(bench, plan=replace(bench.plan, train=train))
            times[label].append(timed_apart(work, one))
    print_ratios(times)


def main() -> None:
    """Measure what is asked for."""
    for name in sys.argv[1:] or NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            measure(name, Path(folder))


if __name__ == "__main__":
    main()
