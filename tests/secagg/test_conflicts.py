"""Which plans can have secure aggregation: those whose server needs sums alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from fedmri.claims import Claim, claims_of
from fedmri.errors import PrivacyError
from fedmri.plan import Plan
from fedmri.round import Layout, Update, Weights
from fedmri.secagg.conflicts import refuse_inspections
from fedmri.secagg.settings import SecAggConfig
from fedmri.strategies.registry import STRATEGIES
from fedmri.tasks.kinds.regression import Regression
from fedmri.training.settings import TrainConfig
from tests.made import strategy as made

LAYOUT = Layout(frozenset({"w"}), frozenset(), frozenset({"mean"}))


def model(seed: int) -> Weights:
    """Return a parameter and a statistic, in double precision."""
    source = torch.Generator().manual_seed(seed)
    draw = torch.randn((2, 3), generator=source, dtype=torch.float64)
    return {"w": draw[0], "mean": draw[1]}


SUMMED = [name for name in STRATEGIES.names if Claim.SUM_IS_ENOUGH in claims_of(made(name))]


@pytest.mark.parametrize("name", SUMMED)
def test_the_mean_of_all_sites_does_for_a_strategy_that_needs_sums(name: str) -> None:
    """One update that is the weighted mean leads to the model that all the updates lead to."""
    strategy = made(name)
    state = strategy.start(model(0), LAYOUT)
    beside = strategy.extra_forms(model(0), LAYOUT)

    def extra(values: Weights) -> dict[str, Weights]:
        return {kind: {key: values[key].abs() for key in form} for kind, form in beside.items()}

    updates = [Update(f"site{i}", model(i), i, i, extra=extra(model(i + 50))) for i in (1, 2, 5)]

    def mean(of: Callable[[Update], Weights]) -> Weights:
        keys = of(updates[0])
        return {key: torch.stack([u.n_examples * of(u)[key] for u in updates]).sum(0) / 8
                for key in keys}  # fmt: skip

    means = {kind: mean(lambda u, kind=kind: u.extra[kind]) for kind in beside}  # type: ignore[misc]
    pooled = Update("all", mean(lambda u: dict(u.weights)), 8, 8, extra=means)
    for _ in range(2):
        each = strategy.aggregate(state, updates, model(9))
        once = strategy.aggregate(state, [pooled], model(9))
        for key, value in each.model.items():
            torch.testing.assert_close(once.model[key], value, rtol=1e-9, atol=1e-12)
        for kind in beside:
            for key, value in each.memory[kind].items():
                torch.testing.assert_close(once.memory[kind][key], value, rtol=1e-9, atol=1e-12)
        state = each


@pytest.mark.parametrize("name", sorted(set(STRATEGIES.names) - set(SUMMED)))
def test_any_other_strategy_is_refused(name: str) -> None:
    """A robust rule under secure aggregation would see nothing but noise."""
    train = TrainConfig(optimizer="sgd", momentum=0, clip_grad_norm=0)
    hidden, target = SecAggConfig(is_on=True), Regression("age")
    match = rf"strategy {name}, whose server may need each site's update.*P57"
    with pytest.raises(PrivacyError, match=match):
        Plan(target, strategy=made(name), secagg=hidden, train=train)


def test_all_inspections_are_named_at_once() -> None:
    """Who configures a plan learns everything from one error; without them there is none."""
    with pytest.raises(PrivacyError, match=r"late.*transport.*P57"):
        refuse_inspections(["transport", "late"])
    refuse_inspections([])
