"""Losses that make embeddings of sites alike, and where embeddings are taken from."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from fedmri.harmonize.embeddings.invariance import (
    Consensus,
    Coral,
    FedHarmony,
    SiteMoments,
    confusion_loss,
    consensus_of,
    domain_loss,
    moment_sums,
)
from fedmri.models.build import build_network
from fedmri.models.embedding import embedding_of
from fedmri.models.registry import model_names
from fedmri.models.weights import layout
from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.kinds.segmentation import Segmentation
from tests.made import beside, each, few_slices, inputs_of, n_dims_of, n_visits_of, narrow

SIDE = {"cnn5": 8, "cnn3d": 16, "vit": 16, "segresnet": 8, "unet": 16, "attention_unet": 16}


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Return normal draws in 64 bits."""
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draws, dtype=torch.float64)


def penalty(batch: Tensor, consensus: Consensus, labels: Tensor | None = None) -> Tensor:
    """Return what a batch pays whose own moments are its site's."""
    n_classes = len(consensus.n_examples)
    own = consensus_of(moment_sums(batch, labels, n_classes))
    return Coral(consensus, own).penalty(batch, torch.zeros(0) if labels is None else labels)


def test_the_consensus_is_that_of_all_examples_however_they_lie() -> None:
    """One site or three in any order: mean and covariance of the pooled embeddings."""
    every = normal(30, 4) + 3
    for sites in ([every], [every[:7], every[7:8], every[8:]], [every[8:], every[:8]]):
        found = consensus_of(_added([moment_sums(part) for part in sites]))
        assert torch.allclose(found.mean[0], every.mean(dim=0), atol=1e-12)
        assert torch.allclose(found.covariance[0], every.T.cov(correction=0), atol=1e-12)


def test_a_site_like_all_pays_nothing_and_a_shift_its_square() -> None:
    """Equal moments cost 0; all moved by (3, 4) 25 over the spreads; all doubled 3² of 17."""
    every = normal(50, 2)
    every = every - every.mean(dim=0)
    consensus = consensus_of(moment_sums(every))
    assert float(penalty(every, consensus)) == pytest.approx(0, abs=1e-20)
    moved = every + torch.tensor([3.0, 4.0])
    spread = float(every.square().mean(dim=0).sum())
    assert float(penalty(moved, consensus)) == pytest.approx(25 / (2 * spread), rel=1e-12)
    assert float(penalty(2 * every, consensus)) == pytest.approx(9 / 17, rel=1e-12)


def test_the_unit_of_embeddings_does_not_matter() -> None:
    """A layer of larger numbers is not matched harder."""
    every, moved = normal(50, 2), 2 * normal(50, 2, seed=1) + 1
    paid = [
        float(penalty(unit * moved, consensus_of(moment_sums(unit * every)))) for unit in (1, 100)
    ]
    assert paid[1] == pytest.approx(paid[0], rel=1e-9)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_small_batches_give_finite_gradients(n: int) -> None:
    """One example alone gives no NaN, and an empty batch nothing at all."""
    consensus = consensus_of(moment_sums(normal(9, 3)))
    batch = normal(n, 3, seed=1).requires_grad_()
    loss = penalty(batch, consensus)
    loss.backward()  # type: ignore[no-untyped-call]  # torch's own
    assert batch.grad is not None
    assert bool(torch.isfinite(batch.grad).all())


def test_within_classes_an_uneven_prevalence_costs_nothing() -> None:
    """A site of mostly one class has other moments than all, but the same within each class."""
    one, two = normal(40, 2), normal(40, 2, seed=1) + 5
    every, labels = torch.cat([one, two]), torch.tensor([0] * 40 + [1] * 40)
    by_class = consensus_of(moment_sums(every, labels, n_classes=2))
    batch, own = torch.cat([one, two[:0]]), labels[:40]
    assert float(penalty(batch, by_class, own)) == pytest.approx(0, abs=1e-20)
    assert float(penalty(batch, consensus_of(moment_sums(every)))) > 1
    assert float(penalty(two, by_class, labels[40:])) == pytest.approx(0, abs=1e-20)


def test_a_class_that_nobody_had_is_not_matched() -> None:
    """No example says where it should lie, so it is not pulled to 0."""
    consensus = consensus_of(moment_sums(normal(9, 2), torch.zeros(9), n_classes=2))
    batch = normal(4, 2) + 7
    assert float(penalty(batch, consensus, torch.ones(4))) == 0


@pytest.mark.parametrize("size", [1, 4, 12])
def test_batches_together_have_the_gradient_of_the_whole_site(size: int) -> None:
    """However few examples a batch has, it is not pulled to have no spread."""
    consensus, site = consensus_of(moment_sums(normal(60, 3))), 2 * normal(12, 3, seed=1) + 1
    whole = site.clone().requires_grad_()
    mean = whole.mean(dim=0)
    covariance = (whole - mean).T @ (whole - mean) / len(whole)
    among = consensus.covariance[0]
    units = covariance.detach() + among, covariance.detach().square() + among.square()
    apart = (mean - consensus.mean[0]).square().sum() / units[0].trace()
    apart = apart + (covariance - among).square().sum() / units[1].sum()
    (wanted,) = torch.autograd.grad(apart, whole)
    parts = site.clone().requires_grad_()
    own = consensus_of(moment_sums(site))
    losses = [
        Coral(consensus, own).penalty(part, torch.zeros(0)) * size / 12
        for part in torch.split(parts, size)
    ]
    (found,) = torch.autograd.grad(torch.stack(losses).sum(), parts)
    assert torch.allclose(found, wanted, atol=1e-10)
    assert float(losses[0].detach()) * 12 / size == pytest.approx(float(apart.detach()))


def test_batches_move_the_moments_that_are_compared() -> None:
    """After some epochs at the consensus, the distance that the site once had is mostly gone."""
    every = normal(60, 3)
    consensus = consensus_of(moment_sums(every))
    coral = Coral(consensus, consensus_of(moment_sums(every + 5)))
    paid = [
        float(coral.penalty(part, torch.zeros(0))) for part in torch.split(every.repeat(6, 1), 6)
    ]
    assert paid[0] == pytest.approx(75 / (2 * float(consensus.covariance[0].trace())), rel=1e-9)
    assert paid[-1] < 0.05 * paid[0]


def test_descending_the_penalty_makes_moments_alike() -> None:
    """The gradient leads a shifted and scaled site to the consensus."""
    consensus = consensus_of(moment_sums(normal(60, 3)))
    moved = (3 * normal(60, 3, seed=1) + 4).requires_grad_()
    before = float(penalty(moved.detach(), consensus))
    for _ in range(300):
        (slope,) = torch.autograd.grad(penalty(moved, consensus), moved)
        moved = (moved - 20 * slope).detach().requires_grad_()
    assert float(penalty(moved.detach(), consensus)) < 1e-3 * before


@pytest.mark.parametrize("n_sites", [2, 5])
def test_confusion_is_least_and_log_k_where_sites_look_alike(n_sites: int) -> None:
    """At equal scores it is log K; at any others it is more."""
    even = confusion_loss(torch.full((3, n_sites), 0.7, dtype=torch.float64))
    assert float(even) == pytest.approx(math.log(n_sites), rel=1e-12)
    assert float(confusion_loss(normal(3, n_sites))) > math.log(n_sites)


def three_sites() -> tuple[list[Tensor], SiteMoments]:
    """Return embeddings of three sites that lie apart, and each one's moments."""
    sites = [normal(40, 2, seed=k) * 0.5 + 4 * k for k in range(3)]
    labels = torch.repeat_interleave(torch.arange(3), 40)
    found = consensus_of(moment_sums(torch.cat(sites), labels, n_classes=3))
    std = found.covariance.diagonal(dim1=1, dim2=2).sqrt()
    return sites, SiteMoments(found.n_examples, found.mean, std)


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
    head = nn.Linear(2, 3)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    harmony = FedHarmony(
        head, optimizer, 0, moments, torch.Generator().manual_seed(1), strength=2.0
    )
    batch, before = sites[0].float().requires_grad_(), head.weight.detach().clone()
    harmony.step(batch)
    assert batch.grad is None
    assert not torch.equal(head.weight, before)
    optimizer.zero_grad()
    loss = harmony.penalty(batch, torch.zeros(40))
    learnt = [p.grad.clone() for p in head.parameters() if p.grad is not None]
    loss.backward()  # type: ignore[no-untyped-call]  # torch's own
    assert batch.grad is not None
    assert [torch.equal(p.grad, g) for p, g in zip(head.parameters(), learnt, strict=True)] == [
        True,
        True,
    ]
    assert float(loss.detach()) == pytest.approx(2 * float(confusion_loss(head(batch)).detach()))


def test_a_site_without_examples_is_not_drawn_for() -> None:
    """It would be drawn at 0, where no embedding has to be."""
    sites, moments = three_sites()
    n = moments.n_examples.clone()
    n[2] = 0
    head, seed = nn.Linear(2, 3, dtype=torch.float64), torch.Generator().manual_seed(1)
    without = domain_loss(head, sites[0], 0, SiteMoments(n, moments.mean, moments.std), seed)
    (slope,) = torch.autograd.grad(without, head.bias)
    scores = head(sites[0]).detach()
    assert float(slope[2].detach()) > 0  # only pushed down: no example is of site 2
    assert scores.shape == (40, 3)


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


@pytest.mark.parametrize("name", each(model_names()))
def test_every_networks_embedding_makes_its_outputs(name: str) -> None:
    """A vector an image, with a gradient; the head on it is the (pooled) output."""
    is_mask = name in model_names("voxel")
    mask, lesion = Segmentation("m", ("t",)), Classification("l", ("a", "b"))
    n_dims = n_dims_of(name)[0]
    shape = few_slices(name, (SIDE.get(name, 32),) * n_dims)
    network = build_network(
        narrow(name),
        target=mask if is_mask else lesion,
        n_dims=n_dims,
        n_channels=n_visits_of(name),
        shape=shape,
        seed=1,
        **beside(name),
    ).eval()
    head = next(iter(layout(network).head)).rpartition(".")[0]
    with embedding_of(network, head) as embedding:
        outputs = network(*inputs_of(name, torch.randn(3, n_visits_of(name), *shape)))
    value = embedding.value
    assert value.shape[0] == 3
    assert value.ndim == 2
    layer = network.get_submodule(head)
    if isinstance(layer, nn.Linear):
        assert torch.allclose(layer(value), outputs, atol=1e-5)
    elif all(size == 1 for size in _kernel(layer)):
        again = layer(value[:, :, None, None])[:, :, 0, 0]
        assert torch.allclose(again, outputs.mean(dim=(2, 3)), atol=1e-5)
    if list(network.parameters())[:-2]:  # more than the last layer is learned
        assert any(g is not None for g in _slopes(value.sum(), network))
    network(*inputs_of(name, torch.randn(3, n_visits_of(name), *shape)))
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
