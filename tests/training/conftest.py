"""A site of random tensors, which honours the protocol of ``SiteData``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fedmri.data.batches.site_data import Example, ImageChange, SiteData, Split, Voxels
from fedmri.round import Batch


@dataclass(frozen=True)
class TensorSite:
    """Examples in memory; every batch of an epoch but the last is full."""

    items: tuple[Example, ...]
    images: torch.Tensor
    targets: torch.Tensor
    fingerprint: str = "0"

    def examples(self, split: Split) -> tuple[Example, ...]:
        """Return the examples of a split, in order."""
        return tuple(item for item in self.items if item.split == split)

    def scans(self, split: Split) -> Iterator[Voxels]:
        """Yield the images of a split, in order."""
        for item, image in zip(self.items, self.images, strict=True):
            if item.split == split:
                yield image.numpy()

    def changed(self, change: ImageChange) -> TensorSite:
        """Return the examples with other images."""
        images = [
            change(i.scan, v.numpy(), v.numpy())
            for i, v in zip(self.items, self.images, strict=True)
        ]
        return replace(self, images=torch.from_numpy(np.stack(images)))

    def placed(self, device: torch.device) -> TensorSite:
        """Return the examples: nothing is changed at random."""
        return self

    def train_batches(self, *, batch_size: int, seed: int) -> Iterator[Batch]:
        """Yield an epoch in an order that the seed decides."""
        rows = torch.tensor([i for i, item in enumerate(self.items) if item.split == "train"])
        generator = torch.Generator().manual_seed(seed)
        yield from self._batches(rows[torch.randperm(len(rows), generator=generator)], batch_size)

    def train_sized(self, sizes: Sequence[int], *, seeds: Iterator[int]) -> Iterator[Batch]:
        """Yield a batch of each size from one order after another."""
        order = torch.empty(0, dtype=torch.long)
        rows = torch.tensor([i for i, item in enumerate(self.items) if item.split == "train"])
        for size in sizes:
            while len(order) < size:
                generator = torch.Generator().manual_seed(next(seeds))
                order = torch.cat([order, rows[torch.randperm(len(rows), generator=generator)]])
            yield from self._batches(order[:size], size)
            order = order[size:]

    def train_picks(self, picks: Sequence[int], *, seed: int) -> Iterator[Batch]:
        """Yield the training examples at these positions; nothing is augmented."""
        rows = torch.tensor([i for i, item in enumerate(self.items) if item.split == "train"])
        yield from self._batches(rows[list(picks)], max(1, len(picks)))

    def eval_batches(self, split: Split, *, batch_size: int) -> Iterator[Batch]:
        """Yield the examples of a split in order."""
        rows = torch.tensor([i for i, item in enumerate(self.items) if item.split == split])
        yield from self._batches(rows, batch_size)

    def _batches(self, order: torch.Tensor, batch_size: int) -> Iterator[Batch]:
        for rows in torch.split(order, batch_size) if len(order) else ():
            items = [self.items[int(row)] for row in rows]
            yield Batch(
                self.images[rows],
                self.targets[rows],
                torch.ones(len(rows), 1, dtype=torch.bool),
                tuple(item.subject for item in items),
                tuple(item.scan for item in items),
            )


MakeSite = Callable[..., SiteData]


def make(
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    scans: list[str] | None = None,
    split: Split = "train",
    spacing_mm: tuple[float, ...] = (1.0, 1.0, 1.0),
) -> SiteData:
    """Return a site; a scan is named ``subject_session``, and several slices may share it."""
    names = scans or [f"sub{i:02}_0" for i in range(len(images))]
    counts: dict[str, int] = {}
    items = []
    for name, target in zip(names, targets, strict=True):
        counts[name] = counts.get(name, -1) + 1
        items.append(
            Example(
                site="north",
                subject=name.split("_")[0],
                scan=name,
                split=split,
                image=Path(name),
                label=None,
                slice_index=counts[name] if names.count(name) > 1 else None,
                target=float(target) if target.ndim == 0 else float("nan"),
                present=(True,),
                spacing_mm=spacing_mm,
            )
        )
    return TensorSite(tuple(items), images, targets)


@pytest.fixture
def make_site() -> MakeSite:
    """Return the function that makes a site of tensors."""
    return make
