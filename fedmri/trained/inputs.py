"""What a person names on the command line or in a notebook, as scans that a model can look at."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fedmri.data.bids.bids_file import BidsFile, parse
from fedmri.data.bids.pairing import Session, by_modality
from fedmri.data.covariates import Covariate, with_known
from fedmri.data.dicom.series import is_dicom
from fedmri.data.files.folders import Walk
from fedmri.data.files.pictures import PICTURES
from fedmri.data.read import layout_of, read
from fedmri.data.scans import Finding, Scan, ScanTable
from fedmri.data.settings import SourceConfig
from fedmri.errors import DataError, UsageError
from fedmri.trained.patients import by_patient, doubts_of, named_apart, named_once

HERE = "input"
"""Site of all scans that are predicted on: their hospital took no part."""

NIFTI = (".nii", ".nii.gz")
KEPT = ("acq", "rec", "run")
"""Entities of an image's name that stay in the names of what is predicted for it."""

Remark = tuple[str, str]
"""Code and reason."""


@dataclass(frozen=True)
class Input:
    """A scan to predict on.

    Attributes:
        scan: Its files; ``scan.subject`` and ``scan.session`` are letters and digits.
        name: How the names of its results begin, such as ``sub-01_ses-1``.
        remarks: What is to be said of its files' names.
    """

    scan: Scan
    name: str
    remarks: tuple[Remark, ...] = ()


@dataclass(frozen=True)
class LeftOut:
    """A scan, or an input that is none, for which there is no prediction, and why."""

    name: str
    code: str
    reason: str


@dataclass
class Gathered:
    """What paths stand for.

    Attributes:
        inputs: Scans to predict on.
        left_out: What cannot be predicted on.
        notes: What is odd about a folder as a whole.
    """

    inputs: list[Input] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[Remark] = field(default_factory=list)

    def add(self, other: Gathered) -> None:
        """Add what other paths stand for."""
        self.inputs += other.inputs
        self.left_out += other.left_out
        self.notes += other.notes


def gather(
    paths: Sequence[Path], named: Mapping[str, Path], source: SourceConfig, labels: str = ""
) -> Gathered:
    """Return the scans that paths stand for, and what stands for none.

    Args:
        paths: NIfTI files, pictures, and folders: BIDS data sets, DICOM series or trees, or folders
            of files.
        named: Files or series folders of one scan, by modality.
        source: What the model's plan says of its data; its ``path`` and site names do not count.
        labels: Name of the masks that a BIDS data set has of the target; a label says which run is
            taken where several are there. ``""`` looks at none.

    Raises:
        UsageError: There is nothing to predict on, or a modality is not one of the model's (U01).
    """
    _refuse_other_modalities(paths, named, source)
    every = Gathered()
    if named:
        first = next(iter(named.values()))
        doubts = tuple(doubts_of(named))
        every.inputs.append(_alone(Scan(HERE, "", "", dict(named)), first, doubts))
    every.add(_from_files([path for path in paths if path.is_file()], source))
    for path in paths:
        if path.is_dir():
            every.add(_from_folder(path, source, labels))
        elif not path.is_file():
            every.left_out.append(LeftOut(str(path), "D84", "no such file or folder"))
    once, notes = named_once(every.inputs)
    every.notes += notes
    every.inputs = named_apart(once)
    return _with_rows(every, source.declared) if source.declared else every


def _with_rows(found: Gathered, covariates: Sequence[Covariate]) -> Gathered:
    """Leave out scans without a row of the table; say which cells of the others are not known."""
    kept = Gathered(left_out=found.left_out, notes=found.notes)
    names = [covariate.name for covariate in covariates]
    rows, _ = with_known([one.scan for one in found.inputs], covariates)
    for one, scan in zip(found.inputs, rows, strict=True):
        if not {*names} & {*one.scan.columns}:
            reason = f"the model reads {', '.join(names)} of a table: name a BIDS data set that has"
            kept.left_out.append(LeftOut(one.name, "D84", f"{reason} them in participants.tsv"))
            continue
        unknown = [c.name for c in covariates if c.entries(scan.columns.get(c.name, ""))[-1]]
        told = tuple(("D79", f"{name} is not known, and counts as missing") for name in unknown)
        kept.inputs.append(replace(one, scan=scan, remarks=(*one.remarks, *told)))
    return kept


def _refuse_other_modalities(
    paths: Sequence[Path], named: Mapping[str, Path], source: SourceConfig
) -> None:
    known = ", ".join(source.modalities)
    if not paths and not named:
        fix = "name a file or a folder"
        raise UsageError("U01", "inputs", found="none", want="one or more", fix=fix)
    if other := [name for name in named if name not in source.modalities]:
        fix = "name modalities as the model does"
        what = "--modality"
        raise UsageError("U01", what, found=", ".join(other), want=f"among {known}", fix=fix)
    if len({path.resolve() for path in named.values()}) < len(named):
        fix = "name each modality's own file, and leave out one that is missing"
        found, want = f"one file for {', '.join(named)}", "a file for each"
        raise UsageError("U01", "--modality", found=found, want=want, fix=fix)


def _from_files(files: Sequence[Path], source: SourceConfig) -> Gathered:
    """Return scans of single files: each by itself for one modality, else those of one session."""
    found = Gathered()
    by_session: dict[tuple[str, str], list[BidsFile]] = defaultdict(list)
    modalities = source.modalities
    for path in files:
        who, file = parse(path)
        if not _is_image(path):
            reason = f"a file {path.suffix or 'without ending'}"
            found.left_out.append(LeftOut(path.name, "D84", reason))
        elif len(modalities) == 1:
            found.inputs.append(_single(path, file, modalities[0]))
        elif file is None:
            reason = (
                f"the model reads {', '.join(modalities)}: name the files as BIDS does, or give "
                "each by --modality NAME=PATH"
            )
            found.left_out.append(LeftOut(path.name, "D84", reason))
        else:
            by_session[who].append(file)
    for (subject, session), images, told in by_patient(by_session, modalities):
        one = _of_session(subject, session, images, source)
        if isinstance(one, Input):
            found.inputs.append(replace(one, remarks=(*one.remarks, *told)))
        else:
            found.left_out.append(one)
    return found


def _of_session(
    subject: str, session: str, files: list[BidsFile], source: SourceConfig
) -> Input | LeftOut:
    images, said = by_modality(files, source.modalities)
    name = "_".join([f"sub-{subject}", *([f"ses-{session}"] if session else [])])
    if not any(images.values()):
        reason = f"none of {', '.join(f.path.name for f in files)} is {_shown(source)}"
        return LeftOut(name, "D24", reason)
    scan, more = Session(images).scan(subject, session)
    taken = {file.path for matching in images.values() for file in matching}
    passed = [file.path.name for file in files if file.path not in taken]
    remarks = tuple((finding.code, finding.reason) for finding in (*said, *more))
    remarks += tuple(("D29", f"{name} is not {_shown(source)}: passed over") for name in passed)
    return Input(replace(scan, site=HERE), _bids_name(scan), remarks)


def _single(path: Path, file: BidsFile | None, modality: str) -> Input:
    """Return the scan of one file; a name that says another modality is told."""
    scan = Scan(HERE, "", "", {modality: path})
    is_other = file is not None and not file.matches(modality)
    reason = f"{path.name} is not named as {modality}, which the model reads"
    return _alone(scan, path, (("D24", reason),) if is_other else ())


def _alone(scan: Scan, path: Path, remarks: tuple[Remark, ...] = ()) -> Input:
    """Return a scan that its file's name, or its folder's, gives a subject."""
    (subject, session), file = parse(path)
    if file is not None:
        scan = replace(scan, subject=subject, session=session)
        return Input(scan, _bids_name(scan), remarks)
    stem = path.name if path.is_dir() else path.name.removesuffix(".gz").rpartition(".")[0]
    scan = replace(scan, subject=label_of(stem or path.name))
    return Input(scan, f"sub-{scan.subject}", remarks)


def _from_folder(path: Path, source: SourceConfig, labels: str) -> Gathered:
    own = replace(source, path=str(path), layout="auto", sites=(), site=HERE, key_column="")
    try:
        layout: Any = layout_of(own)
    except DataError as error:
        return _of_loose_files(path, source) or _refused(path, error)
    if layout != "images":
        return _from_data_set(replace(own, layout=layout), path, labels)
    # pictures lie in folders of classes, which are for training: here they are just files
    return _of_loose_files(path, source) or Gathered()


def _of_loose_files(path: Path, source: SourceConfig) -> Gathered | None:
    """Return the scans of the images below a folder, or None where there are none.

    Results of a program, such as masks of an earlier call, are no scans.
    """
    walk, made = Walk(path), dict[Path, bool]()
    images = [file for file in walk.files() if _is_image(file)]
    files = [file for file in images if not _is_result(file, path, made)]
    if not images:
        return None
    found = _from_files(files, source)
    links = [one for one in path.rglob("*") if one.is_symlink() and _is_image(one)]
    lost = [one for one in sorted(links) if not one.exists() and one not in images]
    reason = "a link that leads nowhere"
    found.left_out += [LeftOut(one.name, "D84", reason) for one in lost]
    found.notes += [(finding.code, finding.reason) for finding in walk.findings]
    results = [folder.name for folder, is_result in made.items() if is_result]
    told = "holds results of a program (a BIDS derivative): passed over"
    found.notes += [("D29", f"{name} {told}") for name in results]
    return found


def _is_result(file: Path, root: Path, made: dict[Path, bool]) -> bool:
    """Tell whether a file lies in a derivative below a folder, and not in the folder itself."""
    inner = [folder for folder in file.parents if folder.is_relative_to(root) and folder != root]
    for folder in inner:
        if folder not in made:
            made[folder] = _is_derivative(folder)
    return any(made[folder] for folder in inner)


def _is_derivative(folder: Path) -> bool:
    try:
        said = json.loads((folder / "dataset_description.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(said, dict) and said.get("DatasetType") == "derivative"


def _refused(path: Path, error: DataError) -> Gathered:
    return Gathered(left_out=[LeftOut(str(path), error.code, str(error))])


def _from_data_set(own: SourceConfig, path: Path, labels: str) -> Gathered:
    try:
        table = read(own)
    except DataError as error:
        loose = own.layout == "bids" and any(_is_image(file) for file in path.iterdir())
        return (loose and _of_loose_files(path, own)) or _refused(path, error)
    gone = [finding for finding in table.findings if finding.is_excluded]
    left_out = [LeftOut(_who(finding), finding.code, finding.reason) for finding in gone]
    told, notes = _told(table)
    found = Gathered(left_out=left_out, notes=notes)
    is_series = any(is_dicom(file) for file in path.iterdir() if file.is_file())
    for scan in table.scans:
        # of a folder that is one DICOM series, the name counts, not what stands for a number
        subject = path.resolve().name if is_series else scan.subject
        named = _renamed(scan.with_images_of(labels), subject)
        remarks = tuple(told[scan.key])
        found.inputs.append(Input(named, _bids_name(named), remarks))
    return found


def _told(table: ScanTable) -> tuple[dict[str, list[Remark]], list[Remark]]:
    """Return warnings by key of a scan, and those about no scan that is there.

    What is said of a subject without a session is said of all its scans.
    """
    told: dict[str, list[Remark]] = {scan.key: [] for scan in table.scans}
    notes: list[Remark] = []
    for finding in table.findings:
        if finding.is_excluded:
            continue
        of_subject = [scan for scan in table.scans if scan.subject == finding.subject]
        exact = [scan for scan in of_subject if scan.session == finding.session]
        for scan in exact or of_subject:
            told[scan.key].append((finding.code, finding.reason))
        if not of_subject:
            notes.append((finding.code, finding.reason))
    return told, notes


def _renamed(scan: Scan, subject: str) -> Scan:
    """Return a scan with a subject and a session that can be part of a name."""
    session = re.sub(r"[^A-Za-z0-9]", "", scan.session)
    return replace(scan, site=HERE, subject=label_of(subject), session=session)


def _bids_name(scan: Scan) -> str:
    """Return how the names of a scan's results begin."""
    first = next(iter(scan.images.values()))
    _, file = parse(first)
    entities = {} if file is None else file.entities
    kept = [f"{key}-{entities[key]}" for key in KEPT if key in entities]
    session = [f"ses-{scan.session}"] if scan.session else []
    return "_".join([f"sub-{scan.subject}", *session, *kept])


def label_of(text: str) -> str:
    """Return the letters and digits of a text, as BIDS wants them in a name."""
    ascii_only = text.encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9]", "", ascii_only.removeprefix("sub-")) or "scan"


def _is_image(path: Path) -> bool:
    return path.name.lower().endswith(NIFTI) or path.suffix.lower() in PICTURES


def _who(finding: Finding) -> str:
    parts = (finding.subject and f"sub-{finding.subject}", finding.session)
    return "_".join(part for part in parts if part) or "a scan"


def _shown(source: SourceConfig) -> str:
    return " or ".join(source.modalities)
