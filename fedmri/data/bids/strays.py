"""Images of a subject that no modality takes: misnamed, misplaced, or of other entities."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from fedmri.data.bids.bids_file import BidsFile, parts_of
from fedmri.data.scans import Finding

IMAGE = re.compile(r"\.(nii|nii\.gz|img|img\.gz|mgz|mgh|nrrd|mha|mhd|mnc)$", re.IGNORECASE)
CIFTI = re.compile(r"\.d[a-z]+\.nii$", re.IGNORECASE)
"""How files of surfaces end, which no modality is."""
N_SHOWN = 4
_RULE = "a name has the labels of its folders and ends in a modality, as in sub-1_ses-2_T1w.nii.gz"


def misnamed(place: Path, files: Sequence[BidsFile], modalities: Sequence[str]) -> list[Finding]:
    """Return why a session without an image is left out although it seems to have one.

    Args:
        place: Folder of the session, or of the subject where it has no sessions.
        files: Its images whose names can be read; none of them is a modality.
        modalities: What is asked for.
    """
    words = {parts_of(modality)[0].casefold() for modality in modalities}
    alike = [path for path in _strays(place, files) if any(w in path.name.lower() for w in words)]
    if alike:
        reason = f"{_shown(place, alike)} cannot be used by name: {_RULE}"
        return [Finding("D30", reason)]
    near = _near(files, modalities)
    if place.name.startswith("ses-") and near:
        reason = f"{place.name} holds none of {', '.join(modalities)} but {', '.join(near)}"
        return [Finding("D24", reason, is_excluded=False)]
    return []


def none_of(folder: Path, files: Sequence[BidsFile], modalities: Sequence[str]) -> str:
    """Return in words that a subject holds no modality, and what it holds instead."""
    reason = f"{folder.name} holds none of {', '.join(modalities)}"
    near = _near(files, modalities) or _names(files)
    strays = _strays(folder, files)
    if near:
        reason += f" but {', '.join(near[:N_SHOWN])}: set data.source.modalities to what is wanted"
    if strays:
        reason += f"; {_shown(folder, strays)} was passed over: {_RULE}"
    return reason


def strays_told(folder: Path, files: Sequence[BidsFile]) -> list[Finding]:
    """Warn of a subject's images that were passed over because of name or place."""
    strays = _strays(folder, files)
    if not strays:
        return []
    n_more = f" and {len(strays) - 1} more images" if len(strays) > 1 else ""
    reason = f"{_shown(folder, strays[:1])}{n_more} passed over: {_RULE}"
    return [Finding("D29", reason, is_excluded=False)]


def _strays(folder: Path, files: Sequence[BidsFile]) -> list[Path]:
    known = {file.path.name.split(".")[0] for file in files}
    images = [path for path in sorted(folder.rglob("*")) if IMAGE.search(path.name)]
    visible = [
        path for path in images if not (path.name.startswith(".") or CIFTI.search(path.name))
    ]
    return [path for path in visible if path.name.split(".")[0] not in known]


def _near(files: Sequence[BidsFile], modalities: Sequence[str]) -> list[str]:
    """Return the names of files that have the suffix of a modality, with other entities."""
    suffixes = {parts_of(modality)[0] for modality in modalities}
    return _names([file for file in files if file.suffix in suffixes])


def _names(files: Sequence[BidsFile]) -> list[str]:
    names = ("_".join([*(f"{k}-{v}" for k, v in f.entities.items()), f.suffix]) for f in files)
    return sorted(set(names))


def _shown(folder: Path, paths: Sequence[Path]) -> str:
    return ", ".join(path.relative_to(folder.parent).as_posix() for path in paths[:N_SHOWN])
