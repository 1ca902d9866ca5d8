"""Averaged second moments: what a site takes, what it sends, and what comes of a run."""

from __future__ import annotations

import pytest
import torch

from fedmri.config import load
from fedmri.errors import ConfigError
from fedmri.round import Layout, SiteRound, Update, Weights
from fedmri.strategies.adaptive.fedadamw import UNIT, FedAdamW
from fedmri.strategies.moments import SQUARES
from fedmri.training.optimizers import squares_of, take_squares
from tests.conftest import RunTiny
from tests.simulation.test_secure import SECURE, weights_of
from tests.simulation.test_study import StopHere, model_of, stop_at

SETTINGS = (
    *("strategy=fedadamw", "train.is_optimizer_kept=true", "rounds.n_rounds=3"),
    *("train.local_steps=2", "simulation.arms=[federated]"),
)


def stepped(gradients: list[float]) -> tuple[torch.nn.Module, torch.optim.Adam]:
    """Return a network of one number after steps along some gradients."""
    network = torch.nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.AdamW(network.parameters())
    for gradient in gradients:
        network.weight.grad = torch.full((1, 1), gradient)
        optimizer.step()
    return network, optimizer


def test_second_moments_travel_without_bias() -> None:
    """Steady gradients of 3 have 9, however few the steps; another site goes on from there."""
    network, optimizer = stepped([3.0, 3.0])
    found = squares_of(network, optimizer)["weight"]
    assert float(found) == pytest.approx(9, rel=1e-4)
    other, kept = stepped([1.0] * 7)
    take_squares(other, kept, {"weight": found})
    assert float(squares_of(other, kept)["weight"]) == pytest.approx(9, rel=1e-4)
    take_squares(other, kept, {"weight": torch.zeros(1, 1)})
    assert float(squares_of(other, kept)["weight"]) == pytest.approx(9, rel=1e-4), (
        "zeros say nothing"
    )


def test_the_server_averages_by_weight_and_sites_take_it() -> None:
    """Sites with 1 and 3 examples and moments of 8 and 4 have 5."""
    strategy, model = FedAdamW(), {"w": torch.zeros(1)}
    layout = Layout(frozenset({"w"}))
    state = strategy.start(model, layout)
    updates = [
        Update(site, model, n, 1, extra={SQUARES: {"w": torch.full((1,), value / UNIT)}})
        for site, n, value in (("a", 1, 8.0), ("b", 3, 4.0))
    ]
    state = strategy.aggregate(state, updates, {"w": torch.empty(1)})
    (phase,) = strategy.phases(SiteRound(layout, 0, model, strategy.broadcast(state)))
    assert phase.squares == {"w": torch.full((1,), 5.0)}


def test_it_is_refused_without_an_adam_that_is_kept() -> None:
    """There would be no moments to go on with."""
    with pytest.raises(ConfigError, match=r"fedadamw.*an Adam that is kept.*\[C03\]"):
        load(["strategy=fedadamw", "train.is_optimizer_kept=false"])


def test_masks_and_a_stop_change_nothing(run_tiny: RunTiny) -> None:
    """The secure sum holds the moments too; the mean is that of updates in clear."""
    clear, hidden = run_tiny("clear", *SETTINGS), run_tiny("hidden", *SETTINGS, *SECURE)
    plain = weights_of(run_tiny("plain", *SETTINGS, "strategy=fedavg"))
    found, wanted = weights_of(hidden), weights_of(clear)

    def apart(one: Weights, other: Weights) -> float:
        return sum(float((one[name] - other[name]).double().square().sum()) for name in wanted)

    # Adam steps as far along a gradient of 1e-8, which fixed point does not hold, as along any
    assert apart(found, wanted) < 1e-3 * apart(plain, wanted)
    with pytest.raises(StopHere):
        run_tiny("stopped", *SETTINGS, observe=stop_at("round", 4))
    assert model_of(run_tiny("stopped", *SETTINGS)) == model_of(clear)
