"""The embedding of an image: what reaches the last layer of a network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


class Embedding:
    """Holds the embedding of the last batch that went through a network."""

    def __init__(self) -> None:
        self._value: Tensor | None = None

    @property
    def value(self) -> Tensor:
        """Shape ``(B, d)``, with its gradient; asking before a batch went through is a bug."""
        assert self._value is not None, "no batch went through the network"
        return self._value

    def hold(self, value: Tensor, *, is_channel_last: bool) -> None:
        """Keep what reaches the head, averaged over space or tokens."""
        if value.ndim > 2:
            places = range(1, value.ndim - 1) if is_channel_last else range(2, value.ndim)
            value = value.mean(dim=tuple(places))
        self._value = value


@contextmanager
def embedding_of(network: nn.Module, head: str) -> Iterator[Embedding]:
    """Hold what reaches a network's head while batches go through it.

    Args:
        network: Network whose embeddings are wanted.
        head: Name of the layer that makes the outputs: linear, or a convolution.
    """
    held, layer = Embedding(), network.get_submodule(head)
    is_channel_last = isinstance(layer, nn.Linear)

    def hold(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        held.hold(args[0], is_channel_last=is_channel_last)

    hook = layer.register_forward_pre_hook(hold)
    try:
        yield held
    finally:
        hook.remove()
