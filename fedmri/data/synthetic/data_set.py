"""The embedded data set: a BIDS folder of several hospitals, made from the MNI152 template."""

from __future__ import annotations

import gzip
import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import NDArray

from fedmri.data.preparation.side_by_side import side_by_side
from fedmri.data.synthetic.anatomy import Grid, Head, Volume, make_head, smooth_field
from fedmri.data.synthetic.lesions import LESIONS, Lesion, make_lesion
from fedmri.data.synthetic.scanner import (
    FLAIR_TR_MS,
    T1W_TE_MS,
    TISSUES,
    Relaxation,
    Scanner,
    acquire,
    limit_resolution,
    scanner_of_site,
    signals,
)
from fedmri.data.target import DataTarget
from fedmri.errors import ConfigError, DataError, require

VERSION = 1  # a change of any image is a new version: caches of the old one must not be taken
MODALITIES = ("T1w", "FLAIR")
MASKS = ("mask", "lesions/mask")
SIZES = (1.0, 1.5, 0.75, 1.25, 0.5)
AGES = ((20, 55), (50, 85), (35, 80), (18, 45), (60, 90))
MIXES = ((0.5, 0.3, 0.2), (0.2, 0.5, 0.3), (0.3, 0.2, 0.5), (0.5, 0.2, 0.3), (0.2, 0.4, 0.4))
COLUMNS = ("participant_id", "site", "age", "sex", "lesion", "scanner", "field_tesla")

DICTIONARY: dict[str, object] = {
    "site": {"Description": "Hospital"},
    "age": {"Description": "Age at the scan", "Units": "year"},
    "sex": {"Description": "Sex", "Levels": {"F": "female", "M": "male"}},
    "lesion": {
        "Description": "Kind of lesion",
        "Levels": {
            "mass": "one irregular ball in the white matter, often with a dead core",
            "spots": "many small ovals, most of them beside the ventricles",
            "wedge": "one cone with its base on the cortex",
        },
    },
    "scanner": {"Description": "Make of the scanner, invented"},
    "field_tesla": {"Description": "Field strength of the scanner", "Units": "T"},
}
DESCRIPTION: dict[str, object] = {
    "Name": "fedmri synthetic hospitals",
    "BIDSVersion": "1.9.0",
    "DatasetType": "raw",
    "GeneratedBy": [{"Name": "fedmri", "Description": f"embedded data set, version {VERSION}"}],
    "SourceDatasets": [{"DOI": "10.1016/j.neuroimage.2010.07.033"}],
}
DERIVATIVE: dict[str, object] = {
    "Name": "Lesion masks of the fedmri synthetic hospitals",
    "BIDSVersion": "1.9.0",
    "DatasetType": "derivative",
    "GeneratedBy": [{"Name": "fedmri"}],
}


@dataclass(frozen=True)
class SyntheticConfig:
    """Size of the embedded data set.

    Attributes:
        n_sites: Hospitals; each further one leaves the files of those before it as they are.
        n_subjects: Patients of a hospital on average; hospitals have a half to one and a half.
        spacing_mm: Finest voxel size; most scanners are coarser.
    """

    n_sites: int = 5
    n_subjects: int = 24
    spacing_mm: float = 3.0

    def __post_init__(self) -> None:
        require(1 <= self.n_sites <= 99, "synthetic.n_sites", self.n_sites, "1 to 99")
        require(2 <= self.n_subjects <= 600, "synthetic.n_subjects", self.n_subjects, "2 to 600")
        spacing_mm = self.spacing_mm
        require(2 <= spacing_mm <= 8, "synthetic.spacing_mm", spacing_mm, "2 to 8")


@dataclass(frozen=True)
class Patient:
    """One row of the subject table, and the machine that scanned it."""

    name: str
    site: str
    age: float
    sex: str
    lesion: str
    scanner: Scanner
    seed: str


def refuse_foreign(target: DataTarget, modalities: Sequence[str]) -> None:
    """Refuse a plan that is about other data, before these are made for it.

    Raises:
        ConfigError: The embedded data set has no such target or modality (C03).
    """
    maps = [target.label_map.name] if target.label_map else []
    labels, asked = (MASKS, maps) if maps else (COLUMNS[2:], target.columns)
    found = [f"target {name!r}" for name in asked if name not in labels]
    found += [f"modality {name!r}" for name in modalities if name not in MODALITIES]
    if found:
        what = "settings without a data set"
        want = f"{' or '.join(labels)} from {' and '.join(MODALITIES)}, which the example data have"
        fix = "name your data with --data PATH"
        raise ConfigError("C03", what, found=", ".join(found), want=want, fix=fix)


def ensure(cache_root: Path, config: SyntheticConfig, seed: int, n_workers: int = 1) -> Path:
    """Return the folder of a generated data set; generate it on first use.

    A folder appears under its final name only once it is complete, so that a generation which was
    killed is never taken for a data set.

    Args:
        cache_root: Folder that holds generated data sets; made where it is missing.
        config: Size of the data set.
        seed: Decides every bit of it.
        n_workers: Processes that make it.

    Returns:
        Folder named by version, configuration and seed.
    """
    key = hashlib.sha256(f"{VERSION}/{config}/{seed}".encode()).hexdigest()[:16]
    folder = cache_root / f"synthetic-{key}"
    if folder.is_dir():
        return folder
    cache_root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=cache_root) as unfinished:
        whole = Path(unfinished) / "bids"
        generate(whole, config, seed, n_workers)
        try:
            whole.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was first, with the same bits
                raise
    return folder


def generate(path: Path, config: SyntheticConfig, seed: int, n_workers: int = 1) -> None:
    """Write the data set: per patient a T1w, a FLAIR and a lesion mask, and the BIDS tables.

    Hospitals differ in scanner, size, ages and balance of lesions. A patient's files depend on the
    seed, the hospital and the patient alone.

    Args:
        path: Folder to fill; missing or empty.
        config: Size of the data set.
        seed: Decides every bit of it.
        n_workers: Processes that make it: a patient's bits depend on none of the others.

    Raises:
        DataError: The folder holds something already (D70).
    """
    if path.exists() and any(path.iterdir()):
        what = f"folder {path} for the embedded data set"
        raise DataError("D70", what, found="files", want="an empty folder", fix="name another one")
    path.mkdir(parents=True, exist_ok=True)
    grid = Grid.around_head(config.spacing_mm)
    patients = [
        patient
        for index in range(config.n_sites)
        for patient in _patients(index, config.n_subjects, seed)
    ]
    _write_tables(path, patients)
    side_by_side(lambda patient: _write_patient(path, patient, grid), patients, n_workers)


def _stream(*words: object) -> np.random.Generator:
    """Return a generator that depends on these words and on nothing drawn before."""
    digest = hashlib.sha256("/".join(map(str, words)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def _patients(index: int, n_mean: int, seed: int) -> Iterator[Patient]:
    """Yield the patients of one hospital."""
    random = _stream(seed, index)
    scanner = scanner_of_site(index, random)
    n_subjects = max(1, round(n_mean * SIZES[index % len(SIZES)]))
    youngest, oldest = AGES[index % len(AGES)]
    lesions = random.permutation(_quota(n_subjects, MIXES[index % len(MIXES)]))
    for number, lesion in enumerate(lesions, start=1):
        yield Patient(
            name=f"sub-{index + 1:02d}{number:03d}",
            site=f"site{index + 1:02d}",
            age=round(float(random.uniform(youngest, oldest)), 1),
            sex="F" if random.random() < 0.5 else "M",
            lesion=str(lesion),
            scanner=scanner,
            seed=f"{seed}/{index}/{number}",
        )


def _quota(n_subjects: int, mix: tuple[float, ...]) -> list[str]:
    """Return the lesion of each patient, in shares as near to the mix as whole patients allow."""
    edges = np.round(np.cumsum((0.0, *mix)) * n_subjects).astype(int)
    counts = np.diff(edges)
    return [kind for kind, n in zip(LESIONS, counts, strict=True) for _ in range(n)]


def _write_patient(path: Path, patient: Patient, grid: Grid) -> None:
    random = _stream(patient.seed)
    head = make_head(grid, patient.age, random)
    lesion = make_lesion(patient.lesion, head, random)
    scanner = patient.scanner
    folder, masks = path / patient.name / "anat", path / "derivatives" / "lesions" / patient.name
    relaxation = _relaxation(scanner.field_tesla, random)
    texture = 1 + 0.03 * smooth_field(grid.shape, 14, random)
    for modality in MODALITIES:
        emitted, white = _signal(scanner, modality, relaxation, (head, lesion))
        image = acquire(scanner, emitted * texture, white, random)
        stem = folder / f"{patient.name}_{modality}"
        _write_image(stem.with_suffix(".nii.gz"), image, grid, scanner)
        _write_json(stem.with_suffix(".json"), _sidecar(scanner, modality))
    mask = _mask(lesion, scanner)
    _write_image(masks / "anat" / f"{patient.name}_mask.nii.gz", mask, grid, scanner)


def _relaxation(field_tesla: float, random: np.random.Generator) -> dict[str, Relaxation]:
    """Return the tissues of one patient: the lesion's are drawn alike for all kinds."""
    normal = TISSUES[field_tesla]
    grey = normal["grey"]
    solid = Relaxation(
        t1_ms=grey.t1_ms * random.uniform(1.0, 1.3), t2_ms=random.uniform(140, 200), density=0.86
    )
    core = Relaxation(normal["csf"].t1_ms * random.uniform(0.8, 0.95), 600, 0.95)
    return {**normal, "lesion": solid, "core": core}


def _signal(
    scanner: Scanner, modality: str, relaxation: dict[str, Relaxation], body: tuple[Head, Lesion]
) -> tuple[Volume, float]:
    """Return what the tissues emit, shape ``(X, Y, Z)``, and the signal of white matter."""
    head, lesion = body
    emitted = signals(scanner, modality, relaxation)
    healthy = sum(share * emitted[name] for name, share in head.tissues.items())
    diseased = lesion.solid + lesion.core
    total = healthy * (1 - diseased)
    total += lesion.solid * emitted["lesion"] + lesion.core * emitted["core"]
    return np.asarray(total, dtype=np.float32), emitted["white"]


def _mask(lesion: Lesion, scanner: Scanner) -> NDArray[np.uint8]:
    """Return the voxels of the scanner's matrix that are at least half diseased."""
    share = limit_resolution(lesion.solid + lesion.core, scanner.resolution)
    return (share >= min(0.5, float(share.max()))).astype(np.uint8)


def _write_image(
    path: Path, voxels: NDArray[np.int16] | NDArray[np.uint8], grid: Grid, scanner: Scanner
) -> None:
    """Write a NIfTI in the scanner's field of view and orientation, the same bytes each time."""
    factors = np.array(grid.shape) / voxels.shape
    affine = np.diag([*(grid.spacing_mm * factors), 1.0])
    affine[:3, 3] = grid.origin_mm
    n_cut = int(np.ceil(max(0.0, scanner.lowest_mm - affine[2, 3]) / affine[2, 2]))
    affine[2, 3] += n_cut * affine[2, 2]
    image = nib.Nifti1Image(voxels[:, :, n_cut:], affine)
    wanted = axcodes2ornt(tuple(scanner.orientation))
    stored = image.as_reoriented(ornt_transform(io_orientation(affine), wanted))
    stored.header.set_xyzt_units("mm", "sec")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(stored.to_bytes(), compresslevel=4, mtime=0))


def _sidecar(scanner: Scanner, modality: str) -> dict[str, object]:
    common = {
        "Manufacturer": scanner.name,
        "MagneticFieldStrength": scanner.field_tesla,
    }
    if modality == "T1w":
        return common | {
            "RepetitionTime": scanner.t1w_tr_ms / 1000,
            "EchoTime": T1W_TE_MS / 1000,
            "FlipAngle": scanner.t1w_flip_deg,
        }
    return common | {
        "RepetitionTime": FLAIR_TR_MS / 1000,
        "EchoTime": scanner.flair_te_ms / 1000,
        "InversionTime": scanner.flair_ti_ms / 1000,
    }


def _write_tables(path: Path, patients: list[Patient]) -> None:
    lines = ["\t".join(COLUMNS)]
    for p in patients:
        row = (p.name, p.site, p.age, p.sex, p.lesion, p.scanner.name, p.scanner.field_tesla)
        lines.append("\t".join(map(str, row)))
    (path / "participants.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    _write_json(path / "participants.json", DICTIONARY)
    _write_json(path / "dataset_description.json", DESCRIPTION)
    _write_json(path / "derivatives" / "lesions" / "dataset_description.json", DERIVATIVE)


def _write_json(path: Path, content: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
