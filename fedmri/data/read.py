"""One door to all sources: look at a folder and read what it is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from fedmri.data.files.folders import Walk, existing_folder
from fedmri.data.partial import with_drawn
from fedmri.data.patients import grouped, without_patients
from fedmri.data.reader import AUTO, READERS, Likeness, Look
from fedmri.data.scans import Finding, Scan, ScanTable
from fedmri.data.settings import SourceConfig
from fedmri.data.site_names import one_name_each, with_one_name_each
from fedmri.data.visits import joined
from fedmri.errors import DataError
from fedmri.machine.delimited import is_unknown

N_LOOKED_AT = 200


def read(config: SourceConfig, gone: Container[str] = ()) -> ScanTable:
    """Read which scans a data set has; no image is opened.

    Args:
        config: Where it is, how it is laid out and what of it is wanted.
        gone: Names of patients who are to be as if they had never been there.

    Returns:
        Scans sorted by site, subject and session, or several visits as one; what was found odd;
        and how many scans each site has, those left out included.

    Raises:
        DataError: No such folder or an unknown layout (D04), a subject table that cannot be used
            (D05), a site that is asked for and not there (D06), or no scan at all (D01).
    """
    named = _only_sites(with_one_name_each(READERS.made(layout_of(config)).read(config)), config)
    known = without_patients(named, gone, config.patient_pattern)
    table = grouped(known, config.patient_pattern)
    if not table.scans:
        said = sorted({f"{f.reason} [{f.code}]" for f in table.findings})[:3]
        found = "; ".join(["no scan", *said])
        fix = "look at data.source: path, layout, modalities and sites"
        raise DataError("D01", f"data set {config.path}", found=found, want="scans", fix=fix)
    keyed, unkeyed = _keyed(table.scans, config.key_column)
    scans = sorted(keyed, key=lambda scan: (scan.site, scan.subject, scan.session))
    more = [*unkeyed, *shared_names(scans)]
    every = replace(table, scans=tuple(scans), findings=(*table.findings, *more))
    table = joined(without_patients(every, gone), config)  # a key is a name as well
    findings = sorted(table.findings, key=finding_order)
    scans = with_drawn(table.scans, config.drawn)
    return ScanTable(tuple(scans), tuple(findings), count_by_site(scans, findings))


def layout_of(config: SourceConfig) -> str:
    """Return the layout that is set, or that the folder looks like; raise DataError D04."""
    return config.layout if config.layout != AUTO else _layout(existing_folder(config.path))


def shared_names(scans: Iterable[Scan]) -> list[Finding]:
    """Say which names several sites give to patients of their own."""
    sites: dict[str, set[str]] = defaultdict(set)
    for scan in scans:
        if scan.scope:
            sites[scan.subject].add(scan.scope)
    shared = {name: found for name, found in sites.items() if len(found) > 1}
    if not shared:
        return []
    name, *others = sorted(shared)
    reason = (
        f"{name} at {', '.join(sorted(shared[name]))}, and {len(others)} more names that several "
        "sites have: they count as different patients. If some are the same patient, give both "
        "the same value in a column of the subject tables and name it in data.source.key_column"
    )
    return [Finding("D62", reason, is_excluded=False)]


def _keyed(scans: Sequence[Scan], column: str) -> tuple[list[Scan], list[Finding]]:
    """Name subjects by a column that means one patient wherever it appears."""
    if not column:
        return list(scans), []
    kept: list[Scan] = []
    findings: list[Finding] = []
    for scan in scans:
        if not is_unknown(key := scan.columns.get(column, "")):
            session = "-".join(part for part in (scan.subject, scan.session) if part)
            kept.append(replace(scan, subject=key, session=session, scope=""))
        else:
            reason = f"{scan.key} has no {column}: nobody can tell whether it is at other sites"
            findings.append(Finding("D26", reason, scan.site, scan.subject, scan.session))
    return kept, findings


def finding_order(finding: Finding) -> tuple[str, str, str, str, str]:
    """Sort findings as scans are sorted, then by code."""
    return finding.site, finding.subject, finding.session, finding.code, finding.reason


def count_by_site(scans: Iterable[Scan], findings: Iterable[Finding]) -> dict[str, int]:
    """Count scans by site, those that findings leave out included."""
    known = {(scan.site, scan.subject, scan.session) for scan in scans}
    known |= {(f.site, f.subject, f.session) for f in findings if f.is_excluded}
    counts: dict[str, int] = {}
    for site, _, _ in sorted(known):
        counts[site] = counts.get(site, 0) + 1
    return counts


def _only_sites(table: ScanTable, config: SourceConfig) -> ScanTable:
    if not config.sites:
        return table
    wanted = set(one_name_each(config.sites).values())
    there = {scan.site for scan in table.scans} | {finding.site for finding in table.findings}
    lacking = sorted(wanted - there)
    if lacking:
        found = f"sites {', '.join(sorted(there - {''}))[:300]}"
        fix = "correct data.source.sites"
        want = f"also {', '.join(lacking)}"
        raise DataError("D06", "sites asked for", found=found, want=want, fix=fix)
    scans = tuple(scan for scan in table.scans if scan.site in wanted)
    findings = tuple(f for f in table.findings if f.site in {"", *wanted})
    return replace(table, scans=scans, findings=findings)


def _layout(root: Path) -> str:
    """Tell the layout of a folder from its names and, for DICOM, from the first bytes."""
    look = Look(root, list(islice(Walk(root).files(), N_LOOKED_AT)))
    readers = {name: READERS.made(name) for name in READERS.names}
    likeness = {name: reader.likeness(look) for name, reader in readers.items()}
    most = max(likeness.values())
    surest = [name for name, found in likeness.items() if found == most != Likeness.NO]
    if len(surest) == 1:
        return surest[0]
    found = f"what may be {' and '.join(surest)}" if surest else "none that is known"
    want = ", or ".join(reader.looks for reader in readers.values())
    fix = "set data.source.layout, or data.source.path to the folder above or below"
    raise DataError("D04", f"layout of {root}", found=found, want=want, fix=fix)
