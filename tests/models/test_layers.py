"""Layers that are fedmri's own: each against its formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedmri.models.decoders.supervised import stacked
from fedmri.models.layers.fuzzy import fuzzy_centres, fuzzy_sums, memberships
from fedmri.models.layers.gabor import GaborBank, directions, gabor
from fedmri.models.layers.histograms import IntensityHistograms
from fedmri.models.layers.separable import ChannelAttention
from fedmri.models.layers.shifted import shifted
from fedmri.models.layers.shuffled import shuffled
from fedmri.tasks.kinds.segmentation import Segmentation


def points(n: int, seed: int = 0) -> torch.Tensor:
    """Return points of three features around two centres."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, dtype=torch.float64, generator=generator) + 4 * (
        torch.arange(n)[:, None] % 2
    )


@pytest.mark.parametrize("fuzziness", [1.5, 2.0, 3.0])
def test_memberships_are_those_of_fuzzy_c_means(fuzziness: float) -> None:
    """Bezdek's formula, term by term."""
    x, v = points(5), points(3, 1)
    distance = np.sqrt(((x[:, None] - v).square().sum(-1) + 1e-6).numpy())
    power = 2 / (fuzziness - 1)
    want = 1 / ((distance[:, :, None] / distance[:, None]) ** power).sum(-1)
    assert np.allclose(memberships(x, v, fuzziness).numpy(), want)


def test_fuzzy_c_means_over_sites_is_that_of_the_pool() -> None:
    """Each step needs sums of u^m x and u^m alone, which add up."""
    pool, m = points(40), 2.0
    sites = [pool[:7], pool[7:7], pool[7:]]
    together = apart = points(2, 1)
    for _ in range(10):
        parts = [fuzzy_sums(site, apart, m) for site in sites]
        moment, weight = (torch.stack([part[i] for part in parts]).sum(0) for i in range(2))
        apart = fuzzy_centres((moment, weight), apart)
        together = fuzzy_centres(fuzzy_sums(pool, together, m), together)
    assert torch.allclose(apart, together, atol=1e-12)
    assert sorted(round(float(c)) for c in apart.mean(1)) == [0, 4]


def test_a_cluster_that_nothing_belongs_to_stays() -> None:
    """No site has a point: there is no mean to move to."""
    centres = points(2, 1)
    assert torch.equal(fuzzy_centres(fuzzy_sums(points(0), centres, 2.0), centres), centres)


@pytest.mark.parametrize(("n_dims", "n_directions"), [(2, 4), (3, 13)])
def test_a_gabor_bank_answers_waves_of_its_own_direction_most(
    n_dims: int, n_directions: int
) -> None:
    """Filters have mean 0 and norm 1, and each finds its own wave best."""
    found = directions(n_dims)
    assert len(found) == n_directions
    bank = torch.stack([gabor(one, 6.0) for one in found]).flatten(1)
    assert torch.allclose(bank.mean(1), torch.zeros(n_directions), atol=1e-6)
    likeness = bank @ bank.T
    assert torch.allclose(likeness.diagonal(), torch.ones(n_directions))
    assert (likeness - 2 * torch.eye(n_directions)).max() < 0.95


def test_a_gabor_bank_travels_with_no_weights() -> None:
    """Both parties make it from the formula; the image itself is its first output."""
    bank, image = GaborBank(2, 3), torch.randn(1, 3, 9, 8)
    assert bank.state_dict() == {}
    out = bank(image)
    assert out.shape == (1, bank.n_out, 9, 8)
    assert torch.equal(out[:, :3], image)


def test_shuffled_channels_alternate_between_the_halves() -> None:
    """0 1 2 | 3 4 5 becomes 0 3 1 4 2 5."""
    x = torch.arange(6.0).reshape(1, 6, 1, 1)
    assert shuffled(x).flatten().tolist() == [0, 3, 1, 4, 2, 5]


@pytest.mark.parametrize("n_dims", [2, 3])
def test_each_group_of_channels_is_moved_its_own_way(n_dims: int) -> None:
    """One voxel in the middle ends at every place around it once, and one group stays."""
    n = 3**n_dims
    x = torch.zeros(1, n, *[3] * n_dims)
    x.flatten(2)[:, :, n // 2] = 1
    moved = shifted(x)[0].flatten(1)
    assert moved.sum(1).tolist() == [1.0] * n
    assert torch.equal(moved.sum(0), torch.ones(n))
    assert torch.equal(shifted(x)[0, 0], x[0, 0])


def test_attention_scales_channels_and_adds_up_two_views() -> None:
    """The one network sees means and maxima: equal places make both the same."""
    layer, x = ChannelAttention(4), torch.randn(2, 4, 1, 1)
    same = x.expand(2, 4, 3, 5)
    want = x * (2 * layer.shared(x.flatten(1))).sigmoid()[..., None, None]
    assert torch.allclose(layer(same), want.expand(2, 4, 3, 5))


def test_coarse_answers_are_repeated_to_the_finest_size() -> None:
    """Each voxel of a coarse level stands for a block."""
    fine, coarse = torch.zeros(1, 1, 4, 2), torch.tensor([[1.0], [2.0]])[None, None]
    assert stacked([fine, coarse])[0, 1, 0].tolist() == [[1, 1], [1, 1], [2, 2], [2, 2]]


def test_each_coarser_level_counts_half_in_the_loss() -> None:
    """Weights 4/7, 2/7 and 1/7; equal levels give the loss of one."""
    task = Segmentation("m", ("a",))
    generator = torch.Generator().manual_seed(0)
    levels = torch.randn(2, 3, 2, 8, 8, generator=generator)
    labels = torch.randint(0, 2, (2, 1, 8, 8), generator=generator)
    alone = [task.mean_loss(levels[:, i], labels) for i in range(3)]
    want = (4 * alone[0] + 2 * alone[1] + alone[2]) / 7
    assert torch.allclose(task.mean_loss(levels, labels), want)
    assert torch.allclose(task.mean_loss(levels[:, :1].expand_as(levels), labels), alone[0])


@pytest.mark.parametrize("shape", [(1, 9, 8), (2, 7, 8, 9)])
def test_shares_of_intensities_are_those_of_numpy(shape: tuple[int, ...]) -> None:
    """Of the whole image and of its middle, without air, in spreads from the channel's mean."""
    image = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 30 + 100
    image[..., :2] = 0
    found = IntensityHistograms(len(shape) - 1, 5)(image[None])[0].square() * 2 * shape[0]
    edges = [-np.inf, -1.5, -0.5, 0.5, 1.5, np.inf]
    for channel, shares in zip(image.numpy(), found.reshape(shape[0], 2, 5).numpy(), strict=True):
        tissue = channel[channel != 0]
        values = (channel - tissue.mean()) / tissue.std()
        middle = tuple(slice(n // 4, n // 4 + n // 2) for n in channel.shape)
        for box, own in (((...,), shares[0]), (middle, shares[1])):
            inside = values[box][channel[box] != 0]
            np.testing.assert_allclose(own, np.histogram(inside, edges)[0] / inside.size, atol=1e-6)


def test_an_empty_channel_has_no_intensities() -> None:
    """A missing modality is a channel of zeros: no share, no division by nothing."""
    image = torch.zeros(1, 2, 6, 6)
    image[0, 0] = torch.arange(36.0).reshape(6, 6)
    features = IntensityHistograms(2, 4)(image)[0].reshape(2, -1)
    assert features[0].square().sum() == pytest.approx(0.5)
    assert not features[1].any()
