"""Which training examples a pass takes: each once, or those with a label or a rare class more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from fedmri.data.batches.augment import Sample
from fedmri.data.preparation.cache import map_array
from fedmri.data.preparation.prepared import PreparedScan
from fedmri.data.settings import SampleConfig


class Item(NamedTuple):
    """An example on its way into a batch.

    Attributes:
        scan: Scan that it is taken from.
        slice_index: Position of its slice; None takes all of the scan.
        n_before: How often its pass has had it already: each time it is augmented anew.
        is_labelled: Whether it was drawn for its label, so that a patch has to hold some.
    """

    scan: PreparedScan
    slice_index: int | None
    n_before: int = 0
    is_labelled: bool = False


def drawn_pass(
    items: Sequence[Item], config: SampleConfig, generator: np.random.Generator
) -> list[Item]:
    """Return the examples of a pass of training, in their order; there are as many as ``items``.

    Groups of examples come by their shares, evenly over the pass, so that a batch of any size has
    its share of each. Within a group every example comes once before one comes again.

    Args:
        items: All training examples.
        config: What is drawn more often.
        generator: Where all draws come from.
    """
    groups = _groups(items, config)
    if not groups:
        return _numbered(items[i] for i in generator.permutation(len(items)))
    streams = [_endless(group, generator) for _, group in groups]
    n_drawn, order = [0] * len(groups), []
    for place in range(1, len(items) + 1):
        owed = [share * place - n for (share, _), n in zip(groups, n_drawn, strict=True)]
        group = owed.index(max(owed))
        n_drawn[group] += 1
        order.append(next(streams[group]))
    return _numbered(order)


def _groups(items: Sequence[Item], config: SampleConfig) -> list[tuple[float, list[Item]]]:
    """Return groups that are drawn by shares, which add up to 1; none where there is no choice."""
    shares: list[tuple[float, list[Item]]] = []
    if config.foreground:
        labelled = [item._replace(is_labelled=True) for item in items if _is_labelled(item)]
        others = [item for item in items if config.patch or not _is_labelled(item)]
        shares = [(config.foreground, labelled), (1 - config.foreground, others)]
    elif config.is_class_balanced:
        classes = sorted({item.scan.target for item in items})
        shares = [(1.0, [item for item in items if item.scan.target == one]) for one in classes]
    there = [(share, group) for share, group in shares if share and group]
    total = sum(share for share, _ in there)
    return [(share / total, group) for share, group in there]


def _is_labelled(item: Item) -> bool:
    """Return whether a class of the label map is in an example."""
    label = item.scan.label
    if label is None:
        return False
    flags = _labelled_slices(label, item.scan.shape)
    return any(flags) if item.slice_index is None else flags[item.slice_index]


@lru_cache(maxsize=1 << 14)
def _labelled_slices(label: Path, shape: tuple[int, ...]) -> tuple[bool, ...]:
    """Return for each place along the first axis whether there is a class; entries never change."""
    voxels = map_array(label, (1, *shape[1:]), "|u1")[0]
    found: list[bool] = voxels.reshape(len(voxels), -1).any(axis=1).tolist()
    return tuple(found)


def _endless(group: Sequence[Item], generator: np.random.Generator) -> Iterator[Item]:
    while True:
        yield from (group[i] for i in generator.permutation(len(group)))


def _numbered(items: Iterable[Item]) -> list[Item]:
    """Return items that know how often they came before."""
    n_before: Counter[tuple[Path, int | None]] = Counter()
    found = []
    for item in items:
        key = item.scan.image, item.slice_index
        found.append(item._replace(n_before=n_before[key]))
        n_before[key] += 1
    return found


def cut(sample: Sample, patch: Sequence[int], seed: int, *, is_labelled: bool) -> Sample:
    """Return a part of a volume; where the volume is smaller, air fills the rest.

    Args:
        sample: The volume.
        patch: Voxels along its axes.
        seed: Decides where the part lies.
        is_labelled: Whether it lies around a voxel of the label map, any of them as likely.
    """
    generator = np.random.default_rng([seed, 1])
    sides = np.array(sample.image.shape[1:])
    room = np.maximum(sides - patch, 0)
    first = generator.integers(room + 1)
    places = torch.nonzero(sample.label[0]) if is_labelled and sample.label is not None else ()
    if len(places):
        centre = places[generator.integers(len(places))].numpy()
        first = np.clip(centre - np.array(patch) // 2, 0, room)
    box = tuple(slice(low, low + n) for low, n in zip(first.tolist(), patch, strict=True))
    lacking = [n for side in np.maximum(patch - sides, 0)[::-1].tolist() for n in (0, side)]

    def part(voxels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(voxels[:, *box], lacking)

    return replace(
        sample,
        image=part(sample.image),
        label=None if sample.label is None else part(sample.label),
    )
