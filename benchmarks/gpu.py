"""What makes training fast on a GPU, as ratios measured side by side in one run.

    python benchmarks/gpu.py                     on the GPU, in less than 10 minutes
    python benchmarks/gpu.py --small             small networks, in less than a minute on one core
    python benchmarks/gpu.py --json found.json   also writes all numbers

It prints steps of three networks in each precision and order of memory, a fused optimizer, loading
ahead from pinned memory, augmentation on the device, and sites packed on one device. Without a GPU
the same code runs on the CPU, where some ratios are 1 by nature.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent / "speed"))
from augmentation import CONFIG, heads
from precision import make_bench
from rounds import Bench

from fedmri.arm import Arm
from fedmri.data.batches.augment import Sample, augmented
from fedmri.models.build import build_network
from fedmri.models.model import Model
from fedmri.models.registry import MODELS
from fedmri.plan import to_json
from fedmri.round import Batch
from fedmri.server.rounds.loop import Rounds
from fedmri.server.rounds.run import Run
from fedmri.simulation.engines.pool import PooledGrid, ProcessEngine
from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.kinds.segmentation import Segmentation
from fedmri.tasks.task import Task
from fedmri.training.ahead import ahead
from fedmri.training.computing.arithmetic import Arithmetic, computes
from fedmri.training.computing.device import pick_device, reproducible

N_SITES = 4
MASK, KIND = Segmentation("mask", ("lesion",)), Classification("kind", ("a", "b"))
Numbers = dict[str, float]
Works = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        volume: Side of a volume.
        slices: Side of a slice.
        n_slices: Slices in a batch.
        width: Channels of the first block of a U-Net.
        n_steps: Steps of a measurement.
        n_repeats: Measurements of each kind, which take turns.
    """

    volume: int = 96
    slices: int = 256
    n_slices: int = 32
    width: int = 32
    n_steps: int = 10
    n_repeats: int = 5


SMALL = Size(volume=16, slices=32, n_slices=2, width=4, n_steps=1, n_repeats=2)


class Sizes(TypedDict):
    """What a network is built for, beside its task."""

    n_dims: int
    n_channels: int
    shape: tuple[int, ...]
    seed: int


@dataclass(frozen=True)
class Case:
    """A network with a batch for it, on the CPU."""

    model: Model
    target: Task
    shape: tuple[int, ...]
    n_examples: int

    def network(self) -> nn.Module:
        """Return the network with seeded weights."""
        sizes: Sizes = {"n_dims": len(self.shape), "n_channels": 1, "shape": self.shape, "seed": 0}
        return build_network(self.model, target=self.target, **sizes).train()

    def batch(self, seed: int = 0) -> Batch:
        """Return random images."""
        draw = torch.Generator().manual_seed(seed)
        image = torch.randn(self.n_examples, 1, *self.shape, generator=draw)
        is_mask = self.target.label_map is not None
        target = (image > 1).long() if is_mask else torch.arange(self.n_examples) % 2
        names = tuple(map(str, range(self.n_examples)))
        return Batch(image, target, torch.ones(self.n_examples, 1, dtype=torch.bool), names, names)


def cases(size: Size) -> dict[str, Case]:
    """Return the networks."""
    unet = MODELS.made({"name": "unet", "width": size.width})
    plane, volume = (size.slices,) * 2, (size.volume,) * 3
    return {
        "2D U-Net": Case(unet, MASK, plane, size.n_slices),
        "3D U-Net": Case(unet, MASK, volume, 2),
        "DenseNet121": Case(MODELS.made("densenet121"), KIND, plane, size.n_slices),
    }


class Steps:
    """Steps of a network, its weights and its optimizer on a device."""

    def __init__(self, case: Case, how: Arithmetic, *, is_fused: bool = False) -> None:
        self.case, self.how, self.batch = case, how, case.batch()
        self.network = case.network().to(how.device)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), fused=is_fused)

    def repeat(self, n_steps: int) -> None:
        """Take steps on one batch."""
        self.take(itertools.repeat(self.batch, n_steps))

    def take(self, batches: Iterator[Batch]) -> None:
        """Take a step for each batch."""
        for batch in batches:
            outputs = self.how.outputs(self.network, self.how.inputs(batch.inputs))
            target = batch.target.to(self.how.device, non_blocking=True)
            self.optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(self.case.target.mean_loss(outputs, target))
            self.optimizer.step()


def medians(works: Works, n_repeats: int, n_steps: int = 1) -> Numbers:
    """Return the median milliseconds a step of each work; they take turns after a first that warms.

    The first column is what the others are compared with.
    """
    taken: dict[str, list[float]] = {name: [] for name in works}
    for repeat, (name, work) in itertools.product(range(n_repeats + 1), works.items()):
        wait()
        started = time.perf_counter()
        work()
        wait()
        taken[name] += [1000 * (time.perf_counter() - started)] if repeat else []
    return {name: statistics.median(values) / n_steps for name, values in taken.items()}


def wait() -> None:
    """Wait until the GPU has done all that it was asked for."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def precisions(device: torch.device, size: Size) -> Iterator[tuple[str, Numbers]]:
    """Yield a network's milliseconds a step in each precision and order of memory."""
    for name, case in cases(size).items():
        works: Works = {}
        for precision, is_last in itertools.product(("fp32", "bf16"), (False, True)):
            if computes(device, precision):
                steps = Steps(case, Arithmetic(device, precision, is_last))
                label = f"{precision} {'channels-last' if is_last else 'contiguous'}"
                works[label] = partial(steps.repeat, size.n_steps)
        yield name, medians(works, size.n_repeats, size.n_steps)


def optimizers(device: torch.device, size: Size) -> Iterator[tuple[str, Numbers]]:
    """Yield milliseconds of a step of AdamW alone, an operation at a time and fused."""
    for name, case in cases(size).items():
        works: Works = {}
        for label in ("usual", "fused"):
            steps = Steps(case, Arithmetic(device), is_fused=label == "fused")
            steps.repeat(1)
            works[label] = steps.optimizer.step
        yield name, medians(works, 4 * size.n_repeats)


def loading(device: torch.device, size: Size) -> Iterator[tuple[str, Numbers]]:
    """Yield milliseconds a step on one batch, and where each batch is augmented beforehand."""
    precision = "bf16" if computes(device, "bf16") else "fp32"
    ways = {
        "in turn": Loading(),
        "pinned": Loading(is_pinned=device.type == "cuda"),
        "pinned, ahead": Loading(is_pinned=device.type == "cuda", n_ahead=2),
        "on the device": Loading(on=device),
        "on it, ahead": Loading(on=device, n_ahead=2),
    }
    for name, case in cases(size).items():
        steps = Steps(case, Arithmetic(device, precision))
        samples = heads(case.n_examples, case.shape)
        works: Works = {"no loading": partial(steps.repeat, size.n_steps)}
        for label, way in ways.items():
            works[label] = partial(way.take, steps, samples, size.n_steps)
        yield name, medians(works, size.n_repeats, size.n_steps)


@dataclass(frozen=True)
class Loading:
    """A way of making batches: from pinned memory, ahead of the step, or on a device."""

    is_pinned: bool = False
    n_ahead: int = 0
    on: torch.device | None = None

    def take(self, steps: Steps, samples: Sequence[Sample], n_steps: int) -> None:
        """Take steps, each on a batch of its own."""
        batches = (self._batch(steps.batch, samples, number) for number in range(n_steps))
        steps.take(ahead(batches, self.n_ahead))

    def _batch(self, batch: Batch, samples: Sequence[Sample], number: int) -> Batch:
        seeds = range(100 * number, 100 * number + len(samples))
        image, _ = augmented(samples, CONFIG, seeds, self.on)
        made = replace(batch, image=image)
        return made.pinned() if self.is_pinned else made


def packed(device: torch.device, size: Size) -> Iterator[tuple[str, Numbers]]:
    """Yield milliseconds of a round of four sites, by processes that share the device."""
    sides = ",".join([str(size.volume)] * 3)
    settings = (
        *("model=unet", "target=segmentation", "target.name=mask", "target.classes=[lesion]"),
        *("data.prepare.dimension=3d", f"data.prepare.shape=[{sides}]", "train.batch_size=1"),
        *(f"model.width={size.width}", f"train.device={device.type}", "rounds.n_rounds=1"),
        f"train.local_steps={size.n_steps}",
    )
    with tempfile.TemporaryDirectory() as folder:
        bench = make_bench(Path(folder), settings, N_SITES)
        counts = (1, 2) if size is SMALL else (1, 2, N_SITES)
        client, log = "fedmri.clients.app:app", Path(folder) / "log.txt"
        pools = {n: ProcessEngine(n, client, log) for n in counts}
        works: Works = {
            f"{n} at once": partial(_round, bench, pool, Path(folder)) for n, pool in pools.items()
        }
        found = medians(works, size.n_repeats)
        for pool in pools.values():
            pool.close()
    yield "3D U-Net", found


def _round(bench: Bench, pool: ProcessEngine, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as own:
        out = Path(own)
        grid = PooledGrid(pool, bench.nodes(out), {"plan": to_json(bench.plan)})
        run = Run(bench.plan, Arm("federated"), (), tuple(bench.files), out)
        Rounds(run, grid, lambda record: None).go()


PARTS = {
    "precision and order of memory, a step": precisions,
    "AdamW, a step of the optimizer": optimizers,
    "loading with augmentation, a step": loading,
    "four sites, a round": packed,
}


def printed(title: str, rows: dict[str, Numbers]) -> None:
    """Print a table: milliseconds of the first column, and the others over it."""
    print(f"\n{title} (ms, then ratios to it)")
    columns = list(next(iter(rows.values())))
    print("  ".join([f"{'':12}", *(f"{column:>20}" for column in columns)]))
    for name, numbers in rows.items():
        first, *others = numbers.values()
        cells = [f"{first:20.2f}", *(f"{value / first:20.2f}" for value in others)]
        print("  ".join([f"{name:12}", *cells]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--small", action="store_true", help="small networks")
    parser.add_argument("--device", default="auto", help="as train.device")
    parser.add_argument("--json", type=Path, help="file for all numbers, in milliseconds")
    asked = parser.parse_args()
    device, size = pick_device(asked.device), SMALL if asked.small else Size()
    is_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if is_gpu else "CPU, one thread"
    print(f"{name}, torch {torch.__version__}")
    found: dict[str, Any] = {"device": name, "torch": torch.__version__}
    with reproducible(1):
        for title, part in PARTS.items():
            rows = dict(part(device, size))
            printed(title, rows)
            found[title] = rows
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
