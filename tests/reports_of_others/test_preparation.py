"""Intensities after preparation: cases that others reported, each with the value that is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from fedmri.data.checks.head_check import look_at_head
from fedmri.data.preparation.head import brain_mask, find_head
from fedmri.data.preparation.intensity import scale

SHAPE = (40, 44, 36)
AXES = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij"))
RADIUS = np.sqrt((AXES[0] / 0.8) ** 2 + (AXES[1] / 0.85) ** 2 + (AXES[2] / 0.8) ** 2)
INSIDE = RADIUS < 1
SHELL = INSIDE & (RADIUS > 0.9)
CENTRE = np.array([0.25, 0.1, 0.1])[:, None, None, None]
LESION = ((AXES - CENTRE) ** 2).sum(0) < 0.2**2
RNG = np.random.default_rng(4)


@dataclass(frozen=True)
class Case:
    """An image and where its tissue lies, both of one shape."""

    values: np.ndarray
    tissue: np.ndarray
    lesion: np.ndarray
    air_is_constant: bool = True


def rician(signal: np.ndarray, sigma: float) -> np.ndarray:
    """Return a magnitude image with noise of a standard deviation in each channel."""
    real, imaginary = RNG.normal(0, sigma, (2, *signal.shape))
    return np.asarray(np.hypot(signal + real, imaginary))


HEAD = np.where(LESION, 700.0, 300 + 80 * np.cos(4 * AXES[1]) + 40 * AXES[2]) * INSIDE
NOISY = rician(HEAD, 8)
BRAIN = np.where(INSIDE, NOISY, 0)
SCORES = (NOISY - NOISY[INSIDE].mean()) / NOISY[INSIDE].std()
MIDDLE = SHAPE[2] // 2


def whole(values: np.ndarray, *, air_is_constant: bool = True) -> Case:
    """Return a case of the full volume."""
    return Case(values, INSIDE, LESION, air_is_constant)


def picture(values: np.ndarray) -> Case:
    """Return a case of one slice."""
    cut = (..., slice(MIDDLE, MIDDLE + 1))
    return Case(values[cut], INSIDE[cut], LESION[cut])


def framed() -> Case:
    """Return a picture in a white frame, as web pages show them."""
    pad = ((4, 4), (4, 4), (0, 0))
    one = picture(NOISY / NOISY.max() * 250)
    values = np.pad(one.values, pad, constant_values=255)
    tissue, lesion = np.pad(one.tissue, pad), np.pad(one.lesion, pad)
    return Case(values, tissue, lesion, air_is_constant=False)


def cropped() -> Case:
    """Return the middle of a head, where no air is."""
    cut = (slice(12, 30), slice(12, 32), slice(10, 26))
    return Case(NOISY[cut], INSIDE[cut], LESION[cut], air_is_constant=False)


CASES: dict[str, tuple[str, Callable[[], Case]]] = {
    "coil shades front to back": ("fmriprep#1000", lambda: whole(NOISY * np.exp(0.7 * AXES[1]))),
    "coil shades tenfold": (
        "fmriprep#1000",
        lambda: whole(NOISY * np.exp(1.15 * AXES[1]), air_is_constant=False),
    ),
    "bright fat": ("fmriprep#911", lambda: whole(np.where(SHELL, 3000 + NOISY, NOISY))),
    "bright lesion": ("fmriprep#911", lambda: whole(np.where(LESION, 5000 + NOISY, NOISY))),
    "stripped, air 0": ("BraTS2017#9", lambda: whole(BRAIN)),
    "stripped, z-scored, air 0": ("nnUNet#143", lambda: whole(np.where(INSIDE, SCORES, 0))),
    "stripped, z-scored, air low": (
        "nnDetection#335",
        lambda: whole(np.where(INSIDE, SCORES, SCORES[INSIDE].min() - 1)),
    ),
    "z-scored with its air": ("nnDetection#335", lambda: whole(SCORES)),
    "all negative": ("nnDetection#335", lambda: whole(NOISY - 2000)),
    "ground of 40": ("nnUNet#2824", lambda: whole(BRAIN + 40)),
    "noisy ground far from 0": ("nnUNet#2824", lambda: whole(NOISY + 1000)),
    "8 bits": ("nnUNet#1025", lambda: whole((NOISY / NOISY.max() * 255).round())),
    "picture": ("nnUNet#1025", lambda: picture(NOISY)),
    "picture of 8 bits": ("nnUNet#1025", lambda: picture((NOISY / NOISY.max() * 255).round())),
    "picture in a white frame": ("nnUNet#1025", framed),
    "no air": ("nnUNet#644", cropped),
}


@pytest.mark.parametrize("name", CASES)
def test_tissue_is_never_set_to_air(name: str) -> None:
    """Neither a lesion nor other tissue gets the constant of air.

    Source: masks by Otsu or by "not zero" that omit dark or shaded tissue, or take a ground that is
    not 0 for tissue: nipreps/fmriprep #1000 and #911, MIC-DKFZ/BraTS2017 #9, MIC-DKFZ/nnUNet #143,
    #644, #1025 and #2824, MIC-DKFZ/nnDetection #335. ``CASES`` names the one of each case.
    """
    case = CASES[name][1]()
    scores = scale(case.values.astype(np.float32), "zscore")
    assert not (scores[case.lesion] == 0).any()
    assert not (scores[case.tissue] == 0).any()
    if case.air_is_constant:
        assert (scores[~case.tissue] == 0).mean() > 0.9
    inside = scores[case.tissue]
    assert np.corrcoef(inside, case.values[case.tissue])[0, 1] > 0.999


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "seven times": lambda values: 7 * values,
    "plus 300": lambda values: values + 300,
    "minus 900": lambda values: values - 900,
    "z-scored": lambda values: (values - values.mean()) / values.std(),
}


@pytest.mark.parametrize("scaling", ["zscore", "percentile"])
@pytest.mark.parametrize("change", CHANGES)
def test_units_do_not_matter(change: str, scaling: str) -> None:
    """Units of a receiver or of an earlier program are scaled away.

    Source: MIC-DKFZ/nnDetection #335 (negative units), MIC-DKFZ/nnUNet #2824 (grounds that differ).
    """
    want = scale(NOISY.astype(np.float32), scaling)
    got = scale(CHANGES[change](NOISY).astype(np.float32), scaling)
    assert np.isclose(got, want, atol=2e-2).mean() > 0.999


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_mirrored_head_is_scaled_alike(axis: int) -> None:
    """Left and right, front and back have no part in the scale (nipreps/fmriprep #1000)."""
    want = np.flip(scale(NOISY.astype(np.float32), "zscore"), axis)
    got = scale(np.flip(NOISY, axis).astype(np.float32), "zscore")
    assert np.allclose(got, want, atol=1e-4)


@pytest.mark.parametrize("fill", ["zeros", "noise"])
def test_more_air_changes_nothing(fill: str) -> None:
    """A larger field of view shows the same head (MIC-DKFZ/nnUNet #1025)."""
    size = tuple(n + 10 for n in SHAPE)
    padded = np.zeros(size) if fill == "zeros" else rician(np.zeros(size), 8)
    centre = (slice(5, -5),) * 3
    padded[centre] = NOISY
    want = scale(NOISY.astype(np.float32), "zscore")[INSIDE]
    got = scale(padded.astype(np.float32), "zscore")[centre][INSIDE]
    assert np.allclose(got, want, atol=0.1)


def test_scaling_twice_is_scaling_once() -> None:
    """What is z-scored already, with air at 0, keeps its scores (MIC-DKFZ/nnUNet #143)."""
    once = scale(NOISY.astype(np.float32), "zscore")
    twice = scale(once, "zscore")
    assert np.allclose(twice[INSIDE], once[INSIDE], atol=0.05)
    assert not (twice[INSIDE] == 0).any()


@pytest.mark.parametrize("level", [0.0, 0.03, 0.1])
def test_dark_fluid_at_the_rim_of_a_stripped_brain_stays(level: float) -> None:
    """Fluid between a brain and the zeros around it is not air (MIC-DKFZ/BraTS2017 #9)."""
    fluid = INSIDE & (RADIUS > 0.85) & (AXES[1] > 0)
    dark = 10 + 300 * level + RNG.normal(0, 2, SHAPE)
    values = np.where(fluid, dark, BRAIN).astype(np.float32)
    assert not (scale(values, "zscore")[INSIDE] == 0).any()


def test_a_label_beside_the_head_is_said() -> None:
    """A mask of another image is seen by its share outside the head (MIC-DKFZ/nnUNet #486)."""
    look = look_at_head(NOISY)
    assert look.label_finding("T1w", "mask", LESION) is None
    half = LESION.copy()
    half[:6, :6, :6] = True
    said = look.label_finding("T1w", "mask", half)
    share = 6**3 / half.sum()
    assert said is not None
    assert f"{share:.1%}" in said


def test_a_crop_without_air_is_no_fault() -> None:
    """A crop shows no air, and all of it is head (MIC-DKFZ/nnUNet #644)."""
    assert look_at_head(NOISY).share_finding("T1w") is None
    assert look_at_head(cropped().values).mask.all()
    assert look_at_head(cropped().values).share_finding("T1w") is None


def test_bright_fat_is_not_taken_for_the_brain() -> None:
    """A scalp ten times as bright leaves the brain (nipreps/fmriprep #911)."""
    gap = INSIDE & (RADIUS > 0.7) & (RADIUS <= 0.9)
    values = np.where(SHELL, 3000, np.where(gap, 15, NOISY)).astype(np.float32)
    brain = brain_mask(values, (4.0, 4.0, 4.0))
    assert brain[RADIUS < 0.6].all()
    assert find_head(values).mask[RADIUS < 0.6].all()


def spoiled(name: str) -> np.ndarray:
    """Return the image with values that no tissue has."""
    values = NOISY.copy()
    if name == "one bright voxel":
        values[20, 22, 18] = 1e9
    elif name == "spikes":
        values[tuple(np.argwhere(INSIDE)[::800].T)] = 1e6
    elif name == "bright voxel in air":
        values[1, 1, 1] = 1e6
    else:
        values[:4, :4] = -32768
    return values


@pytest.mark.parametrize("name", ["one bright voxel", "spikes", "bright voxel in air", "corner"])
def test_values_of_no_tissue_flatten_no_other(name: str) -> None:
    """A spike or a fill value took mean and deviation with it, and the head became one gray.

    Source: MIC-DKFZ/nnUNet #2824 (fill values), MICA-MNI/z-brains #32 (scores of outliers).
    """
    values = spoiled(name)
    is_same = values == NOISY
    scores = scale(values.astype(np.float32), "zscore")
    inside = scores[INSIDE & is_same]
    assert inside.std() == pytest.approx(1, abs=0.6 if name == "corner" else 0.1)
    assert np.corrcoef(inside, NOISY[INSIDE & is_same])[0, 1] > 0.999
    assert np.abs(scores).max() < 100


def test_noise_brighter_than_tissue_is_no_head() -> None:
    """In a T1 map, air is noise up to the highest value, and tissue between it is no air.

    Source: nipreps/fmriprep #911 (thresholds that take the wrong side), MIC-DKFZ/nnUNet #2824.
    """
    noise = np.random.default_rng(5).uniform(0, 5000, SHAPE)
    values = np.where(INSIDE, 800 + 3 * NOISY, noise)
    scores = scale(values.astype(np.float32), "zscore")
    assert not (scores[INSIDE] == 0).any()
    assert np.corrcoef(scores[INSIDE], values[INSIDE])[0, 1] > 0.999


QUANTITIES = {
    "T1 in ms": np.where(INSIDE, 800 + 3 * NOISY, 0),
    "ADC in 1e-6 mm2/s": np.where(INSIDE, 700 + NOISY, 0),
    "ADC in mm2/s": np.where(INSIDE, (700 + NOISY) * 1e-6, 0),
    "padded with 0": np.pad(NOISY, 20),
}


@pytest.mark.parametrize("name", QUANTITIES)
def test_units_of_a_map_are_scaled_away(name: str) -> None:
    """Maps of quantities have mean 0 and deviation 1 in the head, whatever they count in."""
    values = QUANTITIES[name]
    inside = np.pad(INSIDE, 20) if values.shape != SHAPE else INSIDE
    scores = scale(values.astype(np.float32), "zscore")
    assert scores[inside].mean() == pytest.approx(0, abs=0.05)
    assert scores[inside].std() == pytest.approx(1, abs=0.05)
