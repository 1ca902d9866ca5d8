"""What an image looks like, in bits: equal for copies, near for stored-again copies.

The fingerprint of a plane is the 256-bit perceptual hash of imagehash: signs of the 16 x 16 lowest
cosine coefficients of the plane at 32 x 32 pixels. A volume has three planes: the middle ones in
canonical (RAS+) orientation.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from itertools import product

import imagehash
import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Bits = NDArray[np.bool_]

HASH_SIZE = 16
PLANE_BITS = HASH_SIZE**2
N_BANDS = 4
BLOCK = 2048
PERCENTILES = (0.5, 99.5)


def planes(voxels: NDArray[np.float32], affine: NDArray[np.float64]) -> list[NDArray[np.uint8]]:
    """Return gray planes of an image: itself, or the middle planes of a volume.

    Args:
        voxels: Shape ``(H, W)`` or ``(X, Y, Z)``, finite.
        affine: From voxel to world.

    Returns:
        One plane, or the sagittal, the coronal and the axial plane, scaled between percentiles.
    """
    if voxels.ndim == 2:
        return [_gray(voxels)]
    turned = nib.apply_orientation(voxels, nib.io_orientation(affine))
    return [_gray(np.take(turned, turned.shape[axis] // 2, axis=axis)) for axis in range(3)]


def fingerprint(gray: list[NDArray[np.uint8]]) -> Bits:
    """Return the perceptual hash of planes, shape ``(256 * planes,)``.

    Source:
        Zauner 2010, Implementation and benchmarking of perceptual image hash functions (the hash
        of the cosine transform, as imagehash computes it).
    """
    hashes = [
        imagehash.phash(Image.fromarray(plane), hash_size=HASH_SIZE, highfreq_factor=2)
        for plane in gray
    ]
    return np.concatenate([one.hash.ravel() for one in hashes])


def near_pairs(prints: NDArray[np.bool_], distance: int) -> Iterator[tuple[int, int]]:
    """Yield the pairs of images that are near, or of which one is near the other's mirror image.

    A mirrored copy is what augmentation before the split leaves behind. Mirroring an axis of a
    plane changes the sign of its odd cosine coefficients, so the mirror's bits are known.

    Args:
        prints: Fingerprints, shape ``(n, bits)``.
        distance: Bits of 256 that may differ, on the mean over planes.

    Yields:
        Pairs ``(i, j)`` with ``i < j``; a pair may come more than once.
    """
    signs = np.where(prints, np.float32(1), np.float32(-1))
    n_bits = prints.shape[1]
    least = n_bits - 2 * distance * (n_bits // PLANE_BITS)  # agreeing bits less the others
    for start, mirror in product(range(0, len(signs), BLOCK), mirrors(n_bits // PLANE_BITS)):
        agreement = (signs[start : start + BLOCK] * mirror) @ signs[start:].T
        rows, columns = np.nonzero(agreement >= least)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            if row < column:
                yield start + row, start + column


def mirrors(n_planes: int) -> list[NDArray[np.float32]]:
    """Return what each mirroring does to the signs of a fingerprint, first that of none.

    A picture is mirrored along either side or both. A volume is mirrored along one axis, which two
    of its three planes show.
    """
    odd = np.where(np.arange(HASH_SIZE) % 2, np.float32(-1), np.float32(1))
    flat = np.ones(HASH_SIZE, dtype=np.float32)
    none, rows = np.outer(flat, flat), np.outer(odd, flat)
    if n_planes == 1:
        turns = [[none], [rows], [rows.T], [np.outer(odd, odd)]]
    else:  # planes of (y, z), (x, z) and (x, y)
        turns = [[none] * 3, [none, rows, rows], [rows, none, rows.T], [rows.T, rows.T, none]]
    return [np.concatenate([plane.ravel() for plane in planes]) for planes in turns]


def keyed_codes(print_: Bits, key: str) -> tuple[str, ...]:
    """Return codes of an image that hospitals with one key can compare without showing it.

    Each plane's bits are cut into four bands, and each band is hashed with the key (HMAC-SHA256).
    Two images are suspected copies when any code of theirs is equal: with up to three bits of
    difference a band is always left equal. A holder of the key can test whether an image it has
    is among another's; who has no key learns nothing but the number of images.

    Args:
        print_: Fingerprint, shape ``(bits,)``.
        key: The shared secret.

    Returns:
        Hexadecimal codes, four per plane.
    """
    bands = np.split(print_, len(print_) * N_BANDS // PLANE_BITS)
    content = [bytes([index]) + np.packbits(band).tobytes() for index, band in enumerate(bands)]
    return tuple(hmac.new(key.encode(), band, hashlib.sha256).hexdigest() for band in content)


def _gray(plane: NDArray[np.float32]) -> NDArray[np.uint8]:
    low, high = np.percentile(plane, PERCENTILES)
    scale = 255 / (high - low) if high > low else 0.0
    gray: NDArray[np.uint8] = np.clip((plane - low) * scale, 0, 255).astype(np.uint8)
    return gray
