"""Which plans can have secure aggregation: those whose server needs sums alone."""

from __future__ import annotations

import pytest
import torch

from fedmri.errors import PrivacyError
from fedmri.round import Layout, Update, Weights
from fedmri.secagg.conflicts import SUMS_ONLY, conflict, refuse_conflicts
from fedmri.strategies.registry import STRATEGIES, make_strategy
from fedmri.strategies.settings import StrategyConfig

LAYOUT = Layout(frozenset({"w"}), frozenset(), frozenset({"mean"}))


def model(seed: int) -> Weights:
    """Return a parameter and a statistic, in double precision."""
    source = torch.Generator().manual_seed(seed)
    draw = torch.randn((2, 3), generator=source, dtype=torch.float64)
    return {"w": draw[0], "mean": draw[1]}


@pytest.mark.parametrize("name", sorted(SUMS_ONLY))
def test_the_mean_of_all_sites_does_for_a_strategy_that_needs_sums(name: str) -> None:
    """One update that is the weighted mean leads to the model that all the updates lead to."""
    strategy = make_strategy(StrategyConfig(name))
    state = strategy.start(model(0), LAYOUT)
    updates = [Update(f"site{i}", model(i), n_examples=i, n_subjects=i) for i in (1, 2, 5)]
    mean = {key: sum(u.n_examples * u.weights[key] for u in updates) / 8 for key in model(0)}
    pooled = Update("all", {k: torch.as_tensor(v) for k, v in mean.items()}, 8, 8)
    for _ in range(2):
        each = strategy.aggregate(state, updates, model(9))
        once = strategy.aggregate(state, [pooled], model(9))
        for key, value in each.model.items():
            torch.testing.assert_close(once.model[key], value, rtol=1e-9, atol=1e-12)
        state = each


@pytest.mark.parametrize("name", sorted(STRATEGIES.keys() - SUMS_ONLY))
def test_any_other_strategy_is_refused(name: str) -> None:
    """A robust rule under secure aggregation would see nothing but noise."""
    with pytest.raises(PrivacyError, match=rf"strategy {name} needs each site's update.*P57"):
        refuse_conflicts(name, 5)


def test_all_conflicts_are_named_at_once() -> None:
    """Who configures a plan learns everything from one error; a plan without conflicts has none."""
    error = conflict("krum", 2, {"rounds.max_norm_ratio"})
    assert error is not None
    assert all(part in str(error) for part in ("krum", "2 sites", "rounds.max_norm_ratio", "P57"))
    for n_sites in (0, 3):
        assert conflict("fedavg", n_sites) is None
