"""Federated Nyúl: the landmarks of the pooled images, from sums."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from torchio.transforms import HistogramStandardization

from fedmri.errors import HarmonizeError
from fedmri.harmonize.images.nyul import (
    LANDMARKS,
    N_SKIPPED,
    USED,
    Image,
    NyulSums,
    Standardised,
    map_through,
    standard_percentiles,
)
from fedmri.harmonize.sums import run, version


def images(n: int = 9, seed: int = 0) -> list[Image]:
    """Return images of one channel, each with a scale, a shape and air of its own."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(n):
        image = rng.gamma(2 + number % 3, 50 * (1 + number), (1, 12, 12, 12)).astype(np.float32)
        image[:, :3] = 0
        made.append(image)
    return made


def standardise(image: Image, landmarks: NDArray[np.float64]) -> Image:
    """Return an image of one channel at the landmarks."""
    standard: Image = Standardised({LANDMARKS: landmarks[None]})("a", image, image)[0]
    return standard


def torchio_landmarks(folder: Path, of: list[Image]) -> NDArray[np.float64]:
    """Return what TorchIO's pooled training gives for the same images."""
    paths = []
    for number, image in enumerate(of):
        paths.append(folder / f"{number}.nii")
        nib.save(nib.Nifti1Image(image[0], np.eye(4)), paths[-1])
    return HistogramStandardization.train(
        paths, masking_function=lambda tensor: tensor.numpy() != 0, progress=False
    )


@pytest.mark.parametrize("cuts", [(), (3,), (2, 3, 7), tuple(range(1, 9))])
def test_sums_over_sites_are_torchios_pooled_training(
    cuts: tuple[int, ...], tmp_path: Path
) -> None:
    """However the images lie at sites, the landmarks are those of all images in one place."""
    every = images()
    ends = (0, *cuts, len(every))
    sites = [every[start:end] for start, end in itertools.pairwise(ends)]
    found = run(NyulSums(1), sites)
    assert np.abs(found[LANDMARKS][0] - torchio_landmarks(tmp_path, every)).max() < 1e-10


def test_the_oracles_landmarks_and_images_are_equalled() -> None:
    """Within 1e-10 of the pooled landmarks, and of TorchIO's image within its float32."""
    if "FEDMRI_TEST_DATA" not in os.environ:
        pytest.skip("FEDMRI_TEST_DATA names no folder of shared data")
    path = Path(os.environ["FEDMRI_TEST_DATA"]).parent / "oracles" / "nyul" / "nyul.npz"
    oracle = np.load(path)
    pairs = zip(oracle["images"], oracle["masks"], strict=True)
    standard = [standard_percentiles(image[mask]) for image, mask in pairs]
    mean = np.mean([one for one in standard if one is not None], axis=0)
    assert np.abs(mean - oracle["pooled"]).max() < 1e-10
    image, mask = oracle["images"][0], oracle["masks"][0]
    own = np.percentile(image[mask], oracle["percentiles"])
    mapped = map_through(image.ravel().astype(np.float64), own[USED], oracle["pooled"][USED])
    assert np.abs(mapped - oracle["transformed_s0"].ravel()).max() < 1e-4


def test_sites_can_count_the_same() -> None:
    """A site of one image and one of eight: the mean of their means, not of the images."""
    every = images()
    found = run(NyulSums(1, is_site_weighted=True), [every[:1], every[1:], []])[LANDMARKS]
    own = [run(NyulSums(1), [part])[LANDMARKS] for part in (every[:1], every[1:])]
    assert np.allclose(found, (own[0] + own[1]) / 2, atol=1e-12)


def test_an_image_without_contrast_is_skipped_and_counted() -> None:
    """TorchIO's landmarks would all be NaN for one such image."""
    every = images(3)
    constant, empty = np.full((1, 4, 4, 4), 7, np.float32), np.zeros((1, 4, 4, 4), np.float32)
    sums = NyulSums(1).site_sums(0, [*every, constant, empty], {})
    assert sums[N_SKIPPED].tolist() == [2]
    assert np.array_equal(
        run(NyulSums(1), [[*every, constant]])[LANDMARKS], run(NyulSums(1), [every])[LANDMARKS]
    )
    assert not standardise(constant, np.arange(13.0)).any()


def test_no_image_at_all_is_refused() -> None:
    """No landmarks are invented."""
    with pytest.raises(HarmonizeError, match=r"landmarks of channel 0: found none.*\[H20\]"):
        run(NyulSums(1), [[], []])


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_an_images_own_scale_does_not_matter(scale: float) -> None:
    """A map in units of 1e-6 keeps all of its values: TorchIO's limit of 1e-5 would flatten it."""
    every = images()
    landmarks = run(NyulSums(1), [every])[LANDMARKS][0]
    scaled = (every[0] * np.float32(scale)).astype(np.float32)
    assert np.allclose(standardise(scaled, landmarks), standardise(every[0], landmarks), atol=1e-4)
    assert len(np.unique(standardise(scaled, landmarks))) > 1000


def test_histograms_lie_on_each_other_afterwards() -> None:
    """Percentiles that were apart by their own scale are the same, and air is still air."""
    every = images()
    landmarks = run(NyulSums(1), [every])[LANDMARKS][0]
    after = [standardise(image, landmarks) for image in every]
    middles = [np.percentile(image[image != 0], [1, 10, 50, 90, 99]) for image in after]
    assert np.ptp(middles, axis=0).max() < 1e-3
    assert not after[0][:3].any()
    quartiles = np.mean([np.percentile(image[image != 0], [25, 75]) for image in after], axis=0)
    assert 1.0 < quartiles[1] - quartiles[0] < 1.7  # about 1.349, as of a unit normal


def test_channels_have_landmarks_of_their_own() -> None:
    """A missing modality, all zero, takes no part in its channel's landmarks."""
    one, two = images(4, 0), images(4, 1)
    both = [np.concatenate([a, b]) for a, b in zip(one, two, strict=True)]
    both[3][1] = 0
    found = run(NyulSums(2), [both])[LANDMARKS]
    assert np.array_equal(found[0], run(NyulSums(1), [one])[LANDMARKS][0])
    assert np.array_equal(found[1], run(NyulSums(1), [two[:3]])[LANDMARKS][0])


def test_a_version_names_the_parameters() -> None:
    """Other images, other landmarks, another version; the same ones, the same."""
    first, again, other = (run(NyulSums(1), [images(5, seed)]) for seed in (0, 0, 1))
    assert version(first) == version(again) != version(other)


def test_slices_look_as_in_their_volume() -> None:
    """A slice, and a stack of neighbours, is mapped by the percentiles of the whole scan."""
    both = np.concatenate([images(1, 0)[0], images(1, 1)[0]])
    standard = Standardised(run(NyulSums(2), [[both]]))
    whole = standard("a", both, both)
    neighbours = both[:, 4:7].reshape(6, 12, 12)
    assert np.array_equal(standard("a", both, neighbours), whole[:, 4:7].reshape(6, 12, 12))
