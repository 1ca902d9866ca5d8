"""Prepared patients of a site on other sides of the split: what protocols ask with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fedmri.data.batches.site_data import Split
from fedmri.data.batches.split import unit_hash
from fedmri.round import Truth

if TYPE_CHECKING:
    from fedmri.data.preparation.prepared import PreparedScan

COLUMN = "column.json"
"""File of a run: value of the protocol's column, by site and patient."""
Sides = Mapping[str, Split | None]
"""Side of each patient of a site; None leaves the patient out."""


class Divide(Protocol):
    """A rule that gives the patients of one site their sides, whatever other sites have."""

    def __call__(self, scans: Sequence[PreparedScan]) -> Sides:
        """Return the side of each patient, by the scans of the site."""
        ...


@dataclass(frozen=True)
class AllTested:
    """No patient is learned from: the site is new to the model."""

    def __call__(self, scans: Sequence[PreparedScan]) -> Sides:
        """Return the side of tests for all."""
        return {scan.subject: "test" for scan in scans}


@dataclass(frozen=True)
class Calibration:
    """A few patients of a new site are learned from, and the others are tested."""

    n_subjects: int

    def __call__(self, scans: Sequence[PreparedScan]) -> Sides:
        """Return the side of each patient; a hash decides who is among the few."""
        names = _shuffled(scans, "calibration")
        few = set(names[: self.n_subjects])
        return {name: "train" if name in few else "test" for name in names}


@dataclass(frozen=True)
class FewTrained:
    """A site learns from its first patients alone; validation and test stay as they are."""

    n_subjects: int

    def __call__(self, scans: Sequence[PreparedScan]) -> Sides:
        """Return the sides; the patients of a smaller number are among those of a larger."""
        trained = [scan for scan in scans if scan.split == "train"]
        few = set(_shuffled(trained, "curve")[: self.n_subjects])
        out = {scan.subject for scan in trained} - few
        return {s.subject: None if s.subject in out else s.split for s in scans}


@dataclass(frozen=True)
class Fold:
    """One of several equal parts of a site's patients is tested, the next one validates.

    Patients are dealt to the parts in the order of their truth, so that each part has as many of a
    class, or of a range of values.
    """

    number: int
    n_folds: int
    repeat: int

    def __call__(self, scans: Sequence[PreparedScan]) -> Sides:
        """Return the sides; over all folds each patient is tested once."""
        names = _shuffled(scans, f"fold {self.repeat}")
        truths = {scan.subject: _comparable(scan.target) for scan in reversed(scans)}
        dealt = sorted(names, key=lambda name: truths[name])  # those of one truth stay shuffled
        sides: list[Split] = ["train"] * self.n_folds
        sides[self.number], sides[(self.number + 1) % self.n_folds] = "test", "val"
        return {name: sides[place % self.n_folds] for place, name in enumerate(dealt)}


@dataclass(frozen=True)
class OtherDomain:
    """Patients with one value of a column are only tested, and all others only learned from."""

    values: Mapping[str, Mapping[str, str]]
    tested: str

    def __call__(self, scans: Sequence[PreparedScan]) -> Sides:
        """Return the sides; who is of the tested domain and was learned from is left out."""
        sides: dict[str, Split | None] = {}
        for scan in scans:
            is_tested_domain = self.values[scan.site].get(scan.subject) == self.tested
            is_kept = is_tested_domain == (scan.split == "test")
            sides[scan.subject] = scan.split if is_kept else None
        return sides


def _shuffled(scans: Sequence[PreparedScan], what: str) -> list[str]:
    """Return the patients of scans in an order that a hash of each decides; no seed changes it."""
    return sorted({scan.subject for scan in scans}, key=lambda name: unit_hash(0, what, name))


def _comparable(truth: Truth) -> tuple[float, ...]:
    """Return what patients are dealt by: their truth, or nothing where their label map has it."""
    values = truth if isinstance(truth, tuple) else (truth,)
    return () if any(math.isnan(value) for value in values) else values


def divided_site(path: Path, folder: Path, divide: Divide) -> Path:
    """Write a prepared site with its patients on other sides; return the file.

    Raises:
        DataError: The prepared site is damaged (D43).
    """
    from fedmri.data.preparation.prepared import read_site, write_site  # torch loads here

    new = folder / path.name
    if not new.exists():
        prepared = read_site(path)
        sides = divide(prepared.scans)
        scans = tuple(
            replace(scan, split=side)
            for scan in prepared.scans
            if (side := sides[scan.subject]) is not None
        )
        write_site(new, replace(prepared, scans=scans))
    return new
