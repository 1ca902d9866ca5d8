"""Weights out of a network and back into it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fedmri.errors import RoundError
from fedmri.models.weights import frozen, layout, load_weights, weights


def network(seed: int) -> nn.Module:
    """Return a small network with batch norm."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


def test_weights_are_the_networks_own_memory() -> None:
    """In one process nothing is copied until somebody needs a copy."""
    net = network(0)
    values = weights(net)
    assert list(values) == list(net.state_dict())
    assert not any(value.requires_grad for value in values.values())
    with torch.no_grad():
        net[0].weight.fill_(7)  # type: ignore[index]  # a Sequential
    assert (values["0.weight"] == 7).all()


def test_loading_gives_the_bits_and_keeps_the_memory() -> None:
    """The optimizer and whoever else holds a parameter see the new values."""
    net, other = network(0), weights(network(1))
    addresses = [value.data_ptr() for value in net.state_dict().values()]
    load_weights(net, other)
    assert all(torch.equal(value, other[name]) for name, value in weights(net).items())
    assert [value.data_ptr() for value in net.state_dict().values()] == addresses


def test_only_the_names_given_are_copied() -> None:
    """Entries that stay at a site are untouched by what the server sends."""
    net, other = network(0), weights(network(1))
    before = {name: value.clone() for name, value in weights(net).items()}
    load_weights(net, other, ["0.weight"])
    load_weights(net, {"2.bias": other["2.bias"]})
    for name, value in weights(net).items():
        source = other if name in ("0.weight", "2.bias") else before
        assert torch.equal(value, source[name]), name


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"9.weight": torch.zeros(1)}, r"weights of 9.weight: found .* want none"),
        ({"0.weight": torch.zeros(4, 2)}, r"found .*\(4, 2\), want .*\(4, 3\)"),
        ({"0.weight": torch.zeros(4, 3).double()}, "found torch.float64 of shape"),
    ],
)
def test_weights_that_do_not_fit_are_refused_before_any_is_copied(
    change: dict[str, torch.Tensor], match: str
) -> None:
    """A network is never left half loaded."""
    net = network(0)
    before = {name: value.clone() for name, value in weights(net).items()}
    with pytest.raises(RoundError, match=match):
        load_weights(net, weights(network(1)) | change)
    assert all(torch.equal(value, before[name]) for name, value in weights(net).items())


def test_a_missing_entry_is_refused() -> None:
    """What was asked for by name must be there."""
    with pytest.raises(RoundError, match=r"weights of 0.bias: found none.*\[R03\]"):
        load_weights(network(0), {}, ["0.bias"])


def test_the_layout_tells_batch_norm_from_the_rest() -> None:
    """Scale and shift are parameters, running statistics and the count are not."""
    found = layout(network(0))
    assert found.norm_parameters == {"1.weight", "1.bias"}
    assert found.norm_statistics == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert found.parameters == {"0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias"}


def test_a_frozen_parameter_is_no_parameter_of_the_layout() -> None:
    """It is sent with the rest but no strategy expects it to change."""
    net = network(0)
    net[0].weight.requires_grad_(False)  # type: ignore[index]  # a Sequential
    assert "0.weight" not in layout(net).parameters


def test_frozen_parameters_do_not_move_and_thaw_again() -> None:
    """What could not move before the freeze cannot move after it."""
    net = network(0)
    dict(net.named_parameters())["0.bias"].requires_grad = False
    with frozen(net, {"0.weight", "0.bias"}):
        moving = {name for name, value in net.named_parameters() if value.requires_grad}
        assert moving == {"1.weight", "1.bias", "2.weight", "2.bias"}
    moving = {name for name, value in net.named_parameters() if value.requires_grad}
    assert moving == {"0.weight", "1.weight", "1.bias", "2.weight", "2.bias"}
