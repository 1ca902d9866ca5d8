"""Preparation of a scan: one geometry, one scale, whatever the scanner wrote."""

from __future__ import annotations

from itertools import permutations

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmri.data.preparation.head import brain_mask, head_mask
from fedmri.data.preparation.intensity import remove_bias_field
from fedmri.data.preparation.transforms import (
    Opened,
    prepare_arrays,
    volume_shape,
    window,
)
from fedmri.data.settings import PrepareConfig
from fedmri.errors import DataError

SHAPE = (16, 18, 20)
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


def ball(shape: tuple[int, ...], radius: float, shift: float = 0.0) -> np.ndarray:
    """Return where a ball about the centre is, moved along the first axis."""
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    centre = [(n - 1) / 2 for n in shape]
    centre[0] += shift
    squares = [(axis - c) ** 2 for axis, c in zip(axes, centre, strict=True)]
    return np.asarray(sum(squares) <= radius**2)


def head(seed: int = 0) -> Opened:
    """Return a noisy bright ball in dark air."""
    noise = np.random.default_rng(seed).random(SHAPE)
    return Opened(100 * ball(SHAPE, 6) + 10 * noise, AFFINE)


def as_label(image: Opened, threshold: float = 50) -> Opened:
    """Return the label map of what is bright."""
    return Opened((image.values > threshold).astype(np.int16), image.affine)


ORIENTATIONS = ["".join(p) for p in permutations("RAS")] + ["LAS", "LPI", "PIR", "ILA"]


@pytest.mark.parametrize("code", ORIENTATIONS)
def test_the_way_a_file_is_stored_does_not_matter(code: str) -> None:
    """Axes turned and mirrored in file and affine alike show the same head."""
    image = head()
    stored = nib.Nifti1Image(image.values, image.affine)
    goal = nib.orientations.axcodes2ornt(tuple(code))
    turned = stored.as_reoriented(
        nib.orientations.ornt_transform(nib.orientations.io_orientation(image.affine), goal)
    )
    other = Opened(np.asarray(turned.dataobj), turned.affine)
    expected = prepare_arrays([image], as_label(image), PrepareConfig())
    got = prepare_arrays([other], as_label(other), PrepareConfig())
    assert np.array_equal(got.image, expected.image)
    assert got.label is not None
    assert expected.label is not None
    assert np.array_equal(got.label, expected.label)
    assert got.spacing_mm == pytest.approx((2, 2, 3))


def test_z_scores_are_taken_inside_the_head() -> None:
    """Mean 0 and deviation 1 where the head is; air and padding are 0."""
    image = head()
    got = prepare_arrays([image], None, PrepareConfig(shape=(16, 18, 24))).image[0]
    inside = got[:, :, 2:22][ball(SHAPE, 6)]
    assert inside.mean() == pytest.approx(0, abs=1e-5)
    assert inside.std() == pytest.approx(1, abs=1e-5)
    assert np.count_nonzero(got) == ball(SHAPE, 6).sum()


@pytest.mark.parametrize("scaling", ["zscore", "percentile"])
def test_gain_and_offset_of_the_receiver_do_not_matter(scaling: str) -> None:
    """Scanner units are arbitrary: ``7 x + 100`` is prepared as ``x``."""
    image = head()
    config = PrepareConfig(scaling=scaling)  # type: ignore[arg-type]  # parametrized by name
    louder = Opened(7 * image.values + 100, AFFINE)
    expected = prepare_arrays([image], None, config).image
    assert np.allclose(prepare_arrays([louder], None, config).image, expected, atol=1e-4)


def test_percentiles_become_zero_and_one() -> None:
    """What lies beyond the 1st and 99th percentile of the head is clipped."""
    got = prepare_arrays([head()], None, PrepareConfig(scaling="percentile")).image
    inside = got[0][ball(SHAPE, 6)]
    assert (got.min(), got.max()) == (0, 1)
    assert np.mean(inside == 1) == pytest.approx(0.01, abs=0.005)


def test_intensities_are_left_alone_on_request() -> None:
    """Units that mean something, such as quantitative maps, keep it."""
    image = head()
    got = prepare_arrays([image], None, PrepareConfig(scaling="none")).image[0]
    assert np.array_equal(got, image.values.astype(np.float32))


def test_a_stripped_head_is_the_head() -> None:
    """Where air is zero already, the mask is what is not zero, its dark middle included."""
    brain = ball(SHAPE, 7)
    values = np.where(ball(SHAPE, 2), 5.0, 100.0) * brain
    assert np.array_equal(head_mask(values), brain)


def test_bright_specks_in_the_air_are_not_head() -> None:
    """Only the largest part counts, or a ghost would widen the head."""
    values = head().values
    values[0, 0, 0] = values[15, 17, 0] = 500
    assert np.array_equal(head_mask(values), ball(SHAPE, 6))


@given(size=st.integers(1, 60), wanted=st.integers(0, 60), centre=st.floats(0, 60))
def test_a_window_stays_inside_the_image(size: int, wanted: int, centre: float) -> None:
    """It is cropped or padded, never both, and has the size that was asked for."""
    start, before, new = window(size, wanted, min(centre, size - 1))
    assert new == (wanted or size)
    assert 0 <= start <= max(0, size - new)
    assert before == (new - size) // 2 if new > size else before == 0


def test_cropping_follows_the_head() -> None:
    """A head that lies off the centre is still in the crop, as far as it was in the image."""
    values = 100.0 * ball((40, 18, 20), 5, shift=9) + np.arange(20)
    config = PrepareConfig(shape=(12, 12, 12))
    got = prepare_arrays([Opened(values, AFFINE)], None, config)
    assert got.image.shape == (1, 12, 12, 12)
    assert np.count_nonzero(got.image) == ball((40, 18, 20), 5).sum()


def test_labels_follow_the_crop_and_the_padding() -> None:
    """Bright voxels and their label stay together through geometry."""
    image = Opened(100.0 * ball(SHAPE, 5, shift=1.5) + np.arange(20), AFFINE)
    config = PrepareConfig(shape=(12, 24, 14), scaling="none")
    got = prepare_arrays([image], as_label(image), config)
    assert got.label is not None
    assert got.label.dtype == np.uint8
    assert np.array_equal(got.label, (got.image[0] > 50).astype(np.uint8))
    assert got.label.sum() == ball(SHAPE, 5, shift=1.5).sum()


def test_voxels_become_as_large_as_asked() -> None:
    """2 x 2 x 3 mm to 4 mm; a label map keeps its values."""
    image = head()
    label = Opened(3 * (image.values > 50).astype(np.int16), AFFINE)
    got = prepare_arrays([image], label, PrepareConfig(spacing_mm=4))
    assert got.spacing_mm == pytest.approx((4, 4, 4))
    assert got.image.shape == (1, 8, 9, 15)
    assert got.label is not None
    assert set(np.unique(got.label)) == {0, 3}
    volume_mm3 = (got.label > 0).sum() * 64, ball(SHAPE, 6).sum() * 12
    assert volume_mm3[0] == pytest.approx(volume_mm3[1], rel=0.15)


def test_slices_are_resampled_within_their_plane() -> None:
    """Slices are not invented between those that were measured; the slicing axis comes first."""
    config = PrepareConfig(dimension="2d", slice_axis=2, spacing_mm=4)
    got = prepare_arrays([head()], None, config)
    assert got.image.shape == (1, 20, 8, 9)
    assert got.spacing_mm == pytest.approx((3, 4, 4))


def test_a_stack_of_few_slices_is_resampled() -> None:
    """Three thick slices are common; SimpleITK's smoothing refuses fewer than four voxels."""
    thin = Opened(head().values[:, :, 8:11], AFFINE)
    got = prepare_arrays([thin], None, PrepareConfig(dimension="2d", spacing_mm=4))
    assert got.image.shape == (1, 3, 8, 9)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_lie_along_the_axis_that_was_chosen(axis: int) -> None:
    """Slice ``d`` of the result is position ``d`` along that axis of the volume."""
    image = head()
    config = PrepareConfig(dimension="2d", slice_axis=axis, scaling="none")
    got = prepare_arrays([image], as_label(image), config)
    assert got.label is not None
    assert np.array_equal(got.image[0, 4], image.values.take(4, axis).astype(np.float32))
    assert np.array_equal(got.label[4], image.values.take(4, axis) > 50)


def test_a_size_in_the_plane_leaves_the_number_of_slices() -> None:
    """Two numbers after a zero are the plane, wherever the slicing axis is."""
    plane = PrepareConfig(dimension="2d", slice_axis=1, shape=(0, 32, 48))
    assert volume_shape(plane) == (32, 0, 48)
    whole = PrepareConfig(dimension="2d", slice_axis=1, shape=(32, 10, 48))
    assert volume_shape(whole) == (32, 10, 48)


def test_an_absent_modality_is_a_channel_of_zeros() -> None:
    """Channels keep their places whatever is missing."""
    got = prepare_arrays([None, head(), None], None, PrepareConfig(shape=(20, 20, 20))).image
    assert got.shape == (3, 20, 20, 20)
    assert not got[[0, 2]].any()
    assert got[1].any()


def test_modalities_share_the_grid_of_the_first() -> None:
    """A second modality, measured from two voxels further right, is moved back onto the first."""
    image = head()
    affine = AFFINE.copy()
    affine[0, 3] = 4.0  # two voxels of 2 mm
    second = Opened(image.values[2:], affine)
    got = prepare_arrays([image, second], as_label(second), PrepareConfig(scaling="none"))
    assert got.label is not None
    assert np.allclose(got.image[1, 2:], got.image[0, 2:], atol=1e-3)
    assert np.array_equal(got.label[2:], image.values[2:] > 50)


def test_a_bias_field_is_removed() -> None:
    """Even tissue under a coil that is twice as near on one side becomes even again."""
    shape = (32, 32, 32)
    inside = ball(shape, 13)
    drift = np.linspace(0.7, 1.4, 32)[:, None, None]
    noise = np.random.default_rng(0).normal(0, 1, shape)
    values = (100 * drift + noise) * inside
    before, after = values[inside], remove_bias_field(values.astype(np.float32))[inside]
    assert after.std() / after.mean() < 0.3 * before.std() / before.mean()
    assert np.array_equal(after, remove_bias_field(values.astype(np.float32))[inside])


def test_a_scalp_behind_a_dark_gap_is_stripped() -> None:
    """A bright shell that touches the brain by a thin bridge is no brain."""
    shape = (48, 48, 48)
    brain, shell = ball(shape, 14), ball(shape, 22) & ~ball(shape, 19)
    values = 100.0 * brain + 150.0 * shell
    values[36:44, 24, 24] = 100
    got = brain_mask(values, (1.5, 1.5, 1.5))
    overlap = 2 * (got & brain).sum() / (got.sum() + brain.sum())
    assert overlap > 0.95
    stripped = prepare_arrays(
        [Opened(values, np.diag([1.5, 1.5, 1.5, 1]))],
        None,
        PrepareConfig(is_skull_stripped=True, scaling="none"),
    )
    assert not stripped.image[0][shell].any()


def test_a_picture_is_prepared_in_its_plane() -> None:
    """Pictures have no voxel size: nothing is resampled, the last two numbers are the size."""
    picture = Opened(head().values[:, :, 10], np.eye(4))
    config = PrepareConfig(dimension="2d", shape=(0, 24, 12), spacing_mm=5)
    got = prepare_arrays([picture], as_label(picture), config)
    assert got.label is not None
    assert got.image.shape == (1, 24, 12)
    assert got.label.shape == (24, 12)
    assert got.spacing_mm == (1, 1)


@pytest.mark.parametrize("value", [3.0, np.nan], ids=["constant", "nan"])
def test_an_image_that_shows_nothing_is_refused(value: float) -> None:
    """Scaling it would divide by zero."""
    with pytest.raises(DataError, match="D10"):
        prepare_arrays([Opened(np.full(SHAPE, value), AFFINE)], None, PrepareConfig())


def test_a_head_of_one_value_cannot_be_scaled() -> None:
    """A mask that was taken for an image has no contrast inside."""
    with pytest.raises(DataError, match="D10"):
        prepare_arrays([Opened(1.0 * ball(SHAPE, 6), AFFINE)], None, PrepareConfig())
