"""The contract of every network of the registry: nothing here knows one by its name."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from fedmri.claims import Claim, claims_of
from fedmri.errors import ConfigError, PrivacyError
from fedmri.models.registry import model_names
from fedmri.models.weights import digest, layout, load_weights, weights
from fedmri.privacy.per_sample import Inputs, refuse_batch_norm
from fedmri.round import ServerState, Update
from fedmri.strategies.averaging.fedavg import FedAvg
from tests.made import (
    LESION,
    MASK,
    built,
    inputs_of,
    least_shape,
    narrow,
    shared,
    target_of,
)

EACH = pytest.mark.parametrize("name", model_names())


def inputs(name: str, n: int = 2, n_channels: int = 2) -> Inputs:
    """Return what a network reads: images of its least size, the same ones each time."""
    shape = (n, n_channels, *least_shape(name))
    return inputs_of(name, torch.randn(shape, generator=torch.Generator().manual_seed(7)))


def loss(outputs: torch.Tensor) -> torch.Tensor:
    """Return a loss that is a mean over images, whatever the shape of an answer."""
    return outputs.flatten(1).square().mean(1).mean()


def gradients(network: nn.Module, batch: Inputs) -> dict[str, torch.Tensor]:
    """Return the gradient of every trained parameter."""
    network.zero_grad()
    torch.autograd.backward(loss(network(*batch)))
    return {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}


def refusal(name: str, shape: tuple[int, ...]) -> str:
    """Return the message of a model that cannot be built for images of a size, or nothing."""
    try:
        built(name, shape=shape)
    except ConfigError as error:
        return str(error)
    return ""


def n_answers(name: str) -> int:
    """Return the outputs of a network's target."""
    return target_of(name).n_outputs


@EACH
def test_modalities_are_one_stem_apart(name: str) -> None:
    """Only layers that see the image differ with its channels: four here, one or two elsewhere."""
    network = built(name, n_channels=4).eval()
    with torch.no_grad():
        outputs = network(*inputs(name, 1, n_channels=4))
    assert outputs.shape[:2] == (1, n_answers(name))
    own, other = network.state_dict(), shared(name).state_dict()
    assert own.keys() == other.keys()
    differing = {key for key, value in own.items() if value.shape != other[key].shape}
    assert 1 <= len(differing) <= len(own) // 2


@EACH
def test_odd_sizes_go_through_or_are_refused(name: str) -> None:
    """A side that cannot be halved gives an answer of its own size, or error C21."""
    odd = tuple(side + more for side, more in zip(least_shape(name), (5, 3, 1), strict=False))
    if refused := refusal(name, odd):
        assert "multiples of" in refused
        assert "[C21]" in refused
        return
    network = built(name, shape=odd).eval()
    with torch.no_grad():
        outputs = network(*inputs_of(name, torch.randn(1, 2, *odd)))
    assert outputs.shape == ((1, 2, *odd) if target_of(name) == MASK else (1, 3))


@EACH
def test_weights_of_one_network_make_another_the_same(name: str) -> None:
    """What travels is all that there is: no state lives beside the entries."""
    one, other = deepcopy(shared(name)).eval(), deepcopy(shared(name, seed=2)).eval()
    load_weights(other, weights(one))
    assert digest(weights(other)) == digest(weights(one))
    with torch.no_grad():
        assert torch.equal(other(*inputs(name)), one(*inputs(name)))


@EACH
def test_the_same_step_gives_the_same_bits(name: str) -> None:
    """Forward and backward, twice."""
    network, batch = shared(name).train(), inputs(name)
    first, again = gradients(network, batch), gradients(network, batch)
    assert first.keys() == again.keys()
    assert all(torch.equal(first[key], again[key]) for key in first)


@EACH
def test_fedavg_of_two_equal_sites_is_their_mean(name: str) -> None:
    """Every entry can be averaged; the mean fits the network."""
    a, b = weights(shared(name)), weights(shared(name, seed=2))
    entries = layout(shared(name))
    updates = [Update("a", a, 5, 1), Update("b", b, 5, 1)]
    out = {key: torch.empty_like(value) for key, value in a.items()}
    mean = FedAvg().aggregate(ServerState(a, entries), updates, out).model
    for key, value in mean.items():
        is_real = value.is_floating_point()
        want = (a[key].double() + b[key].double()) / 2 if is_real else torch.maximum(a[key], b[key])
        assert torch.allclose(value.double(), want.double(), atol=1e-6), key
    load_weights(deepcopy(shared(name)), mean)


@EACH
def test_a_model_that_claims_so_keeps_patients_apart(name: str) -> None:
    """The gradient of a batch is the mean of the gradients of its images, each alone."""
    model, network = narrow(name), deepcopy(shared(name)).double().eval()
    assert Claim.PATIENTS_APART in claims_of(model)
    batch = tuple(each.double() for each in inputs(name))
    whole = gradients(network, batch)
    rows = range(len(batch[0]))
    alone = [gradients(network, tuple(each[i : i + 1] for each in batch)) for i in rows]
    for key, value in whole.items():
        mean = torch.stack([one.get(key, torch.zeros_like(value)) for one in alone]).mean(0)
        assert torch.allclose(value, mean, rtol=1e-7, atol=1e-12), key


@EACH
def test_a_model_that_mixes_patients_claims_nothing_and_is_refused(name: str) -> None:
    """With batch norm there is no gradient of one patient; the layer is named."""
    model = narrow(name, norm="batch")
    if not hasattr(model, "norm"):
        assert Claim.PATIENTS_APART in claims_of(model)
        return
    assert Claim.PATIENTS_APART not in claims_of(model)
    with pytest.raises(PrivacyError, match=r"layer .+: found BatchNorm2d.*\[P33\]"):
        refuse_batch_norm(shared(name, "batch"))


@EACH
def test_a_step_in_bfloat16_is_finite(name: str) -> None:
    """Under autocast, as GPUs and recent CPUs train."""
    network = shared(name).train()
    network.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = network(*inputs(name))
    torch.autograd.backward(loss(outputs.float()))
    assert outputs.isfinite().all()
    found = [p.grad for p in network.parameters() if p.grad is not None]
    assert all(grad.isfinite().all() for grad in found)
    network.zero_grad()


def test_targets_of_the_contract_differ() -> None:
    """A network for masks answers two channels here, one for images three."""
    assert (MASK.n_outputs, LESION.n_outputs) == (2, 3)
