"""From a data set to the prepared files of simulated sites: checked, split, cached."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fedmri.data.batches.site_data import Split
from fedmri.data.batches.split import refuse_leaking_patients, refuse_leaks, split_subjects
from fedmri.data.checks.check import enforce, examine
from fedmri.data.checks.manifest import used_by_site, write_manifest
from fedmri.data.patients import crossing
from fedmri.data.preparation.prepare import fill_cache, prepare_scans
from fedmri.data.preparation.prepared import (
    LABEL_LOSSES,
    Prepared,
    union,
    write_label_losses,
    write_site,
)
from fedmri.data.read import read
from fedmri.data.scans import Finding, Scan, ScanTable
from fedmri.data.settings import SourceConfig
from fedmri.data.synthetic.data_set import SyntheticConfig, ensure
from fedmri.data.target import BACKGROUND, LabelMap
from fedmri.errors import DataError, require
from fedmri.machine.file_names import file_name
from fedmri.machine.files import PRIVATE_FILE, write_unsynced
from fedmri.plan import Plan
from fedmri.reports.groups import GROUPS, PLANNED
from fedmri.simulation.divisions import COLUMN
from fedmri.simulation.partition import (
    Partition,
    PartitionConfig,
    column_values,
    partition,
    refuse_no_column,
)

log = logging.getLogger("fedmri.simulation")

EXTERNAL = "external:"
N_EXAMPLE_SITES = 5


@dataclass(frozen=True)
class StudySites:
    """The sites of a study, ready to train.

    Attributes:
        sites: Prepared file of each site.
        external: Prepared file of each site that is only tested on.
        used: Scans used and found, and patients in each split, by site.
        fingerprints: Fingerprint of each site's data.
    """

    sites: Mapping[str, Path]
    external: Mapping[str, Path]
    used: Mapping[str, Mapping[str, int]]
    fingerprints: Mapping[str, str]

    def write(self, path: Path) -> None:
        """Write the list that says that preparation is complete."""
        write_unsynced(path, json.dumps(asdict(self), default=str))

    @classmethod
    def read(cls, path: Path) -> StudySites:
        """Return what ``write`` wrote."""
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for key in ("sites", "external"):
            values[key] = {name: Path(file) for name, file in values[key].items()}
        return cls(**values)


@dataclass(frozen=True)
class SiteSource:
    """Where a study's scans come from.

    Attributes:
        plan: What is learned, from which source.
        partition: How the scans become sites.
        external: Folder of a data set that is only tested on, or ``""``.
        is_rest_external: Whether natural sites beyond the N largest are tested on.
        cache: Folder of prepared scans and of the embedded data set.
        column: Column of the subject tables that a protocol divides patients by, or ``""``.
        labels: What answers of the external data set are called here, each as ``theirs=ours``.
        n_workers: Processes that make the embedded data set and prepare scans.
    """

    plan: Plan
    partition: PartitionConfig
    external: str
    is_rest_external: bool
    cache: Path
    column: str = ""
    labels: tuple[str, ...] = ()
    n_workers: int = 1


def prepare_sites(source: SiteSource, folder: Path) -> StudySites:
    """Read, check, divide, split and prepare; write a file a site, and the manifest.

    Raises:
        DataError: The data set cannot be trained on; the manifest says why.
        ConfigError: It cannot be divided as asked.
    """
    plan = source.plan
    table = checked(source, folder / "manifest.tsv")
    own, foreign = _apart(table.scans)
    divided = partition(own, plan.target, source.partition, plan.seed)
    groups = _groups(source, divided, foreign)
    if source.column:
        refuse_no_column(table.scans, source.column, "simulation.protocol.column")
        values = {site: column_values(scans, source.column) for site, (scans, _) in groups.items()}
        text, place = json.dumps(values, ensure_ascii=False), folder / "prepared"
        place.mkdir(exist_ok=True)
        write_unsynced(place / COLUMN, text, PRIVATE_FILE)
    _write_columns(folder, groups)
    table = _with_crossing(table, groups)
    write_manifest(folder / "manifest.tsv", table)
    return _write_all(source, folder, table, groups, set(divided.sites))


def _write_columns(folder: Path, groups: Mapping[str, tuple[list[Scan], Any]]) -> None:
    """Write the cells by which the report groups patients; a patient's first scan tells."""
    there = {name for scans, _ in groups.values() for scan in scans for name in scan.columns}
    cells = {
        name: {site: column_values(scans, name) for site, (scans, _) in groups.items()}
        for name in PLANNED
        if name in there
    }
    write_unsynced(folder / GROUPS, json.dumps(cells, ensure_ascii=False), PRIVATE_FILE)


def checked(source: SiteSource, manifest: Path) -> ScanTable:
    """Return the scans that may be used, of the data set and the external one.

    Both are checked together: a patient in both would make the external test a training set.
    """
    plan = source.plan
    n_sites, n_workers = source.partition.n_sites, source.n_workers
    table = read(with_path(plan.data.source, n_sites, source.cache, plan.seed, n_workers))
    if source.external:
        other = read(replace(plan.data.source, path=source.external, sites=()))
        other = replace(other, scans=_in_our_words(other.scans, plan, source.labels))
        table = _joined(table, other, is_keyed=bool(plan.data.source.key_column))
    wanted = plan.data.source
    table = examine(table, plan.target, plan.data.check, wanted.channels, wanted.declared)
    write_manifest(manifest, table)
    enforce(table, plan.data.check)
    return table


def _in_our_words(scans: Sequence[Scan], plan: Plan, labels: Sequence[str]) -> tuple[Scan, ...]:
    """Return scans of the external data set with their answers as the plan's data have them.

    Of label maps, names are those of a derivative, of a value or ``*``; ours is a class.

    Raises:
        ConfigError: A value of label maps is called what is no class here (C01).
    """
    ours = dict(label.split("=", 1) for label in labels)
    if (label_map := plan.target.label_map) is not None:
        return _with_our_values(scans, label_map, ours)

    def said(columns: Mapping[str, str]) -> dict[str, str]:
        own = {name: columns[name] for name in plan.target.columns if name in columns}
        return {**columns, **{name: ours.get(text, text) for name, text in own.items()}}

    return tuple(replace(scan, columns=said(scan.columns)) for scan in scans)


def _with_our_values(
    scans: Sequence[Scan], label_map: LabelMap, ours: Mapping[str, str]
) -> tuple[Scan, ...]:
    values = {theirs for theirs in ours if theirs.isdecimal() or theirs == "*"}
    names = {name for name, own in ours.items() if own == label_map.name} - values
    meanings = tuple(f"{value}:{own}" for value, own in ours.items() if value not in names)
    known = {BACKGROUND, *label_map.classes}
    for text in meanings:
        is_class = text.rpartition(":")[2] in known
        require(is_class, "simulation.external_labels", text, f"one of {', '.join(sorted(known))}")

    def renamed(files: Mapping[str, Any]) -> dict[str, Any]:
        theirs = [one for name, one in files.items() if name in names]
        return {**files, label_map.name: theirs[0]} if theirs else {**files}

    return tuple(
        replace(s, meanings=meanings, labels=renamed(s.labels), images_of=renamed(s.images_of))
        for s in scans
    )


def with_path(
    source: SourceConfig, n_sites: int, cache: Path, seed: int, n_workers: int = 1
) -> SourceConfig:
    """Return the source, with the embedded data set made where none is named."""
    if source.path:
        return source
    config = SyntheticConfig(n_sites=n_sites or N_EXAMPLE_SITES)
    return replace(source, path=str(ensure(cache, config, seed, n_workers)))


def _joined(table: ScanTable, other: ScanTable, *, is_keyed: bool) -> ScanTable:
    """Put two data sets together; that both begin with a subject 01 does not mean one person."""

    def renamed(site: str) -> str:
        return f"{EXTERNAL}{site}"

    scans = [
        replace(scan, site=renamed(scan.site), scope="" if is_keyed else renamed(scan.scope))
        for scan in other.scans
    ]
    findings = [replace(finding, site=renamed(finding.site)) for finding in other.findings]
    known = {scan.subject for scan in table.scans}
    if same := sorted({scan.subject for scan in scans if scan.scope} & known):
        reason = (
            f"{len(same)} names of the external data set are also in the other, such as {same[0]}: "
            "they count as different patients, unless data.source.key_column says otherwise"
        )
        findings.append(Finding("D62", reason, is_excluded=False))
    counts = {renamed(site): n for site, n in other.n_found.items()}
    return ScanTable(
        (*table.scans, *scans), (*table.findings, *findings), {**table.n_found, **counts}
    )


def _apart(scans: Sequence[Scan]) -> tuple[list[Scan], list[Scan]]:
    own = [scan for scan in scans if not scan.site.startswith(EXTERNAL)]
    return own, [scan for scan in scans if scan.site.startswith(EXTERNAL)]


def _with_crossing(
    table: ScanTable, groups: Mapping[str, tuple[Sequence[Scan], Mapping[str, Split]]]
) -> ScanTable:
    """Return the table with a finding for what may be one patient and was taken apart."""
    places = {
        scan.subject: (site, splits[scan.subject])
        for site, (scans, splits) in groups.items()
        for scan in scans
    }
    found = crossing(table.scans, places)
    if found:
        log.warning(
            "%d groups of names that look like visits of one patient lie on both sides of the "
            "split, such as %s [C14]",
            len(found),
            found[0].reason,
        )
    return replace(table, findings=(*table.findings, *found))


def _groups(
    source: SiteSource, divided: Partition, foreign: Sequence[Scan]
) -> dict[str, tuple[list[Scan], dict[str, Split]]]:
    """Return scans and split by site; whoever takes no part is all test."""
    plan = source.plan
    groups = {  # each site alone, as in a deployment
        site: (list(scans), split_subjects(scans, plan.target, plan.data.split, plan.seed))
        for site, scans in divided.sites.items()
    }
    rest = list(foreign)
    if source.is_rest_external:
        rest += [
            replace(scan, site=f"{EXTERNAL}{site}")
            for site, scans in divided.external.items()
            for scan in scans
        ]
    for site in sorted({scan.site for scan in rest}):
        scans = [scan for scan in rest if scan.site == site]
        only_test: dict[str, Split] = {scan.subject: "test" for scan in scans}
        groups[site] = (scans, only_test)
    refuse_leaking_patients(
        (scan, splits[scan.subject]) for scans, splits in groups.values() for scan in scans
    )
    return groups


def _write_all(
    source: SiteSource,
    folder: Path,
    table: ScanTable,
    groups: Mapping[str, tuple[Sequence[Scan], Mapping[str, Split]]],
    members: set[str],
) -> StudySites:
    plan, findings = source.plan, list(table.findings)
    left_out: set[str] = set()
    files: dict[str, Path] = {}
    used: dict[str, dict[str, int]] = {}
    fingerprints: dict[str, str] = {}
    parts: list[Prepared] = []
    everything = [scan for scans, _ in groups.values() for scan in scans]
    fill_cache(everything, plan.target, plan.data, source.cache, source.n_workers)
    for site, (scans, splits) in groups.items():
        prepared = prepare_scans(scans, plan.target, plan.data, splits, source.cache)
        _enforce_prepared(site, len(scans), prepared, plan.data.check.max_excluded)
        parts.append(prepared)
        findings += prepared.findings
        left_out |= prepared.left_out(scans)
        files[site] = folder / "prepared" / f"{file_name(site)}.json"
        write_site(files[site], prepared)
        used[site] = _counts(prepared, len(scans), table, site)
        fingerprints[site] = prepared.fingerprint
    everyone = union(parts)
    refuse_leaks(everyone.examples, everyone.contents)
    write_label_losses(folder / LABEL_LOSSES, everyone.scans)
    if len(findings) > len(table.findings):
        used_scans = tuple(scan for scan in table.scans if scan.key not in left_out)
        full = replace(table, scans=used_scans, findings=tuple(findings))
        write_manifest(folder / "manifest.tsv", full)
    external = {site: path for site, path in files.items() if site not in members}
    return StudySites({site: files[site] for site in sorted(members)}, external, used, fingerprints)


def _enforce_prepared(site: str, n_checked: int, prepared: Prepared, max_excluded: float) -> None:
    """Refuse to go on without a site, or with less of it than was allowed.

    Raises:
        DataError: Preparation failed for too many scans (D02), or for all (D64).
    """
    n_lost = n_checked - len(prepared.scans)
    if n_lost <= max_excluded * n_checked and prepared.scans:
        return
    reason = prepared.findings[0].reason if prepared.findings else "no scan"
    raise DataError(
        "D02" if prepared.scans else "D64",
        f"preparation of {site}",
        found=f"{n_lost} of {n_checked} scans that failed; such as: {reason}",
        want=f"at most {max_excluded:.0%} of a site, and never all",
        fix="correct the scans or data.prepare, or name the other sites in data.source.sites",
    )


def _counts(prepared: Prepared, n_checked: int, table: ScanTable, site: str) -> dict[str, int]:
    """Return "used k of n" of a site, and its patients by split."""
    n_lost = table.n_found.get(site, n_checked) - used_by_site(table).get(site, (n_checked, 0))[0]
    subjects = {side: set[str]() for side in ("train", "val", "test")}
    for scan in prepared.scans:
        subjects[scan.split].add(scan.subject)
    counts = {side: len(names) for side, names in subjects.items()}
    return {"used": len(prepared.scans), "found": n_checked + n_lost, **counts}
