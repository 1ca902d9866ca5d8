"""A BIDS data set (bids-specification.readthedocs.io, 1.9), read into a table of scans.

What matches a modality: the file's suffix equals it, and the file's entities, apart from subject,
session, run, acquisition and reconstruction, are exactly those the modality asks for. ``T1w`` takes
``sub-1_T1w`` and ``sub-1_acq-fast_run-2_T1w`` but not ``sub-1_ce-gadolinium_T1w``, which is asked
for as ``ce-gadolinium_T1w``. An acquisition, run or reconstruction that is asked for must be there.
Of several files that match, the one with the fewest entities and the lowest run is taken, unless a
label says which: see ``fedmri.data.bids.pairing``.

How a label is named: by suffix (``mask``), by its own entities and suffix (``label-tumor_mask``),
and each of them with the pipeline before it (``manual_masks/mask``). Its run, acquisition and the
like must be those of its image. A name that fits two files of an image is given to neither, so that
a brain mask is never taken for a tumour.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from fedmri.data.bids.bids_file import FREE, LABEL_SUFFIXES, BidsFile, parse
from fedmri.data.bids.pairing import Session, by_modality
from fedmri.data.bids.strays import misnamed, none_of, strays_told
from fedmri.data.bids.subject_rows import Tables, read_tables
from fedmri.data.files.folders import Walk, existing_folder
from fedmri.data.scans import Finding, Scan, ScanTable
from fedmri.data.settings import SourceConfig


def read_bids(config: SourceConfig) -> ScanTable:
    """Read the names of a BIDS data set and its subject tables; no image is opened.

    Args:
        config: Where the data set is and what of it is wanted.

    Returns:
        Scans, one per subject and session, and findings.

    Raises:
        DataError: There is no such folder (D04), or its subject table cannot be used (D05).
        ConfigError: No table has the column that is named as that of the sites (C01).
    """
    root = existing_folder(config.path)
    walk = Walk(root)
    named = [path for path in walk.entries(root) if path.name.startswith("sub-")]
    folders = [path for path in named if not path.is_file()]  # reports lie beside the subjects
    tables = read_tables(root, folders)
    tables.refuse_wrong_column(config)
    findings = [*tables.findings, *tables.no_sites(config)]
    scans: list[Scan] = []
    labels = _derivative_folders(root, walk)
    for folder in folders:
        found, said = _subject(folder, labels, config, walk)
        placed, told = _placed(folder.name[4:], found, said, tables, config)
        scans += placed
        findings += told
    missing = sorted(tables.subjects - {folder.name[4:] for folder in folders})
    reasons = [f"sub-{name} has a row in participants.tsv and no folder" for name in missing]
    findings += [Finding("D28", reason, is_excluded=False) for reason in reasons]
    return ScanTable(tuple(scans), (*findings, *tables.shared_by(scans), *walk.findings))


def modalities_in(root: Path) -> tuple[str, ...]:
    """Return the modalities of the anatomical images of a BIDS data set, sorted by name.

    They are named as ``SourceConfig.modalities`` wants them; other layouts have none.
    """
    names = set()
    for pattern in ("sub-*/anat/*", "sub-*/ses-*/anat/*"):
        for path in root.glob(pattern):
            _, file = parse(path)
            if file is not None and file.is_nifti and file.suffix not in LABEL_SUFFIXES:
                own = [f"{k}-{v}" for k, v in file.entities.items() if k not in FREE]
                names.add("_".join([*own, file.suffix]))
    return tuple(sorted(names))


def _placed(
    subject: str,
    scans: list[Scan],
    findings: list[Finding],
    tables: Tables,
    config: SourceConfig,
) -> tuple[list[Scan], list[Finding]]:
    """Return a subject's scans and findings with what the tables say of each session."""
    told = list(findings)
    kept: list[Scan] = []
    sites: dict[str, str] = {}
    sessions = {scan.session for scan in scans} | {finding.session for finding in findings}
    for session in sorted(sessions):
        sites[session], columns, said = tables.look(subject, session, config)
        told += said
        if not any(finding.is_excluded for finding in said):
            own = [scan for scan in scans if scan.session == session]
            kept += [replace(scan, site=sites[session], columns=columns) for scan in own]
    return kept, [replace(f, site=sites[f.session]) for f in told]


def _subject(
    folder: Path, labels: Mapping[str, Path], config: SourceConfig, walk: Walk
) -> tuple[list[Scan], list[Finding]]:
    subject = folder.name[4:]
    if not re.fullmatch(r"[A-Za-z0-9]+", subject) or not folder.is_dir():
        reason = f"{folder.name} is not a folder named sub- and letters or digits"
        return [], [Finding("D30", reason, subject=subject)]
    files = _by_session(folder, subject, walk)
    scans: list[Scan] = []
    findings: list[Finding] = []
    empty: list[str] = []
    for session, there in files.items():
        images, said = _images(there, config)
        if any(images.values()):
            named = _labels(subject, session, labels, walk, is_alone=len(files) < 2)
            scan, more = Session(images, named).scan(subject, session)
            scans.append(scan)
            said += more
        elif not said:
            empty.append(session)
        findings += [replace(f, session=session) for f in said]
    every = [file for there in files.values() for file in there]
    if scans:
        findings += _passed_over(folder, {session: files[session] for session in empty}, config)
        findings += [] if empty else strays_told(folder, every)
    elif not any(finding.is_excluded for finding in findings):
        reason = none_of(folder, every, config.modalities)
        findings.append(Finding("D24", reason))
    return scans, [replace(f, subject=subject) for f in findings]


def _passed_over(
    folder: Path, empty: Mapping[str, list[BidsFile]], config: SourceConfig
) -> list[Finding]:
    """Return why sessions without an image are left out although they seem to have one."""
    return [
        replace(finding, session=session)
        for session, there in empty.items()
        for finding in misnamed(
            folder / f"ses-{session}" if session else folder, there, config.modalities
        )
    ]


def _by_session(folder: Path, subject: str, walk: Walk) -> dict[str, list[BidsFile]]:
    """Return the images of each session; those beside the folders of sessions have none."""
    names = [path.name[4:] for path in walk.entries(folder) if path.name.startswith("ses-")]
    found = {name: _files(folder / f"ses-{name}", subject, name, walk) for name in names}
    own = _files(folder, subject, "", walk)
    return {**found, **({"": own} if own or not found else {})}


def _images(
    files: list[BidsFile], config: SourceConfig
) -> tuple[dict[str, list[BidsFile]], list[Finding]]:
    """Return the files of each modality; empty where the session is to be left out."""
    images, findings = by_modality(files, config.modalities)
    missing = [modality for modality, matching in images.items() if not matching]
    if any(images.values()) and missing and config.missing == "skip":
        return {}, [*findings, Finding("D24", f"{', '.join(missing)} missing")]
    return images, findings


def _labels(
    subject: str, session: str, folders: Mapping[str, Path], walk: Walk, *, is_alone: bool
) -> dict[str, list[BidsFile]]:
    """Return masks and label maps by each name that they can be asked for."""
    named: dict[str, list[BidsFile]] = {}
    for pipeline, root in folders.items():
        place = root / f"sub-{subject}"
        files = _files(place / f"ses-{session}", subject, session, walk) if session else []
        if not files and (is_alone or not session):  # a pipeline may leave out the only session
            files = _files(place, subject, "", walk)
        for file in files:
            if file.suffix in LABEL_SUFFIXES:
                for name in file.names:
                    named.setdefault(name, []).append(file)
                    named.setdefault(f"{pipeline}/{name}", []).append(file)
    return named


def _files(place: Path, subject: str, session: str, walk: Walk) -> list[BidsFile]:
    """Return the images of a subject's session, in all its datatype folders."""
    if not place.is_dir():
        return []
    datatypes = [path for path in walk.entries(place) if path.is_dir()]
    datatypes = [path for path in datatypes if not path.name.startswith("ses-")]
    parsed = [parse(path) for folder in datatypes for path in walk.entries(folder)]
    files = [file for who, file in parsed if file is not None and who == (subject, session)]
    nifti = {file.path.name.split(".")[0] for file in files if file.is_nifti}
    return [f for f in files if f.is_nifti or f.path.name.split(".")[0] not in nifti]


def _derivative_folders(root: Path, walk: Walk) -> dict[str, Path]:
    place = root / "derivatives"
    if not place.is_dir():
        return {}
    return {path.name: path for path in walk.entries(place) if path.is_dir()}
