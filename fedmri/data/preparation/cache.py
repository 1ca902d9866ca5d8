"""Prepared arrays on disk, by content and settings: written whole or not at all, and checked.

``ROOT/SETTINGS/KEY.npy`` holds a scan's image, ``KEY.label.npy`` its label map, ``KEY.truth.npz``
the label map as its file has it, and ``KEY.json`` their shape, voxel size and geometry.
``SETTINGS`` is the fingerprint of preparation and library versions, ``KEY`` that of the input
bytes, so neither is ever out of date.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np

from fedmri.data.dicom.series import is_dicom, stack_at
from fedmri.data.preparation.geometry import Geometry
from fedmri.data.preparation.transforms import PreparedArrays
from fedmri.data.settings import PrepareConfig, SourceConfig
from fedmri.data.target import DataTarget
from fedmri.errors import DataError
from fedmri.machine.files import PRIVATE_FILE, write_unsynced

FORMAT = 6
"""Raise it when preparation gives other bits under the same settings."""

LIBRARIES = ("nibabel", "numpy", "pillow", "pydicom", "scipy", "simpleitk", "torchio")

LENGTH_END = 10
"""Bytes of a ``.npy`` file up to where its header begins; the last two are the header's length."""

TRUTH = "truth"
"""Name of the array in an entry's ``.npz`` file."""

SLICING = ("n_slices", "skip_first", "skip_last", "n_neighbours")
"""Settings that choose among the slices of a prepared volume and do not change it."""


@dataclass(frozen=True)
class CachedScan:
    """A prepared scan in the cache.

    Attributes:
        image: ``.npy`` file, float32.
        label: ``.npy`` file of the label map, uint8, or None.
        shape: Shape of the image, ``(C, D, H, W)`` or ``(C, H, W)``.
        spacing_mm: Voxel size in the order of the spatial axes.
        geometry: The way from the scan's own grid to this one.
        truth: ``.npz`` file of the label map on its own grid, or None.
    """

    image: Path
    label: Path | None
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    geometry: Geometry
    truth: Path | None


def settings_fingerprint(
    target: DataTarget | None, config: PrepareConfig, modalities: Sequence[str]
) -> str:
    """Return what tells apart two preparations of the same bytes; images alone have no target."""
    labelled = None if target is None else target.label_map
    settings = {
        "format": FORMAT,
        "prepare": {name: v for name, v in asdict(config).items() if name not in SLICING},
        "modalities": list(modalities),
        "n_labels": len(labelled.classes) if labelled else 0,
        "labels": labelled.label_values if labelled else {},
        "libraries": _versions(),
    }
    return digest(json.dumps(settings, sort_keys=True))[:24]


@cache
def _versions() -> dict[str, str]:
    # a distribution's description is read whole for its version, and each order asks for it
    return {name: version(name) for name in LIBRARIES}


def slicing_fingerprint(config: PrepareConfig) -> str:
    """Return what tells apart two choices among the slices of one prepared volume."""
    chosen = {name: value for name, value in asdict(config).items() if name in SLICING}
    return digest(json.dumps(chosen, sort_keys=True))[:8]


def site_settings(target: DataTarget | None, config: PrepareConfig, source: SourceConfig) -> str:
    """Return what tells apart two lists of examples of the same scans: all settings, the target."""
    slicing = {name: value for name, value in asdict(config).items() if name in SLICING}
    asked = None if target is None else repr(target)
    of_scans = settings_fingerprint(target, config, source.channels)
    parts = [of_scans, slicing, asked, *([source.covariates] if source.covariates else [])]
    return digest(json.dumps(parts, sort_keys=True))[:24]


def digest(text: str) -> str:
    """Return the SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, or of all files of a DICOM volume or folder.

    Raises:
        OSError: A file cannot be read.
        DataError: The file belongs to no DICOM volume (D07).
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file())
    elif is_dicom(path):  # one file stands for its volume
        files = sorted(one.path for one in stack_at(path))
    else:
        return _file_hash(path)
    return digest("/".join(_file_hash(file) for file in files))


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_entry(folder: Path, key: str) -> CachedScan | None:
    """Return the entry of a key, or None where it is absent, truncated or not what it says."""
    try:
        facts = json.loads((folder / f"{key}.json").read_text(encoding="utf-8"))
        entry = _entry(folder, key, facts)
        is_sound = open_array(entry.image).shape == entry.shape
        if entry.label is not None:
            is_sound &= open_array(entry.label).shape == entry.shape[1:]
        if entry.truth is not None:
            with zipfile.ZipFile(entry.truth) as archive:
                is_sound &= archive.namelist() == [f"{TRUTH}.npy"]
    except (OSError, ValueError, KeyError, TypeError, DataError, zipfile.BadZipFile):
        return None
    return entry if is_sound else None


def _entry(folder: Path, key: str, facts: dict[str, object]) -> CachedScan:
    shape, spacing_mm, geometry = facts["shape"], facts["spacing_mm"], facts["geometry"]
    if not isinstance(shape, list) or not isinstance(spacing_mm, list):
        raise TypeError(key)
    if not isinstance(geometry, dict):
        raise TypeError(key)
    label = folder / f"{key}.label.npy" if facts["has_label"] else None
    return CachedScan(
        image=folder / f"{key}.npy",
        label=label,
        shape=tuple(shape),
        spacing_mm=tuple(spacing_mm),
        geometry=Geometry.from_json(geometry),
        truth=label and folder / f"{key}.truth.npz",
    )


def store_entry(folder: Path, key: str, arrays: PreparedArrays) -> CachedScan:
    """Write a prepared scan and return its entry; what a crash leaves behind is never one."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_array(folder / f"{key}.npy", arrays.image)
    if arrays.label is not None and (truth := arrays.truth) is not None:
        _write_array(folder / f"{key}.label.npy", arrays.label)
        packed = folder / f"{key}.truth.npz"
        write_unsynced(packed, lambda file: np.savez_compressed(file, truth=truth), PRIVATE_FILE)
    facts: dict[str, object] = {
        "shape": list(arrays.image.shape),
        "spacing_mm": list(arrays.spacing_mm),
        "has_label": arrays.label is not None,
        "geometry": arrays.geometry.to_json(),
    }
    write_unsynced(folder / f"{key}.json", json.dumps(facts), PRIVATE_FILE)
    return _entry(folder, key, facts)


def _write_array(path: Path, array: np.ndarray) -> None:
    # Slices are read one by one: in C order each is one piece of the file.
    ordered = np.ascontiguousarray(array)
    write_unsynced(path, lambda file: np.save(file, ordered, allow_pickle=False), PRIVATE_FILE)


def open_array(path: Path) -> np.ndarray:
    """Return a cached array, memory-mapped; its header says what it is.

    Raises:
        DataError: The file is missing or shorter than it says (D44).
    """
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _unusable(path, str(error)) from error
    return array


def load_truth(path: Path) -> np.ndarray:
    """Return the label map that an entry keeps on its own grid, uint8.

    Raises:
        DataError: The file is missing or damaged (D44).
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            truth: np.ndarray = archive[TRUTH]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _unusable(path, str(error)) from error
    return truth


def map_array(path: Path, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return a cached array of known shape, memory-mapped: a fifth of the time of ``open_array``.

    Voxels are read when they are looked at, and the map is closed when the array is let go of. What
    is written to the array stays in this process.

    Args:
        path: File of an entry.
        shape: Its shape.
        dtype: Its type, such as ``<f4``.

    Raises:
        DataError: The file is missing or has another size than its header and the shape say (D44).
    """
    try:
        with path.open("rb", buffering=0) as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:
        raise _unusable(path, str(error)) from error
    start = LENGTH_END + int.from_bytes(mapped[LENGTH_END - 2 : LENGTH_END], "little")
    n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    if len(mapped) != start + n_bytes:
        raise _unusable(path, f"{len(mapped)} bytes where {start + n_bytes} are due")
    return np.frombuffer(mapped, dtype, offset=start).reshape(shape)


def _unusable(path: Path, found: str) -> DataError:
    fix = "start the command again: what is missing from the cache is prepared again"
    what = f"cached array {path}"
    return DataError("D44", what, found=found, want="a whole .npy file", fix=fix)
