"""Arrays of a notebook as a data set: written down once, and read like any other."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmri.errors import DataError

PIPELINE = "arrays"


@dataclass(frozen=True)
class Sites:
    """Data of hospitals as a BIDS folder, which ``fedmri.Study`` takes for ``data``.

    Attributes:
        folder: The folder.
    """

    folder: Path

    def __fspath__(self) -> str:
        return str(self.folder)

    @classmethod
    def from_arrays(
        cls,
        sites: Mapping[str, Mapping[str, Any]],
        folder: str | os.PathLike[str],
        *,
        target: str = "target",
        modality: str = "T1w",
        spacing_mm: float = 1.0,
    ) -> Sites:
        """Write arrays as scans and return where they lie.

        Args:
            sites: By hospital: ``image``, shape ``(n, X, Y, Z)`` or ``(n, X, Y)`` for slices;
                ``target``, one value for each image, or integer label maps of the images' shape,
                or several of these by name, such as ``{"months": …, "died": …}``; and
                ``subject``, the patient of each image, where images share one.
            folder: An empty folder, or one to make.
            target: Name of a single target: a column, or the suffix of label maps.
            modality: Name of the images' modality.
            spacing_mm: Side of a voxel.

        Raises:
            DataError: The folder holds files (D70), arrays do not fit each other (D08), or images
                of one patient have different targets (D18).
        """
        root = Path(folder)
        if root.exists() and any(root.iterdir()):
            what = f"folder {root} for arrays"
            raise DataError("D70", what, found="files", want="an empty one", fix="name another one")
        root.mkdir(parents=True, exist_ok=True)
        where = _Where(root, target, modality, spacing_mm)
        rows = [row for name, arrays in sorted(sites.items()) for row in _site(name, arrays, where)]
        _write_table(root / "participants.tsv", rows)
        description = {"Name": "arrays", "BIDSVersion": "1.9.0"}
        (root / "dataset_description.json").write_text(json.dumps(description), encoding="utf-8")
        return cls(root)


@dataclass(frozen=True)
class _Where:
    root: Path
    target: str
    modality: str
    spacing_mm: float

    def write(self, path: Path, values: NDArray[Any]) -> None:
        import nibabel as nib

        path.parent.mkdir(parents=True, exist_ok=True)
        whole = values[..., None] if values.ndim == 2 else values
        affine = np.diag([self.spacing_mm] * 3 + [1.0])
        nib.save(nib.Nifti1Image(whole, affine), path)


def _site(site: str, arrays: Mapping[str, Any], where: _Where) -> list[dict[str, str]]:
    images, given = np.asarray(arrays["image"]), arrays["target"]
    named = given if isinstance(given, Mapping) else {where.target: given}
    targets = {name: np.asarray(values) for name, values in named.items()}
    subjects = list(arrays.get("subject", [f"{i:04d}" for i in range(len(images))]))
    _refuse_unfit(site, images, targets, subjects)
    rows: dict[str, dict[str, str]] = {}
    for number, (image, subject) in enumerate(zip(images, subjects, strict=True)):
        label = _label(site, subject)
        name = f"{label}_ses-{number + 1}"  # of two runs in a session one alone would be read
        place = Path(label, f"ses-{number + 1}", "anat")
        where.write(where.root / place / f"{name}_{where.modality}.nii.gz", _scan(image))
        row = {"participant_id": label, "site": site}
        for target, values in targets.items():
            if values.ndim > 1:
                folder = where.root / "derivatives" / PIPELINE / place
                where.write(folder / f"{name}_{target}.nii.gz", values[number].astype(np.int32))
            else:
                row[target] = str(values[number])
        if (first := rows.setdefault(label, row)) != row:
            shown = (", ".join(one[t] for t in row if first[t] != row[t]) for one in (first, row))
            fix = "give all images of a patient the same target"
            what = f"target of patient {subject} of {site}"
            raise DataError("D18", what, found=" and ".join(shown), want="one", fix=fix)
    return list(rows.values())


def _label(site: str, subject: object) -> str:
    """Return a patient's name as BIDS has labels: letters and digits, and none that two share."""
    text = "".join(letter for letter in f"{site}{subject}" if letter.isascii() and letter.isalnum())
    return f"sub-{text}x{hashlib.sha256(f'{site}/{subject}'.encode()).hexdigest()[:8]}"


def _scan(image: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(image, dtype=np.float32)


def _refuse_unfit(
    site: str,
    images: NDArray[Any],
    targets: Mapping[str, NDArray[Any]],
    subjects: Sequence[object],
) -> None:
    is_fit = images.ndim in (3, 4) and len(images) == len(subjects)
    if not is_fit or not all(_is_fit(name, one, images) for name, one in targets.items()):
        shapes = ", ".join(f"{name} {values.shape}" for name, values in targets.items())
        found = f"images {images.shape}, targets {shapes or 'none'}, {len(subjects)} patients"
        want = "(n, X, Y) or (n, X, Y, Z), n values, or label maps of that shape in whole numbers"
        fix = "give one target and one patient for each image; name several targets in a dict"
        raise DataError("D08", f"arrays of {site}", found=found, want=want, fix=fix)


def _is_fit(name: str, target: NDArray[Any], images: NDArray[Any]) -> bool:
    is_free = name not in {"participant_id", "site", "session_id"}
    is_values = target.ndim == 1 and len(target) == len(images)
    return is_free and (is_values or (target.shape == images.shape and _are_labels(target)))


def _are_labels(values: NDArray[Any]) -> bool:
    """Tell whether all values of label maps are whole numbers that a file keeps."""
    most = np.iinfo(np.int32).max
    return bool((np.abs(values) <= most).all() and (values == np.rint(values)).all())


def _write_table(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    import pandas as pd

    pd.DataFrame(list(rows)).to_csv(path, sep="\t", index=False)
