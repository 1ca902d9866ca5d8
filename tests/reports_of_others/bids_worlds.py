"""A small BIDS data set with a lesion on one side, and what the product makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from fedmri.data.checks.check import examine
from fedmri.data.preparation.prepare import prepare_scans
from fedmri.data.preparation.prepared import Prepared
from fedmri.data.read import read
from fedmri.data.scans import ScanTable
from fedmri.data.settings import CheckConfig, DataConfig, PrepareConfig, SourceConfig
from fedmri.tasks.kinds.regression import Regression
from fedmri.tasks.kinds.segmentation import Segmentation
from fedmri.tasks.task import Task
from tests.data.worlds import save, volume, write_table

LESION = Segmentation("mask", ("lesion",))
AGE = Regression("age")
SHAPE = (16, 14, 12)
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
BRIGHT = 700
OF_HEADS = frozenset({"D46", "D47", "D48", "D49"})
"""Codes about the head in an image, which these few voxels are none of."""


def lesion() -> NDArray[np.uint8]:
    """Return a mask of 24 voxels near the first end of all three axes."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:5, 3:5, 2:6] = 1
    return mask


def head(seed: int) -> NDArray[np.int16]:
    """Return a head in air, whose lesion is its brightest part."""
    image = np.random.default_rng(seed).integers(0, 10, SHAPE).astype(np.int16)
    image[1:-1, 1:-1, 1:-1] = 400 + volume(seed, SHAPE)[1:-1, 1:-1, 1:-1] // 5
    image[lesion() > 0] = BRIGHT
    return image


def image_path(root: Path, subject: str, name: str = "T1w", session: str = "") -> Path:
    """Return where an image lies."""
    parts = [f"sub-{subject}", *([f"ses-{session}"] if session else [])]
    return root / Path(*parts) / "anat" / f"{'_'.join(parts)}_{name}.nii.gz"


def mask_path(root: Path, subject: str, name: str = "mask", session: str = "") -> Path:
    """Return where a mask lies."""
    return image_path(root / "derivatives/manual", subject, name, session)


def add(root: Path, subject: str, seed: int) -> None:
    """Write image and mask of a subject."""
    save(image_path(root, subject), head(seed), AFFINE)
    save(mask_path(root, subject), lesion(), AFFINE)


def rows(**sites: str) -> list[dict[str, str]]:
    """Return a row for each subject, by its site."""
    return [
        {"participant_id": f"sub-{name}", "site": site, "age": str(40 + number)}
        for number, (name, site) in enumerate(sites.items())
    ]


def world(root: Path, listed: Sequence[Mapping[str, str]] | None = None) -> None:
    """Write a data set of the subjects of a table."""
    table = list(listed or rows(a="A", b="A", c="A"))
    for seed, row in enumerate(table):
        add(root, row["participant_id"].removeprefix("sub-"), seed)
    write_table(root, table)


def looked_at(root: Path, target: Task = LESION, **source: object) -> ScanTable:
    """Read and examine a data set."""
    config = SourceConfig(path=str(root), **source)  # type: ignore[arg-type]  # as a test says
    return examine(read(config), target, CheckConfig(duplicates="warn"), config.modalities)


def prepared(root: Path, target: Task = LESION, **source: object) -> Prepared:
    """Read, examine and prepare a data set without a change of intensities."""
    config = SourceConfig(path=str(root), **source)  # type: ignore[arg-type]  # as a test says
    data = DataConfig(config, prepare=PrepareConfig(scaling="none"))
    scans = looked_at(root, target, **source).scans
    splits = {scan.subject: "train" for scan in scans}
    return prepare_scans(scans, target, data, splits, root / "cache")  # type: ignore[arg-type]


def codes(table: ScanTable, subject: str) -> dict[str, bool]:
    """Return the codes found of a subject, and whether each leaves it out."""
    found: dict[str, bool] = {}
    for finding in table.findings:
        if finding.subject == subject and finding.code not in OF_HEADS:
            found[finding.code] = found.get(finding.code, False) or finding.is_excluded
    return found


def under_lesion(result: Prepared, subject: str) -> tuple[float, int]:
    """Return the darkest voxel of the image under its mask, and how many voxels the mask has."""
    scan = next(scan for scan in result.scans if scan.subject == subject)
    assert scan.label is not None
    image, mask = np.load(scan.image), np.load(scan.label)
    return float(image[0][mask > 0].min()), int((mask > 0).sum())


def save_form(  # noqa: PLR0913  # a header has as many fields
    path: Path,
    array: NDArray[np.generic],
    *,
    sform: NDArray[np.float64] | None = None,
    qform: NDArray[np.float64] | None = None,
    codes: tuple[int, int] = (1, 1),
    units: str = "mm",
    pixdim: Sequence[float] = (),
) -> None:
    """Write an image with a header as it is asked for, right or wrong."""
    image = nib.Nifti1Image(array, AFFINE if sform is None else sform)
    image.header.set_sform(AFFINE if sform is None else sform, code=codes[0])
    image.header.set_qform(AFFINE if qform is None else qform, code=codes[1])
    image.header.set_xyzt_units(units)
    raw = bytearray(image.to_bytes())
    if sform is not None:
        raw[280:328] = sform[:3].astype("<f4").tobytes()
    raw[252:256] = np.array(codes[::-1], "<i2").tobytes()  # nibabel would set them by the affine
    if pixdim:
        raw[80:92] = np.array(pixdim, "<f4").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    path.unlink(missing_ok=True)
    plain.write_bytes(bytes(raw))
