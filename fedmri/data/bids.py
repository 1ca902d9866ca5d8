"""A BIDS data set (bids-specification.readthedocs.io, 1.9), read into a table of scans.

What matches a modality: the file's suffix equals it, and the file's entities, apart from subject,
session, run, acquisition and reconstruction, are exactly those the modality asks for. ``T1w`` takes
``sub-1_T1w`` and ``sub-1_acq-fast_run-2_T1w`` but not ``sub-1_ce-gadolinium_T1w``, which is asked
for as ``ce-gadolinium_T1w``. An acquisition, run or reconstruction that is asked for must be there.
Of several files that match, the one with the fewest entities and the lowest run is taken.

How a label is named: by suffix (``mask``), by its own entities and suffix (``label-tumor_mask``),
and each of them with the pipeline before it (``manual_masks/mask``). A name that fits two files of
a scan is given to neither, so that a brain mask is never taken for a tumour.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fedmri.data.folders import Walk, existing_folder
from fedmri.data.scans import Finding, Scan, ScanTable
from fedmri.data.settings import SourceConfig
from fedmri.data.tables import Row, read_table, rows_by

FREE = frozenset({"run", "acq", "rec"})
LABEL_SUFFIXES = frozenset({"mask", "dseg"})
NAME = re.compile(
    r"sub-(?P<subject>[A-Za-z0-9]+)(?:_ses-(?P<session>[A-Za-z0-9]+))?"
    r"(?P<entities>(?:_[A-Za-z]+-[A-Za-z0-9+]+)*)_(?P<suffix>[A-Za-z0-9]+)\.nii(?:\.gz)?"
)


@dataclass(frozen=True)
class BidsFile:
    """An image file and what its name says.

    Attributes:
        path: The file.
        entities: Entities between session and suffix, by key.
        suffix: Last part of the name, such as ``T1w``.
    """

    path: Path
    entities: Mapping[str, str]
    suffix: str

    def matches(self, modality: str) -> bool:
        """Tell whether this is the modality, by the rule above."""
        *wanted, suffix = modality.split("_")
        pairs = dict(entity.split("-", 1) for entity in wanted if "-" in entity)
        bound = {k: v for k, v in self.entities.items() if k not in FREE or k in pairs}
        return suffix == self.suffix and bound == pairs

    @property
    def rank(self) -> tuple[int, int, str]:
        """What is taken first: few entities, then a low run, then the name."""
        run = self.entities.get("run", "0")
        return len(self.entities), int(run) if run.isdigit() else 0, self.path.name


def read_bids(config: SourceConfig) -> ScanTable:
    """Read the names of a BIDS data set and its subject table; no image is opened.

    Args:
        config: Where the data set is and what of it is wanted.

    Returns:
        Scans, one per subject and session, and findings.

    Raises:
        DataError: There is no such folder (D04), or its subject table cannot be used (D05).
    """
    root = existing_folder(config.path)
    walk = Walk(root)
    rows, findings = _participants(root, config)
    scans: list[Scan] = []
    folders = [path for path in walk.entries(root) if path.name.startswith("sub-")]
    labels = _derivative_folders(root, walk)
    for folder in folders:
        found, said = _subject(folder, labels, config, walk)
        site, columns, complaint = _place(folder.name[4:], rows, config)
        if complaint is not None:
            found, said = [], [*said, complaint]
        scans += [replace(scan, site=site, columns=columns) for scan in found]
        findings += [replace(finding, site=site) for finding in said]
    missing = sorted(set(rows or {}) - {folder.name[4:] for folder in folders})
    reasons = [f"sub-{name} has a row in participants.tsv and no folder" for name in missing]
    findings += [Finding("D28", reason, is_excluded=False) for reason in reasons]
    return ScanTable(tuple(scans), (*findings, *walk.findings))


def modalities_in(root: Path) -> tuple[str, ...]:
    """Return the modalities of the anatomical images of a BIDS data set, sorted by name.

    They are named as ``SourceConfig.modalities`` wants them; other layouts have none.
    """
    names = set()
    for pattern in ("sub-*/anat/*.nii*", "sub-*/ses-*/anat/*.nii*"):
        for path in root.glob(pattern):
            _, file = _parse(path)
            if file is not None and file.suffix not in LABEL_SUFFIXES:
                own = [f"{k}-{v}" for k, v in file.entities.items() if k not in FREE]
                names.add("_".join([*own, file.suffix]))
    return tuple(sorted(names))


def _participants(root: Path, config: SourceConfig) -> tuple[dict[str, Row] | None, list[Finding]]:
    """Return rows by subject label, or None where the data set has no subject table."""
    path = root / "participants.tsv"
    if not path.exists():
        reason = "participants.tsv is missing: no site and no covariate is known"
        return None, [] if config.site else [Finding("D06", reason, is_excluded=False)]
    table = read_table(path, "participant_id")
    rows, findings = rows_by(table, "participant_id")
    if config.site_column not in table.columns and not config.site:
        there = ", ".join(table.columns)
        reason = (
            f"participants.tsv has no column {config.site_column!r} but {there}: "
            "set data.source.site_column or data.source.site"
        )
        findings.append(Finding("D06", reason, is_excluded=False))
    named = [replace(f, subject=f.subject.removeprefix("sub-")) for f in findings]
    return {name.removeprefix("sub-"): row for name, row in rows.items()}, [
        *table.findings,
        *named,
    ]


def _place(
    subject: str, rows: Mapping[str, Row] | None, config: SourceConfig
) -> tuple[str, Row, Finding | None]:
    """Return site and row of a subject, and why it is left out where the table does not say."""
    if rows is None:
        return config.site, {}, None
    row = rows.get(subject)
    if row is None:
        reason = f"sub-{subject} has no row of its own in participants.tsv"
        return config.site, {}, Finding("D28", reason, subject=subject)
    site = row.get(config.site_column, config.site) or config.site
    if not site and config.site_column in row:
        reason = f"the row of sub-{subject} has no {config.site_column}"
        return "", row, Finding("D06", reason, subject=subject)
    return site, row, None


def _subject(
    folder: Path, labels: Mapping[str, Path], config: SourceConfig, walk: Walk
) -> tuple[list[Scan], list[Finding]]:
    subject = folder.name[4:]
    if not re.fullmatch(r"[A-Za-z0-9]+", subject) or not folder.is_dir():
        reason = f"{folder.name} is not a folder named sub- and letters or digits"
        return [], [Finding("D30", reason, subject=subject)]
    sessions = [path for path in walk.entries(folder) if path.name.startswith("ses-")]
    scans: list[Scan] = []
    findings: list[Finding] = []
    for place in sessions or [folder]:
        session = place.name[4:] if sessions else ""
        images, said = _images(_files(place, subject, session, walk), config)
        findings += [replace(f, subject=subject, session=session) for f in said]
        if images:
            masks = _labels(subject, session, labels, walk, is_alone=len(sessions) < 2)
            scans.append(Scan("", subject, session, images, masks))
    if not scans and not findings:
        reason = f"{folder.name} holds none of {', '.join(config.modalities)}"
        findings.append(Finding("D24", reason, subject=subject))
    return scans, findings


def _images(files: list[BidsFile], config: SourceConfig) -> tuple[dict[str, Path], list[Finding]]:
    """Choose a file for each modality; empty where the session is to be left out."""
    images: dict[str, Path] = {}
    findings: list[Finding] = []
    for modality in config.modalities:
        matching = sorted((f for f in files if f.matches(modality)), key=lambda f: f.rank)
        if matching:
            images[modality] = matching[0].path
        if len(matching) > 1:
            reason = f"{len(matching)} files are {modality}: {matching[0].path.name} is taken"
            findings.append(Finding("D25", reason, is_excluded=False))
    missing = [modality for modality in config.modalities if modality not in images]
    if images and missing and config.missing == "skip":
        return {}, [*findings, Finding("D24", f"{', '.join(missing)} missing")]
    return images, findings


def _labels(
    subject: str, session: str, folders: Mapping[str, Path], walk: Walk, *, is_alone: bool
) -> dict[str, Path]:
    """Return masks and label maps by each name that fits one file only."""
    named: dict[str, set[Path]] = {}
    for pipeline, root in folders.items():
        place = root / f"sub-{subject}"
        files = _files(place / f"ses-{session}", subject, session, walk) if session else []
        if not files and is_alone:  # a pipeline may leave out the session where there is one
            files = _files(place, subject, "", walk)
        for file in files:
            if file.suffix not in LABEL_SUFFIXES:
                continue
            own = [f"{key}-{value}" for key, value in file.entities.items()]
            for name in {file.suffix, "_".join([*own, file.suffix])}:
                named.setdefault(name, set()).add(file.path)
                named.setdefault(f"{pipeline}/{name}", set()).add(file.path)
    return {name: min(paths) for name, paths in sorted(named.items()) if len(paths) == 1}


def _files(place: Path, subject: str, session: str, walk: Walk) -> list[BidsFile]:
    """Return the images of a subject's session, in all its datatype folders."""
    if not place.is_dir():
        return []
    datatypes = [path for path in walk.entries(place) if path.is_dir()]
    datatypes = [path for path in datatypes if not path.name.startswith("ses-")]
    parsed = [_parse(path) for folder in datatypes for path in walk.entries(folder)]
    return [file for who, file in parsed if file is not None and who == (subject, session)]


def _parse(path: Path) -> tuple[tuple[str, str], BidsFile | None]:
    match = NAME.fullmatch(path.name)
    if match is None:
        return ("", ""), None
    pairs = [part.split("-", 1) for part in match["entities"].split("_") if part]
    file = BidsFile(path, dict(pairs), match["suffix"])
    return (match["subject"], match["session"] or ""), file


def _derivative_folders(root: Path, walk: Walk) -> dict[str, Path]:
    place = root / "derivatives"
    if not place.is_dir():
        return {}
    return {path.name: path for path in walk.entries(place) if path.is_dir()}
