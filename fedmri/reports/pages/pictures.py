"""Example images of test patients, with the outlines of what is there and what was found."""

from __future__ import annotations

import base64
import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from PIL import Image, ImageColor

from fedmri.arm import Role, read_comparison
from fedmri.errors import UsageError
from fedmri.machine.file_names import read_names
from fedmri.reports.results import label_in

TRUTH_COLOR, PREDICTED_COLOR = "#E69F00", "#56B4E9"
MAX_BYTES = 1_500_000
"""Of all pictures of a page, base64: the page stays one that can be mailed."""
_PER_SITE = 2
_WIDTH_INCH, _DPI = 2.4, 150


@dataclass(frozen=True)
class Picture:
    """One image of a test patient.

    Attributes:
        arm: Model that predicted.
        site: Site of the patient.
        number: Place in the run's file; the same patient under every model.
        caption: What the run wrote beside it, such as label and probability.
        image: Shape ``(H, W)``, any units.
        truth: Labels, shape ``(H, W)``; None where the task has no mask.
        predicted: Labels, shape ``(H, W)``; None where the task has no mask.
    """

    arm: str
    site: str
    number: int
    caption: str
    image: NDArray[Any]
    truth: NDArray[Any] | None
    predicted: NDArray[Any] | None


@dataclass(frozen=True)
class Shown:
    """A picture as it stands in the page: a PNG in a ``data:`` address."""

    arm: str
    site: str
    caption: str
    address: str
    has_outlines: bool

    @property
    def alt(self) -> str:
        """What the picture shows, in words."""
        outlines = ", true and predicted outline" if self.has_outlines else ""
        return f"Test image of {self.site} under {self.arm}{outlines}: {self.caption}"


ORDER: Mapping[Role, int] = {"federated": 0, "local": 1, "pooled": 2}
"""Models whose pictures stand beside each other, the first first."""


def load_pictures(run: Path) -> list[Picture]:
    """Return the pictures of each arm's first seed, a patient's under all models side by side.

    Raises:
        UsageError: A picture file is broken (U11).
    """
    names, comparison = read_names(run), read_comparison(run)
    files: dict[tuple[int, str, str], Path] = {}
    for path in sorted((run / "pictures").glob("*/seed-*/*.npz")):
        arm, site = (label_in(names, name) for name in (path.parents[1].name, path.stem))
        of = comparison.arm(arm)
        order = ORDER.get(of.role)
        is_shown = of.home in ("", site) and not (of.left_out and of.role != "federated")
        if order is not None and is_shown:
            files.setdefault((order, arm, site), path)
    found = [
        (picture.number, site, order, picture)
        for (order, arm, site), path in sorted(files.items())
        for picture in _pictures(path, arm, site)
    ]
    return [entry[-1] for entry in sorted(found, key=lambda entry: entry[:-1])]


def _pictures(path: Path, arm: str, site: str) -> list[Picture]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return [_picture(arrays, i, arm, site) for i in range(_n_pictures(arrays))]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        fix = f"remove {path.name} and write the report again"
        want = "2D images of numbers with masks of the same shape"
        what = f"{path} of a run folder"
        raise UsageError("U11", what, found=str(error), want=want, fix=fix) from error


def _n_pictures(arrays: Any) -> int:
    n = 0
    while n < _PER_SITE and f"image_{n}" in arrays:
        n += 1
    return n


def _picture(arrays: Any, number: int, arm: str, site: str) -> Picture:
    def get(name: str) -> NDArray[Any] | None:
        found: NDArray[Any] | None = arrays.get(f"{name}_{number}")
        return found

    image, truth, predicted, caption = map(get, ("image", "truth", "predicted", "caption"))
    masks = [mask for mask in (truth, predicted) if mask is not None]
    if image is None or image.ndim != 2 or any(mask.shape != image.shape for mask in masks):
        raise ValueError(f"image_{number} that is not 2D, or a mask of another shape")
    text = "" if caption is None else str(caption)
    return Picture(arm, site, number, text, image, truth, predicted)


def shown(pictures: Sequence[Picture]) -> tuple[list[list[Shown]], int]:
    """Return the pictures that fit into a page, by site and number, and how many did not.

    Those that come first fit first: every site is seen before any is seen twice.
    """
    groups: dict[tuple[int, str], list[Shown]] = {}
    n_bytes = n_shown = 0
    for picture in pictures:
        address = _address(picture)
        n_bytes += len(address)
        if n_bytes > MAX_BYTES:
            break
        n_shown += 1
        has_outlines = picture.truth is not None or picture.predicted is not None
        one = Shown(picture.arm, picture.site, picture.caption, address, has_outlines)
        groups.setdefault((picture.number, picture.site), []).append(one)
    return list(groups.values()), len(pictures) - n_shown


def _address(picture: Picture) -> str:
    drawn = png(picture.image, picture.truth, picture.predicted)
    return "data:image/png;base64," + base64.b64encode(drawn).decode()


def png(image: NDArray[Any], truth: NDArray[Any] | None, predicted: NDArray[Any] | None) -> bytes:
    """Return an image as a PNG file, with the outlines of two label maps of its shape ``(H, W)``.

    Args:
        image: Any units; values that are not finite are left out of its gray window.
        truth: Labels whose outlines are solid, in ``TRUTH_COLOR``.
        predicted: Labels whose outlines are dashed, in ``PREDICTED_COLOR``.
    """
    height, width = image.shape
    inch = _WIDTH_INCH * min(2.0, max(0.5, height / width))
    figure = Figure(figsize=(_WIDTH_INCH, inch), dpi=_DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    low, high = _window(image)
    axes.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    _outline(axes, truth, TRUTH_COLOR, "solid")
    _outline(axes, predicted, PREDICTED_COLOR, (0, (3, 1.5)))
    file = io.BytesIO()
    figure.savefig(file, format="png", facecolor="black", metadata={"Software": None})
    return _small(file)


def _window(image: NDArray[Any]) -> tuple[float, float]:
    values = image[np.isfinite(image)]
    if values.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(values, [1, 99.5])
    return float(low), float(high) if high > low else float(low) + 1.0


def _outline(axes: Any, mask: NDArray[Any] | None, color: str, dashes: Any) -> None:
    if mask is None:
        return
    for label in np.unique(mask[mask > 0]):
        is_label = np.pad(mask == label, 1).astype(float)  # closed where a mask meets the border
        x, y = np.arange(-1, mask.shape[1] + 1), np.arange(-1, mask.shape[0] + 1)
        lines = axes.contour(x, y, is_label, levels=[0.5], colors=[color], linestyles=[dashes])
        lines.set_linewidth(1.6)
        lines.set_path_effects([withStroke(linewidth=3, foreground="#000000b0")])
    axes.set_xlim(-0.5, mask.shape[1] - 0.5)
    axes.set_ylim(mask.shape[0] - 0.5, -0.5)


def _small(file: io.BytesIO) -> bytes:
    """Return a PNG with one byte a pixel: greys stay grey, outlines keep their colours."""
    file.seek(0)
    small = io.BytesIO()
    with Image.open(file) as image:
        indexed = image.convert("RGB").quantize(palette=_palette(), dither=Image.Dither.NONE)
        indexed.save(small, format="PNG", optimize=True)
    return small.getvalue()


@cache
def _palette() -> Image.Image:
    """Return 64 greys, and of each outline's colour 64 tones that edges blend into."""
    greys = np.repeat(np.linspace(0, 255, 64)[:, None], 3, axis=1)
    tones = [_tones(ImageColor.getrgb(color)) for color in (TRUTH_COLOR, PREDICTED_COLOR)]
    colors = np.concatenate([greys, *tones]).round().astype(np.uint8)
    palette = Image.new("P", (1, 1))
    palette.putpalette(colors.tobytes())
    return palette


def _tones(color: Sequence[int]) -> NDArray[np.float64]:
    """Return a colour in eight shares, each mixed with eight greys."""
    shares = np.linspace(0.25, 1, 8)[:, None, None]
    greys = np.linspace(0, 255, 8)[None, :, None]
    mixed: NDArray[np.float64] = shares * np.asarray(color, float) + (1 - shares) * greys
    return mixed.reshape(-1, 3)
