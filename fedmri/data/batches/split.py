"""Patients to training, validation and test: by seeded hash, stratified, and never leaking."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import get_args

from fedmri.data.batches.site_data import Example, Split
from fedmri.data.scans import Scan
from fedmri.data.settings import SplitConfig
from fedmri.data.target import DataTarget
from fedmri.errors import DataError

N_GUARANTEED = 3
"""A stratum of so many patients is on every wanted side."""

Bounds = dict[Split, tuple[float, float]]


def unit_hash(seed: int, *labels: str) -> float:
    """Return a number in [0, 1) that a seed and names decide, whatever else is in the data set."""
    text = "/".join([str(seed), *labels])
    return (int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 11) / 2**53


def split_subjects(
    scans: Sequence[Scan], target: DataTarget, config: SplitConfig, seed: int
) -> dict[str, Split]:
    """Return the side of every patient; all scans of a patient are on one side.

    A hash of seed and patient decides, so another patient moves nobody, with one exception: a
    stratum (site, and what the task says that patients are alike by) of three or more patients is
    on every wanted side, and where a side would stay empty, the patient whose hash lies nearest to
    its bounds is moved there. The same then holds for each site as a whole.

    Args:
        scans: Scans of all sites.
        target: Says what patients are alike by, such as their class.
        config: Shares of validation and test.
        seed: Another seed gives another split.

    Returns:
        Side by patient, in ascending order of patient.

    Raises:
        DataError: A name appears at two sites (D17). Where names count by site, split each alone:
            no site has a say in another's split.
    """
    sites = sites_of(scans)
    labels = dict.fromkeys(sites, "")
    ordered = sorted(scans, key=lambda scan: scan.key, reverse=True)
    labels |= {scan.subject: target.stratum(scan) for scan in ordered}
    hashes = {subject: unit_hash(seed, subject) for subject in sorted(sites)}
    bounds = _bounds(config)
    splits = {subject: _side(value, bounds) for subject, value in hashes.items()}
    strata = _groups({subject: (sites[subject], labels[subject]) for subject in hashes})
    wholes = _groups({subject: (sites[subject],) for subject in hashes})
    for members in [*strata, *wholes]:
        _fill_empty_sides(splits, {subject: hashes[subject] for subject in members}, bounds)
    return splits


def refuse_shared_patients(scans: Iterable[Scan]) -> None:
    """Raise DataError D17 where a patient appears at two sites, by names that count at both."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for scan in scans:
        found[scan.patient].add(scan.site)
    _refuse_two_sites({name: sites for (_, name), sites in found.items() if len(sites) > 1})


def sites_of(scans: Iterable[Scan]) -> dict[str, str]:
    """Return the site of each patient.

    Raises:
        DataError: A patient appears at two sites (D17).
    """
    found: dict[str, set[str]] = defaultdict(set)
    for scan in scans:
        found[scan.subject].add(scan.site)
    _refuse_two_sites({name: sites for name, sites in found.items() if len(sites) > 1})
    return {subject: min(sites) for subject, sites in found.items()}


def _refuse_two_sites(doubles: Mapping[str, Iterable[str]]) -> None:
    if not doubles:
        return
    where = "; ".join(f"{s} at {', '.join(sorted(doubles[s]))}" for s in sorted(doubles)[:5])
    raise DataError(
        "D17",
        "patients at two sites",
        found=f"{len(doubles)} ({where})",
        want="each patient at one site",
        fix="give two patients two names; a patient of two sites stays at the first by "
        "data.check.duplicates=exclude",
    )


def _bounds(config: SplitConfig) -> Bounds:
    """Return the interval of hashes of each wanted side."""
    edge = config.test + config.val
    intervals: Bounds = {"test": (0, config.test), "val": (config.test, edge), "train": (edge, 1)}
    return {split: (low, high) for split, (low, high) in intervals.items() if high > low}


def _side(value: float, bounds: Bounds) -> Split:
    return next((side for side, (_, high) in bounds.items() if value < high), "train")


def _groups(stratum_of: Mapping[str, tuple[str, ...]]) -> list[list[str]]:
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for subject, stratum in stratum_of.items():
        groups[stratum].append(subject)
    return [groups[stratum] for stratum in sorted(groups)]


def _fill_empty_sides(
    splits: dict[str, Split], hashes: Mapping[str, float], bounds: Bounds
) -> None:
    """Move the nearest patient to each side that the group lacks; edits ``splits``."""
    if len(hashes) < N_GUARANTEED:
        return
    for side, (low, high) in bounds.items():
        counts = Counter(splits[subject] for subject in hashes)
        if counts[side]:
            continue
        movable = [subject for subject in hashes if counts[splits[subject]] > 1]
        distances = {s: max(low - hashes[s], hashes[s] - high) for s in movable}
        splits[min(movable, key=lambda subject: (distances[subject], subject))] = side


def refuse_leaks(
    examples: Iterable[Example],
    contents: Mapping[tuple[str, str], Sequence[str]] | None = None,
) -> None:
    """Raise unless every patient and every image is on one side of the split.

    Args:
        examples: Examples of all sites together.
        contents: SHA-256 of each scan's image files by site and key of the scan, as
            ``Prepared.contents`` has them. Without them cache entries are compared, which finds
            only scans whose files are all the same.

    Raises:
        DataError: A patient is on two sides (D40), or a copy of an image is (D41).
    """
    by_subject: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    by_content: dict[str, dict[str, str]] = defaultdict(dict)
    for example in examples:
        by_subject[example.site, example.subject].setdefault(example.split, example.scan)
        key = (example.site, example.scan)
        for content in (contents or {}).get(key, (str(example.image),)):
            by_content[content].setdefault(example.split, example.scan)
    _refuse("D40", "patients on two sides of the split", by_subject.values())
    _refuse("D41", "images on two sides of the split", by_content.values())


def refuse_leaking_patients(sides: Iterable[tuple[Scan, Split]]) -> None:
    """Raise DataError D40 where a patient is on two sides, at one site or at two."""
    found: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for scan, split in sides:
        found[scan.patient].setdefault(split, f"{scan.key} of {scan.site or 'no site'}")
    _refuse("D40", "patients on two sides of the split", found.values())


def _refuse(code: str, what: str, sides: Iterable[Mapping[str, str]]) -> None:
    leaks = [scans for scans in sides if len(scans) > 1]
    if not leaks:
        return
    order = get_args(Split)
    named = [", ".join(f"{s[side]} in {side}" for side in order if side in s) for s in leaks[:5]]
    raise DataError(
        code,
        what,
        found=f"{len(leaks)} ({'; '.join(named)})",
        want="none: a model tested on what it was trained on looks better than it is",
        fix="exclude the copies (check.duplicates=exclude) or give them one patient name",
    )
