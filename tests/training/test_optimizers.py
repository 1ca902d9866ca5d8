"""Optimizers against steps derived by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fedmri.training.optimizers import Lookahead, make_lookahead, make_optimizer, set_rate
from fedmri.training.settings import TrainConfig

NAMES = ("adamw", "adam", "sgd", "ranger")


def parameter(value: float) -> nn.Parameter:
    """Return a parameter of one number."""
    return nn.Parameter(torch.tensor([value]))


def test_the_slow_weights_go_half_way_every_sixth_step() -> None:
    """Fast weights rise by 1 a step: the sixth step leaves them at 3, the twelfth at 6."""
    fast = parameter(0.0)
    lookahead = Lookahead([fast])
    seen = []
    for _ in range(13):
        with torch.no_grad():
            fast.add_(1)
        lookahead.advance()
        seen.append(fast.item())
    assert seen == [1, 2, 3, 4, 5, 3, 4, 5, 6, 7, 8, 6, 7]


def test_a_round_shorter_than_the_period_is_not_lost() -> None:
    """What leaves the site is slow: half of the four steps taken."""
    fast = parameter(0.0)
    lookahead = Lookahead([fast])
    for _ in range(4):
        with torch.no_grad():
            fast.add_(1)
        lookahead.advance()
    lookahead.synchronise()
    assert fast.item() == 2
    lookahead.synchronise()
    assert fast.item() == 2, "a second time there is nothing to move"


def test_only_ranger_looks_ahead() -> None:
    """The others have no slow weights."""
    made = {name: make_lookahead([parameter(0.0)], TrainConfig(optimizer=name)) for name in NAMES}  # type: ignore[arg-type]  # any str
    assert [name for name, lookahead in made.items() if lookahead is not None] == ["ranger"]


@pytest.mark.parametrize("name", ["adamw", "ranger"])
def test_decoupled_decay_shrinks_weights_without_a_gradient(name: str) -> None:
    """Times 1 - lr * decay, whatever the gradient's statistics."""
    weight = parameter(2.0)
    weight.grad = torch.zeros(1)
    config = TrainConfig(optimizer=name, lr=0.1, weight_decay=0.5)  # type: ignore[arg-type]  # any str
    make_optimizer([weight], config).step()
    assert weight.item() == pytest.approx(2 * (1 - 0.1 * 0.5))


def test_sgd_takes_the_exact_step_with_momentum() -> None:
    """Gradient 1 twice, rate 0.1, momentum 0.5: 0.1 and then 0.1 * 1.5."""
    weight = parameter(1.0)
    config = TrainConfig(optimizer="sgd", lr=0.1, momentum=0.5, weight_decay=0)
    optimizer = make_optimizer([weight], config)
    for expected in (0.9, 0.75):
        weight.grad = torch.ones(1)
        optimizer.step()
        assert weight.item() == pytest.approx(expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_schedule_sets_rate_and_momentum_of_every_optimizer(name: str) -> None:
    """Adam's momentum is its first beta."""
    config = TrainConfig(optimizer=name, schedule="cyclic")  # type: ignore[arg-type]  # any str
    optimizer = make_optimizer([parameter(0.0)], config)
    set_rate(optimizer, config, 0.3, 0.7)
    group = optimizer.param_groups[0]
    assert group["lr"] == 0.3
    assert (group["betas"][0] if "betas" in group else group["momentum"]) == 0.7


def test_without_a_cycle_momentum_stays() -> None:
    """Adam keeps its own beta under the other schedules."""
    config = TrainConfig(optimizer="adam", momentum=0.5)
    optimizer = make_optimizer([parameter(0.0)], config)
    set_rate(optimizer, config, 0.3, 0.5)
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.999)
