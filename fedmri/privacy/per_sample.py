"""The gradient of each example by itself, of any network without batch norm.

Opacus's own hooks fail on several networks of the registry. ``vmap`` of the gradient of the whole
network does not need to know its layers; where it fails or differs, one example after another goes
through plain autograd, which is right for every network and costs little for volumes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from fedmri.errors import PrivacyError

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Raw outputs and targets to the mean loss of a batch."""
Inputs = tuple[torch.Tensor, ...]
"""What the network is called with, see ``Batch.inputs``; each of shape ``(B, ...)``."""
Gradients = dict[str, torch.Tensor]
"""By name of the parameter, shape ``(B, *parameter)``."""

CLOSE = 1e-3
"""Relative difference of the two ways that rounding explains in float32."""


def by_vmap(network: nn.Module, loss: Loss, inputs: Inputs, target: torch.Tensor) -> Gradients:
    """Return each example's gradient, all at once; dropout differs from example to example."""
    trained = {n: p.detach() for n, p in network.named_parameters() if p.requires_grad}
    fixed = {n: p.detach() for n, p in network.named_parameters() if not p.requires_grad}
    fixed |= dict(network.named_buffers())

    def one(parameters: Gradients, xs: Inputs, y: torch.Tensor) -> torch.Tensor:
        outputs = functional_call(network, {**parameters, **fixed}, tuple(x[None] for x in xs))
        return loss(outputs, y[None])

    gradients: Gradients = vmap(grad(one), (None, 0, 0), randomness="different")(
        trained, inputs, target
    )
    return gradients


def by_loop(network: nn.Module, loss: Loss, inputs: Inputs, target: torch.Tensor) -> Gradients:
    """Return each example's gradient, one after another; zeros where a parameter has no part."""
    trained = {n: p for n, p in network.named_parameters() if p.requires_grad}
    rows: list[Sequence[torch.Tensor]] = []
    for *xs, y in zip(*inputs, target, strict=True):
        value = loss(network(*(x[None] for x in xs)), y[None])
        found = torch.autograd.grad(value, list(trained.values()), materialize_grads=True)
        rows.append([each.detach() for each in found])
    return {name: torch.stack([row[i] for row in rows]) for i, name in enumerate(trained)}


def is_vmap_right(network: nn.Module, loss: Loss, inputs: Inputs, target: torch.Tensor) -> bool:
    """Return whether ``vmap`` works here and agrees with the loop, without dropout."""
    was_training = network.training
    network.eval()
    try:
        fast = by_vmap(network, loss, inputs, target)
    except (RuntimeError, TypeError, ValueError, NotImplementedError):
        return False  # an operation without a batching rule, or a branch that looks at values
    else:
        slow = by_loop(network, loss, inputs, target)
        scale = torch.stack([each.norm() for each in slow.values()]).max()
        gap = torch.stack([(fast[name] - slow[name]).norm() for name in slow]).max()
        return bool(gap <= CLOSE * scale)  # false where one is NaN
    finally:
        network.train(was_training)


def refuse_batch_norm(network: nn.Module) -> None:
    """Refuse a network in which one patient's output depends on others, or that keeps statistics.

    Raises:
        PrivacyError: A layer is a batch norm, or an instance norm with running statistics, which
            would leave without noise (P33, with its name).
    """
    for name, module in network.named_modules():
        is_batch = isinstance(module, _BatchNorm)
        if is_batch or (isinstance(module, _InstanceNorm) and module.track_running_stats):
            fix = "set model.norm=group, before any weights are loaded"
            why = "mixes the patients of a batch" if is_batch else "keeps statistics of patients"
            found = f"{type(module).__name__}, which {why}"
            want = "a layer that sees one patient at a time"
            raise PrivacyError("P33", f"layer {name}", found=found, want=want, fix=fix)
