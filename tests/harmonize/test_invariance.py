"""Losses that make embeddings of sites alike, and where embeddings are taken from."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from fedmri.harmonize.invariance import (
    Consensus,
    Coral,
    FedHarmony,
    confusion_loss,
    consensus_of,
    coral_penalty,
    domain_loss,
    embedding_of,
    moment_sums,
)
from fedmri.models.build import build_network
from fedmri.models.registry import model_names
from fedmri.models.settings import ModelConfig
from fedmri.models.weights import layout
from fedmri.round import Target

SIDE = {"cnn5": 8, "cnn3d": 16, "vit": 16, "segresnet": 8, "unet": 16, "attention_unet": 16}
WIDTH = {"vit": 64, "swin_unetr": 12}


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Return normal draws in 64 bits."""
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draws, dtype=torch.float64)


def test_the_consensus_is_that_of_all_examples_however_they_lie() -> None:
    """One site or three in any order: mean and covariance of the pooled embeddings."""
    every = normal(30, 4) + 3
    for sites in ([every], [every[:7], every[7:8], every[8:]], [every[8:], every[:8]]):
        found = consensus_of(_added([moment_sums(part) for part in sites]))
        assert torch.allclose(found.mean[0], every.mean(dim=0), atol=1e-12)
        assert torch.allclose(found.covariance[0], every.T.cov(correction=0), atol=1e-12)


def test_a_site_like_all_pays_nothing_and_a_shift_its_square() -> None:
    """Equal moments cost 0; all moved by (3, 4) cost 25; all doubled costs what algebra says."""
    every = normal(50, 2)
    every = every - every.mean(dim=0)
    consensus = consensus_of(moment_sums(every))
    assert float(coral_penalty(every, consensus)) == pytest.approx(0, abs=1e-20)
    moved = every + torch.tensor([3.0, 4.0])
    assert float(coral_penalty(moved, consensus)) == pytest.approx(25, rel=1e-12)
    covariance = every.T @ every / 50
    wanted = float((3 * covariance).square().sum())
    assert float(coral_penalty(2 * every, consensus)) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_small_batches_give_finite_gradients(n: int) -> None:
    """One example has no covariance, and an empty batch nothing at all."""
    consensus = consensus_of(moment_sums(normal(9, 3)))
    batch = normal(n, 3, seed=1).requires_grad_()
    loss = coral_penalty(batch, consensus)
    loss.backward()  # type: ignore[no-untyped-call]  # torch's own
    assert batch.grad is not None
    assert bool(torch.isfinite(batch.grad).all())
    if n == 1:
        apart = (batch.detach() - consensus.mean).square().sum()
        assert float(loss.detach()) == pytest.approx(float(apart))


def test_within_classes_an_uneven_prevalence_costs_nothing() -> None:
    """A site of mostly one class has other moments than all, but the same within each class."""
    one, two = normal(40, 2), normal(40, 2, seed=1) + 5
    every, labels = torch.cat([one, two]), torch.tensor([0] * 40 + [1] * 40)
    by_class = consensus_of(moment_sums(every, labels, n_classes=2))
    batch, own = torch.cat([one, two[:0]]), labels[:40]
    assert float(coral_penalty(batch, by_class, own)) == pytest.approx(0, abs=1e-20)
    assert float(coral_penalty(batch, consensus_of(moment_sums(every)))) > 1
    assert float(Coral(by_class, 2.0).penalty(two, labels[40:])) == pytest.approx(0, abs=1e-20)


def test_a_class_that_nobody_had_is_not_matched() -> None:
    """No example says where it should lie, so it is not pulled to 0."""
    consensus = consensus_of(moment_sums(normal(9, 2), torch.zeros(9), n_classes=2))
    batch = normal(4, 2) + 7
    assert float(coral_penalty(batch, consensus, torch.ones(4))) == 0


def test_descending_the_penalty_makes_moments_alike() -> None:
    """The gradient leads a shifted and scaled site to the consensus."""
    consensus = consensus_of(moment_sums(normal(60, 3)))
    moved = (3 * normal(60, 3, seed=1) + 4).requires_grad_()
    coral = Coral(consensus)
    before = float(coral_penalty(moved.detach(), consensus))
    for _ in range(300):
        (slope,) = torch.autograd.grad(coral.penalty(moved, torch.zeros(60)), moved)
        moved = (moved - slope).detach().requires_grad_()
    assert float(coral_penalty(moved.detach(), consensus)) < 1e-3 * before


@pytest.mark.parametrize("n_sites", [2, 5])
def test_confusion_is_least_and_log_k_where_sites_look_alike(n_sites: int) -> None:
    """At equal scores it is log K; at any others it is more."""
    even = confusion_loss(torch.full((3, n_sites), 0.7, dtype=torch.float64))
    assert float(even) == pytest.approx(math.log(n_sites), rel=1e-12)
    assert float(confusion_loss(normal(3, n_sites))) > math.log(n_sites)


def three_sites() -> tuple[list[Tensor], Consensus]:
    """Return embeddings of three sites that lie apart, and each one's moments."""
    sites = [normal(40, 2, seed=k) * 0.5 + 4 * k for k in range(3)]
    labels = torch.repeat_interleave(torch.arange(3), 40)
    return sites, consensus_of(moment_sums(torch.cat(sites), labels, n_classes=3))


def test_the_domain_head_learns_other_sites_from_their_moments_alone() -> None:
    """Trained at site 0, which sees no other embedding, it tells the others' real ones."""
    sites, moments = three_sites()
    torch.manual_seed(0)
    head, generator = nn.Linear(2, 3, dtype=torch.float64), torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        domain_loss(head, sites[0], 0, moments, generator).backward()  # type: ignore[no-untyped-call]  # torch's own
        optimizer.step()
    right = [(head(site).argmax(dim=1) == k).double().mean() for k, site in enumerate(sites)]
    assert min(float(share) for share in right) > 0.9


def test_each_step_of_fedharmony_moves_its_own_part_alone() -> None:
    """The domain's loss gives the encoder no gradient, the confusion none to the domain's head."""
    sites, moments = three_sites()
    head = nn.Linear(2, 3, dtype=torch.float64)
    harmony = FedHarmony(head, 0, moments, torch.Generator().manual_seed(1), strength=2.0)
    batch = sites[0].clone().requires_grad_()
    harmony.domain_loss(batch).backward()  # type: ignore[no-untyped-call]  # torch's own
    assert batch.grad is None
    assert head.weight.grad is not None
    head.zero_grad()
    loss = harmony.penalty(batch, torch.zeros(40))
    loss.backward()  # type: ignore[no-untyped-call]  # torch's own
    assert batch.grad is not None
    assert head.weight.grad is None
    assert float(loss.detach()) == pytest.approx(2 * float(confusion_loss(head(batch)).detach()))


def test_draws_repeat_with_their_generator() -> None:
    """The same seed gives the same loss, so a killed round can be run again."""
    sites, moments = three_sites()
    head = nn.Linear(2, 3, dtype=torch.float64)
    seeds = (3, 3, 4)
    first, again, other = (
        float(domain_loss(head, sites[1], 1, moments, torch.Generator().manual_seed(seed)).detach())
        for seed in seeds
    )
    assert first == again != other


@pytest.mark.parametrize("name", model_names())
def test_every_networks_embedding_makes_its_outputs(name: str) -> None:
    """A vector an image, with a gradient; the head on it is the (pooled) output."""
    is_mask = name in model_names("segmentation")
    mask, lesion = Target("segmentation", "m", ("t",)), Target("classification", "l", ("a", "b"))
    shape = (SIDE.get(name, 32),) * 2
    network = build_network(
        ModelConfig(name, "group", WIDTH.get(name, 8)),
        target=mask if is_mask else lesion,
        n_dims=2,
        n_channels=1,
        shape=shape,
        seed=1,
    ).eval()
    head = next(iter(layout(network).head)).rpartition(".")[0]
    with embedding_of(network, head) as embedding:
        outputs = network(torch.randn(3, 1, *shape))
    value = embedding.value
    assert value.shape[0] == 3
    assert value.ndim == 2
    layer = network.get_submodule(head)
    if isinstance(layer, nn.Linear):
        assert torch.allclose(layer(value), outputs, atol=1e-5)
    elif all(size == 1 for size in _kernel(layer)):
        again = layer(value[:, :, None, None])[:, :, 0, 0]
        assert torch.allclose(again, outputs.mean(dim=(2, 3)), atol=1e-5)
    assert any(g is not None for g in _slopes(value.sum(), network))
    network(torch.randn(3, 1, *shape))
    assert embedding.value is value  # the hook is gone


def _kernel(layer: nn.Module) -> tuple[int, ...]:
    sizes: tuple[int, ...] = layer.kernel_size  # type: ignore[assignment]  # a convolution
    return sizes


def _slopes(value: Tensor, network: nn.Module) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(value, list(network.parameters()), allow_unused=True)


def _added(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    total = {name: value.clone() for name, value in parts[0].items()}
    for part in parts[1:]:
        for name, value in part.items():
            total[name] += value
    return total
