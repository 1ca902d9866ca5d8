"""Where a network's own attention went, as a map of the image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from monai.networks.blocks.selfattention import SABlock
from monai.networks.nets.attentionunet import AttentionBlock
from torch import nn

from fedmri.models.hybrid_layers.slices import AttentionPool, SliceReader


def slice_axis(network: nn.Module) -> int | None:
    """Return the axis of a volume whose slices a network reads one by one, or None."""
    readers = [module for module in network.modules() if isinstance(module, SliceReader)]
    return readers[0].axis if readers else None


def attention_map(network: nn.Module, image: torch.Tensor) -> torch.Tensor | None:
    """Return how much of the last features comes from each place; None where nothing tells it.

    Blocks of a transformer are followed back to the patches. A pool over slices gives its weights,
    an Attention U-Net the gate of its finest skip connection.

    Args:
        network: In evaluation mode.
        image: Shape ``(1, C, *shape)``.

    Returns:
        Shape ``(1, 1, *places)``, coarser than the image or as fine, not negative.

    Source:
        Abnar and Zuidema 2020, arXiv:2005.00928 (attention rollout).
    """
    with _kept(network) as kept, torch.no_grad():
        network(image)
    if kept.gates:
        return max(kept.gates, key=lambda gate: gate[0].numel())
    weights = kept.pools[-1] if kept.pools else _rollout(kept.matrices)
    return None if weights is None else _placed(weights, image, slice_axis(network))


class _Kept:
    """What attention layers held in one pass."""

    def __init__(self) -> None:
        self.pools: list[torch.Tensor] = []
        self.matrices: list[torch.Tensor] = []
        self.gates: list[torch.Tensor] = []

    def keep_gate(self, *given: Any) -> None:
        """Keep what a gate lets through, ``(1, 1, *places)``."""
        self.gates.append(given[-1])

    def keep_matrix(self, block: Any, *_: Any) -> None:
        """Keep what each item took from the others, over all heads."""
        self.matrices.append(block.att_mat.mean(1))

    def keep_weights(self, pool: Any, args: tuple[torch.Tensor, ...], _: Any) -> None:
        """Keep the weights of a pool's items."""
        self.pools.append(pool.weights(args[0])[..., 0])


@contextmanager
def _kept(network: nn.Module) -> Iterator[_Kept]:
    blocks = [m for m in network.modules() if isinstance(m, SABlock) and not m.use_flash_attention]
    pools = [m for m in network.modules() if isinstance(m, AttentionPool)]
    kept = _Kept()
    hooks = [block.register_forward_hook(kept.keep_matrix) for block in blocks]
    hooks += [pool.register_forward_hook(kept.keep_weights) for pool in pools]
    gates = [m.psi for m in network.modules() if isinstance(m, AttentionBlock)]
    hooks += [gate.register_forward_hook(kept.keep_gate) for gate in gates]
    for block in blocks:
        block.save_attn = True
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()
        for block in blocks:
            block.save_attn, block.att_mat = False, torch.Tensor()


def _rollout(matrices: Sequence[torch.Tensor]) -> torch.Tensor | None:
    """Return what each item gives to the others, on the mean, shape ``(1, N)``.

    Only the last blocks that see the same number of items are followed.
    """
    if not matrices:
        return None
    n_items, total = matrices[-1].shape[-1], None
    for matrix in reversed(matrices):
        if matrix.shape[-1] != n_items:
            break
        mixed = 0.5 * (matrix + torch.eye(n_items, device=matrix.device))
        total = mixed if total is None else total @ mixed
    return None if total is None else total.mean(1)


def _placed(weights: torch.Tensor, image: torch.Tensor, axis: int | None) -> torch.Tensor | None:
    """Return weights of items as a map, where their number tells which places they are."""
    shape, n_items = tuple(image.shape[2:]), weights.shape[1]
    if axis is not None and n_items == shape[axis]:
        sides = [n_items if i == axis else 1 for i in range(len(shape))]
        return weights.reshape(1, 1, *sides)
    for step in range(1, max(shape) + 1):
        places = tuple(max(1, side // step) for side in shape)
        for n_more in (0, 1):  # a class token comes first
            if prod(places) > 1 and prod(places) + n_more == n_items:
                own = weights[:, n_more:]
                return (own / own.sum()).reshape(1, 1, *places)
    return None
