"""Maps over the image, as one picture a scan. It stays at the site."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

_INCH, _DPI, _OPAQUE = 2.6, 130, 0.55


def overlay(image: np.ndarray, maps: Mapping[str, np.ndarray], caption: str) -> bytes:
    """Return a PNG: the plane where maps are strongest, without and with each map.

    Args:
        image: First modality, planes along the first axis, shape ``(n, H, W)``.
        maps: By method, of the same shape, not negative.
        caption: Line above.
    """
    index = _strongest(maps, len(image))
    figure = Figure((_INCH * (1 + len(maps)), _INCH + 0.4), dpi=_DPI)
    axes = figure.subplots(1, 1 + len(maps), squeeze=False)[0]
    for axis, (name, values) in zip(axes, {"image": None, **maps}.items(), strict=True):
        axis.imshow(np.rot90(image[index]), cmap="gray")
        if values is not None:
            plane = np.rot90(values[index])
            top = max(float(values.max()), 1e-12)
            axis.imshow(plane / top, cmap="inferno", alpha=_OPAQUE * (plane / top), vmin=0, vmax=1)
        axis.set_title(name, fontsize=8)
        axis.set_axis_off()
    figure.suptitle(caption, fontsize=8)
    whole = io.BytesIO()
    figure.savefig(whole, format="png", metadata={"Software": None})
    return whole.getvalue()


def _strongest(maps: Mapping[str, np.ndarray], n_planes: int) -> int:
    total = np.zeros(n_planes)
    for values in maps.values():
        total += values.reshape(n_planes, -1).sum(1) / max(float(values.sum()), 1e-12)
    return int(total.argmax()) if total.any() else n_planes // 2
