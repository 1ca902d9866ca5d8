"""Filters: what of an update is let through, to the bit, and what is refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmri.errors import ConfigError, PrivacyError
from fedmri.plan import FilterConfig
from fedmri.round import Weights
from fedmri.updates.filters import (
    change_norm,
    clipped,
    filtered,
    from_sparse,
    largest,
    to_sparse,
)


def change(seed: int = 0) -> Weights:
    """Return the change of a small model with a count and an empty entry."""
    source = torch.Generator().manual_seed(seed)
    return {
        "b.weight": torch.randn(4, 3, 2, generator=source),
        "a.bias": torch.randn(5, generator=source),
        "n": torch.tensor(3),
        "empty": torch.zeros(0, 2),
    }


@settings(deadline=None)  # torch's first call takes its time
@given(st.integers(0, 50), st.floats(1e-6, 100))
def test_clipping_bounds_the_norm_and_keeps_the_direction(seed: int, most: float) -> None:
    """The norm is the bound at most; a smaller change passes to the bit; integers always do."""
    before = change(seed)
    after = clipped(before, most)
    assert change_norm(after) <= most
    if change_norm(before) <= most:
        assert after is before
    ratio = change_norm(after) / change_norm(before)
    for name in ("a.bias", "b.weight"):
        torch.testing.assert_close(after[name], before[name] * ratio, rtol=1e-5, atol=0)
    assert after["n"] == 3


def test_the_largest_values_over_all_entries_are_kept() -> None:
    """Of 1, -5, 3 and 4 the largest two are -5 and 4, wherever they stand."""
    before = {"a": torch.tensor([1.0, -5.0]), "b": torch.tensor([[3.0], [4.0]])}
    after = largest(before, 2)
    assert after["a"].tolist() == [0, -5]
    assert after["b"].tolist() == [[0], [4]]
    assert largest(before, 4) is before
    assert all(not v.any() for v in largest(before, 0).values())


def test_ties_go_to_the_first_names_and_places() -> None:
    """Equal values are kept in ascending order of name and place, however the model is ordered."""
    before = {"b": torch.tensor([1.0, -1.0]), "a": torch.tensor([-1.0, 1.0, 2.0])}
    for n_kept, a, b in [(2, [-1, 0, 2], [0, 0]), (3, [-1, 1, 2], [0, 0]), (4, [-1, 1, 2], [1, 0])]:
        for order in (before, dict(reversed(before.items()))):
            after = largest(order, n_kept)
            assert (after["a"].tolist(), after["b"].tolist()) == (a, b)


@settings(deadline=None)  # torch's first call takes its time
@given(st.integers(0, 50), st.integers(0, 29))
def test_as_many_values_are_kept_as_asked(seed: int, n_kept: int) -> None:
    """None that is kept is smaller than one that is left out, and all are unchanged."""
    before = change(seed)
    after = largest(before, n_kept)
    flat = torch.cat([before[k].flatten() for k in ("a.bias", "b.weight")])
    kept = torch.cat([after[k].flatten() for k in ("a.bias", "b.weight")])
    is_kept = kept != 0
    assert is_kept.sum() == n_kept
    assert torch.equal(kept[is_kept], flat[is_kept])
    if 0 < n_kept < 29:
        assert flat[is_kept].abs().min() >= flat[~is_kept].abs().max()
    assert after["n"] == 3


def test_a_percentile_is_of_the_whole_change() -> None:
    """The 90th percentile of 29 values leaves three: a tenth, rounded up."""
    result = filtered(change(), FilterConfig(clip_norm=1, percentile=90))
    assert result.n_shared == 3
    assert result.norm == pytest.approx(change_norm(change()))
    assert sum(int((v != 0).sum()) for k, v in result.change.items() if k != "n") == 3
    assert change_norm(result.change) <= 1
    unfiltered = filtered(change(), FilterConfig())
    assert all(torch.equal(unfiltered.change[k], v) for k, v in change().items())


def test_the_sparse_form_comes_back_to_the_bit() -> None:
    """Places and values are the change, whatever its entries are."""
    for before in (largest(change(), 4), change(), largest(change(), 0)):
        sparse = to_sparse(before)
        after = from_sparse(sparse, change(1))
        assert after.keys() == before.keys()
        assert all(torch.equal(after[name], value) for name, value in before.items())
    assert to_sparse(largest(change(), 4))["b.weight/index"].numel() <= 4


@pytest.mark.parametrize("places", [[0, 0], [1, 0], [-1, 0], [0, 5]], ids=str)
def test_places_that_are_none_are_refused(places: list[int]) -> None:
    """A site that names a place twice, out of order or out of range writes nowhere."""
    sparse = to_sparse(change())
    odd = {"a.bias/index": torch.tensor(places), "a.bias/value": torch.ones(2)}
    with pytest.raises(PrivacyError, match=r"places of a\.bias.*P60"):
        from_sparse({**sparse, **odd}, change())


def test_other_names_and_types_are_refused() -> None:
    """What is not the model's is not read."""
    sparse = to_sparse(change())
    missing = {name: value for name, value in sparse.items() if name != "n"}
    narrow = {**sparse, "a.bias/value": sparse["a.bias/value"].half()}
    for odd in (missing, {**sparse, "x": torch.ones(1)}, narrow, {**sparse, "n": torch.ones(2)}):
        with pytest.raises(PrivacyError, match="P60"):
            from_sparse(odd, change())


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(odd: float) -> None:
    """Nothing is clipped to a norm that it has not."""
    broken = {**change(), "a.bias": torch.tensor([1.0, odd])}
    for config in (FilterConfig(clip_norm=1), FilterConfig(percentile=50), FilterConfig()):
        with pytest.raises(PrivacyError, match="P60"):
            filtered(broken, config)


def test_settings_that_make_no_sense_are_refused() -> None:
    """A negative norm, or sharing nothing at all."""
    for fields in ({"clip_norm": -1.0}, {"percentile": 100.0}, {"clip_norm": float("inf")}):
        with pytest.raises(ConfigError, match="C01"):
            FilterConfig(**fields)
