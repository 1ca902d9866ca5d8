"""MOON: the contrast at its known values, and what of it a plan may have."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fedmri.config import load
from fedmri.errors import ConfigError, PrivacyError
from fedmri.models.weights import layout, weights
from fedmri.round import SiteRound, Trained, Weights
from fedmri.strategies.averaging.moon import Moon
from fedmri.strategies.contrast import Contrast, contrasting, contrastive_loss
from tests.conftest import RunTiny
from tests.simulation.test_study import PRIVATE, StopHere, model_of, stop_at

IMAGES = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))


def network(seed: int = 0) -> nn.Module:
    """Return a network of one hidden layer, whose output is the embedding."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))


def copied(model: nn.Module) -> Weights:
    """Return a model's entries, which its training does not change."""
    return {name: value.clone() for name, value in weights(model).items()}


def term_of(model: nn.Module, near: Weights, far: Weights) -> torch.Tensor:
    """Return what the contrast adds to the loss of one batch."""
    with contrasting(model, layout(model), Contrast(near, far, 2.0, 0.5)) as term:
        assert term is not None
        model(IMAGES)
        return term(torch.zeros(5))


def test_the_first_round_starts_at_the_logarithm_of_two() -> None:
    """The received model is also the last one, whatever the network has become."""
    received = copied(network())
    (phase,) = Moon().phases(SiteRound(layout(network()), 1, received))
    assert isinstance(phase.loss, Contrast)
    for seed in (0, 1):
        value = term_of(network(seed), phase.loss.near, phase.loss.far).detach()
        assert float(value) == pytest.approx(2 * math.log(2))


def test_the_term_is_that_of_the_paper() -> None:
    """By hand, from the embeddings of the three models."""
    models = [network(seed) for seed in range(3)]
    own, near, far = (model[:2](IMAGES) for model in models)  # type: ignore[index]  # a Sequential
    like = [torch.cosine_similarity(own, other) / 0.5 for other in (near, far)]
    wanted = -torch.log(like[0].exp() / (like[0].exp() + like[1].exp())).mean()
    found = term_of(models[0], weights(models[1]), weights(models[2]))
    assert float(found.detach()) == pytest.approx(2 * float(wanted.detach()), rel=1e-6)


def test_the_models_that_stand_still_do_not_learn() -> None:
    """The gradient reaches the trained network's body alone, and pulls it to the received one."""
    model, near, far = network(0), copied(network(1)), copied(network(2))
    before = float(term_of(model, near, far).detach())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(20):
        optimizer.zero_grad()
        torch.autograd.backward(term_of(model, near, far))
        optimizer.step()
    assert float(term_of(model, near, far).detach()) < before
    assert model[2].weight.grad is None  # type: ignore[index]  # a Sequential
    assert all(torch.equal(v, weights(network(1))[n]) for n, v in near.items())


def test_a_perfect_likeness_costs_little_and_a_reversed_one_much() -> None:
    """At the ends of the scale, with the temperature of the paper."""
    best = contrastive_loss(torch.ones(1), -torch.ones(1), 0.5)
    worst = contrastive_loss(-torch.ones(1), torch.ones(1), 0.5)
    assert float(best) == pytest.approx(math.log1p(math.exp(-4)), rel=1e-5)
    assert float(worst) == pytest.approx(math.log1p(math.exp(4)))


def test_a_site_keeps_what_it_trained_and_contrasts_with_it_next() -> None:
    """Its last model is its own, not the mean."""
    strategy, before = Moon(), SiteRound(layout(network()), 1, copied(network()))
    own = copied(network(3))
    memory = strategy.remember(before, {"train": Trained(own, 1, 0.1)}).memory
    (phase,) = strategy.phases(SiteRound(before.layout, 2, copied(network(4)), memory=memory))
    assert isinstance(phase.loss, Contrast)
    assert phase.loss.far == own
    assert phase.loss.near is not own


def test_without_a_factor_it_is_fedavg_to_the_bit(run_tiny: RunTiny) -> None:
    """And with one it is not; a run that was stopped ends with the same bits."""
    federated = "simulation.arms=[federated]"
    plain = model_of(run_tiny("fedavg", federated))
    assert model_of(run_tiny("zero", federated, "strategy=moon", "strategy.mu=0")) == plain
    whole = model_of(run_tiny("moon", federated, "strategy=moon", "simulation.workers=2"))
    assert whole != plain
    with pytest.raises(StopHere):
        run_tiny("stopped", federated, "strategy=moon", observe=stop_at("round", 5))
    assert model_of(run_tiny("stopped", federated, "strategy=moon")) == whole


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("experiment=lesion_mask",), "segmentation"),
        (("experiment=age", *PRIVATE), "differential privacy"),
    ],
    ids=["segmentation", "privacy"],
)
def test_where_there_is_no_embedding_to_work_on_it_is_refused(
    settings: tuple[str, ...], said: str
) -> None:
    """Before anything is trained, with the reason."""
    with pytest.raises((ConfigError, PrivacyError), match=said):
        load(["strategy=moon", *settings])
