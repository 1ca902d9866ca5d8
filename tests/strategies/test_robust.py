"""Rules that a few bad sites cannot move far."""

from __future__ import annotations

import pytest
import torch

from fedmri.errors import RoundError
from fedmri.round import Layout, Strategy, Update, Weights
from fedmri.strategies import spool
from fedmri.strategies.robust.geometric_median import GeometricMedian, geometric_median
from fedmri.strategies.robust.krum import Krum
from fedmri.strategies.robust.median import Median
from fedmri.strategies.robust.norm_bound import NormBound
from fedmri.strategies.robust.trimmed_mean import TrimmedMean

LAYOUT = Layout(frozenset({"w", "b"}), frozenset(), frozenset())
N_SITES, N_BAD = 9, 2


def model(values: torch.Tensor) -> Weights:
    """Return a model of two entries and a count that hold these seven numbers."""
    return {"w": values[:6].reshape(2, 3).clone(), "b": values[6].clone(), "n": torch.tensor(3)}


def updates(values: torch.Tensor) -> list[Update]:
    """Return an update of each row."""
    return [Update(f"s{k}", model(row), 1 + k, 1) for k, row in enumerate(values)]


def combined(strategy: Strategy, values: torch.Tensor, start: float = 0.0) -> torch.Tensor:
    """Return the seven numbers of the model after a round."""
    state = strategy.start(model(torch.full((7,), start)), LAYOUT)
    out = {name: torch.full_like(value, 77) for name, value in state.model.items()}
    new = strategy.aggregate(state, iter(updates(values)), out).model
    return torch.cat([new["w"].reshape(-1), new["b"].reshape(1)])


def attacked() -> tuple[torch.Tensor, torch.Tensor]:
    """Return what nine sites send, the last two lying by a million; and the honest part."""
    values = torch.randn(N_SITES, 7, generator=torch.Generator().manual_seed(1)) + 4
    values[-N_BAD:] += 1e6
    return values, values[:-N_BAD]


RULES = [
    Median(),
    TrimmedMean(n_outliers=N_BAD),
    GeometricMedian("uniform"),
    Krum(n_outliers=N_BAD),
]


@pytest.mark.parametrize("strategy", RULES, ids=repr)
def test_bad_sites_do_not_carry_the_model_away(strategy: Strategy) -> None:
    """Two of nine lie by a million; the model stays among the honest."""
    values, honest = attacked()
    found = combined(strategy, values)
    assert ((honest.min(0).values <= found + 1e-3) & (found - 1e-3 <= honest.max(0).values)).all()


@pytest.mark.parametrize("strategy", RULES, ids=repr)
def test_the_start_does_not_matter(strategy: Strategy) -> None:
    """Rules see differences from the model; they combine models all the same."""
    values, _ = attacked()
    honest = values[:-N_BAD]
    assert torch.allclose(combined(strategy, honest), combined(strategy, honest, 2.0), atol=1e-4)


def test_a_trimmed_mean_of_no_outliers_is_the_mean() -> None:
    """Unweighted: the numbers of examples do not enter."""
    _, honest = attacked()
    assert torch.allclose(combined(TrimmedMean(n_outliers=0), honest), honest.mean(0), atol=1e-6)


def test_the_median_of_an_even_number_is_between_the_middle_two() -> None:
    """As in NumPy."""
    values = attacked()[0][:6]
    assert torch.allclose(combined(Median(), values), values.quantile(0.5, dim=0), atol=1e-6)


def test_the_geometric_median_of_a_triangle_is_its_centre() -> None:
    """Equilateral: the centroid. First-order condition: unit vectors to the points add to zero."""
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 3**0.5 / 2]], dtype=torch.float64)
    share = geometric_median(corners @ corners.T, torch.ones(3, dtype=torch.float64))
    assert torch.allclose(share, torch.full((3,), 1 / 3, dtype=torch.float64))
    values = torch.randn(7, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    centre = geometric_median(values @ values.T, torch.ones(7, dtype=torch.float64)) @ values
    away = values - centre
    assert (away / away.norm(dim=1, keepdim=True)).sum(0).norm() < 1e-6


def test_the_geometric_median_does_not_depend_on_what_all_sites_share() -> None:
    """Two of four sites agree and outweigh the rest: the median is theirs, far from 0 or near."""
    values = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values[3] = values[0]
    weight = torch.tensor([9.0, 3.0, 4.0, 9.0], dtype=torch.float64)
    for far in (0.0, 1e3):
        share = geometric_median((values + far) @ (values + far).T, weight)
        assert (share @ values - values[0]).norm() < 1e-5


def test_krum_chooses_one_sites_model() -> None:
    """The result is an honest site's model as it was sent."""
    values, honest = attacked()
    found = combined(Krum(n_outliers=N_BAD), values)
    assert any(torch.allclose(found, one, atol=1e-5) for one in honest)


FOUR = [Krum(), Krum(n_outliers=0), TrimmedMean(n_outliers=2)]


@pytest.mark.parametrize("strategy", FOUR, ids=repr)
def test_too_few_sites_are_refused_before_they_train(strategy: Strategy) -> None:
    """A round begins with the question who trains."""
    with pytest.raises(RoundError, match=r"found 4, want 5 or more.*\[R09\]"):
        strategy.turns(("a", "b", "c", "d"), 1)
    assert strategy.turns(("a", "b", "c", "d", "e"), 1) == (("a", "b", "c", "d", "e"),)


@pytest.mark.parametrize("strategy", FOUR, ids=repr)
def test_too_few_sites_are_refused(strategy: Strategy) -> None:
    """Krum of four sites and a trimmed mean of nothing say how many they need."""
    with pytest.raises(RoundError, match=r"found 4, want 5 or more.*\[R09\]"):
        combined(strategy, attacked()[0][:4])


def test_a_bounded_change_is_no_longer_than_the_bound() -> None:
    """One liar moves the model by the bound at most; short changes are taken as they are."""
    values = torch.zeros(1, 7)
    values[0, 2] = 1e6
    assert torch.allclose(combined(NormBound(max_change=0.5), values).norm(), torch.tensor(0.5))
    values[0, 2] = 0.3
    assert torch.equal(combined(NormBound(max_change=0.5), values)[2], torch.tensor(0.3))


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """Coordinates are taken a block at a time, whatever its size."""
    values, _ = attacked()
    whole = combined(Median(), values)
    monkeypatch.setattr(spool, "BLOCK", 2)
    assert torch.equal(combined(Median(), values), whole)
