"""Laws of the networks that join others: patients, modalities, slices, parcels."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
from torch import nn

from fedmri.errors import ConfigError
from fedmri.models.build import build_network
from fedmri.models.hybrid_layers.modalities import Presence
from fedmri.models.hybrid_layers.parcels import Parcels, normed_edges, shares_of
from fedmri.models.hybrid_layers.recurrent import Recurrent
from fedmri.models.hybrid_layers.slices import AttentionPool, SliceReader
from fedmri.models.registry import MODELS
from fedmri.models.weights import layout, load_weights, weights
from fedmri.privacy.per_sample import Inputs
from fedmri.round import Update
from fedmri.strategies.averaging.fedavg import FedAvg
from fedmri.tasks.kinds.classification import Classification
from tests.made import beside, each, inputs_of, n_dims_of, narrow

KIND = Classification("kind", ("a", "b", "c"))
HYBRIDS = tuple(name for name, module in MODELS.own.items() if ".hybrid." in module)
EACH = pytest.mark.parametrize("name", each(HYBRIDS))
SIDES = {"vgg16_vit": (32, 32, 48), "vit_gru": (16, 32, 48)}
"""Of models whose sides are multiples; the others take what nobody can halve."""


def shape_of(name: str) -> tuple[int, ...]:
    """Return sides of an image, odd where the model does not name a multiple."""
    least = {"densenet121_transformer": (33, 35, 5), "dual_path_add": (33, 35, 37)}
    odd = SIDES.get(name) or least.get(name, (17, 19, 21))
    return odd[: n_dims_of(name)[0]]


@lru_cache
def built(name: str, seed: int = 1, n_channels: int = 2) -> nn.Module:
    """Return a narrow network without batch norm."""
    shape = shape_of(name)
    return build_network(
        narrow(name, hidden_width=8, token_width=8),
        target=KIND,
        n_dims=len(shape),
        n_channels=n_channels,
        shape=shape,
        seed=seed,
        **beside(name),
    )


def images(name: str, n: int, seed: int = 3) -> torch.Tensor:
    """Return noise of two modalities."""
    return torch.randn(n, 2, *shape_of(name), generator=torch.Generator().manual_seed(seed))


def inputs(name: str, n: int) -> Inputs:
    """Return what a network reads."""
    return inputs_of(name, images(name, n))


@EACH
def test_a_patient_does_not_change_what_another_gets(name: str) -> None:
    """What is claimed for differential privacy holds in training mode too."""
    network, batch = built(name).train(), inputs(name, 3)
    with torch.no_grad():
        together = network(*batch)
        alone = torch.cat([network(*(each[i : i + 1] for each in batch)) for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-4)


@EACH
def test_the_same_image_gives_the_same_bits_and_gradients(name: str) -> None:
    """Nothing is drawn in a network without dropout."""
    network, batch = built(name), inputs(name, 2)
    found = []
    for _ in range(2):
        network.zero_grad()
        outputs = network(*batch)
        torch.autograd.backward(outputs.square().sum())
        found.append([outputs, *(p.grad for p in network.parameters() if p.grad is not None)])
    assert all(torch.equal(first, second) for first, second in zip(*found, strict=True))
    assert len(found[0]) == 1 + len(list(network.parameters()))


@EACH
def test_the_mean_of_two_equal_sites_is_either(name: str) -> None:
    """FedAvg of the whole state, buffers too."""
    network = built(name)
    own = {key: value.clone() for key, value in weights(network).items()}
    entries = layout(network)
    updates = [Update(site, own, n, 1) for site, n in (("a", 3), ("b", 5))]
    out = {key: torch.empty_like(value) for key, value in own.items()}
    start = FedAvg().start({k: torch.zeros_like(v) for k, v in own.items()}, entries)
    mean = FedAvg().aggregate(start, iter(updates), out).model
    for key, value in own.items():
        assert torch.allclose(mean[key].double(), value.double(), atol=1e-6), key


@EACH
def test_weights_of_another_network_make_it_that_network(name: str) -> None:
    """All that decides an output is in the state that travels."""
    first, second = built(name), built(name, seed=2)
    batch = inputs(name, 1)
    with torch.no_grad():
        assert not torch.equal(first(*batch), second(*batch))
        kept = {key: value.clone() for key, value in weights(second).items()}
        load_weights(second, weights(first))
        assert torch.equal(first(*batch), second(*batch))
        load_weights(second, kept)


@pytest.mark.parametrize("name", [name for name in HYBRIDS if n_dims_of(name) == (3,)])
def test_a_network_of_slices_refuses_pictures(name: str) -> None:
    """The message says what to set."""
    with pytest.raises(ConfigError, match=r"found 2D, want 3D.*data.prepare.dimension=3d.*C21"):
        build_network(narrow(name), target=KIND, n_dims=2, n_channels=1, shape=(32, 32), seed=0)


def test_slices_are_read_along_the_axis_with_their_neighbours() -> None:
    """The ends repeat the last slice."""
    volume = torch.arange(24.0).reshape(1, 1, 2, 3, 4)
    reader = SliceReader(nn.Flatten(), axis=2, n_neighbours=1)
    found = reader(volume)
    columns = volume[0, 0].movedim(2, 0).flatten(1)
    assert found.shape == (1, 4, 18)
    for i in range(4):
        wanted = torch.cat([columns[max(0, i - 1)], columns[i], columns[min(3, i + 1)]])
        assert torch.equal(found[0, i], wanted)


def test_attention_over_slices_is_a_mean_of_weights_that_sum_to_one() -> None:
    """A slice that repeats another gets its weight, and equal slices give that slice."""
    pool, items = AttentionPool(4, 3), torch.randn(2, 5, 4)
    assert torch.allclose(pool.weights(items).sum(1), torch.ones(2, 1))
    same = items[:, :1].expand(-1, 5, -1)
    assert torch.allclose(pool(same), same[:, 0], atol=1e-6)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_memory_forgets_with_the_time_between_items(cell: str) -> None:
    """After a very long interval only the last item counts; unit intervals are the default."""
    memory = Recurrent(cell, 3, 4)  # type: ignore[arg-type]  # a parameter of the test
    assert memory.decay is not None
    nn.init.constant_(memory.decay.weight, 1.0)
    first, second = torch.randn(2, 1, 2, 3).unbind(0)
    second[:, -1] = first[:, -1]
    unit, long = torch.ones(1, 2), torch.full((1, 2), 1e4)
    assert torch.equal(memory(first), memory(first, unit))
    assert not torch.allclose(memory(first), memory(second), atol=1e-4)
    if cell == "gru":
        assert torch.allclose(memory(first, long), memory(second, long), atol=1e-6)
    else:  # its hidden state is no memory of its own
        gap = (memory(first, long) - memory(second, long)).abs().max()
        assert gap < (memory(first, unit) - memory(second, unit)).abs().max()


def test_visits_with_intervals_go_through_the_network_of_slices() -> None:
    """Other intervals give another answer once they were trained."""
    network, batch = built("cnn_rnn"), images("cnn_rnn", 1)
    nn.init.constant_(network.over.decay.weight, 1.0)  # type: ignore[union-attr,arg-type]
    n_slices = batch.shape[-1]
    with torch.no_grad():
        usual = network(batch)
        assert torch.equal(usual, network(batch, torch.ones(1, n_slices)))
        assert not torch.equal(usual, network(batch, torch.full((1, n_slices), 5.0)))
    nn.init.zeros_(network.over.decay.weight)  # type: ignore[union-attr,arg-type]


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_visit_counts_by_its_place_and_time_and_a_missing_one_not_at_all(cell: str) -> None:
    """Of three visits the first is missing: what its channels hold is not read."""
    network = build_network(
        narrow("visit_rnn", cell=cell, hidden_width=8),
        target=KIND,
        n_dims=2,
        n_channels=3,
        shape=(16, 16),
        seed=1,
        n_covariates=7,
        n_visits=3,
    ).eval()
    nn.init.ones_(network.memory.decay.weight)  # type: ignore[union-attr,arg-type]
    batch = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    row = torch.tensor([[0.4, 0, 1, 0, 0, 1.5, 0]])  # age, then years and absence by visit
    other = batch.clone()
    other[:, 0] = 9
    with torch.no_grad():
        usual = network(batch, row)
        assert torch.equal(usual, network(other, row))
        assert not torch.equal(usual, network(batch[:, [0, 2, 1]], row))
        for place in (0, 5):
            changed = row.clone()
            changed[0, place] += 3
            assert not torch.equal(usual, network(batch, changed))


def fusion(kind: str, **settings: object) -> nn.Module:
    """Return a network of two modalities."""
    return build_network(
        narrow("modality_fusion", fusion=kind, **settings),
        target=KIND,
        n_dims=2,
        n_channels=2,
        shape=(16, 16),
        seed=1,
    )


@pytest.mark.parametrize("kind", ["intermediate", "late", "attention"])
def test_an_absent_modality_counts_for_nothing(kind: str) -> None:
    """Its branch gets no gradient, and no change of its weights changes the answer."""
    network, batch = fusion(kind), torch.randn(2, 2, 16, 16)
    batch[:, 1] = 0
    torch.autograd.backward(network(batch).square().sum())
    branches = network.networks
    assert isinstance(branches, nn.ModuleList)
    assert all(bool(p.grad.any()) for p in branches[0].parameters() if p.grad is not None)
    assert not any(p.grad is not None and bool(p.grad.any()) for p in branches[1].parameters())
    with torch.no_grad():
        before = network(batch)
        for parameter in branches[1].parameters():
            parameter.add_(1)
        assert torch.allclose(network(batch), before, atol=1e-6)


def test_early_fusion_tells_absent_from_dark() -> None:
    """A modality of air and one voxel is there, and the network is told so."""
    presence = Presence(1, 0.0)
    batch = torch.zeros(2, 2, 4, 4)
    batch[:, 0] = 1
    batch[1, 1, 0, 0] = 1e-3
    assert presence(batch)[1].tolist() == [[1, 0], [1, 1]]
    assert presence(torch.zeros(1, 2, 4, 4))[1].tolist() == [[1, 1]]


def test_modality_dropout_hides_some_in_training_and_never_all() -> None:
    """What is hidden is zero; nothing absent appears; in evaluation all is shown."""
    presence, batch = Presence(1, 0.9), torch.ones(400, 3, 2, 2)
    batch[:, 2] = 0
    torch.manual_seed(0)
    parts, ones = presence.train()(batch)
    shown = ones.sum(1)
    assert set(shown.tolist()) == {1.0, 2.0}
    assert (shown == 1).float().mean() > 0.8
    assert not ones[:, 2].any()
    assert torch.equal(parts.flatten(2).any(2), ones.bool())
    assert presence.eval()(batch)[1].sum() == 800


def test_parcels_of_an_atlas_take_the_place_of_learned_ones() -> None:
    """Nodes are the means over the labelled places; edges that are given replace likeness."""
    parcels = Parcels("learned", 2, 3, 5)
    features = torch.randn(2, 3, 4, 4)
    labels = torch.ones(2, 8, 8, dtype=torch.long)
    labels[:, 4:] = 2
    nodes = parcels(features, shares_of(labels, 2))
    assert torch.allclose(nodes[:, 0], features[:, :, :2].mean((2, 3)), atol=1e-6)
    assert torch.allclose(nodes[:, 1], features[:, :, 2:].mean((2, 3)), atol=1e-6)
    network, batch = built("parcel_graph"), images("parcel_graph", 1)
    shares = torch.zeros(1, 2, *shape_of("parcel_graph"))
    shares[:, 0, :2], shares[:, 1, 2:] = 1, 1
    batch[:, :, :2] *= 10  # nodes that differ: edges between equal nodes change nothing
    with torch.no_grad():
        found = [network(batch, shares, edges) for edges in (None, torch.zeros(1, 2, 2))]
        assert not torch.allclose(network(batch), found[0])
    assert not torch.allclose(found[0], found[1])


@pytest.mark.parametrize("n_dims", [2, 3])
def test_a_grid_of_parcels_cuts_blocks(n_dims: int) -> None:
    """One block is the whole; as many blocks as places are the places."""
    features = torch.randn(2, 3, *[4] * n_dims)
    whole = Parcels("grid", n_dims, 3, 1)(features)
    assert torch.allclose(whole[:, 0], features.flatten(2).mean(2), atol=1e-6)
    each = Parcels("grid", n_dims, 3, 9)(features)
    assert torch.allclose(each, features.flatten(2).transpose(1, 2))


def test_edges_are_scaled_by_both_ends() -> None:
    """Two nodes that are joined once: each keeps half of itself and gets half of the other."""
    edges = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    assert torch.allclose(normed_edges(edges), torch.full((1, 2, 2), 0.5))
