"""A picture file as numbers, as a viewer shows it: upright, on black, and one value a pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin

from fedmri.errors import DataError
from fedmri.machine.delimited import foreign_kind

FORMATS = ("PNG", "JPEG", "TIFF")
PICTURES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff"})
OTHERS = (
    (b"GIF8", "a GIF"),
    (b"BM", "a Windows bitmap"),
    (b"RIFF", "a WebP picture"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"8BPS", "a Photoshop document"),
)
"""First bytes of pictures that are not read, whatever their names end in."""
GRAY_MODES = frozenset({"L", "F", "I", "I;16", "I;16B", "I;16L"})
PALETTE_MODES = frozenset({"P", "PA"})
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0
N_EDGE = 2
WHITE, DARKER = 200, 60
"""Gray of an edge that is no air, and by how much a head in it is darker."""


def load_picture(path: Path, max_pixels: int, *, is_label: bool = False) -> NDArray[np.float32]:
    """Load a picture.

    Turns and flips that the file only notes (EXIF) are carried out. Transparent pixels are black.
    Colours become gray by their luminance; in a label map with a palette, the numbers of the
    palette are the classes.

    Args:
        path: A PNG, JPEG or TIFF file.
        max_pixels: Most pixels that a header may claim.
        is_label: Whether pixels are classes.

    Returns:
        Shape ``(H, W)``.

    Raises:
        DataError: It has several pages or is one line (D08), the header claims too much (D11), or
            it is a picture of another format than its name says (D73), or none at all (D07).
    """
    _refuse_others(path)
    # Pillow maps a TIFF file that it opens by name with the sides of its upright image exchanged
    with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
        if image.width * image.height > max_pixels:
            found = f"{image.width} x {image.height} pixels"
            raise DataError(
                "D11", "header", found=found, want=f"{max_pixels} or fewer", fix="export it again"
            )
        n_pages = getattr(image, "n_frames", 1)
        if n_pages > 1 or min(image.size) < 2:
            found = f"{n_pages} images of {image.size} pixels"
            fix = "give one gray volume or slice a file"
            raise DataError("D08", "picture", found=found, want="one slice", fix=fix)
        image.load()
        is_turned_round = _is_white_zero(image)
        upright = ImageOps.exif_transpose(image)
        pixels = np.array(_gray(upright, is_label=is_label), dtype=np.float32)
        return pixels.max() - pixels if is_turned_round else pixels


def _refuse_others(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(64)
    kind = next((kind for sign, kind in OTHERS if start.startswith(sign)), "")
    if kind or start[4:12] in (b"ftypheic", b"ftypavif", b"ftypmif1"):
        found, want = f"{kind or 'a HEIF picture'} under this name", "PNG, JPEG or TIFF"
        fix = "convert it; another name does not change the format"
        raise DataError("D73", "picture", found=found, want=want, fix=fix)
    if kind := foreign_kind(start):
        fix = "export or copy the file again"
        raise DataError("D07", "file", found=kind, want="a picture", fix=fix)


def _gray(image: Image.Image, *, is_label: bool) -> Image.Image:
    if image.mode in GRAY_MODES or (is_label and image.mode in PALETTE_MODES):
        return image
    if image.has_transparency_data:
        shown = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", shown.size, (0, 0, 0, 255)), shown)
    return image.convert("RGB").convert("L")


def _is_white_zero(image: Image.Image) -> bool:
    """Whether a TIFF file of many bits calls white 0; Pillow turns round those of eight alone."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or image.mode in ("1", "L"):
        return False
    return image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO


def looks_inverted(gray: NDArray[np.uint8]) -> bool:
    """Tell whether a head seems to lie on white, as in a film or an inverted export.

    Args:
        gray: A plane, scaled to 0 to 255.
    """
    edge = np.ones(gray.shape, dtype=bool)
    edge[N_EDGE:-N_EDGE, N_EDGE:-N_EDGE] = False
    if not edge.any() or edge.all():
        return False
    around = float(np.quantile(gray[edge], 0.1))
    return around > WHITE and float(np.quantile(gray[~edge], 0.25)) < around - DARKER
