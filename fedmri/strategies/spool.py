"""The updates of a round on the disk, for rules that must see all of them at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

import numpy as np
import torch

from fedmri.round import Update, Weights

BLOCK = 1 << 20
"""Coordinates of all sites that are in memory at once."""

Rule = Callable[[torch.Tensor], torch.Tensor]


class Spool:
    """Differences of sites' models from the one that they were sent.

    Args:
        model: The model that they were sent.
        parameters: Its trainable entries; distances between sites are of these.
    """

    def __init__(self, model: Weights, parameters: frozenset[str]) -> None:
        self.weights: list[float] = []
        self.names: list[str] = []
        self._model = model
        self._parameters = parameters
        self._largest: Weights = {}
        self._folder = TemporaryDirectory(prefix="fedmri-")

    def __enter__(self) -> Spool:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Delete the files."""
        self._folder.cleanup()

    def add(self, update: Update, weight: float) -> None:
        """Write an update down; one without weight is left out."""
        if weight <= 0:
            return
        floating = [name for name, value in update.weights.items() if value.is_floating_point()]
        self.names = sorted(floating)
        for number, name in enumerate(self.names):
            change = update.weights[name] - self._model[name]
            np.save(self._path(len(self.weights), number), change.reshape(-1).numpy())
        for name, value in update.weights.items():
            if not value.is_floating_point():
                last = self._largest.get(name, value)
                self._largest[name] = torch.maximum(last, value)  # counts, as in the mean
        self.weights.append(weight)

    def by_coordinate(self, rule: Rule, out: Weights) -> None:
        """Write what a rule makes of each coordinate's values, shape ``(K, n)`` to ``(n,)``."""
        self._fill(rule, out)

    def combination(self, share: torch.Tensor, out: Weights) -> None:
        """Write the sum of the sites' models by their shares, which add up to 1."""
        self._fill(lambda values: (share @ values.double()).to(values.dtype), out)

    def gram(self) -> torch.Tensor:
        """Return inner products of the sites' changes, shape ``(K, K)``, float64."""
        n_sites = len(self.weights)
        total = torch.zeros(n_sites, n_sites, dtype=torch.float64)
        for number, name in enumerate(self.names):
            if name in self._parameters:
                for _, values in self._blocks(number):
                    total += values.double() @ values.double().T
        return total

    def _fill(self, rule: Rule, out: Weights) -> None:
        for name, value in self._model.items():
            out[name].copy_(self._largest.get(name, value))
        for number, name in enumerate(self.names):
            flat = out[name].reshape(-1)  # an own buffer: contiguous, so this is a view
            for start, values in self._blocks(number):
                flat[start : start + values.shape[1]] += rule(values)

    def _blocks(self, number: int) -> Iterator[tuple[int, torch.Tensor]]:
        files = [np.load(self._path(k, number), mmap_mode="r") for k in range(len(self.weights))]
        for start in range(0, len(files[0]), BLOCK):
            yield start, torch.from_numpy(np.stack([file[start : start + BLOCK] for file in files]))

    def _path(self, site: int, number: int) -> Path:
        return Path(self._folder.name) / f"{site}-{number}.npy"
