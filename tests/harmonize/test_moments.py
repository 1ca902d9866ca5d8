"""Federated moments and quantiles: those of all voxels in one place, from sums."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from fedmri.config import load
from fedmri.errors import ConfigError, HarmonizeError
from fedmri.harmonize.images.moments import MEAN, VARIANCE, Moments
from fedmri.harmonize.images.quantiles import QUANTILES, Image, Quantiles
from fedmri.harmonize.sums import Arrays, run
from fedmri.stages.images.zscore import Zscore
from fedmri.stages.registry import STAGES
from fedmri.stages.stage import Made

CUTS = pytest.mark.parametrize("cuts", [(), (3,), (2, 3, 6)])
SCALES = pytest.mark.parametrize("scale", [1e-6, 1.0, -3.0, 1e30])
SHARES = (0.01, 0.25, 0.5, 0.75, 0.99, 1.0)


def images(scale: float = 1.0, offset: float = 0.0, n: int = 7) -> list[Image]:
    """Return images of two channels with air, each with a spread of its own."""
    rng = np.random.default_rng(3)
    made = []
    for number in range(n):
        values = (rng.normal(1 + number % 2, 1 + number, (2, 8, 8, 8)) + offset) * scale
        values[:, :2] = 0
        made.append(values.astype(np.float32))
    return made


def at_sites(every: list[Image], cuts: tuple[int, ...]) -> list[list[Image]]:
    """Return the images as they lie at sites."""
    return [every[a:b] for a, b in itertools.pairwise((0, *cuts, len(every)))]


def head(every: list[Image], channel: int) -> NDArray[np.float64]:
    """Return all head voxels of a channel in one place."""
    pooled = np.concatenate([image[channel].ravel() for image in every]).astype(np.float64)
    in_head: NDArray[np.float64] = pooled[pooled != 0]
    return in_head


@CUTS
@SCALES
def test_moments_are_those_of_all_voxels_in_one_place(cuts: tuple[int, ...], scale: float) -> None:
    """However the images lie at sites, and whatever their unit."""
    every = images(scale)
    found = run(Moments(2), at_sites(every, cuts))
    for channel in range(2):
        pooled = head(every, channel)
        assert found[MEAN][channel] == pytest.approx(pooled.mean(), rel=1e-12)
        assert found[VARIANCE][channel] == pytest.approx(pooled.var(), rel=1e-12)


def test_a_variance_beside_a_large_mean_does_not_cancel() -> None:
    """Spread 1 around a million: sums of squares in 32 bits lose it altogether."""
    every = images(offset=1e6)
    found = run(Moments(2), at_sites(every, (3,)))
    assert found[VARIANCE][0] == pytest.approx(head(every, 0).var(), rel=1e-10)


def test_a_site_lost_between_steps_leaves_moments_of_the_others() -> None:
    """The last step puts right what the lost site left in the mean."""
    every, stage = images(), Moments(2)
    shared: Arrays = {}
    for step, part in enumerate([every, every, every[:3]]):
        shared = stage.combine(step, stage.site_sums(step, part, shared), shared)
    assert shared[MEAN][0] == pytest.approx(head(every[:3], 0).mean(), rel=1e-12)
    assert shared[VARIANCE][0] == pytest.approx(head(every[:3], 0).var(), rel=1e-12)


@pytest.mark.parametrize("step", [1, 2])
def test_sums_of_moments_fit_into_secure_sums(step: int) -> None:
    """All that travels stays within a few times the number of voxels, even at 1e30."""
    every, stage = images(1e30), Moments(2)
    shared: Arrays = {}
    for before in range(step):
        shared = stage.combine(before, stage.site_sums(before, every, shared), shared)
    sums = stage.site_sums(step, every, shared)
    n_voxels = len(head(every, 0))
    assert max(np.abs(values).max() for values in sums.values()) <= 4 * n_voxels


@CUTS
@SCALES
def test_quantiles_are_within_the_stated_bound(cuts: tuple[int, ...], scale: float) -> None:
    """Each lies within a relative 2e-6 of the order statistic, negative ones too."""
    every = images(scale)
    found = run(Quantiles(2, SHARES), at_sites(every, cuts))[QUANTILES]
    for channel in range(2):
        exact = np.quantile(head(every, channel), SHARES, method="inverted_cdf")
        assert np.all(np.abs(found[channel] - exact) <= 2e-6 * np.abs(exact))


def test_quantiles_of_integers_with_ties_are_exact_to_the_bound() -> None:
    """Bins are half open: a value on an edge is counted once."""
    values = np.repeat([1, 2, 4, 8], 16).astype(np.float32).reshape(1, 4, 4, 4)
    found = run(Quantiles(1, (0.25, 0.26, 0.5, 0.75, 1.0)), [[values]])[QUANTILES][0]
    assert found == pytest.approx([1, 2, 2, 4, 8], rel=2e-6)


def test_a_site_lost_between_steps_leaves_quantiles_of_the_others() -> None:
    """Ranks are taken anew in each step, so they never point beyond the counts."""
    every, stage = images(), Quantiles(2)
    shared = stage.combine(0, stage.site_sums(0, every, {}), {})
    for step in (1, 2):
        shared = stage.combine(step, stage.site_sums(step, every[:3], shared), shared)
    assert np.isfinite(shared[QUANTILES]).all()


@pytest.mark.parametrize("stage", [Moments(2), Quantiles(2)])
def test_a_channel_that_nobody_has_is_refused(stage: Moments | Quantiles) -> None:
    """No mean of nothing; empty sites beside others do not matter."""
    every = images()
    for image in every:
        image[1] = 0
    with pytest.raises(HarmonizeError, match=r"intensities of channel 1: found none.*\[H20\]"):
        run(stage, [every, []])


@pytest.mark.parametrize(
    ("name", "middle", "spread"),
    [("zscore", np.mean, np.std), ("robust", np.median, lambda v: np.subtract(*_quartiles(v)))],
)
def test_the_plans_stage_centres_and_scales_all_images_alike(
    name: str, middle: object, spread: object
) -> None:
    """What all sites share is afterwards centred at 0 with spread 1; air stays 0."""
    own, every = STAGES.made(name), images(40, 5)
    made = Made(load(["data.source.modalities=[T1w,FLAIR]"]).plan)
    stage = own.fit(made)
    assert stage is not None
    change = own.image_change(made, run(stage, at_sites(every, (3,))))
    assert change is not None
    after = [change(str(k), image, image) for k, image in enumerate(every)]
    pooled = head(after, 0)
    assert callable(middle)
    assert callable(spread)
    assert middle(pooled) == pytest.approx(0, abs=2e-3)
    assert spread(pooled) == pytest.approx(1, rel=2e-3)
    assert not after[0][:, :2].any()
    part = np.concatenate([every[0][:1, 3], every[0][1:, 3]])
    assert np.array_equal(change("0", every[0], part), after[0][:, 3])


def test_a_constant_channel_becomes_zero() -> None:
    """Without spread there is nothing to scale by, and no NaN."""
    constant, made = np.full((1, 4, 4, 4), 7, np.float32), Made(load([]).plan)
    change = Zscore().image_change(made, run(Zscore().fit(made), [[constant]]))
    assert not change("a", constant, constant).any()


@pytest.mark.parametrize("name", ["zscore", "robust"])
def test_scaled_images_are_refused(name: str) -> None:
    """After a z-score of each image no shared mean is left to find; Nyúl does not mind."""
    with pytest.raises(ConfigError, match=r"data.prepare.scaling=none.*\[C03\]"):
        load([f"stages=[{name}]", "data.prepare.scaling=zscore"])
    load([f"stages=[{name}]", "data.prepare.scaling=none"])
    load(["stages=[nyul]", "data.prepare.scaling=zscore"])


def _quartiles(values: Image) -> tuple[float, float]:
    low, high = np.percentile(values, [25, 75])
    return float(high) / 1.349, float(low) / 1.349
