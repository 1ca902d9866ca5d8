"""Files of a folder of pictures that are none to train on: other formats, masks beside images."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

UNREAD = re.compile(
    r"\.(bmp|dib|gif|webp|jp2|j2k|jpx|heic|heif|avif|pgm|ppm|pnm|pbm|tga|psd|svg|npy|npz|mat|h5|"
    r"nii|nii\.gz|img|hdr|mgz|mha|mhd|nrrd|dcm|ima)$",
    re.IGNORECASE,
)
"""How images end that are not read in a folder of pictures."""

SIDES = re.compile(r"(train|training|test|testing|val|valid|validation|dev|hold[_ -]?out)", re.I)
_MASK = re.compile(
    r"[ _.-]*(mask|seg|segmentation|label|labels|groundtruth|gt|roi)[ _-]?\d*$", re.I
)


def masks_beside(paths: Sequence[Path]) -> set[Path]:
    """Return the files that are named as masks of others: ``1_mask.png`` beside ``1.png``."""
    stems = {(path.parent, path.stem.casefold()) for path in paths}
    return {
        path
        for path in paths
        if (stem := _MASK.sub("", path.stem)) != path.stem
        and (path.parent, stem.casefold()) in stems
    }


def are_sides(names: Iterable[str]) -> bool:
    """Tell whether folders that count as sites are named as sides of a split."""
    found = list(names)
    return len(found) > 1 and all(SIDES.fullmatch(name) for name in found)
