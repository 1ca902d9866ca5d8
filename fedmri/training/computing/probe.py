"""A few timed steps that choose what a network computes with."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from fedmri.machine.files import write_whole
from fedmri.training.computing.arithmetic import Arithmetic, computes, processor
from fedmri.training.computing.device import pick_device, reproducible, seeded
from fedmri.training.optimizers import make_optimizer
from fedmri.training.settings import TrainConfig

log = logging.getLogger(__name__)

N_STEPS = 4
"""Steps of each choice; the first warms up and is not timed."""
LEAST_FLOPS = 2e8
"""Operations of a forward pass. Below it a run is short, and its choice is float32 everywhere."""
LEAST_GAIN = 0.9
"""Time over that of float32 from which on another choice is worth its other bits."""
TOLERANCE = 0.05
"""Largest distance from the loss of float32 in any step, as a share of the first loss."""


@dataclass(frozen=True)
class Trial:
    """What came of some steps.

    Attributes:
        seconds: Of the fastest step: whatever else the machine does can only slow one down.
        losses: Before each step.
    """

    seconds: float
    losses: tuple[float, ...]

    def is_near(self, other: Trial) -> bool:
        """Tell whether the losses are those of another trial, within the tolerance."""
        most, both = TOLERANCE * other.losses[0], zip(self.losses, other.losses, strict=True)
        return all(abs(own - theirs) <= most for own, theirs in both)  # false where one is NaN


def settled(
    train: TrainConfig, network: nn.Module, shapes: Sequence[tuple[int, ...]], memory: Path
) -> TrainConfig:
    """Return the settings with the precision and the order of memory that are fastest here.

    Steps on random images are timed in each choice that the settings leave. The fastest is taken
    if its losses are those of float32. Without a gain the settings stay as they are.

    Args:
        train: Settings; what they name is kept.
        network: Network that would be trained; it is not changed.
        shapes: Of each input of the network, as ``(n_channels, *shape)`` or ``(n_covariates,)``.
        memory: File in which this machine keeps its choices: the same run has the same bits again.

    Raises:
        ConfigError: The device is not there (C23).
    """
    choices = _choices(train)
    if len(choices) == 1 or n_flops(network, shapes) * train.batch_size < LEAST_FLOPS:
        return train
    known, key = _read(memory), _key(train, network, shapes)
    if key not in known:
        known[key] = _fastest(choices, network, shapes)
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_whole(memory, json.dumps(known, indent=1, sort_keys=True) + "\n")
    return replace(train, **known[key])


def n_flops(network: nn.Module, shapes: Sequence[tuple[int, ...]]) -> int:
    """Return the floating-point operations of one image going through; nothing is calculated."""
    entries = dict(network.named_parameters()) | dict(network.named_buffers())
    empty = {key: torch.empty_like(value, device="meta") for key, value in entries.items()}
    inputs = tuple(torch.empty(1, *shape, device="meta") for shape in shapes)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        functional_call(network, empty, inputs)
    return int(counter.get_total_flops())


def _choices(train: TrainConfig) -> list[TrainConfig]:
    """Return what is left open, float32 in its usual order first."""
    device = pick_device(train.device)
    orders, precisions = [train.memory_format], [train.precision]
    if train.memory_format == "auto":
        orders = ["contiguous", "channels_last"]
    if train.precision == "auto":
        precisions = ["fp32", "bf16"] if computes(device, "bf16") else ["fp32"]
    return [replace(train, precision=p, memory_format=m) for p in precisions for m in orders]


def _fastest(
    choices: Sequence[TrainConfig], network: nn.Module, shapes: Sequence[tuple[int, ...]]
) -> dict[str, Any]:
    trials = [_tried(choice, network, shapes) for choice in choices]
    plain = trials[0]
    fit = [
        (trial.seconds, choice)
        for trial, choice in zip(trials, choices, strict=True)
        if trial.is_near(plain) and trial.seconds <= LEAST_GAIN * plain.seconds
    ]
    if not fit:
        return {}
    seconds, best = min(fit, key=lambda one: one[0])
    share = seconds / plain.seconds
    named = {"precision": best.precision, "memory_format": best.memory_format}
    log.info("%s, %s: a step takes %.2f of float32's time", *named.values(), share)
    return named


def _tried(train: TrainConfig, network: nn.Module, shapes: Sequence[tuple[int, ...]]) -> Trial:
    """Time steps towards random answers, from the same weights whatever the choice."""
    how = Arithmetic.of(train)
    own = deepcopy(network).to(how.device).train()
    draw = torch.Generator().manual_seed(0)
    batch = [torch.randn(train.batch_size, *shape, generator=draw) for shape in shapes]
    optimizer = make_optimizer([p for p in own.parameters() if p.requires_grad], train)
    times, losses = [], []
    with reproducible(train.n_threads):
        for _ in range(N_STEPS):
            with seeded(0, how.device):
                started = time.perf_counter()
                outputs = how.outputs(own, how.inputs(batch))
                loss = (outputs - _random(outputs)).square().mean()
                optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                optimizer.step()
                losses.append(float(loss.detach()))  # waits for the device
                times.append(time.perf_counter() - started)
    return Trial(min(times[1:]), tuple(losses))


def _random(like: torch.Tensor) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(like.shape, generator=draw).to(like.device)


def _key(train: TrainConfig, network: nn.Module, shapes: Sequence[tuple[int, ...]]) -> str:
    """Return what a choice depends on, as a SHA-256."""
    device = pick_device(train.device)
    is_gpu = device.type == "cuda"
    machine = torch.cuda.get_device_name(device) if is_gpu else processor()
    entries = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    known = [torch.__version__, machine, asdict(train), str(network), entries, shapes]
    return hashlib.sha256(json.dumps(known, sort_keys=True, default=list).encode()).hexdigest()


def _read(memory: Path) -> dict[str, dict[str, Any]]:
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read, and is written anew: %s", memory, error)
        return {}
    return known if isinstance(known, dict) else {}
