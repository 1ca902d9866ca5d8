"""Predictions as files: a BIDS derivative with tables; each file is there whole or not at all."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

from fedmri.data.files.pictures import PICTURES
from fedmri.data.preparation.geometry import Grid
from fedmri.data.scans import Scan
from fedmri.data.target import BACKGROUND, LabelMap
from fedmri.errors import UsageError
from fedmri.machine.files import write_whole
from fedmri.tasks.task import Case, Task
from fedmri.trained.file.card import ModelCard
from fedmri.trained.inputs import LeftOut, label_of
from fedmri.trained.predict import Prediction

BIDS_VERSION = "1.9.0"
SCANS, PATIENTS = "predictions.tsv", "participants.tsv"
FIRST_COLUMNS = ("scan", "participant_id", "session_id", "status")
LAST_COLUMNS = ("file", "codes", "remarks")
"""Of the table of scans; the answers stand between them."""
MISSING = "n/a"
"""What BIDS writes in an empty cell."""


@dataclass
class DerivativeWriter:
    """A folder that predictions are written to, one scan at a time.

    Attributes:
        folder: The folder; ``begin`` makes it.
        card: Of the model.
        rows: Lines of the table of scans so far.
        files: Maps that were written so far.
    """

    folder: Path
    card: ModelCard
    rows: list[dict[str, str]] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    @property
    def target(self) -> Task:
        """What is predicted."""
        return self.card.plan.target

    @property
    def _classes(self) -> tuple[str, ...]:
        label_map = self.target.label_map
        return label_map.classes if label_map else ()

    @property
    def desc(self) -> str:
        """Name of the model in the names of files."""
        return label_of(self.card.plan.name)

    def begin(self) -> None:
        """Make the folder and say what made it; see ``refuse_full``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        made_by = {
            "Name": "fedmri",
            "Version": version("fedmri"),
            "Description": f"model {self.card.plan.name}, SHA-256 {self.card.sha256}",
        }
        said = {
            "Name": f"Predictions of {self.target.name}",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [made_by],
        }
        self._json("dataset_description.json", said)
        if self.target.label_map:
            self._table(f"desc-{self.desc}_dseg.tsv", _lookup(self.target.label_map))

    def add(self, one: Prediction) -> None:
        """Write the maps of a scan, and note what else is predicted for it."""
        files = self._maps(one) if one.mask is not None else ()
        self.files += files
        self.rows.append(self._row(one, files))

    def leave_out(self, *every: LeftOut) -> None:
        """Note scans without a prediction."""
        self.rows += [
            {"scan": one.name, "status": "left out", "codes": one.code, "remarks": one.reason}
            for one in every
        ]

    def end(self, patients: Sequence[Case]) -> None:
        """Write the tables."""
        first, last = FIRST_COLUMNS, LAST_COLUMNS
        own = [name for row in self.rows for name in row if name not in {*first, *last}]
        self._table(SCANS, self.rows, [*first, *dict.fromkeys(own), *last])
        self._json("predictions.json", _columns(self.card))
        if patients:
            rows = [
                {
                    "participant_id": f"sub-{case.subject}",
                    **self.target.answers(case.prediction, case),
                }
                for case in patients
            ]
            self._table(PATIENTS, rows)
            self._json("participants.json", _columns(self.card))

    def _maps(self, one: Prediction) -> tuple[Path, ...]:
        place = place_of(self.folder, one.input.scan)
        assert one.mask is not None, "asked for masks alone"
        base, first = f"{one.input.name}_desc-{self.desc}", _first_image(one)
        files = [write_map(place / f"{base}_dseg", one.mask, one.grid, first)]
        write_whole(place / f"{base}_dseg.json", _text(self._sidecar(one)))
        if one.shares is not None:
            names = (BACKGROUND, *self._classes)
            for name, share in zip(names, one.shares, strict=True):
                stem = f"{one.input.name}_label-{label_of(name)}_desc-{self.desc}_probseg"
                files.append(write_map(place / stem, share, one.grid, first))
        return tuple(files)

    def _sidecar(self, one: Prediction) -> dict[str, Any]:
        return {
            "Description": f"{self.target.name} as predicted by {self.card.plan.name}",
            "RawSources": [path.name for path in one.input.scan.images.values()],
            "Labels": {str(n): name for n, name in enumerate(self._classes, start=1)},
            "ModelSHA256": self.card.sha256,
            "PlanSHA256": self.card.plan_sha256,
            "SlidingWindow": one.is_windowed,
            "IntendedUse": self.card.intended_use,
            "Remarks": [f"{reason} [{code}]" for code, reason in one.remarks],
        }

    def _row(self, one: Prediction, files: Sequence[Path]) -> dict[str, str]:
        row = {
            "scan": one.input.name,
            "participant_id": f"sub-{one.input.scan.subject}",
            "session_id": f"ses-{one.input.scan.session}" if one.input.scan.session else MISSING,
            "status": "predicted with remarks" if one.remarks else "predicted",
        }
        if one.reading is not None:
            of_scan = self.target.case("", one.input.scan.subject, [one.reading])
            row |= self.target.answers(of_scan.prediction, None)
        if one.mask is not None and self.target.label_map:
            row |= _volumes(one, self.target.label_map)
        row["file"] = str(files[0].relative_to(self.folder)) if files else MISSING
        row["codes"] = ",".join(dict.fromkeys(code for code, _ in one.remarks)) or MISSING
        row["remarks"] = "; ".join(reason for _, reason in one.remarks) or MISSING
        return row

    def _json(self, name: str, values: Mapping[str, Any]) -> None:
        write_whole(self.folder / name, _text(values))

    def _table(
        self, name: str, rows: Sequence[Mapping[str, str]], names: Sequence[str] = ()
    ) -> None:
        names = names or list(dict.fromkeys(name for row in rows for name in row))
        write_table(self.folder / name, rows, names)


def write_table(path: Path, rows: Sequence[Mapping[str, str]], names: Sequence[str]) -> None:
    """Write a TSV whole or not at all; a cell that a row lacks is ``n/a``."""
    lines = [names, *([_cell(row.get(name, MISSING)) for name in names] for row in rows)]
    write_whole(path, "".join("\t".join(line) + "\n" for line in lines))


def place_of(folder: Path, scan: Scan) -> Path:
    """Return the folder for maps of a scan, as BIDS has it; it is made."""
    session = (f"ses-{scan.session}",) if scan.session else ()
    place = Path(folder, f"sub-{scan.subject}", *session, "anat")
    place.mkdir(parents=True, exist_ok=True)
    return place


def make_empty(folder: Path) -> None:
    """Make a folder for results.

    Raises:
        UsageError: There are files in it (U20).
    """
    refuse_full(folder)
    folder.mkdir(parents=True, exist_ok=True)


def refuse_full(folder: Path) -> None:
    """Refuse a folder for results that something else is in.

    Raises:
        UsageError: There are files in it (U20).
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        fix = "name a folder that is missing or empty"
        what = f"folder {folder}"
        raise UsageError("U20", what, found="files in it", want="nothing in it", fix=fix)


def _volumes(one: Prediction, target: LabelMap) -> dict[str, str]:
    found = dict(enumerate(one.volumes_ml))
    is_flat = _is_picture(one.grid, _first_image(one))
    unit, factor = ("pixels", 1000.0) if is_flat else ("volume_ml", 1.0)  # a pixel is 1 mm long
    return {
        f"{unit}_{label_of(name)}": f"{factor * found.get(number, 0.0):.6g}"
        for number, name in enumerate(target.classes)
    }


def _columns(card: ModelCard) -> dict[str, Any]:
    """Return what the columns of the tables mean, as BIDS has it."""
    target = card.plan.target
    said: dict[str, Any] = {
        "status": {"Description": "whether there is a prediction for the scan"},
        "codes": {"Description": "codes of what is odd, or of why there is none; see errors.md"},
        "file": {"Description": "label map on the scan's own grid"},
    }
    names = [label_of(name) for name in (target.label_map.classes if target.label_map else ())]
    said |= {f"volume_ml_{n}": {"Description": "volume", "Units": "mL"} for n in names}
    said |= {f"pixels_{n}": {"Description": "pixels of a picture"} for n in names}
    of_answers = target.described().items()
    return said | {name: {**meaning, "ModelSHA256": card.sha256} for name, meaning in of_answers}


def _lookup(target: LabelMap) -> list[dict[str, str]]:
    names = (BACKGROUND, *target.classes)
    return [{"index": str(number), "name": name} for number, name in enumerate(names)]


def _first_image(one: Prediction) -> Path:
    return next(iter(one.input.scan.images.values()))


def write_map(stem: Path, values: np.ndarray, grid: Grid, image: Path) -> Path:
    """Write a map on a scan's own grid: NIfTI, or a PNG for a picture.

    Args:
        stem: Name without ending.
        values: uint8, or float32 (of a picture between 0 and 1), shape of the grid.
        grid: The scan's own.
        image: The scan's first image, whose header places the map.

    Returns:
        The file.
    """
    if _is_picture(grid, image):
        flat = values[..., 0] if values.ndim == 3 else values
        path = stem.with_name(f"{stem.name}.png")
        write_whole(path, _as_png(flat))
        return path
    path = stem.with_name(f"{stem.name}.nii.gz")
    write_whole(path, gzip.compress(_as_nifti(values, grid, image), mtime=0))
    return path


def _is_picture(grid: Grid, image: Path) -> bool:
    """Tell whether an image has pixels without a size: one slice of a volume has a thickness."""
    is_named_so = image.suffix.lower() in PICTURES and not image.is_dir()
    return grid.shape[2] == 1 and is_named_so


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz"))


def _as_png(flat: np.ndarray) -> bytes:
    """Return labels as gray values, or probabilities as 0 to 65535."""
    gray = flat if flat.dtype == np.uint8 else np.rint(flat * 65535).astype(np.uint16)
    whole = io.BytesIO()
    Image.fromarray(gray).save(whole, "PNG")
    return whole.getvalue()


def _as_nifti(values: np.ndarray, grid: Grid, image: Path) -> bytes:
    """Return a NIfTI file whose header places it exactly where the image's own does."""
    affine = np.array(grid.affine)
    if not _is_nifti(image):
        made = nib.Nifti1Image(values, affine)
        made.header.set_xyzt_units("mm")
        made.set_sform(affine, code=1)
        made.set_qform(affine, code=1)
        return bytes(made.to_bytes())
    source = nib.load(image)
    assert isinstance(source, nib.Nifti1Image | nib.Nifti2Image), "read as one before"
    header = source.header.copy()
    header.set_data_dtype(values.dtype)
    header.set_slope_inter(1, 0)
    header["cal_min"], header["cal_max"] = 0, 0
    header["intent_code"] = 0
    header.extensions.clear()  # a converter may have left a patient's name there
    header["descrip"], header["aux_file"], header["intent_name"] = b"", b"", b""
    return bytes(type(source)(values, None, header).to_bytes())


def _text(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _cell(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)
