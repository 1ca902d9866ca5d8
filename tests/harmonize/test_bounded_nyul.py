"""Landmarks from bounded sums: nobody adds more than the bound, and noise does what it says."""

from __future__ import annotations

import numpy as np
import pytest

from fedmri.config import load
from fedmri.errors import ConfigError, HarmonizeError
from fedmri.harmonize.images.bounded_nyul import COUNT, SCALE, BoundedNyulSums
from fedmri.harmonize.images.nyul import LANDMARKS, Image, NyulSums
from fedmri.harmonize.sums import Arrays, run
from fedmri.stages.images.nyul import Nyul

RNG = np.random.default_rng(0)
EXTREMES = {
    "two values": np.repeat([1.0, 9.0], [2, 1000]),
    "one outlier": np.r_[np.ones(5), 1e9],
    "mostly low": np.repeat([1.0, 2.0, 9.0], [900, 50, 50]),
    "infinite": np.r_[np.inf, np.arange(1.0, 9)],
    "not a number": np.r_[np.nan, np.arange(1.0, 9)],
    "constant": np.full(9, 3.0),
    "negative": -np.arange(1.0, 40),
}


def image(values: np.ndarray, n_channels: int = 1) -> Image:
    """Return an image with the same values in every channel."""
    return np.tile(values.astype(np.float32), (n_channels, 1))[:, :, None, None]


def normal_images(n: int) -> list[Image]:
    """Return images with a histogram each of its own."""
    return [image(RNG.gamma(2 + i % 3, 5, 200)) for i in range(n)]


def size(sums: Arrays) -> float:
    """Return the L2 norm of all sums as one vector."""
    return float(np.sqrt(sum((values**2).sum() for values in sums.values())))


@pytest.mark.parametrize("n_channels", [1, 3])
@pytest.mark.parametrize("name", EXTREMES)
def test_no_patient_adds_more_than_the_bound(name: str, n_channels: int) -> None:
    """Whatever the images, and however many scans of one patient there are."""
    stage = BoundedNyulSums(n_channels)
    for n_scans in (1, 7):
        with np.errstate(all="ignore"):
            sums = stage.site_sums(0, [[image(EXTREMES[name], n_channels)] * n_scans], {})
        assert size(sums) <= stage.bound * (1 + 1e-12)
        assert all(np.isfinite(values).all() for values in sums.values())


def test_one_scan_a_patient_gives_nyuls_landmarks() -> None:
    """Without noise nothing is lost by the centre, the scale and the order."""
    every = normal_images(9)
    bounded = run(BoundedNyulSums(1), [[[one] for one in every[:4]], [[one] for one in every[4:]]])
    plain = run(NyulSums(1), [every[:4], every[4:]])
    np.testing.assert_allclose(bounded[LANDMARKS], plain[LANDMARKS], atol=1e-10)


def test_each_patient_counts_the_same_whatever_the_number_of_scans() -> None:
    """Seven scans of one and one of another: the mean of two."""
    first, second = normal_images(2)
    found = run(BoundedNyulSums(1), [[[first] * 7, [second]]])
    wanted = run(NyulSums(1), [[first, second]])
    np.testing.assert_allclose(found[LANDMARKS], wanted[LANDMARKS], atol=1e-10)


def test_landmarks_under_heavy_noise_still_ascend() -> None:
    """They stay on the scale, so that every image can be mapped."""
    stage = BoundedNyulSums(2)
    patients = [[np.tile(one, (2, 1, 1, 1))] for one in normal_images(20)]
    sums = stage.site_sums(0, patients, {})
    noise = {name: RNG.normal(0, 400, values.shape) for name, values in sums.items()}
    landmarks = stage.combine(0, {n: v + noise[n] for n, v in sums.items()}, {})[LANDMARKS]
    assert (np.diff(landmarks) >= 0).all()
    assert landmarks.min() == 0
    assert landmarks.max() == 100


def test_noise_that_leaves_nobody_is_refused() -> None:
    """A count of less than one half has no mean."""
    with pytest.raises(HarmonizeError, match=r"0\.3 patients or sites, after the plan's noise"):
        BoundedNyulSums(1).combine(
            0, {LANDMARKS: np.zeros((1, 11)), COUNT: np.array([0.3]) * SCALE}, {}
        )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("stages.nyul.weighting=image",), "a patient of several images"),
        (("stages.nyul.weighting=site", "harmonize=coral"), "other stages"),
    ],
)
def test_noise_on_sums_without_a_bound_is_refused(settings: tuple[str, ...], said: str) -> None:
    """Where nobody knows what a patient adds, no noise hides one."""
    with pytest.raises(ConfigError, match=said):
        load(["experiment=smoke", "stages.nyul.noise_multiplier=1.0", *settings])


def test_a_data_holder_alone_keeps_its_patients_noise_only() -> None:
    """A hospital by itself cannot hide in a sum over hospitals."""
    assert Nyul("patient", noise_multiplier=2).alone().noise == {"patient": 2}
    assert not Nyul("site", noise_multiplier=2).alone().noise
