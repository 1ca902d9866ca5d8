"""How an image looks, in numbers: what a scanner changes, and what a patient does not."""

from __future__ import annotations

import pytest
import torch

from fedmri.explain.look import SHARES, look_of

N = len(SHARES)


def head(seed: int, *, noise: float = 0.1, n_dims: int = 3) -> torch.Tensor:
    """Return one example: a bright ball with a smooth slope and noise, in air of zeros."""
    draws = torch.Generator().manual_seed(seed)
    axes = torch.meshgrid(*[torch.linspace(-1, 1, 24)] * n_dims, indexing="ij")
    ball = torch.stack(axes).square().sum(0) < 0.8
    image = 1 + axes[0] + noise * torch.randn([24] * n_dims, generator=draws)
    return torch.where(ball, image, 0.0)[None, None]


@pytest.mark.parametrize("n_dims", [2, 3])
def test_noise_and_contrast_show_and_another_draw_of_the_same_does_not(n_dims: int) -> None:
    """Of the same scanner numbers are alike; noise moves differences, contrast moves levels."""
    first, second = (look_of(head(seed, n_dims=n_dims)) for seed in (0, 1))
    noisy, scaled = look_of(head(2, noise=0.3, n_dims=n_dims)), look_of(head(3, n_dims=n_dims) * 2)
    assert len(first) == N + 1 + 4 * n_dims
    chance = (first - second).abs()
    assert (noisy - first)[N + 1 :].min() > 3 * chance[N + 1 :].max()
    assert torch.allclose(scaled[:N], 2 * first[:N], atol=0.3)
    assert (scaled - first)[:N].abs().max() > 3 * chance[:N].max()


def test_blur_along_one_axis_shows_there() -> None:
    """A grid that is coarse along one axis has small differences along it, and not along others."""
    sharp = head(0)
    smooth = sharp.clone()
    smooth[:, :, 1:-1] = (sharp[:, :, :-2] + sharp[:, :, 1:-1] + sharp[:, :, 2:]) / 3
    smooth[sharp == 0] = 0
    fallen = (look_of(sharp) - look_of(smooth))[N + 1 :].reshape(3, 4).mean(1)
    assert fallen[0] > fallen[1:].max()


def test_slices_count_alike_and_channels_side_by_side() -> None:
    """The numbers of a scan are the mean over its examples; a channel without a scan has zeros."""
    two = torch.cat([head(0, n_dims=2), head(1, n_dims=2)])
    mean = (look_of(two[:1]) + look_of(two[1:])) / 2
    assert torch.allclose(look_of(two), mean)
    with_empty = torch.cat([two, torch.zeros_like(two)], dim=1)
    assert torch.equal(look_of(with_empty)[: len(mean)], look_of(two))
    assert not look_of(with_empty)[len(mean) :].any()


def test_an_image_of_one_voxel_a_side_has_numbers() -> None:
    """No neighbour along an axis: no difference, and no NaN."""
    assert look_of(torch.tensor([[[[1.0, 2.0, 2.0]]]])).isfinite().all()
