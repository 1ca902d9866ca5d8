"""A tree of DICOM files, ``site/subject/…`` or ``subject/…``, read into a table of scans.

A series is the files of one folder that share a series number of the header. It is named by its
folder, or where a folder holds several, by its first file. The subject is the folder's name. Files
without a subject folder are grouped by a keyed hash of the header's patient number. No other field
of the header survives than the technical ones that ``fedmri.data.series`` lists.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fedmri.data.folders import Walk, existing_folder
from fedmri.data.patients import patient_of
from fedmri.data.scans import Finding, Scan, ScanTable
from fedmri.data.series import Slice, image_header, is_dicom
from fedmri.data.settings import SourceConfig
from fedmri.data.subject_rows import subject_rows
from fedmri.data.tables import Row, read_table
from fedmri.data.volume import READ_ERRORS
from fedmri.errors import DataError


def read_dicom(config: SourceConfig) -> ScanTable:
    """Read the headers of a DICOM tree; no pixel is opened.

    Args:
        config: Where the tree is; a site in it means that the tree is that site's own.

    Returns:
        Scans, one per series, and findings.

    Raises:
        DataError: There is no such folder (D04), or its subject table cannot be used (D05).
    """
    root = existing_folder(config.path)
    walk = Walk(root)
    groups, findings = _grouped(root, walk, config)
    rows, said = _subject_rows(root)
    n_series = Counter(folder for folder, _ in groups)
    scans = [
        _scan(root, group, config, is_alone=n_series[folder] == 1)
        for (folder, _), group in groups.items()
    ]
    scans = [replace(s, columns={**rows.get(s.subject, {}), **s.columns}) for s in scans]
    return ScanTable(tuple(_numbered(scans)), (*findings, *said, *walk.findings))


def _grouped(
    root: Path, walk: Walk, config: SourceConfig
) -> tuple[dict[tuple[Path, str], list[Slice]], list[Finding]]:
    """Group files by folder and series; a folder with a damaged file is left out whole."""
    groups: dict[tuple[Path, str], list[Slice]] = {}
    damaged: dict[Path, str] = {}
    findings: list[Finding] = []
    for path in walk.files():
        is_named_so = path.suffix.lower() in {".dcm", ".ima"}
        if path.name == "DICOMDIR" or not (is_named_so or (not path.suffix and is_dicom(path))):
            continue
        try:
            header = image_header(path)
        except DataError as error:
            damaged.setdefault(path.parent, f"{path.relative_to(root)}: {error}")
            continue
        except READ_ERRORS as error:  # whose text may quote the header
            damaged.setdefault(path.parent, f"{path.relative_to(root)}: {type(error).__name__}")
            continue
        if header is None:
            reason = f"{path.relative_to(root)} is DICOM without an image, such as a report"
            findings.append(Finding("D29", reason, is_excluded=False))
        else:
            groups.setdefault((path.parent, header.series), []).append(header)
    for folder, reason in damaged.items():
        site, subject = _place(root, folder, config.site)
        findings.append(Finding("D07", reason, site, subject, folder.name))
    return {key: group for key, group in groups.items() if key[0] not in damaged}, findings


def _scan(root: Path, group: Sequence[Slice], config: SourceConfig, *, is_alone: bool) -> Scan:
    folder = group[0].path.parent
    site, subject = _place(root, folder, config.site)
    if not subject:
        patient = patient_of(group[0].patient, config.patient_pattern)  # a hash shows no visit
        digest = hmac.new(config.patient_key.encode(), patient.encode(), hashlib.sha256)
        subject = digest.hexdigest()[:16]
    depth = len(folder.relative_to(root).parts) - (0 if config.site else 1)
    session = folder.name if depth > 1 else ""
    image = folder if is_alone else group[0].path
    return Scan(site, subject, session, {config.modalities[0]: image}, {}, group[0].technical)


def _place(root: Path, folder: Path, site: str) -> tuple[str, str]:
    """Return site and subject as the folders say; ``""`` where they do not."""
    parts = folder.relative_to(root).parts
    if site:
        return site, parts[0] if parts else ""
    return (parts[0] if parts else root.name), (parts[1] if len(parts) > 1 else "")


def _subject_rows(root: Path) -> tuple[dict[str, Row], list[Finding]]:
    path = root / "participants.tsv"
    if not path.exists():
        return {}, []
    rows = subject_rows(read_table(path, "participant_id"))
    return dict(rows.whole), list(rows.findings)


def _numbered(scans: Sequence[Scan]) -> list[Scan]:
    """Tell series of one subject apart by number where their folders do not."""
    named: list[Scan] = []
    seen: Counter[tuple[str, str, str]] = Counter()
    totals = Counter((scan.site, scan.subject, scan.session) for scan in scans)
    for scan in sorted(scans, key=lambda s: (s.site, s.subject, s.session, *s.images.values())):
        who = (scan.site, scan.subject, scan.session)
        seen[who] += 1
        session = "-".join(part for part in (scan.session, f"series{seen[who]}") if part)
        named.append(scan if totals[who] == 1 else replace(scan, session=session))
    return named
