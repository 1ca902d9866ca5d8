"""Which images among MRI look like CT of the head.

Caught: Hounsfield units (air near -1000), and axial pictures in a brain or bone window, where the
skull is a closed, saturated ring with the brain directly inside. In MRI the bright ring is fat of
the scalp, and the dark ring of the skull lies between it and the brain.
Missed: CT of the face and the skull base, cut-off heads, sagittal and coronal pictures, soft tissue
windows without a saturated skull, skull-stripped CT. Mistaken for CT: MRI whose contrast was pushed
until scalp and brain rim saturate. It lists suspects, a person decides.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

AIR_HU = -900.0
BRIGHT = 0.9
HEAD = 0.1
MIN_INSIDE = 0.35
MIN_RIM = 0.9
RIM_PX = (1.0, 5.0)
DEEP_PX = 2.0
DEEP_SHARE = 0.12
MIN_DEEP_PX = 20


def is_hounsfield(voxels: NDArray[np.float32]) -> bool:
    """Tell whether a volume is in Hounsfield units: a tenth of it is air, near -1000."""
    return bool(np.quantile(voxels[::4], 0.1) <= AIR_HU)


def looks_like_ct(gray: NDArray[np.uint8]) -> bool:
    """Tell whether a gray axial plane looks like CT.

    Args:
        gray: Shape ``(H, W)``.

    Returns:
        Whether a closed ring of the brightest pixels encloses more than a third of the head, and
        the rim just inside of it is not darker than what lies deeper.
    """
    top = float(np.percentile(gray, 99.5))
    if top == 0:
        return False
    image = np.minimum(gray / np.float32(top), 1)
    inside = _inside_of_ring(image)
    if inside is None:
        return False
    filled = ndimage.binary_fill_holes(inside)
    depth = ndimage.distance_transform_edt(filled)
    deep_px = DEEP_PX + DEEP_SHARE * np.sqrt(filled.sum() / np.pi)
    deep = image[inside & (depth > deep_px)]
    rim = image[inside & (depth > RIM_PX[0]) & (depth <= RIM_PX[1])]
    if deep.size < MIN_DEEP_PX or rim.size < MIN_DEEP_PX:
        return False
    return bool(np.median(rim) >= MIN_RIM * np.median(deep))


def _inside_of_ring(image: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """Return what a closed bright ring encloses, or None where it is too little of the head."""
    head = image > HEAD
    if _enclosed(image >= BRIGHT).sum() < MIN_INSIDE * head.sum() / 2:  # must close by itself
        return None
    whole = ndimage.binary_fill_holes(_largest(head))
    enclosed = _enclosed(ndimage.binary_closing(image >= BRIGHT) & whole)
    inside = _largest(ndimage.binary_opening(enclosed))
    return inside if inside.sum() > MIN_INSIDE * whole.sum() else None


def _enclosed(ring: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return what lies outside of a mask and cannot reach the border without crossing it."""
    labels, _ = ndimage.label(~ring)
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    is_free = np.zeros(labels.max() + 1, dtype=np.bool_)
    is_free[border] = True
    is_free[0] = True  # the ring itself
    enclosed: NDArray[np.bool_] = ~is_free[labels]
    return enclosed


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    labels, n_parts = ndimage.label(mask)
    if n_parts == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest: NDArray[np.bool_] = labels == sizes.argmax()
    return largest
