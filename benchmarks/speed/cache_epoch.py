"""An epoch from the cache over an epoch from tensors in memory, with the same training steps.

Usage: python benchmarks/speed/cache_epoch.py [N_VOLUMES]
Prints the ratio of wall and CPU seconds, median over pairs of epochs that take turns.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from fedmri.data.batches.examples import PreparedSite, open_site
from fedmri.data.batches.site_data import Split
from fedmri.data.preparation.prepare import prepare_scans
from fedmri.data.preparation.prepared import write_site
from fedmri.data.scans import Scan
from fedmri.data.settings import DataConfig, PrepareConfig
from fedmri.tasks.kinds.regression import Regression

N_RUNS = 21
BATCH_SIZE = 4
SHAPE = (48, 48, 48)
TARGET = Regression("age")
CONFIG = DataConfig(prepare=PrepareConfig(shape=SHAPE))

Batches = Iterator[tuple[torch.Tensor, torch.Tensor]]


def prepared_site(folder: Path, n_volumes: int) -> PreparedSite:
    """Write volumes of a noisy head, prepare them and open them as a site."""
    scans = []
    splits: dict[str, Split] = {}
    for number in range(n_volumes):
        values = np.random.default_rng(number).random(SHAPE, dtype=np.float32)
        values[8:40, 8:40, 8:40] += 5
        path = folder / f"{number:03}.nii.gz"
        nib.save(nib.Nifti1Image(values, np.diag([4, 4, 4, 1])), path)
        scans.append(Scan("x", f"s{number:03}", "", {"T1w": path}, columns={"age": str(number)}))
        splits[f"s{number:03}"] = "train"
    prepared = prepare_scans(scans, TARGET, CONFIG, splits, folder / "cache")
    write_site(folder / "site.json", prepared)
    return open_site([folder / "site.json"], TARGET, CONFIG)


def network() -> torch.nn.Module:
    """Return a small 3D CNN."""
    return torch.nn.Sequential(
        torch.nn.Conv3d(1, 16, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv3d(16, 32, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool3d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(32, 1),
    )


def from_cache(data: PreparedSite, seed: int) -> Batches:
    """Yield an epoch of what training sees."""
    for batch in data.train_batches(batch_size=BATCH_SIZE, seed=seed):
        yield batch.image, batch.target


def from_memory(image: torch.Tensor, target: torch.Tensor, seed: int) -> Batches:
    """Yield an epoch of tensors that are all in memory."""
    order = torch.randperm(len(image), generator=torch.Generator().manual_seed(seed))
    for start in range(0, len(order), BATCH_SIZE):
        index = order[start : start + BATCH_SIZE]
        yield image[index], target[index]


def epoch_seconds(batches: Batches) -> tuple[float, float, int]:
    """Train on the batches; return wall seconds, CPU seconds and the number of steps."""
    torch.manual_seed(0)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    wall, cpu, n_steps = time.perf_counter(), time.process_time(), 0
    for image, target in batches:
        optimizer.zero_grad()
        loss = (model(image)[:, 0] - target).abs().mean()
        loss.backward()
        optimizer.step()
        n_steps += 1
    return time.perf_counter() - wall, time.process_time() - cpu, n_steps


def main(n_volumes: int) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        data = prepared_site(Path(folder), n_volumes)
        whole = next(data.eval_batches("train", batch_size=n_volumes))
        sources: dict[str, Callable[[int], Batches]] = {
            "memory": lambda seed: from_memory(whole.image, whole.target, seed),
            "cache": lambda seed: from_cache(data, seed),
        }
        taken: dict[str, list[tuple[float, float, int]]] = {name: [] for name in sources}
        for run in range(N_RUNS + 1):
            for name, batches in sources.items():
                seconds = epoch_seconds(batches(run))
                if run:  # the first warms up
                    taken[name].append(seconds)
    for kind, column in (("wall", 0), ("CPU", 1)):
        memory = statistics.median(run[column] for run in taken["memory"])
        pairs = zip(taken["cache"], taken["memory"], strict=True)
        ratios = sorted(cache[column] / other[column] for cache, other in pairs)
        n_steps = taken["memory"][0][2]
        print(
            f"{kind:4} {n_steps} steps of {1000 * memory / n_steps:.0f} ms: ratio "
            f"{statistics.median(ratios):.3f} (quartiles {ratios[N_RUNS // 4]:.3f} to "
            f"{ratios[3 * N_RUNS // 4]:.3f} of {N_RUNS} pairs)"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 192)
