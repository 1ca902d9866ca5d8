"""Models in shared memory: how processes hand each other weights without a pipe."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from fedmri.round import Weights

ALIGN = 64
MEMORY = Path("/dev/shm")  # memory-backed where it exists; a disk works too


@dataclass(frozen=True)
class TensorPlace:
    """Where a tensor lies in a block."""

    offset: int
    dtype: torch.dtype
    shape: tuple[int, ...]


def make_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a new folder for blocks, in memory where the system has such; gone when closed."""
    return tempfile.TemporaryDirectory(
        prefix="fedmri-", dir=MEMORY if MEMORY.is_dir() else None, ignore_cleanup_errors=True
    )


class Block:
    """One set of tensors at a time in a file that several processes map; it grows by need."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._flat: torch.Tensor | None = None

    def write(self, weights: Weights) -> dict[str, TensorPlace]:
        """Copy the tensors in and return where they lie."""
        entries: dict[str, TensorPlace] = {}
        n_bytes = 0
        for name, value in weights.items():
            entries[name] = TensorPlace(n_bytes, value.dtype, tuple(value.shape))
            n_bytes += -(-value.numel() * value.element_size() // ALIGN) * ALIGN
        for name, view in self.read(entries, n_bytes).items():
            view.copy_(weights[name])
        return entries

    def read(self, entries: Mapping[str, TensorPlace], n_bytes: int = 0) -> Weights:
        """Return views of the tensors; they change when the block is written again."""
        needed = max([n_bytes, *(_end(entry) for entry in entries.values())])
        if self._flat is None or self._flat.numel() < needed:
            self._flat = torch.from_file(
                str(self.path), shared=True, size=max(needed, ALIGN), dtype=torch.uint8
            )
        flat = self._flat
        return {
            name: flat[entry.offset : _end(entry)].view(entry.dtype).reshape(entry.shape)
            for name, entry in entries.items()
        }


def _end(entry: TensorPlace) -> int:
    return entry.offset + entry.dtype.itemsize * torch.Size(entry.shape).numel()
