"""What a step of DP-SGD costs beside a plain one, in time and memory, and beside Opacus's own ways.

    OMP_NUM_THREADS=1 python benchmarks/speed/dp_sgd.py

A step sees 8 patients, one image each. ``fedmri`` is the step that sites take (``PrivateSteps``,
noise and optimizer included); ``hooks`` is Opacus's ``GradSampleModule``, ``ghost`` its fast
gradient clipping, both with Opacus's optimizer. Before it is timed, each takes a step without
noise whose gradient must be that of the loop over patients; what raises or differs is named. Time
is of the processor, one thread, the ways in turn; memory is the peak of a process of its own above
what it held before its first step.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping
from torch import nn

from fedmri.machine.memory import keep_freed
from fedmri.models.backbone.resnet18 import ResNet18
from fedmri.models.build import build_network
from fedmri.models.image.cnn3d import CNN3D
from fedmri.models.image.cnn5 import CNN5
from fedmri.models.model import Model
from fedmri.models.registry import MODELS
from fedmri.models.voxel.unet import UNet
from fedmri.privacy.dp_sgd import PrivateSteps
from fedmri.privacy.per_sample import by_loop
from fedmri.privacy.settings import PrivacyConfig
from fedmri.round import Batch
from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.kinds.segmentation import Segmentation

N_SUBJECTS = 8
N_REPEATS = 5
CLIP = 1.0
NETWORKS: dict[str, tuple[Model, tuple[int, ...]]] = {
    "cnn5 2D 64": (CNN5(), (64, 64)),
    "cnn3d 32": (CNN3D(), (32, 32, 32)),
    "unet 2D 64": (UNet(width=8), (64, 64)),
    "resnet18 2D 64": (ResNet18(), (64, 64)),
}
KINDS = {"unet": Segmentation("mask", ("lesion",))}
IMAGE = Classification("kind", ("a", "b"))
WAYS = ("plain", "fedmri", "hooks", "ghost")


class Loss(nn.Module):
    """Mean cross entropy, of one patient (``reduction`` none) or of all."""

    reduction = "mean"

    def forward(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss of raw outputs."""
        each = nn.functional.cross_entropy(outputs, target, reduction="none")
        if self.reduction == "none":
            return each.flatten(1).mean(1) if each.ndim > 1 else each
        return each.mean()


@dataclass
class Case:
    """A network, what it sees, and its loss."""

    network: nn.Module
    image: torch.Tensor
    target: torch.Tensor
    loss: Loss


def case_of(label: str) -> Case:
    """Return a network of the registry with images of noise."""
    config, shape = NETWORKS[label]
    target = KINDS.get(MODELS.name_of(config), IMAGE)
    network = build_network(
        config, target=target, n_dims=len(shape), n_channels=1, shape=shape, seed=0
    )
    torch.manual_seed(0)
    image = torch.randn(N_SUBJECTS, 1, *shape)
    places = shape if target.answer == "voxel" else ()
    return Case(network, image, torch.randint(0, 2, (N_SUBJECTS, *places)), Loss())


def plain(case: Case, noise: float) -> Callable[[], object]:
    """Return a step without privacy."""
    optimizer = sgd(case.network)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(case.loss(case.network(case.image), case.target))
        optimizer.step()

    return step


def fedmri(case: Case, noise: float) -> Callable[[], object]:
    """Return the step that sites take."""
    optimizer = sgd(case.network)
    steps = PrivateSteps(PrivacyConfig(noise, CLIP, N_SUBJECTS), bytes(32))
    names = tuple(map(str, range(N_SUBJECTS)))
    seen = Batch(case.image, case.target, torch.ones(N_SUBJECTS, 1), names, names)

    def step() -> None:
        steps.fill(case.network, case.loss, optimizer, [seen])
        optimizer.step()

    return step


def hooks(case: Case, noise: float) -> Callable[[], object]:
    """Return a step with Opacus's hooks; raises what Opacus raises."""
    network = GradSampleModule(case.network, loss_reduction="mean")
    optimizer = DPOptimizer(sgd(network), **settings(noise))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(case.loss(network(case.image), case.target))
        optimizer.step()

    return step


def ghost(case: Case, noise: float) -> Callable[[], object]:
    """Return a step with Opacus's fast gradient clipping; raises what Opacus raises."""
    network = GradSampleModuleFastGradientClipping(
        case.network, loss_reduction="mean", max_grad_norm=CLIP
    )
    optimizer = DPOptimizerFastGradientClipping(sgd(network), **settings(noise))
    loss = DPLossFastGradientClipping(network, optimizer, case.loss)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(network(case.image), case.target).backward()
        optimizer.step()

    return step


def sgd(network: nn.Module) -> torch.optim.Optimizer:
    """Return an optimizer that all but stands still, so that each step sees the same network."""
    return torch.optim.SGD(network.parameters(), 1e-9)


def settings(noise: float) -> dict[str, float]:
    """Return what Opacus's optimizers are told."""
    return {
        "noise_multiplier": noise,
        "max_grad_norm": CLIP,
        "expected_batch_size": N_SUBJECTS,
    }


MAKERS = {"plain": plain, "fedmri": fedmri, "hooks": hooks, "ghost": ghost}


def refusal(label: str, way: str) -> str:
    """Return why a way does not work for a network: what it raises or gets wrong; or nothing."""
    case = case_of(label)
    rows = by_loop(case.network, case.loss, (case.image,), case.target)
    norms = torch.stack([row.flatten(1).norm(dim=1) for row in rows.values()]).norm(dim=0)
    factors = (CLIP / (norms + 1e-6)).clamp(max=1)
    want = torch.cat(
        [torch.einsum("b...,b->...", row, factors).flatten() / N_SUBJECTS for row in rows.values()]
    )
    try:
        MAKERS[way](case, 0.0)()
    except Exception as error:  # noqa: BLE001  # whatever Opacus raises is the finding
        return f"{type(error).__name__}: {' '.join(str(error).split())[:110]}"
    found = [p.grad for p in case.network.parameters() if p.requires_grad]
    if any(g is None for g in found):
        return "leaves parameters without gradient"
    gap = float((torch.cat([g.flatten() for g in found if g is not None]) - want).norm())
    return (
        "" if gap <= 1e-3 * float(want.norm()) else f"another gradient, by {gap / want.norm():.1%}"
    )


def seconds(step: Callable[[], object]) -> float:
    """Return the processor time of a step."""
    started = time.process_time()
    step()
    return time.process_time() - started


def memory(label: str, way: str) -> None:
    """Print in MB what two steps take at most above what was held before; in a new process."""
    step = MAKERS[way](case_of(label), 1.0)
    before = status_mb("VmRSS")
    step()
    step()
    # not ru_maxrss, which a new program takes over from the one that started it
    print(status_mb("VmHWM") - before)


def status_mb(name: str) -> float:
    """Return a figure of this process's memory."""
    status = Path("/proc/self/status").read_text()
    return float(status.split(f"{name}:")[1].split()[0]) / 1024


def peak_mb(label: str, way: str) -> float:
    """Return the peak of a process of its own."""
    command = [sys.executable, __file__, "memory", label, way]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    """Print a line for each network and way."""
    keep_freed()  # as every process that trains, in each of the ways
    print(f"{'network':<16} {'way':<7} {'ms':>7} {'x plain':>8} {'(range)':>13} {'MB':>7} {'x':>6}")
    for label in NETWORKS:
        refused = {way: refusal(label, way) for way in WAYS if way != "plain"}
        steps = {way: MAKERS[way](case_of(label), 1.0) for way in WAYS if not refused.get(way)}
        for step in steps.values():
            step()
        times: dict[str, list[float]] = {way: [] for way in steps}
        for _ in range(N_REPEATS):
            for way, step in steps.items():
                times[way].append(seconds(step))
        peaks = {way: peak_mb(label, way) for way in steps}
        for way in WAYS:
            if refused.get(way):
                print(f"{label:<16} {way:<7} refuses: {refused[way]}", flush=True)
                continue
            ratios = [a / b for a, b in zip(times[way], times["plain"], strict=True)]
            span = f"{min(ratios):.2f} to {max(ratios):.2f}"
            print(
                f"{label:<16} {way:<7} {1e3 * statistics.median(times[way]):7.1f}"
                f" {statistics.median(ratios):8.2f} {span:>13}"
                f" {peaks[way]:7.1f} {peaks[way] / peaks['plain']:6.2f}",
                flush=True,
            )


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # Opacus's and torch's on hooks
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["memory"]:
        memory(*sys.argv[2:])
    else:
        main()
