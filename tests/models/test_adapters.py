"""Low-rank adapters: what they add, what is trained of them, and the layer that they become."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import pytest
import torch
from torch import nn

from fedmri.errors import ConfigError
from fedmri.models.tuning.adapters import add_adapters, merged
from fedmri.models.weights import digest, frozen, layout, load_weights, weights
from fedmri.privacy.per_sample import by_loop, by_vmap
from tests.made import least_shape, shared

RANK = 2
EACH = pytest.mark.parametrize(
    "name",
    ["resnet18", "vit", *(pytest.param(n, marks=pytest.mark.slow) for n in ("swin", "unetr"))],
)


def adapted(name: str, seed: int = 3) -> tuple[nn.Module, frozenset[str]]:
    """Return a narrow network with adapters, in evaluation mode, and their entries."""
    network = deepcopy(shared(name)).eval()
    return network, add_adapters(network, RANK, layout(network).head, seed)


def images(name: str) -> torch.Tensor:
    """Return two images of a network's least size."""
    return torch.randn(2, 2, *least_shape(name), generator=torch.Generator().manual_seed(1))


def moved(network: nn.Module, adapters: frozenset[str]) -> nn.Module:
    """Return a network whose adapters were trained: none of them is zero."""
    draws = torch.Generator().manual_seed(2)
    values = weights(network)
    load_weights(network, {
        name: 0.1 * torch.randn(values[name].shape, generator=draws) for name in sorted(adapters)
    })  # fmt: skip
    return network


@contextmanager
def rest_frozen(network: nn.Module, adapters: frozenset[str]) -> Iterator[None]:
    """Let adapters and the last layer move alone."""
    entries = layout(network)
    with frozen(network, entries.parameters - adapters - entries.head):
        yield


@EACH
def test_adapters_add_nothing_at_first_and_merge_into_the_network(name: str) -> None:
    """A finished model has the entries of its plan's network, with the same answer."""
    plain, (network, adapters) = deepcopy(shared(name)).eval(), adapted(name)
    with torch.no_grad():
        assert torch.equal(network(images(name)), plain(images(name)))
        answer = moved(network, adapters)(images(name))
        whole = merged(weights(network), adapters)
        assert whole.keys() == weights(plain).keys()
        load_weights(plain, whole)
        assert torch.allclose(plain(images(name)), answer, atol=1e-4)
        assert not torch.allclose(shared(name).eval()(images(name)), answer, atol=1e-2)
    assert sum(weights(network)[n].numel() for n in adapters) < 0.5 * sum(
        value.numel() for value in whole.values()
    )


@EACH
def test_every_adapter_learns_and_nothing_else_but_the_head(name: str) -> None:
    """A layer whose weight is read past its hook would leave an adapter without a gradient."""
    network, adapters = adapted(name)
    moved(network, adapters)
    with rest_frozen(network, adapters):
        torch.autograd.backward(network(images(name)).square().mean())
    found = {n for n, p in network.named_parameters() if p.grad is not None and p.grad.any()}
    assert found == adapters | layout(network).head


def test_a_patients_gradient_is_that_of_adapters_alone() -> None:
    """Differential privacy clips what is trained: vmap agrees with one image after another."""
    network, adapters = adapted("vit")
    moved(network, adapters)
    loss = nn.CrossEntropyLoss()
    with rest_frozen(network, adapters):
        both = [
            by(network, loss, (images("vit"),), torch.tensor([0, 2])) for by in (by_vmap, by_loop)
        ]
    assert set(both[0]) == set(both[1]) == adapters | layout(network).head
    assert all(torch.allclose(both[0][n], both[1][n], atol=1e-5) for n in both[0])


def test_the_seed_decides_the_first_weights_and_a_rank_must_be_small() -> None:
    """All sites begin alike."""
    first, again, other = (
        digest({n: weights(network)[n] for n in adapters})
        for network, adapters in (adapted("vit"), adapted("vit"), adapted("vit", seed=4))
    )
    assert first == again != other
    with pytest.raises(ConfigError, match=r"train.adapter_rank.*\[C01\]"):
        add_adapters(deepcopy(shared("vit")), 10**6, frozenset(), 0)
