"""A tree of DICOM files, ``site/subject/…`` or ``subject/…``, read into a table of scans.

Files are known by what they hold, whatever their names. The subject is the folder's name, and it
counts at its site alone; files without a subject folder are grouped by a keyed hash of the header's
patient number. Which series is which modality says ``fedmri.data.dicom.choice``. A label is a NIfTI
file beside the series or in a folder above it, up to the subject's: ``mask.nii.gz`` is ``mask``. No
field of the header survives than the technical ones that ``fedmri.data.dicom.series`` lists.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from fedmri.data.dicom.choice import Choice, Series, by_examination, choose
from fedmri.data.dicom.contrast import CONTRADICTORY, JUNK
from fedmri.data.dicom.dicom_patients import is_number, patients_of
from fedmri.data.dicom.dicom_tables import TABLE, subject_rows
from fedmri.data.dicom.series import Slice, image_header, is_dicom, stacks
from fedmri.data.dicom.stack import MAX_DRIFT, drift_of, ordered
from fedmri.data.files.folders import Walk, existing_folder
from fedmri.data.files.pointers import refuse_pointer
from fedmri.data.files.volume import READ_ERRORS
from fedmri.data.patients import patient_of
from fedmri.data.scans import Finding, Scan, ScanTable
from fedmri.data.settings import SourceConfig
from fedmri.errors import DataError

Who = tuple[str, str]
"""Site, and the subject's folder or hash."""

NAMED_SO = frozenset({".dcm", ".ima"})
LABEL = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
"""How the names of labels end."""
MIN_LONELY = 2


@dataclass
class Tree:
    """What the files of a tree turned out to be.

    Attributes:
        slices: Files that are scans, by folder.
        damaged: Code and reason why a folder cannot be used.
        passed: What other files there are, by subject and kind.
    """

    slices: dict[Path, list[Slice]] = field(default_factory=lambda: defaultdict(list))
    damaged: dict[Path, tuple[str, str]] = field(default_factory=dict)
    passed: dict[Who, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))


def read_dicom(config: SourceConfig) -> ScanTable:
    """Read the headers of a DICOM tree; no pixel is opened.

    Args:
        config: Where the tree is; a site in it means that the tree is that site's own.

    Returns:
        Scans, and findings about all that is not used: no file and no subject goes without a word.

    Raises:
        DataError: There is no such folder (D04), or its subject table cannot be used (D05).
    """
    root = existing_folder(config.path)
    walk = Walk(root)
    tree = _sorted_files(root, walk, config)
    subjects, findings = _subjects(root, tree, config)
    patients, said = patients_of(subjects, config)
    findings += said
    rows, said = subject_rows(root, list(subjects), config)
    doubts = {(f.site, f.subject): f for f in said if f.is_excluded}
    findings += [f for f in said if not f.is_excluded] + _damaged(root, tree, config)
    scans: list[Scan] = []
    for who in patients:
        more, said = _scans(root, who, patients[who], subjects[who], config)
        if doubt := doubts.get(who) or doubts.get(("", who[1].removeprefix("sub-"))):
            findings += [
                replace(doubt, site=s.site, subject=s.subject, session=s.session) for s in more
            ]
        else:
            scans += [replace(s, columns={**rows.get(who, {}), **s.columns}) for s in more]
        findings += said
    findings += [*_unseen(root, tree, subjects, config), *_lonely(scans, config)]
    return ScanTable(tuple(_numbered(scans)), (*findings, *walk.findings))


def contrasts_in(root: Path) -> tuple[str, ...]:
    """Return the contrasts of a tree by one file of each folder, sorted by name."""
    found: dict[Path, str] = {}
    for path in Walk(root).files():
        if path.parent not in found and is_dicom(path):
            try:
                header = image_header(path)
            except (DataError, *READ_ERRORS):  # which a reading of the tree reports
                continue
            found[path.parent] = header.look.kind if isinstance(header, Slice) else ""
    return tuple(sorted({*found.values()} - JUNK - {"", CONTRADICTORY}))


def _sorted_files(root: Path, walk: Walk, config: SourceConfig) -> Tree:
    tree = Tree()
    for path in walk.files():
        if path.name == TABLE or LABEL.search(path.name) or path.name.upper() == "DICOMDIR":
            continue
        try:
            found = _what(path)
        except DataError as error:
            reason = f"{path.relative_to(root)}: {error}"
            tree.damaged.setdefault(path.parent, (error.code, reason))
        except READ_ERRORS as error:  # whose text may quote the header
            reason = f"{path.relative_to(root)}: {type(error).__name__}"
            tree.damaged.setdefault(path.parent, ("D07", reason))
        else:
            if isinstance(found, Slice):
                tree.slices[path.parent].append(found)
            else:
                tree.passed[_place(root, path.parent, config.site)][found] += 1
    return tree


def _what(path: Path) -> Slice | str:
    """Return the header of a scan, or what the file is instead."""
    refuse_pointer(path)
    ending = path.suffix.lower()
    if is_dicom(path) or ending in NAMED_SO:
        return image_header(path)
    return f"no DICOM ({ending or 'without ending'})"


def _subjects(
    root: Path, tree: Tree, config: SourceConfig
) -> tuple[dict[Who, list[Series]], list[Finding]]:
    """Return the volumes of each subject; a folder with a damaged file is left out whole."""
    subjects: dict[Who, list[Series]] = defaultdict(list)
    findings: list[Finding] = []
    for folder in sorted({*tree.slices} - {*tree.damaged}):
        found = stacks(tree.slices[folder])
        if n_twice := len(tree.slices[folder]) - sum(map(len, found)):
            reason = f"{folder.relative_to(root)} has {n_twice} files that are there twice"
            findings.append(_said("D29", reason, (*_place(root, folder, config.site), "")))
        for part in found:
            who, said = _who(root, folder, part, config)
            findings += said
            subjects[who].append(_series(root, folder, part, config, is_alone=len(found) == 1))
    for who, series in subjects.items():
        subjects[who], said = _unparted(who, series)
        findings += said
    return dict(subjects), findings


def _unparted(who: Who, series: Sequence[Series]) -> tuple[list[Series], list[Finding]]:
    """Drop copies of a volume in other folders, and leave out a volume that folders share."""
    kept: list[Series] = []
    findings: list[Finding] = []
    for one in series:
        twin = next((each for each in kept if _is_copy(one, each)), None)
        part = next((each for each in series if _is_part(one, each)), None)
        if twin:
            reason = f"{one.place} is a copy of {twin.place}, which is taken"
            findings.append(_said("D29", reason, (*who, "")))
        elif part:
            reason = f"{one.place} and {part.place} are parts of one series: put them into one"
            findings.append(Finding("D32", f"{reason} folder", *who, one.place.replace("/", "-")))
        else:
            kept.append(one)
    return kept, findings


def _is_copy(one: Series, other: Series) -> bool:
    """Whether all files of a volume are those of another."""
    files = {each.instance for each in one.slices}
    return "" not in files and files <= {each.instance for each in other.slices}


def _is_part(one: Series, other: Series) -> bool:
    """Whether two folders hold slices of one series that lie at different places."""
    if one is other or not one.slices[0].series:
        return False
    places = [
        {each.frames[:1] and each.frames[0].position for each in s.slices} for s in (one, other)
    ]
    is_same = one.slices[0].series == other.slices[0].series
    return is_same and one.protocol == other.protocol and places[0].isdisjoint(places[1])


def _series(
    root: Path, folder: Path, part: tuple[Slice, ...], config: SourceConfig, *, is_alone: bool
) -> Series:
    below = folder.relative_to(root).parts[1 if config.site else 2 :]
    if not below:  # the subject's own folder says nothing of the contrast
        part = tuple(replace(one, look=replace(one.look, folder="")) for one in part)
    name = "/".join(below) or folder.name
    return Series(part, below[:-1], name if is_alone else f"{name}/{part[0].path.name}")


def _who(
    root: Path, folder: Path, part: Sequence[Slice], config: SourceConfig
) -> tuple[Who, list[Finding]]:
    site, subject = _place(root, folder, config.site)
    if subject:
        return (site, subject), []
    number, is_known = part[0].patient, is_number(part[0].patient)
    # a hash shows no visit
    text = patient_of(number, config.patient_pattern) if is_known else part[0].study
    digest = hmac.new(config.patient_key.encode(), text.encode(), hashlib.sha256).hexdigest()[:16]
    reason = f"{folder.name} has neither a folder nor a number for a subject: examinations count"
    said = [] if is_known else [Finding("D26", reason, site, digest, is_excluded=False)]
    return (site, digest), said


def _place(root: Path, folder: Path, site: str) -> Who:
    """Return site and subject as the folders say; ``""`` where they do not."""
    parts = folder.relative_to(root).parts
    if site:
        return site, parts[0] if parts else ""
    return (parts[0] if parts else root.name), (parts[1] if len(parts) > 1 else "")


def _damaged(root: Path, tree: Tree, config: SourceConfig) -> list[Finding]:
    return [
        Finding(code, reason, *_place(root, folder, config.site), folder.name)
        for folder, (code, reason) in tree.damaged.items()
    ]


def _scans(
    root: Path, who: Who, subject: str, series: Sequence[Series], config: SourceConfig
) -> tuple[list[Scan], list[Finding]]:
    """Choose among a subject's series, visit by visit."""
    visits: dict[tuple[str, ...], list[Series]] = defaultdict(list)
    for one in series:
        visits[one.visit].append(one)
    site, folder = who
    mine = "" if folder == subject else folder  # two folders of one patient
    scans: list[Scan] = []
    findings: list[Finding] = []
    for visit, there in visits.items():
        choice = choose(there, config)
        label = "-".join(part for part in (mine, *visit) if part)
        about = (site, subject, label)
        if choice.question:
            findings.append(Finding(choice.code, f"{folder}: {choice.question}", *about))
        findings += [_said("D29", f"{folder}: {note}", about) for note in choice.notes]
        if not choice.question:
            scans += _of_choice(choice, about)
            findings += _cautions(choice, folder, about)
    top = root / folder if config.site else root / site / folder
    return [_labelled(scan, top, is_alone=len(scans) == 1) for scan in scans], findings


def _of_choice(choice: Choice, about: tuple[str, str, str]) -> Iterator[Scan]:
    """Yield a scan of all modalities for each examination, or of one modality for each series."""
    if all(len(group) == 1 for group in choice.taken.values()):
        images = [{name: group[0] for name, group in choice.taken.items()}]
    elif len(choice.taken) == 1:
        images = [{name: one} for name, group in choice.taken.items() for one in group]
    else:
        exams: dict[str, dict[str, Series]] = defaultdict(dict)
        for name, group in choice.taken.items():
            for one in group:
                exams[one.study][name] = one
        images = list(exams.values())
    site, subject, label = about
    for each in images:
        first = next(iter(each.values()))
        folders = {one.slices[0].path.parent.name for one in each.values()}
        is_below = first.slices[0].look.folder != ""
        own = folders.pop() if len(folders) == 1 and is_below and not first.visit else ""
        session = "-".join(part for part in (label, own) if part)
        paths = {name: _stand_in(one) for name, one in each.items()}
        columns = first.slices[0].technical
        yield Scan(site, subject, session, paths, {}, columns, scope=site)


def _stand_in(one: Series) -> Path:
    """Return the folder of a volume that is alone there, or its first file."""
    path = one.slices[0].path
    return path if one.place.endswith(f"/{path.name}") else path.parent


def _cautions(choice: Choice, folder: str, about: tuple[str, str, str]) -> Iterator[Finding]:
    for name, group in choice.taken.items():
        if len(group) > 1:
            n_exams = len(by_examination(group))
            reason = f"{folder}: {len(group)} series are {name}, of {n_exams} examinations: all are"
            yield _said("D25", f"{reason} taken, as scans of one patient", about)
        for one in group:
            if (pixels := _slant(one)) > MAX_DRIFT:
                reason = f"{folder}: the slices of {one.place} are slanted by {pixels:.1f} pixels"
                yield _said("D68", f"{reason}: each is moved to its place", about)


def _said(code: str, reason: str, about: tuple[str, str, str]) -> Finding:
    """Return a finding that leaves nothing out."""
    return Finding(code, reason, *about, is_excluded=False)


def _slant(one: Series) -> float:
    try:
        frames = [frame for _, frame in ordered(one.slices)]
    except DataError:  # which the check reports
        return 0.0
    return float(np.abs(drift_of(frames)).max())


def _labelled(scan: Scan, top: Path, *, is_alone: bool) -> Scan:
    """Add the NIfTI files beside the series, and the subject's own where it has one scan."""
    path = next(iter(scan.images.values()))
    place = path if path.is_dir() else path.parent
    labels: dict[str, Path] = {}
    while place.is_relative_to(top) and place != top:
        labels = {**_nifti(place), **labels}
        place = place.parent
    # files of a patient without a folder lie beside those of others: none of their masks is its own
    if is_alone or (top.is_dir() and path in (top, *top.iterdir())):
        labels = {**_nifti(top), **labels}
    return replace(scan, labels=labels)


def _nifti(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    files = [path for path in sorted(folder.iterdir()) if LABEL.search(path.name)]
    return {LABEL.sub("", path.name): path for path in files}


def _unseen(
    root: Path, tree: Tree, subjects: Mapping[Who, object], config: SourceConfig
) -> list[Finding]:
    """Say what was passed over, which subjects have no image, and which sites."""
    lost = {_place(root, folder, config.site) for folder in tree.damaged}
    seen = {*subjects, *lost}
    findings = []
    for who in sorted({*tree.passed, *_folders(root, config)}):
        words = ", ".join(f"{n} {kind}" for kind, n in sorted(tree.passed[who].items()))
        site, subject = who
        if who in seen or not subject:
            if words:
                reason = f"{subject or site}: files that are no scans were passed over: {words}"
                findings.append(_said("D29", reason, (site, subject, "")))
        elif site in {each for each, _ in seen}:
            reason = f"{subject} holds no image of a scanner: {words or 'it is empty'}"
            findings.append(Finding("D61", reason, site, subject))
    for site in sorted({s for s, name in _folders(root, config) if name} - {s for s, _ in seen}):
        findings.append(Finding("D33", f"{site} holds no DICOM image", site, is_excluded=False))
    return findings


def _lonely(scans: Sequence[Scan], config: SourceConfig) -> list[Finding]:
    """Say where folders that count as sites may be subjects: each holds one patient."""
    patients = {(scan.site, scan.subject) for scan in scans}
    sites = sorted({site for site, _ in patients})
    if config.site or len(sites) < MIN_LONELY or len(patients) > len(sites):
        return []
    reason = (
        f"each of {len(sites)} sites, such as {sites[0]}, holds one patient: if these folders are "
        "subjects, name their site in data.source.site"
    )
    return [Finding("D06", reason, is_excluded=False)]


def _folders(root: Path, config: SourceConfig) -> list[Who]:
    """Return the folders that stand for subjects, whatever they hold."""
    walk = Walk(root)
    tops = [root] if config.site else [path for path in walk.entries(root) if path.is_dir()]
    inner = [path for top in tops for path in walk.entries(top) if path.is_dir()]
    return [_place(root, path, config.site) for path in inner]


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
