"""Patients that are attacked: a random few of a split, and a few examples of each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
import torch

from fedmri.data.batches.site_data import Example, SiteData, Split
from fedmri.leakage.release import unmeasured
from fedmri.round import Batch

N_SUBJECTS = 32
"""Patients of a split whose losses are compared."""

N_EXAMPLES = 4
"""Volumes or slices of each, evenly spaced."""


def chosen_batches(
    data: SiteData, split: Split, seed: int, n_subjects: int = N_SUBJECTS
) -> Iterator[Batch]:
    """Yield examples of some patients, one at a time and without augmentation.

    Args:
        data: The site's examples.
        split: Whom to take.
        seed: Decides which patients.
        n_subjects: How many at most.
    """
    wanted = chosen(data.examples(split), seed, n_subjects)
    batches = islice(data.eval_batches(split, batch_size=1), max(wanted, default=-1) + 1)
    return (batch for place, batch in enumerate(batches) if place in wanted)


def chosen(examples: Sequence[Example], seed: int, n_subjects: int) -> frozenset[int]:
    """Return the places of some patients' examples."""
    places: dict[tuple[str, str], list[int]] = {}
    for place, example in enumerate(examples):
        places.setdefault((example.site, example.subject), []).append(place)
    patients = sorted(places)
    drawn = np.random.default_rng(seed).permutation(len(patients))[:n_subjects]
    return frozenset(place for row in drawn for place in _spaced(places[patients[row]]))


def _spaced(places: list[int]) -> list[int]:
    step = math.ceil(len(places) / N_EXAMPLES)
    return places[::step]


def joined(batches: Iterable[Batch], like: Batch, n: int) -> Batch:
    """Return the first examples of the shape of another, as one batch.

    Raises:
        PrivacyError: There is none (P61).
    """
    fit = (batch for batch in batches if batch.image.shape[1:] == like.image.shape[1:])
    found = list(islice(fit, n))
    if not found:
        shape = tuple(like.image.shape[2:])
        raise unmeasured(f"no held-out image of {shape}", "one of the shape of a training image")
    return Batch(
        torch.cat([batch.image for batch in found]),
        torch.cat([batch.target for batch in found]),
        torch.cat([batch.present for batch in found]),
        tuple(subject for batch in found for subject in batch.subjects),
        tuple(scan for batch in found for scan in batch.scans),
        _joined(batch.covariates for batch in found),
    )


def moved(batch: Batch, device: torch.device) -> Batch:
    """Return a batch with what a network and its loss read on a device."""
    image, *rest = batch.inputs_on(device)
    covariates = rest[0] if rest else None
    return replace(batch, image=image, target=batch.target.to(device), covariates=covariates)


def _joined(parts: Iterable[torch.Tensor | None]) -> torch.Tensor | None:
    """Return covariates of several batches as one, where there are some."""
    found = [part for part in parts if part is not None]
    return torch.cat(found) if found else None
