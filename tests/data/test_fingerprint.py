"""Fingerprints bring copies together and keep patients apart."""

from __future__ import annotations

import io
import os
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from fedmri.data.checks.ct import is_hounsfield, looks_like_ct
from fedmri.data.checks.fingerprint import (
    PLANE_BITS,
    fingerprint,
    keyed_codes,
    near_pairs,
    planes,
)
from fedmri.data.files.volume import load_image
from tests.data.worlds import AFFINE

DATA = os.environ.get("FEDMRI_TEST_DATA", "")
real_data = pytest.mark.skipif(not DATA, reason="FEDMRI_TEST_DATA is not set")
DEFAULT_DISTANCE = 4

LISTED = [  # axial slices with a whole skull, looked at one by one
    "sartaj/notumor/tr_image_12.jpg",
    "sartaj/notumor/te_image_103.jpg",
    "sartaj/notumor/tr_image_248.jpg",
    "sartaj/notumor/te_image_89.jpg",
    "br35h/notumor/3872.jpg",
]


def sharp(seed: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return noise in which every cosine coefficient counts."""
    return np.random.default_rng(seed).normal(500, 100, shape).astype(np.float32)


def print_of(voxels: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the fingerprint of an image."""
    return fingerprint(planes(voxels, AFFINE))


@pytest.mark.parametrize(("shape", "n_planes"), [((40, 40), 1), ((24, 24, 24), 3)])
def test_a_fingerprint_has_256_bits_a_plane(shape: tuple[int, ...], n_planes: int) -> None:
    """A picture has one plane, a volume three."""
    assert print_of(sharp(0, shape)).shape == (n_planes * PLANE_BITS,)


def test_brightness_and_contrast_do_not_matter() -> None:
    """Another rescale slope does not hide a copy."""
    voxels = sharp(0, (24, 24, 24))
    apart = print_of(voxels) != print_of(3 * voxels - 200)
    assert apart.mean() <= DEFAULT_DISTANCE / PLANE_BITS


def test_the_order_of_axes_does_not_matter() -> None:
    """A volume stored in another orientation is the same patient."""
    voxels = sharp(0, (20, 24, 28))
    turned = voxels.transpose(2, 0, 1)[::-1]
    affine = AFFINE[:, [2, 0, 1, 3]] * np.array([-1, 1, 1, 1])
    assert np.array_equal(fingerprint(planes(turned, affine)), print_of(voxels))


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 40), st.integers(0, 32), st.integers(0, 2**32 - 1))
def test_near_pairs_are_those_that_comparing_one_by_one_finds(
    n_images: int, distance: int, seed: int
) -> None:
    """The matrix product is a shortcut, not another rule."""
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 2, (3, PLANE_BITS)).astype(bool)
    prints = base[rng.integers(0, 3, n_images)] ^ (rng.random((n_images, PLANE_BITS)) < 0.04)
    slow = {
        (i, j)
        for i, j in combinations(range(n_images), 2)
        if (prints[i] != prints[j]).sum() <= distance
    }
    assert set(near_pairs(prints, distance)) == slow


def test_keyed_codes_of_near_copies_meet_and_of_others_do_not() -> None:
    """Three bits of difference always leave one band of four; another key leaves nothing."""
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 2, (2, PLANE_BITS)).astype(bool)
    near = one.copy()
    near[[3, 70, 140]] ^= True  # three bands of 64 bits
    assert set(keyed_codes(one, "k")) & set(keyed_codes(near, "k"))
    assert not set(keyed_codes(one, "k")) & set(keyed_codes(other, "k"))
    assert not set(keyed_codes(one, "k")) & set(keyed_codes(one, "another"))


def head(skull: int, scalp: int, gap: int) -> NDArray[np.uint8]:
    """Return an axial head: scalp, a ring of bone, a gap, and an even brain of 90."""
    rows, columns = np.mgrid[-80:80, -80:80]
    radius = np.hypot(rows, columns * 1.2)
    brain = 90 + 8 * ndimage.gaussian_filter(
        np.random.default_rng(0).standard_normal((160, 160)), 2
    )
    rings = [(58, brain), (62, gap), (70, skull), (74, scalp)]
    image = np.zeros((160, 160))
    for outer, value in reversed(rings):
        image = np.where(radius < outer, value, image)
    return image.astype(np.uint8)


def test_bone_against_brain_is_ct_and_fat_around_a_dark_skull_is_mri() -> None:
    """CT is bright ring and brain; MRI has the dark skull between them."""
    assert looks_like_ct(head(skull=255, scalp=60, gap=90))
    assert not looks_like_ct(head(skull=255, scalp=255, gap=10))
    assert not looks_like_ct(head(skull=255, scalp=255, gap=40))
    assert not looks_like_ct(np.zeros((40, 40), np.uint8))


def test_hounsfield_units_are_ct() -> None:
    """No MRI has a tenth of its voxels near -1000."""
    air = np.full((10, 20, 20), -1000, np.float32)
    assert is_hounsfield(air)
    assert not is_hounsfield(-air)


@real_data
def test_real_ct_slices_are_listed() -> None:
    """Five CT slices among real MRI, seen to be CT by eye."""
    found = [looks_like_ct(planes(*load_image(Path(DATA, "tumor2d", name)))[0]) for name in LISTED]
    assert found == [True] * len(LISTED)


@real_data
def test_real_mri_is_not_taken_for_ct_and_patients_are_kept_apart() -> None:
    """Every eighth image of Cheng, all MRI: no suspect, no near copy across patients."""
    lines = Path(DATA, "tumor2d/cheng/participants.tsv").read_text().splitlines()[1::8]
    rows = [line.split("\t") for line in lines]
    gray = [planes(*load_image(Path(DATA, "tumor2d/cheng", row[0]))) for row in rows]
    assert not any(looks_like_ct(one[0]) for one in gray)
    prints = np.stack([fingerprint(one) for one in gray])
    across = [(i, j) for i, j in near_pairs(prints, 12) if rows[i][2] != rows[j][2]]
    assert across == []


@real_data
@pytest.mark.parametrize("quality", [50, 90])
def test_storing_a_real_image_again_leaves_it_near(quality: int) -> None:
    """JPEG of another quality and 80 % of the size is still the same image for 9 of 10."""
    paths = sorted(Path(DATA, "tumor2d/cheng/glioma").iterdir())[::60]
    n_near = 0
    for path in paths:
        stream = io.BytesIO()
        with Image.open(path) as image:
            smaller = image.resize([int(0.8 * side) for side in image.size])
            smaller.save(stream, "JPEG", quality=quality)
        again = np.asarray(Image.open(stream), dtype=np.float32)
        pair = np.stack([print_of(load_image(path)[0]), print_of(again)])
        n_near += len(list(near_pairs(pair, 12)))
    assert n_near >= 0.9 * len(paths)
