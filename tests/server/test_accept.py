"""Which updates may enter the mean."""

from __future__ import annotations

import pytest
import torch

from fedmri.errors import RoundError
from fedmri.round import Form, Update, Weights
from fedmri.server.rounds.accept import Bounds, check_update

FREE = Bounds(frozenset())
SENT: Weights = {"w": torch.zeros(3), "n": torch.tensor(0)}


def update(weights: Weights) -> Update:
    """Return an update of site a."""
    return Update("a", weights, 1, 1)


def test_what_was_sent_may_come_back() -> None:
    """The same names, shapes and types with finite values are taken."""
    check_update(update({"w": torch.ones(3), "n": torch.tensor(4)}), SENT, FREE)


def test_large_finite_values_are_taken() -> None:
    """A sum that overflows is no proof of infinity: 3e38 + 3e38 is tested value by value."""
    check_update(update({"w": torch.full((3,), 3e38), "n": torch.tensor(0)}), SENT, FREE)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_is_refused(value: float) -> None:
    """One such value in one entry would spoil every site's model."""
    weights = {"w": torch.tensor([0.0, value, 0.0]), "n": torch.tensor(0)}
    with pytest.raises(RoundError, match=r"site a.*infinity in w.*\[R04\]"):
        check_update(update(weights), SENT, FREE)


def test_opposite_infinities_do_not_hide_each_other() -> None:
    """Infinity minus infinity is NaN, never finite."""
    weights = {"w": torch.tensor([float("inf"), float("-inf"), 0.0]), "n": torch.tensor(0)}
    with pytest.raises(RoundError, match=r"\[R04\]"):
        check_update(update(weights), SENT, FREE)


@pytest.mark.parametrize(
    "weights",
    [
        {"w": torch.zeros(3)},
        {"w": torch.zeros(3), "n": torch.tensor(0), "x": torch.zeros(1)},
        {"w": torch.zeros(4), "n": torch.tensor(0)},
        {"w": torch.zeros(3, dtype=torch.float64), "n": torch.tensor(0)},
        {"w": torch.zeros(3), "n": torch.tensor(0.0)},
        {},
    ],
    ids=["missing", "extra", "shape", "type", "float for integer", "empty"],
)
def test_an_update_of_another_form_is_refused(weights: Weights) -> None:
    """Names, shapes and types must be those that were sent."""
    with pytest.raises(RoundError, match=r"site a.*\[R03\]"):
        check_update(update(weights), SENT, FREE)


def test_a_thousandfold_norm_is_refused() -> None:
    """The parameters count together; statistics of batch norm may grow as they like."""
    bounds = Bounds(frozenset({"w"}), max_norm=10.0)
    check_update(update({"w": torch.full((3,), 5.0), "n": torch.tensor(0)}), SENT, bounds)
    with pytest.raises(RoundError, match=r"norm of the update of site a.*\[R41\]"):
        check_update(update({"w": torch.full((3,), 6.0), "n": torch.tensor(0)}), SENT, bounds)
    free = Bounds(frozenset(), max_norm=10.0)
    check_update(update({"w": torch.full((3,), 6.0), "n": torch.tensor(0)}), SENT, free)


def test_a_site_weighs_no_more_than_it_declared() -> None:
    """A count above the declared one would let a site outweigh all others."""
    weights = {"w": torch.zeros(3), "n": torch.tensor(0)}
    bounds = Bounds(frozenset(), n_examples=100)
    check_update(Update("a", weights, 100, 1), SENT, bounds)
    with pytest.raises(RoundError, match=r"examples of site a.*\[R42\]"):
        check_update(Update("a", weights, 101, 1), SENT, bounds)


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"control": {"w": torch.zeros(4)}},
        {"control": {"w": torch.zeros(3, dtype=torch.float64)}},
        {"control": {"v": torch.zeros(3)}},
        {"control": {"w": torch.tensor([0.0, float("nan"), 0.0])}},
        {"control": {"w": torch.zeros(3)}, "more": {"w": torch.zeros(3)}},
    ],
    ids=["missing", "shape", "type", "name", "not finite", "undeclared"],
)
def test_what_comes_beside_the_weights_is_as_declared(extra: dict[str, Weights]) -> None:
    """A strategy's record has its names, shapes and types, and finite values; no other comes."""
    bounds = Bounds(frozenset(), extra={"control": {"w": Form(torch.float32, (3,))}})
    weights = {"w": torch.zeros(3), "n": torch.tensor(0)}
    good = {"control": {"w": torch.ones(3)}}
    check_update(Update("a", weights, 1, 1, extra=good), SENT, bounds)
    with pytest.raises(RoundError, match=r"site a.*\[R0[34]\]"):
        check_update(Update("a", weights, 1, 1, extra=extra), SENT, bounds)
