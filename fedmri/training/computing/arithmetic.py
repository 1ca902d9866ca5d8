"""What a network computes with: the device, the precision of numbers, their order in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from fedmri.errors import ConfigError
from fedmri.training.computing.convolutions import TrustedConvolutions
from fedmri.training.computing.device import pick_device
from fedmri.training.settings import TrainConfig

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_CAPABILITIES = ("avx512_bf16", "amx_bf16", "bf16")
"""What a processor has that multiplies bfloat16 numbers by itself."""
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


@dataclass(frozen=True)
class Arithmetic:
    """How a network computes here.

    Weights, gradients and the optimizer are float32, whatever the precision. Layers alone compute
    in less, by autocast. The order of the inputs decides that of all that comes of them, so the
    weights keep theirs.

    Attributes:
        device: Where.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        is_channels_last: Whether the channels of a voxel lie side by side in memory.
    """

    device: torch.device
    precision: str = "fp32"
    is_channels_last: bool = False

    @classmethod
    def of(cls, train: TrainConfig) -> Arithmetic:
        """Return what the settings mean on this machine.

        Raises:
            ConfigError: The device is not there, or lacks a precision that is required (C23).
        """
        device = pick_device(train.device)
        is_last = train.memory_format == "channels_last"
        return cls(device, _precision_of(device, train), is_last)

    def inputs(self, batch: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Return the inputs of a network on the device, in the order of memory."""
        found = tuple(each.to(self.device, non_blocking=True) for each in batch)
        return tuple(map(self._ordered, found)) if self.is_channels_last else found

    def outputs(self, network: nn.Module, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return what a network makes of inputs on the device, as float32."""
        with self._autocast():
            outputs: torch.Tensor = network(*inputs)
        return outputs.float()

    def answering(self, network: nn.Module) -> Callable[..., torch.Tensor]:
        """Return what answers inputs on the device as ``outputs`` does."""
        return lambda *inputs: self.outputs(network, inputs)

    @contextmanager
    def _autocast(self) -> Iterator[None]:
        if self.precision == "fp32":
            yield
            return
        is_gpu = self.device.type == "cuda"
        with (
            torch.autocast(self.device.type, _TYPES[self.precision]),
            nullcontext() if is_gpu else TrustedConvolutions(),
        ):
            yield

    def _ordered(self, values: torch.Tensor) -> torch.Tensor:
        order = _CHANNELS_LAST.get(values.dim())
        return values if order is None else values.contiguous(memory_format=order)


def computes(device: torch.device, precision: str) -> bool:
    """Tell whether a device computes in a precision by itself, and not by imitation."""
    if precision == "fp32":
        return True
    if device.type == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return precision == "fp16" or has_bf16
    return precision == "bf16" and _has_bf16()


@lru_cache
def processor() -> dict[str, Any]:
    """Return what PyTorch knows of this processor; nothing where it is too old to tell."""
    ask = getattr(torch.cpu, "get_capabilities", dict)
    return dict(ask())


def _has_bf16() -> bool:
    return any(processor().get(name, False) for name in _CAPABILITIES)


def _precision_of(device: torch.device, train: TrainConfig) -> str:
    wanted = train.precision
    if wanted == "auto":
        return "bf16" if device.type == "cuda" and computes(device, "bf16") else "fp32"
    if computes(device, wanted):
        return wanted
    if train.is_precision_required:
        found, want = f"{device}, which does not compute in {wanted}", "a device that does"
        fix = "set train.precision=fp32, or train.is_precision_required=false for float32 here"
        raise ConfigError("C23", "setting train.precision", found=found, want=want, fix=fix)
    return "fp32"
