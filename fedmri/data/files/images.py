"""Folders of 2D images, ``site/class/*.png`` or ``class/*.png``, read into a table of scans.

A subject table ``participants.tsv``, in the root or in the folder of a site, says which patient an
image shows: columns ``file`` (relative to the table) and ``patient``, ``subject`` or
``participant_id``. Its other columns are kept. A site without such a table gives every image its
own subject, named after site, class and file, and a finding: nothing then keeps two slices of a
patient together.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedmri.data.bids.subject_rows import other_table
from fedmri.data.bids.tables import Row, SubjectTable, read_table, rows_by
from fedmri.data.files.folders import Walk, existing_folder, inside
from fedmri.data.files.no_pictures import UNREAD, are_sides, masks_beside
from fedmri.data.files.pictures import PICTURES
from fedmri.data.scans import Finding, Scan, ScanTable
from fedmri.data.settings import SourceConfig
from fedmri.errors import DataError
from fedmri.machine.delimited import is_unknown

SUFFIXES = PICTURES
PATIENT_COLUMNS = ("patient", "subject", "participant_id")


@dataclass(frozen=True)
class ImageFile:
    """An image and what its place says.

    Attributes:
        path: The file.
        site: Folder of the site, or the setting.
        label: Folder of the class.
    """

    path: Path
    site: str
    label: str


def read_images(config: SourceConfig) -> ScanTable:
    """Read the names of image files and their subject tables; no image is opened.

    Args:
        config: Where the folder is; a site in it means that the folder is that site's own.

    Returns:
        Scans, one per image, and findings.

    Raises:
        DataError: There is no such folder (D04), or its own subject table cannot be used (D05).
    """
    root = existing_folder(config.path)
    walk = Walk(root)
    files = list(walk.files())
    paths = [path for path in files if path.suffix.lower() in SUFFIXES]
    unread = [path for path in files if UNREAD.search(path.name)]
    depths = Counter(len(path.relative_to(root).parts) for path in paths)
    is_one_site = bool(config.site) or depths[2] > depths[3]
    masks = masks_beside(paths)
    paths = [path for path in paths if path not in masks]
    images, findings = _places(root, paths, config.site or root.name, is_one_site=is_one_site)
    others, _ = _places(root, unread, config.site or root.name, is_one_site=is_one_site)
    findings += _not_read(others, images)
    findings += [*_of_masks(root, masks), *_of_sides({image.site for image in images})]
    there = {image.site for image in (*images, *others)}
    for folder in walk.entries(root) if not is_one_site else []:
        if folder.is_dir() and folder.name not in there:
            reason = f"{folder} holds no image"
            findings.append(Finding("D33", reason, folder.name, is_excluded=False))
    scans: list[Scan] = []
    for site in sorted({image.site for image in images}):
        own = [image for image in images if image.site == site]
        more, said = _site(root, root if is_one_site else root / site, own)
        scans += [replace(scan, images={config.modalities[0]: scan.images[""]}) for scan in more]
        findings += said
    return ScanTable(tuple(scans), (*findings, *walk.findings))


def _not_read(others: Sequence[ImageFile], images: Sequence[ImageFile]) -> list[Finding]:
    """Leave out by name the images of other formats; what stands beside a picture is its twin."""
    twins = {image.path.with_suffix("") for image in images}
    fix = "convert it to PNG or TIFF"
    return [
        _left_out("D73", image, f"a format that is not read in folders of pictures: {fix}")
        for image in others
        if image.path.with_suffix("") not in twins
    ]


def _of_masks(root: Path, masks: set[Path]) -> list[Finding]:
    if not masks:
        return []
    reason = (
        f"{len(masks)} files are named as masks of the images beside them and were passed over, "
        f"such as {min(masks).relative_to(root)}"
    )
    return [Finding("D29", reason, is_excluded=False)]


def _of_sides(sites: set[str]) -> list[Finding]:
    if not are_sides(sites):
        return []
    reason = (
        f"the folders {' and '.join(sorted(sites))} count as sites, and are named as sides of a "
        "split: name the hospital in data.source.site and put the classes into one folder, or "
        "rename them if they are sites"
    )
    return [Finding("D06", reason, is_excluded=False)]


def _places(
    root: Path, paths: Sequence[Path], site: str, *, is_one_site: bool
) -> tuple[list[ImageFile], list[Finding]]:
    images: list[ImageFile] = []
    findings: list[Finding] = []
    depth = 2 if is_one_site else 3
    for path in paths:
        *folders, name = path.relative_to(root).parts
        if len(folders) + 1 == depth:
            images.append(ImageFile(path, site if is_one_site else folders[0], folders[-1]))
        else:
            want = "class/image" if is_one_site else "site/class/image"
            reason = f"{'/'.join([*folders, name])} does not lie in {want}"
            findings.append(Finding("D29", reason, is_excluded=False))
    return images, findings


def _site(
    root: Path, folder: Path, images: Sequence[ImageFile]
) -> tuple[list[Scan], list[Finding]]:
    """Give each image of a site its subject."""
    site = images[0].site
    path = next((p for p in (folder, root) if (p / "participants.tsv").exists()), None)
    if path is None:
        reason = (
            f"{site} has no participants.tsv: each of its {len(images)} images is its own subject, "
            "and slices of one patient may fall on both sides of a split"
        )
        if other := other_table(folder):
            reason += f". Save {other} as participants.tsv, with tabs between values"
        scans = [_alone(image) for image in images]
        return _with_unique_keys(scans), [Finding("D26", reason, site, is_excluded=False)]
    try:
        table = read_table(path / "participants.tsv", "file")
        column = _patient_column(table, path)
    except DataError as error:
        if path == root:
            raise
        return [], [_left_out("D05", image, str(error)) for image in images]
    rows, findings = _rows_by_file(table, site)
    known = {path / name: row for name, row in rows.items()}
    scans, said = _join(images, known, column)
    present = {_normal(image.path) for image in images}
    is_whole = path == folder  # a table in the root also has the rows of other sites
    lost = [str(p.relative_to(path)) for p in known if is_whole and _normal(p) not in present]
    if lost:
        reason = f"{len(lost)} rows of {site} have no image, such as {lost[0]}"
        said.append(Finding("D28", reason, site, is_excluded=False))
    return _with_unique_keys(scans), [*findings, *said]


def _patient_column(table: SubjectTable, path: Path) -> str:
    column = next((name for name in PATIENT_COLUMNS if name in table.columns), None)
    if column is None:
        raise DataError(
            "D05",
            f"table {path / 'participants.tsv'}",
            found=f"columns {', '.join(table.columns)[:200]}",
            want=f"a column {' or '.join(PATIENT_COLUMNS)}",
            fix="add the patient of each image, or remove the table",
        )
    return column


def _rows_by_file(table: SubjectTable, site: str) -> tuple[dict[str, Row], list[Finding]]:
    """Index rows by relative path; names that lead out of the folder are never opened."""
    safe: list[Row] = []
    findings = [replace(finding, site=site) for finding in table.findings]
    for row in table.rows:
        path = inside(row["file"])
        if path is None:
            reason = f"the table names the file {row['file']!r}, which is not inside its folder"
            findings.append(Finding("D27", reason, site, is_excluded=False))
        else:
            safe.append({**row, "file": str(path)})
    rows, said = rows_by(SubjectTable(table.columns, tuple(safe)), "file")
    findings += [replace(f, site=site, subject="", is_excluded=False) for f in said]
    return rows, findings


def _join(
    images: Sequence[ImageFile], rows: Mapping[Path, Row], column: str
) -> tuple[list[Scan], list[Finding]]:
    scans: list[Scan] = []
    findings: list[Finding] = []
    normal = {_normal(path): row for path, row in rows.items()}
    for image in images:
        row = normal.get(_normal(image.path), {})
        patient = row.get(column, "")
        said = row.get("class", "")
        if is_unknown(patient):
            findings.append(_left_out("D28", image, "the table does not say whose image it is"))
        elif said and said != image.label:
            reason = f"the table says class {said!r}, the folder {image.label!r}"
            findings.append(_left_out("D28", image, reason))
        else:
            columns = {**row, "class": image.label}
            scans.append(_scan(image, patient, columns))
    return scans, findings


def _alone(image: ImageFile) -> Scan:
    subject = f"{image.site}-{image.label}-{image.path.stem}"
    return _scan(image, subject, {"file": image.path.name, "class": image.label})


def _scan(image: ImageFile, subject: str, columns: Row) -> Scan:
    """Return the scan of an image; its subject's name counts at its site alone."""
    files = {"": image.path}
    return Scan(image.site, subject, image.path.stem, files, {}, columns, scope=image.site)


def _left_out(code: str, image: ImageFile, reason: str) -> Finding:
    where = f"{image.site}-{image.label}-{image.path.name}"
    return Finding(code, f"{image.path.name}: {reason}", image.site, where, image.path.stem)


def _normal(path: Path) -> str:
    return unicodedata.normalize("NFC", str(path))


def _with_unique_keys(scans: Sequence[Scan]) -> list[Scan]:
    """Name the session of images that share subject and stem by class and whole name instead."""
    counts = Counter(scan.key for scan in scans)
    whole = [f"{scan.columns['class']}-{scan.images[''].name}" for scan in scans]
    return [
        scan if counts[scan.key] == 1 else replace(scan, session=name)
        for scan, name in zip(scans, whole, strict=True)
    ]
