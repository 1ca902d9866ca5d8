"""The entries of a network as named tensors: what they are, out of it and back into it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from fedmri.errors import RoundError
from fedmri.round import Layout, Weights

_LAYERS = (nn.Linear, _ConvNd)


def layout(network: nn.Module) -> Layout:
    """Return which entries of a network are trained and which belong to batch norm."""
    norms = [(path, m) for path, m in network.named_modules() if isinstance(m, _BatchNorm)]
    return Layout(
        parameters=frozenset(n for n, p in network.named_parameters() if p.requires_grad),
        norm_parameters=frozenset(
            _join(path, name) for path, norm in norms for name, _ in norm.named_parameters()
        ),
        norm_statistics=frozenset(
            _join(path, name) for path, norm in norms for name, _ in norm.named_buffers()
        ),
        head=_head(network),
    )


def _head(network: nn.Module) -> frozenset[str]:
    """Return the parameters of the layer that makes the outputs: the one registered last."""
    layers = [(path, m) for path, m in network.named_modules() if isinstance(m, _LAYERS)]
    path, last = layers[-1] if layers else ("", nn.Identity())
    return frozenset(_join(path, name) for name, _ in last.named_parameters())


def weights(network: nn.Module) -> Weights:
    """Return parameters and buffers by name, on the CPU and without gradient.

    On the CPU they are the network's own memory and change with it; clone what must stay.
    """
    return {name: value.detach().cpu() for name, value in network.state_dict().items()}


def digest(weights: Weights) -> str:
    """Return the SHA-256 of names, types, shapes and bytes of the weights."""
    total = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        total.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def norm(values: Weights, names: Collection[str]) -> float:
    """Return the L2 norm of the named entries together."""
    there = (values[name] for name in sorted(names) if name in values)
    return math.hypot(*(float(torch.linalg.vector_norm(value)) for value in there))


def load_weights(network: nn.Module, values: Weights, names: Collection[str] | None = None) -> None:
    """Copy values into a network's own memory.

    Args:
        network: Network to change.
        values: Values by name, of the network's shapes and types; all of its entries or some.
        names: Entries to copy; None copies all of ``values``. The others keep their values.

    Raises:
        RoundError: A name is missing on one side, or a shape or type differs (R03). Nothing has
            been copied then.
    """
    own = network.state_dict()
    wanted = values.keys() if names is None else names
    for name in wanted:
        _require_fit(name, own.get(name), values.get(name))
    with torch.no_grad():
        for name in wanted:
            own[name].copy_(values[name])


@contextmanager
def frozen(network: nn.Module, names: Collection[str]) -> Iterator[None]:
    """Keep the named parameters from moving; only those that could move do so again after."""
    held = [p for name, p in network.named_parameters() if name in names and p.requires_grad]
    for parameter in held:
        parameter.requires_grad = False
    try:
        yield
    finally:
        for parameter in held:
            parameter.requires_grad = True


def stand_still(network: nn.Module, names: Collection[str]) -> None:
    """Keep the named parameters from moving for good: nothing computes a gradient of them."""
    for name, parameter in network.named_parameters():
        if name in names:
            parameter.requires_grad = False


def hold_statistics(network: nn.Module, names: Collection[str]) -> None:
    """Let batch norm whose statistics are named go by them, as in evaluation."""
    for path, module in network.named_modules():
        if isinstance(module, _BatchNorm) and _join(path, "running_mean") in names:
            module.eval()


def _require_fit(name: str, own: torch.Tensor | None, value: torch.Tensor | None) -> None:
    found, want = _describe(value), _describe(own)
    if own is None or value is None or found != want:
        fix = "give the server and every site the same model settings and target"
        raise RoundError("R03", f"weights of {name}", found=found, want=want, fix=fix)


def _describe(value: torch.Tensor | None) -> str:
    return "none" if value is None else f"{value.dtype} of shape {tuple(value.shape)}"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
