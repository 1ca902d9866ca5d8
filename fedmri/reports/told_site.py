"""Whether the site of a test patient can be told from what a model's last layer reads.

If it can, the model may go by the scanner: a shortcut that a new hospital does not have. Embeddings
of one model alone are compared, so folds and models without a site are not tried.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedmri.errors import HarmonizeError
from fedmri.evaluate.estimate import Estimate
from fedmri.evaluate.proportions import mean_of_shares
from fedmri.machine.file_names import file_name
from fedmri.reports.models import Model, is_external
from fedmri.reports.reliability.averaged import is_of_classes
from fedmri.reports.results import Results, SiteCases
from fedmri.tasks.task import Case

FOLDER = "embeddings"
"""Folder of a run folder: of each arm, seed and site, the embeddings of its test patients."""
N_PERMUTATIONS = 99
TRIED = ("federated", "pooled")

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ToldSite:
    """How well a linear probe names the site of patients that it was not trained on.

    Attributes:
        label: The model.
        seed: Of its training.
        is_given: Whether the linear effect of the target was taken out first.
        share: Mean over sites of the share of patients whose site is named.
        chance: What names at random reach.
        p_value: Share of deals of patients to sites that reach as much.
        n_sites: Sites that were told apart.
        n_left_out: Patients of sites that have too few.
    """

    label: str
    seed: int
    is_given: bool
    share: Estimate
    chance: float
    p_value: float
    n_sites: int
    n_left_out: int

    @property
    def is_told(self) -> bool:
        """Whether more than chance explains it."""
        return self.p_value <= 0.05 and self.share.low > self.chance


@dataclass(frozen=True)
class SiteTelling:
    """What the probe found, or why it was not tried.

    Attributes:
        found: By model and training: as it is, then with the target's effect taken out.
        reason: Why there is nothing.
    """

    found: tuple[ToldSite, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class _Patients:
    """Embeddings ``(n, d)``, site and truth of test patients."""

    values: Array
    sites: NDArray[np.str_]
    names: NDArray[np.str_]
    truths: Array


def site_telling(results: Results, rows: Sequence[Model]) -> SiteTelling:
    """Return how well sites are told from embeddings of the federated and the pooled model.

    Of several strategies it is the first one. Sites that took part alone are told apart.

    Args:
        results: What the run left behind.
        rows: Models of the table.
    """
    tried = list(_tried(rows, results))
    if not tried:
        return SiteTelling(reason="no federated or pooled model was tested at all sites at once")
    tested = (case for sites in tried[0].runs for cases in sites.values() for case in cases)
    if not any(case.prediction for case in tested):
        reason = "the network answers each voxel, and has no embedding of an image"
        return SiteTelling(reason=reason)
    try:
        found = tuple(one for row in tried for one in _of_row(results.run, row))
    except HarmonizeError:
        return SiteTelling(reason="fewer than two sites have five test patients")
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        return SiteTelling(reason=f"the run's embeddings cannot be read ({type(error).__name__})")
    return SiteTelling(found, "" if found else "the run kept no embeddings of test patients")


def _tried(rows: Sequence[Model], results: Results) -> Iterator[Model]:
    """Yield the first row of each role that is one model at all sites."""
    for role in TRIED:
        yield from [row for row in rows if row.group.role == role and _is_one(row, results)][:1]


def _is_one(row: Model, results: Results) -> bool:
    group = row.group
    [first, *others] = group.arms
    is_whole = not (others or group.is_left_out or group.is_beside)
    return is_whole and not results.comparison.arm(first).fold


def _of_row(run: Path, row: Model) -> Iterator[ToldSite]:
    for seed, sites in zip(row.seeds, row.runs, strict=True):
        found = _read(run / FOLDER / file_name(row.group.arms[0]) / f"seed-{seed}", sites)
        if found is None:
            continue
        yield _told(row.label, seed, found, is_given=False)
        if np.isfinite(found.truths).any():
            yield _told(row.label, seed, found, is_given=True)


def _read(folder: Path, sites: SiteCases) -> _Patients | None:
    """Return the patients of sites that took part; None where nothing was kept."""
    parts = []
    for site, cases in sites.items():
        path = folder / f"{file_name(site)}.npz"
        if is_external(site) or not path.exists():
            continue
        with np.load(path, allow_pickle=False) as arrays:
            kept = dict(zip(arrays["subjects"].tolist(), arrays["values"], strict=True))
        parts += [(case, kept[case.subject], site) for case in cases if case.subject in kept]
    if not parts:
        return None
    values = np.array([value for _, value, _ in parts], dtype=np.float64)
    return _Patients(
        np.where(np.isfinite(values), values, np.nan),
        np.array([site for *_, site in parts]),
        np.array([f"{site}/{case.subject}" for case, _, site in parts]),
        _truths([case for case, *_ in parts]),
    )


def _truths(cases: Sequence[Case]) -> Array:
    """Return what is true of patients as columns, one for each class; shape ``(n, q)``."""
    if all(is_of_classes(case) for case in cases):
        truth = np.array([case.truth for case in cases], dtype=np.float64)
        return np.asarray(truth[:, None] == np.unique(truth), dtype=np.float64)
    return np.array([np.atleast_1d(case.truth) for case in cases], dtype=np.float64)


def _told(label: str, seed: int, patients: _Patients, *, is_given: bool) -> ToldSite:
    from fedmri.harmonize.judging import decodability as probe  # scikit-learn loads here

    given = patients.truths if is_given else np.zeros((len(patients.values), 0))
    samples = probe.Samples(patients.values, patients.sites, patients.names, given)
    found = probe.decodability(samples, probe.ProbeSettings(N_PERMUTATIONS))
    _, named, sizes = zip(*found.by_site, strict=True)
    return ToldSite(
        *(label, seed, is_given, mean_of_shares(named, sizes)),
        chance=1 / len(sizes),
        p_value=found.balanced_p_value,
        n_sites=len(sizes),
        n_left_out=found.n_left_out,
    )


def told_table(telling: SiteTelling) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Return what was found as a table of plain values."""
    head = (
        *("model", "seed", "target_taken_out", "balanced_accuracy", "low", "high", "chance"),
        *("p_value", "n_sites", "n_subjects", "n_left_out"),
    )
    rows: list[tuple[object, ...]] = [
        (
            *(one.label, one.seed, one.is_given, one.share.value, one.share.low, one.share.high),
            *(one.chance, one.p_value, one.n_sites, one.share.n_subjects, one.n_left_out),
        )
        for one in telling.found
    ]
    return head, rows
