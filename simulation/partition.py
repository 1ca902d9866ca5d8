"""Patients to simulated sites: as they came, by a column, or drawn; never a patient in two."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from fedmri.data.batches.split import refuse_shared_patients, sites_of, unit_hash
from fedmri.data.scans import Scan
from fedmri.data.site_names import one_name_each
from fedmri.data.target import DataTarget
from fedmri.errors import ConfigError, require

UNKNOWN = "unknown"
N_BINS = 5
"""Quantile bins of a number that ``dirichlet`` skews; fewer where there are fewer values."""


@dataclass(frozen=True)
class PartitionConfig:
    """How scans become the sites of a simulation.

    Attributes:
        kind: ``natural`` takes the data set's own sites, and ``by`` a column of the subject table.
            ``iid`` draws sites at random, ``dirichlet`` skews them by target, and ``quantity``
            skews them in size.
        n_sites: Number of sites. ``natural`` and ``by`` take the largest by patients; 0 takes all.
        by: Column of ``by``; for ``dirichlet``, the column that is skewed in the target's place.
        alpha: Concentration of ``dirichlet`` and ``quantity``: small is uneven, large is even.
    """

    kind: Literal["natural", "by", "iid", "dirichlet", "quantity"] = "natural"
    n_sites: int = 0
    by: str = ""
    alpha: float = 0.5

    def __post_init__(self) -> None:
        is_drawn = self.kind in ("iid", "dirichlet", "quantity")
        n_least = 1 if is_drawn else 0
        n_sites = self.n_sites
        require(n_sites >= n_least, "partition.n_sites", n_sites, f"{n_least} or more")
        require(self.alpha > 0, "partition.alpha", self.alpha, "a positive number")
        is_named = self.kind != "by" or bool(self.by)
        require(is_named, "partition.by", self.by, "a column of the subject table")


@dataclass(frozen=True)
class Partition:
    """Scans by site, each scan renamed to its site.

    Attributes:
        sites: Sites that take part, in ascending order of name.
        external: Sites beyond the ``n_sites`` largest, which take no part.
    """

    sites: Mapping[str, tuple[Scan, ...]]
    external: Mapping[str, tuple[Scan, ...]]


def partition(
    scans: Sequence[Scan], target: DataTarget, config: PartitionConfig, seed: int
) -> Partition:
    """Divide scans among sites by patient.

    Drawn sites are named ``site-1``, ``site-2``, … and have a patient each at least: a site that
    would have none gets one of the largest. Patients are drawn in the order of a seeded hash. For
    ``by``, a patient with several values counts where most of their scans are, and one without a
    value at the site ``unknown``.

    Args:
        scans: Scans of the data set.
        target: Its classes, or quantile bins of its values, are what ``dirichlet`` skews.
        config: How to divide.
        seed: Another seed draws other sites.

    Raises:
        DataError: A patient appears at two sites of the data set (D17).
        ConfigError: More sites are asked for than there are (C10), or the table lacks a column or
            says no site (C11).

    Source:
        ``dirichlet``: Hsu et al. 2019, arXiv:1909.06335 (a share of each class for each site).
    """
    refuse_shared_patients(scans)
    if config.kind == "natural":
        _refuse_unnamed(scans)
        return _largest([replace(scan, site=scan.site or UNKNOWN) for scan in scans], config)
    scans = named_apart(scans)
    if config.kind == "by":
        values = _values(scans, config.by)
        named = {subject: value or UNKNOWN for subject, value in values.items()}
        moved = [scan for group in _renamed(scans, named).values() for scan in group]
        return _largest(moved, config)
    natural = sites_of(scans)
    subjects = sorted(natural, key=lambda subject: unit_hash(seed, "partition", subject))
    if len(subjects) < config.n_sites:
        raise _too_few(f"{len(subjects)} patients", config)
    generator = np.random.default_rng(_derived(seed, config.kind))
    if config.kind == "iid":
        drawn = [index % config.n_sites for index in range(len(subjects))]
    elif config.kind == "quantity":
        drawn = _deal([subjects], config, generator)
    else:
        groups = _groups(scans, subjects, target, config)
        subjects = [subject for group in groups for subject in group]
        drawn = _deal(groups, config, generator)
    n_digits = len(str(config.n_sites))
    names = [f"site-{site + 1:0{n_digits}}" for site in _filled(drawn, config.n_sites)]
    return Partition(_renamed(scans, dict(zip(subjects, names, strict=True))), {})


def _derived(seed: int, label: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{label}".encode()).digest()[:8])


def named_apart(scans: Sequence[Scan]) -> list[Scan]:
    """Return scans whose subjects' names are unique: patients of two sites may come to one.

    Names that only one patient has stay. Of the others, the site becomes a part.
    """
    scopes: dict[str, set[str]] = defaultdict(set)
    for scan in scans:
        scopes[scan.subject].add(scan.scope)
    taken = set(scopes)
    new: dict[tuple[str, str], str] = {}
    for scope, subject in sorted({s.patient for s in scans if len(scopes[s.subject]) > 1}):
        name = f"{scope}-{subject}"
        while name in taken:  # a site a-b with a subject c, and a site a with a subject b-c
            name += "-"
        taken.add(name)
        new[scope, subject] = name
    return [replace(s, subject=new.get(s.patient, s.subject), scope="") for s in scans]


def _renamed(scans: Sequence[Scan], site_of: Mapping[str, str]) -> dict[str, tuple[Scan, ...]]:
    groups: dict[str, list[Scan]] = {site: [] for site in sorted(set(site_of.values()))}
    for scan in sorted(scans, key=lambda scan: (scan.subject, scan.session)):
        groups[site_of[scan.subject]].append(replace(scan, site=site_of[scan.subject]))
    return {site: tuple(group) for site, group in groups.items()}


def _values(scans: Sequence[Scan], column: str) -> dict[str, str]:
    refuse_no_column(scans, column, "partition.by")
    return column_values(scans, column)


def refuse_no_column(scans: Sequence[Scan], column: str, setting: str) -> None:
    """Refuse a column that no table has (C11)."""
    known = sorted({name for scan in scans for name in scan.columns})
    if column not in known:
        raise ConfigError(
            "C11",
            f"setting {setting}",
            found=repr(column),
            want=f"one of the columns {', '.join(known) or '(there are none)'}",
            fix=f"set {setting} to one of them",
        )


def column_values(scans: Sequence[Scan], column: str) -> dict[str, str]:
    """Return each patient's most frequent value of a column; the first by name on a tie."""
    names = one_name_each(scan.columns.get(column, "") for scan in scans)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for scan in scans:
        counts[scan.subject][names[scan.columns.get(column, "")]] += 1
    return {s: min(count, key=lambda value: (-count[value], value)) for s, count in counts.items()}


def _refuse_unnamed(scans: Sequence[Scan]) -> None:
    """Refuse a data set of which no scan says its site: it is no federation of one."""
    if any(scan.site for scan in scans):
        return
    columns = sorted({name for scan in scans for name in scan.columns})
    raise ConfigError(
        "C11",
        "sites of the data set",
        found=f"none; its tables have the columns {', '.join(columns) or '(none)'}",
        want="a column of sites in participants.tsv",
        fix="set data.source.site_column to it, data.source.site for one hospital, or "
        "partition=iid to draw sites",
    )


def _largest(scans: Sequence[Scan], config: PartitionConfig) -> Partition:
    """Keep the sites of most patients; each scan already has the name of its site."""
    groups: dict[str, list[Scan]] = {site: [] for site in sorted({s.site for s in scans})}
    for scan in sorted(scans, key=lambda scan: (scan.subject, scan.session)):
        groups[scan.site].append(scan)
    sizes = {site: len({scan.subject for scan in group}) for site, group in groups.items()}
    if len(sizes) < config.n_sites:
        raise _too_few(f"{len(sizes)} ({', '.join(sorted(sizes))})", config)
    order = sorted(sizes, key=lambda site: (-sizes[site], site))
    chosen = set(order[: config.n_sites or None])
    taking_part = {site: tuple(group) for site, group in groups.items() if site in chosen}
    rest = {site: tuple(group) for site, group in groups.items() if site not in chosen}
    return Partition(taking_part, rest)


def _too_few(found: str, config: PartitionConfig) -> ConfigError:
    is_drawn = config.kind in ("iid", "dirichlet", "quantity")
    fix = "set partition.n_sites to as many or fewer"
    if not is_drawn:
        fix += ", or draw sites with partition=iid, dirichlet or quantity"
    what = f"sites of partition {config.kind}"
    return ConfigError("C10", what, found=found, want=f"{config.n_sites} or more", fix=fix)


def _groups(
    scans: Sequence[Scan], subjects: Sequence[str], target: DataTarget, config: PartitionConfig
) -> list[list[str]]:
    """Return the patients of each class or bin, in the order of ``subjects``."""
    if not target.columns and not config.by:
        raise ConfigError(
            "C11",
            "partition dirichlet",
            found=f"a {target.title}, which has no class by patient",
            want="a column to skew",
            fix="set partition.by to a column of the subject table, or use quantity",
        )
    column = config.by or target.columns[0]
    values = _values(scans, column)
    is_class = column in target.columns and target.n_groups > 1
    bins = values if is_class else _binned(values)
    groups: dict[str, list[str]] = defaultdict(list)
    for subject in subjects:
        groups[bins[subject]].append(subject)
    return [groups[name] for name in sorted(groups)]


def _binned(values: Mapping[str, str]) -> dict[str, str]:
    """Return quantile bins where every known value is a number, else the values themselves."""
    try:
        numbers = {subject: float(text) for subject, text in values.items() if text}
    except ValueError:
        return dict(values)
    finite = [value for value in numbers.values() if np.isfinite(value)]
    if not finite:
        return dict(values)
    edges = np.unique(np.quantile(finite, np.linspace(0, 1, N_BINS + 1)[1:-1]))
    bins = {subject: str(np.searchsorted(edges, value)) for subject, value in numbers.items()}
    return {subject: bins.get(subject, UNKNOWN) for subject in values}


def _deal(
    groups: Sequence[Sequence[str]], config: PartitionConfig, generator: np.random.Generator
) -> list[int]:
    """Return the site of each patient, group by group, in shares drawn anew for each group."""
    drawn: list[int] = []
    for group in groups:
        shares = generator.dirichlet([config.alpha] * config.n_sites)
        edges = np.rint(shares.cumsum() * len(group))
        drawn += [
            int(np.searchsorted(edges[:-1], index, side="right")) for index in range(len(group))
        ]
    return drawn


def _filled(drawn: Sequence[int], n_sites: int) -> list[int]:
    """Give each empty site a patient of the site that is then largest."""
    sites = list(drawn)
    for empty in range(n_sites):
        counts = Counter(sites)
        if not counts[empty]:
            largest = min(counts, key=lambda site: (-counts[site], site))
            sites[sites.index(largest)] = empty
    return sites
