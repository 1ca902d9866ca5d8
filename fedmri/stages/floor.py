"""The floor inside a sum: what is of too few patients does not enter it.

A border that counts the patients behind a whole answer lets a sum out in which one cell is of one
patient: a rare class, a level of a covariate, a modality, a feature that few have. So every cell is
held to the site's floor before anything is added. Whoever is in a cell that is too small is left
out of all cells, for a total without it would be its complement.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedmri.harmonize.combat.site_table import SiteTable

if TYPE_CHECKING:
    from fedmri.data.batches.site_data import SiteData, Voxels
    from fedmri.harmonize.combat.own_table import OwnTable
    from fedmri.harmonize.embeddings.embedding_stage import Embeddings

Rows = NDArray[np.bool_]


def in_large_cells(cells: Sequence[Hashable], patients: Sequence[Hashable], n_least: int) -> Rows:
    """Tell of each row whether its cell is of enough patients.

    Args:
        cells: Cell of each row.
        patients: Patient of each row.
        n_least: Patients that a cell must have.

    Returns:
        Shape ``(n,)``.
    """
    members: dict[Hashable, set[Hashable]] = defaultdict(set)
    for cell, patient in zip(cells, patients, strict=True):
        members[cell].add(patient)
    return np.array([len(members[cell]) >= n_least for cell in cells], dtype=np.bool_)


def by_class(own: Embeddings, patients: Sequence[Hashable], n_least: int) -> Embeddings:
    """Return embeddings without those of classes that too few patients have."""
    import torch

    kept = torch.from_numpy(in_large_cells(own.labels.tolist(), patients, n_least))
    return type(own)(own.site, own.values[kept], own.labels[kept])


MOST = 10.0
"""Lengths of the median patient's embedding that anybody's counts at most."""


def bounded(own: Embeddings, patients: Sequence[Hashable]) -> Embeddings:
    """Return embeddings none of which is much longer than the usual.

    Weights that were made for it answer one patient with a number that drowns all others, and the
    sum is that patient's. Nothing that a network was trained to gives comes near the bound.
    """
    import torch

    lengths = torch.linalg.vector_norm(own.values, dim=1).nan_to_num(torch.inf, torch.inf)
    by_patient: dict[Hashable, list[float]] = defaultdict(list)
    for patient, length in zip(patients, lengths.tolist(), strict=True):
        by_patient[patient].append(length)
    usual = float(np.median([float(np.mean(found)) for found in by_patient.values()] or [0.0]))
    is_long = lengths > MOST * usual
    short = torch.nan_to_num(own.values / lengths[:, None], 0.0, 0.0, 0.0) * MOST * usual
    return type(own)(own.site, torch.where(is_long[:, None], short, own.values), own.labels)


def patient_scans(data: SiteData) -> Iterator[tuple[Hashable, Voxels]]:
    """Yield each training scan with its patient, scan after scan as the examples are."""
    scans = dict.fromkeys((e.site, e.subject, e.scan) for e in data.examples("train"))
    patients = ((site, subject) for site, subject, _ in scans)
    yield from zip(patients, data.scans("train"), strict=True)


def by_channel(data: SiteData, n_channels: int, n_least: int) -> NDArray[np.bool_]:
    """Tell of each channel whether enough patients have it, shape ``(C,)``."""
    there: dict[int, set[Hashable]] = defaultdict(set)
    for patient, voxels in patient_scans(data):
        for channel in range(n_channels):
            if voxels[channel].any():
                there[channel].add(patient)
    return np.array([len(there[channel]) >= n_least for channel in range(n_channels)])


def without_channels(images: Iterable[Voxels], kept: NDArray[np.bool_]) -> Iterator[Voxels]:
    """Yield images in which channels that are not kept are absent."""
    for voxels in images:
        if not kept.all():
            voxels[~kept] = 0
        yield voxels


def rows_of(own: OwnTable, n_least: int) -> SiteTable:
    """Return the rows of a table that may be summed.

    - A row of a level of a covariate that too few patients have is left out; so is a row whose
      number differs from that of all but a few.
    - A feature that too few patients have is missing for all.
    - A row without a feature that all but a few have is left out.
    """
    found, patients = own.found, own.subjects.tolist()
    kept = np.ones(len(patients), dtype=np.bool_)
    values = np.array(found.values)
    while True:
        inside = [patient for patient, is_in in zip(patients, kept, strict=True) if is_in]
        now = kept.copy()
        for cells in _levels(found.columns, found.covariates[kept]):
            now[kept] &= in_large_cells(cells, inside, n_least)
        for column in _presence(values[kept]):
            now[kept] &= _unless_few(column, inside, n_least)
        for place, column in enumerate(_presence(values[kept])):
            if _n_subjects(inside, column) < n_least:
                values[:, place] = np.nan
        if (now == kept).all():
            return SiteTable(found.sites[0], values[kept], found.covariates[kept])
        kept = now


def _levels(columns: Sequence[str], covariates: NDArray[np.float64]) -> Iterator[list[Hashable]]:
    """Yield of each covariate the cells of all rows: levels, or whether a number is the usual."""
    for _, group in groupby(enumerate(columns), key=lambda one: one[1].partition("=")[0]):
        own = [place for place, _ in group]
        cells: list[Hashable] = [tuple(row) for row in covariates[:, own].tolist()]
        if "=" not in columns[own[0]] and cells:
            usual, n_usual = Counter(cells).most_common(1)[0]
            # numbers that all differ have no cells; a flag among equal ones has
            is_flag = 2 * n_usual > len(cells)
            cells = [cell == usual or not is_flag for cell in cells]
        yield cells


def _presence(values: NDArray[np.float64]) -> Iterator[list[bool]]:
    for column in np.isfinite(values).T:
        yield column.tolist()


def _n_subjects(patients: Sequence[Hashable], rows: Iterable[bool]) -> int:
    return len({patient for patient, is_in in zip(patients, rows, strict=True) if is_in})


def _unless_few(column: list[bool], patients: Sequence[Hashable], n_least: int) -> Rows:
    """Tell of each row whether it stays: those without a feature go where they are few."""
    n_with = _n_subjects(patients, column)
    n_without = _n_subjects(patients, [not is_there for is_there in column])
    if n_without and n_without < n_least <= n_with:
        return np.array(column, dtype=np.bool_)
    return np.ones(len(column), dtype=np.bool_)
