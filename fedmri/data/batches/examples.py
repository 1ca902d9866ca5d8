"""The examples of a site as batches: an index in memory, voxels from the cache when needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch

from fedmri.data.batches.augment import Sample, Stack, augmented, mix, refuse_unfit, stacked
from fedmri.data.batches.sampling import Item, cut, drawn_pass
from fedmri.data.batches.site_data import Example, ImageChange, Split, Voxels
from fedmri.data.batches.slices import take_slice
from fedmri.data.batches.split import refuse_leaks, unit_hash
from fedmri.data.partial import marked
from fedmri.data.preparation.cache import map_array, site_settings
from fedmri.data.preparation.prepared import (
    Prepared,
    PreparedScan,
    read_site,
    union,
    unusable_site,
)
from fedmri.data.settings import AugmentConfig, DataConfig, PrepareConfig, SampleConfig
from fedmri.data.target import DataTarget, OfImages
from fedmri.errors import DataError
from fedmri.round import Batch


def open_site(paths: Sequence[Path], target: DataTarget, config: DataConfig) -> PreparedSite:
    """Open prepared sites, as one where several are given; no array is read.

    Args:
        paths: Files of ``write_site``.
        target: What is predicted.
        config: The settings that the sites were prepared with; ``augment`` is free.

    Raises:
        DataError: A file is missing, damaged or of other settings (D43), or a patient or an image
            is on two sides of the split (D40, D41).
        ConfigError: The augmentation does not fit the target (C03).
    """
    refuse_unfit(config.augment, target)
    config.sample.refuse_unfit(target, config.prepare)
    parts = [read_site(path) for path in paths]
    settings = site_settings(target, config.prepare, config.source)
    for path, part in zip(paths, parts, strict=True):
        if part.settings != settings:
            raise unusable_site(path, "other settings or versions of libraries")
    prepared = union(parts)
    firsts = [next(scan.examples()) for scan in prepared.scans]
    refuse_leaks(firsts, prepared.contents)
    n_neighbours = n_neighbours_of(config.prepare)
    return PreparedSite(
        prepared,
        target,
        config.augment,
        n_neighbours,
        sample=config.sample,
        is_site_balanced=config.is_site_balanced,
    )


def open_images(prepared: Prepared, config: DataConfig) -> PreparedSite:
    """Open scans that were prepared without a target: their batches have images alone.

    Args:
        prepared: What ``prepare_scans`` gave for no target.
        config: The settings that the scans were prepared with; nothing is augmented.
    """
    return PreparedSite(prepared, None, AugmentConfig(), n_neighbours_of(config.prepare))


def n_neighbours_of(config: PrepareConfig) -> int:
    """Return how many slices on each side join a slice."""
    return config.n_neighbours if config.dimension == "2.5d" else 0


@dataclass(frozen=True)
class _Both:
    """Two changes of images, one after the other."""

    first: ImageChange
    second: ImageChange

    def __call__(self, key: str, whole: Voxels, part: Voxels) -> Voxels:
        """Return the part of an image after both."""
        return self.second(key, self.first(key, whole, whole), self.first(key, whole, part))


@dataclass(frozen=True)
class PreparedSite:
    """Prepared examples of one site or of several: the ``SiteData`` of training.

    Holds a table of scans. Arrays are mapped while a batch is made and let go of, so that the
    memory of many sites in one process does not add up.

    Attributes:
        prepared: Scans of all splits.
        target: What is predicted; None where images alone were prepared.
        config: Random changes of training examples.
        n_neighbours: Slices on each side that join a slice.
        change: What is done to each image before anything else; None leaves it.
        sample: What a pass of training takes more often than the rest, and how much of a volume.
        is_site_balanced: Whether a pass of training has the examples of each site as often.
        device: Where training images are changed and left; None is the CPU.
    """

    prepared: Prepared
    target: DataTarget | None
    config: AugmentConfig
    n_neighbours: int = 0
    change: ImageChange | None = None
    sample: SampleConfig = field(default_factory=SampleConfig)
    is_site_balanced: bool = False
    device: torch.device | None = None

    @property
    def fingerprint(self) -> str:
        """SHA-256 over contents, preparation and split: the same data give the same."""
        return self.prepared.fingerprint

    def examples(self, split: Split) -> tuple[Example, ...]:
        """Return the examples of a split, sorted by site, subject, scan and slice."""
        scans = (scan for scan in self.prepared.scans if scan.split == split)
        return tuple(example for scan in scans for example in scan.examples())

    def scans(self, split: Split) -> Iterator[Voxels]:
        """Yield each scan of a split, whole and without augmentation, in the examples' order."""
        for scan in self.prepared.scans:
            if scan.split == split:
                whole = np.array(map_array(scan.image, scan.shape, "<f4"))
                key = f"{scan.site}/{scan.scan}"
                yield whole if self.change is None else self.change(key, whole, whole)

    def changed(self, change: ImageChange) -> PreparedSite:
        """Return the same examples with another look, after the changes so far."""
        after = change if self.change is None else _Both(self.change, change)
        return replace(self, change=after)

    def placed(self, device: torch.device) -> PreparedSite:
        """Return the same examples, whose training images are changed on a device."""
        return replace(self, device=device)

    def train_batches(self, *, batch_size: int, seed: int) -> Iterator[Batch]:
        """Yield one epoch of shuffled, augmented training batches; the seed decides all of it.

        A batch holds examples of one shape: where shapes differ (``prepare.shape`` of 0), each
        shape fills batches of its own. The last batch of a shape may be smaller; a single example
        joins the batch before it, because batch normalisation cannot learn from one.
        """
        generator = np.random.default_rng(seed)
        order = drawn_pass(self._trained(), self.sample, generator)
        for group in _by_shape(order, batch_size, self.sample.patch):
            yield self._mixed(self._augmented(group, seed), generator)

    def train_sized(self, sizes: Sequence[int], *, seeds: Iterator[int]) -> Iterator[Batch]:
        """Yield a training batch of each size, from one pass after another.

        A batch holds examples of one shape; those that do not fill one wait for the next pass.

        Args:
            sizes: Examples of each batch.
            seeds: Of the passes, without an end; each decides the order and augmentation of one.
        """
        items, left = self._trained(), list(sizes)
        waiting: dict[tuple[int, ...], list[Item]] = {}
        while items and left:
            seed = next(seeds)
            generator = np.random.default_rng(seed)
            for item in drawn_pass(items, self.sample, generator):
                group = waiting.setdefault(self.sample.patch or _shape(item), [])
                group.append(item)
                if left and len(group) >= left[0]:
                    n_taken = left.pop(0)
                    yield self._mixed(self._augmented(group[:n_taken], seed), generator)
                    del group[:n_taken]

    def batch_sizes(self, batch_size: int) -> tuple[int, ...]:
        """Return the sizes of the batches of one pass over the training examples.

        Where shapes differ and some examples are drawn more often, passes differ: of one shape each
        has as many examples as here in the mean.
        """
        groups = _by_shape(self._trained(), batch_size, self.sample.patch)
        return tuple(map(len, groups))

    def train_picks(self, picks: Sequence[int], *, seed: int) -> Iterator[Batch]:
        """Yield some training examples, augmented and not mixed, a batch for each shape.

        Args:
            picks: Positions in ``examples("train")``.
            seed: Of the augmentation.
        """
        items = self._items("train")
        size = max(2, len(picks))
        for group in _by_shape([items[row] for row in picks], size, self.sample.patch):
            yield self._augmented(group, seed)

    def eval_batches(self, split: Split, *, batch_size: int) -> Iterator[Batch]:
        """Yield every example of a split once, in order, without augmentation.

        A batch ends early where the shape changes.
        """
        group: list[Item] = []
        for item in self._items(split):
            if group and (len(group) == batch_size or _shape(item) != _shape(group[0])):
                yield self._scored(group)
                group = []
            group.append(item)
        if group:
            yield self._scored(group)

    def _trained(self) -> list[Item]:
        """Return the examples of a pass of training; a small site's come several times."""
        items = self._items("train")
        if not self.is_site_balanced:
            return items
        by_site: dict[str, list[Item]] = {}
        for item in items:
            by_site.setdefault(item.scan.site, []).append(item)
        n_most = max(map(len, by_site.values()), default=0)
        return [one for own in by_site.values() for one in islice(cycle(own), n_most)]

    def _items(self, split: Split) -> list[Item]:
        scans = [scan for scan in self.prepared.scans if scan.split == split]
        return [Item(scan, index) for scan in scans for index in scan.slices or (None,)]

    def _sample(self, item: Item) -> Sample:
        try:
            return self._read(item)
        except DataError as error:
            error.add_note(f"in scan {item.scan.scan}")
            raise

    def _read(self, item: Item) -> Sample:
        scan, index = item.scan, item.slice_index
        whole = map_array(scan.image, scan.shape, "<f4")
        image = _voxels(whole, index, self.n_neighbours)
        if self.change is not None:
            image = torch.from_numpy(self.change(f"{scan.site}/{scan.scan}", whole, image.numpy()))
        label = None
        if scan.label is not None:
            label = _voxels(map_array(scan.label, (1, *scan.shape[1:]), "|u1"), index, 0)
        return Sample(image, label, scan.present, scan.spacing_mm, scan.mirror_axis)

    def _augmented(self, group: Sequence[Item], seed: int) -> Batch:
        seeds = [_seed(item, seed) for item in group]
        samples = [self._sample(item) for item in group]
        if patch := self.sample.patch:
            cuts = zip(samples, group, seeds, strict=True)
            samples = [
                cut(one, patch, own, is_labelled=item.is_labelled) for one, item, own in cuts
            ]
        return self._batch(group, augmented(samples, self.config, seeds, self.device), seeds)

    def _scored(self, group: Sequence[Item]) -> Batch:
        seeds = [_seed(item, 0) for item in group]
        return self._batch(group, stacked([self._sample(item) for item in group]), seeds)

    def _batch(self, group: Sequence[Item], stack: Stack, seeds: Sequence[int]) -> Batch:
        image, label = stack
        scans = [item.scan for item in group]
        present = torch.tensor([scan.present for scan in scans])
        n_each, target = image.shape[1] // present.shape[1], self._targets(scans, label)
        if isinstance(self.target, OfImages):
            image, target = self.target.hidden(image, n_each, seeds)
        return Batch(
            image=image,
            target=target,
            present=present.repeat_interleave(n_each, dim=1),
            subjects=tuple(map(self._name, scans)),
            scans=tuple(scan.scan for scan in scans),
            covariates=_covariates(scans),
        )

    def _name(self, scan: PreparedScan) -> str:
        """Return who a patient is among all whom the examples are of: two sites may have a 1."""
        return f"{scan.site}/{scan.subject}" if self.prepared.is_pooled else scan.subject

    def _targets(self, scans: Sequence[PreparedScan], label: torch.Tensor | None) -> torch.Tensor:
        truths = [scan.target for scan in scans]
        if self.target is None:
            return torch.full((len(truths),), torch.nan)
        if self.target.label_map is not None and label is not None:
            return marked(label.long(), truths)
        return self.target.batch_target(truths)

    def _mixed(self, batch: Batch, generator: np.random.Generator) -> Batch:
        is_mixed = self.config.mixup or self.config.cutmix
        if self.target is None or not is_mixed or len(batch.subjects) == 1:
            return batch
        classes = torch.nn.functional.one_hot(batch.target, self.target.n_outputs).float()
        image, target, partner = mix(batch.image, classes, self.config, generator)
        present = batch.present | batch.present[partner]
        return Batch(image, target, present, batch.subjects, batch.scans)


def _voxels(array: np.ndarray, index: int | None, n_neighbours: int) -> torch.Tensor:
    """Return an example as it lies in the cache, or a copy of its slices."""
    if index is not None:
        return torch.from_numpy(take_slice(array, index, n_neighbours))
    if n_neighbours:  # a picture is a volume of one slice
        return torch.from_numpy(take_slice(array[:, None], 0, n_neighbours))
    return torch.from_numpy(array)


def _covariates(scans: Sequence[PreparedScan]) -> torch.Tensor | None:
    """Return the rows of the table of some examples; None where none is read."""
    rows = [scan.covariates for scan in scans]
    return torch.tensor(rows, dtype=torch.float32) if rows[0] else None


def _seed(item: Item, of_pass: int) -> int:
    """Return the seed of an example, which is another each time that a pass has it."""
    again = [str(item.n_before)] if item.n_before else []
    return int(unit_hash(of_pass, item.scan.scan, str(item.slice_index), *again) * 2**53)


def _shape(item: Item) -> tuple[int, ...]:
    """Return the spatial shape of an example."""
    return item.scan.shape[1:] if item.slice_index is None else item.scan.shape[2:]


def _by_shape(
    items: Sequence[Item], batch_size: int, patch: tuple[int, ...] = ()
) -> Iterator[list[Item]]:
    """Yield batches of one shape each, in the order in which they are complete."""
    groups: dict[tuple[int, ...], list[Item]] = {}
    n_left = Counter(patch or _shape(item) for item in items)
    for item in items:
        shape = patch or _shape(item)
        group = groups.setdefault(shape, [])
        group.append(item)
        n_left[shape] -= 1
        leaves_one = n_left[shape] == 1 and batch_size > 1
        if not n_left[shape] or (len(group) >= batch_size and not leaves_one):
            yield groups.pop(shape)
