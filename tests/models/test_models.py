"""Laws of every network, with every norm, in 2D and 3D."""

from __future__ import annotations

import hashlib
import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from fedmri.errors import ConfigError
from fedmri.models.build import build_network, n_parameters
from fedmri.models.norm import n_groups
from fedmri.models.registry import MODELS, model_names
from fedmri.models.weights import layout
from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.kinds.regression import Regression
from fedmri.tasks.task import Task
from tests.made import (
    LESION,
    MASK,
    built,
    each,
    inputs_of,
    least_shape,
    marked,
    model,
    n_dims_of,
    narrow,
    shared,
    target_of,
)

AGE = Regression("age")
KINDS = (("group", 2), ("group", 3), ("batch", 2))
EACH = pytest.mark.parametrize(
    ("name", "norm", "n_dims"),
    [
        pytest.param(name, *kind, marks=marked(name))
        for name, kind in itertools.product(model_names(), KINDS)
        if kind[1] in n_dims_of(name)
    ],
)
EACH_NAME = pytest.mark.parametrize("name", each(model_names()))


def sha256(network: nn.Module) -> str:
    """Return a digest of names and bits of all entries."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


@EACH
def test_one_image_trains_every_parameter(name: str, norm: str, n_dims: int) -> None:
    """The last batch of a site may hold one image; what is sent takes part in its answer.

    In training a network may answer at several levels; when it predicts, it gives one answer.
    """
    shape, network = least_shape(name, n_dims), shared(name, norm, n_dims)
    wanted = (1, 2, *shape) if target_of(name) == MASK else (1, 3)
    inputs = inputs_of(name, torch.randn(1, 2, *shape))
    network.zero_grad()
    outputs = network(*inputs)
    torch.autograd.backward(outputs.square().sum())
    named = network.named_parameters()
    assert [key for key, value in named if value.requires_grad and value.grad is None] == []
    if outputs.shape != wanted:
        assert (*outputs.shape[:1], *outputs.shape[2:]) == wanted
        with torch.no_grad():
            outputs = network.eval()(*inputs)
        network.train()
    assert outputs.shape == wanted


@EACH
def test_the_layout_names_entries_of_the_network(name: str, norm: str, n_dims: int) -> None:
    """Strategies find batch norm where there is some, and nowhere else."""
    network = shared(name, norm, n_dims)
    entries, found = set(network.state_dict()), layout(network)
    assert {len(network.state_dict()[key]) for key in found.head} == {target_of(name).n_outputs}
    assert found.norm_parameters <= found.parameters <= entries
    assert found.norm_statistics <= entries - found.parameters
    has_batch_norm = norm == "batch" and "norm" in MODELS.settings(name)
    assert bool(found.norm_statistics) == bool(found.norm_parameters) == has_batch_norm


@EACH_NAME
def test_the_seed_decides_the_weights_and_nothing_else_does(name: str) -> None:
    """Every site builds the same network, whatever it drew before, and draws on as it would."""
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert sha256(built(name)) == sha256(shared(name))
    assert torch.equal(torch.get_rng_state(), state)
    assert sha256(shared(name, seed=2)) != sha256(shared(name))


@EACH_NAME
def test_the_norm_changes_no_other_weight(name: str) -> None:
    """Networks that differ in their norm alone start from the same weights."""
    batch, group = shared(name, "batch"), shared(name)
    statistics = layout(batch).norm_statistics
    assert list(group.state_dict()) == [key for key in batch.state_dict() if key not in statistics]
    for key, value in group.state_dict().items():
        assert torch.equal(value, batch.state_dict()[key])


@EACH_NAME
def test_no_layer_works_in_place(name: str) -> None:
    """Gradients of single examples need every layer's input to last."""
    modules = shared(name).modules()
    assert not any(getattr(module, "inplace", False) for module in modules)


@EACH_NAME
def test_dropout_is_off_by_default(name: str) -> None:
    """Without ``dropout`` training mode draws nothing."""
    network = shared(name)
    inputs = inputs_of(name, torch.randn(2, 2, *least_shape(name)))
    with torch.no_grad():
        assert torch.equal(network(*inputs), network(*inputs))


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("resnet18", {}, 11_689_512),
        ("densenet121", {}, 7_978_856),
        ("efficientnet_b0", {}, 5_288_548),
        ("shufflenet", {}, 2_278_604),
        ("resnet", {"depth": 34}, 21_797_672),
        ("resnet", {"depth": 50}, 25_557_032),
        ("senet", {"depth": 50}, 28_088_024),
        ("swin", {}, 28_288_354),
        ("convnext", {}, 28_589_128),
        pytest.param("resnet", {"depth": 101}, 44_549_160, marks=SLOW),
        pytest.param("resnet", {"depth": 152}, 60_192_808, marks=SLOW),
        pytest.param("swin", {"size": "small"}, 49_606_258, marks=SLOW),
        pytest.param("convnext", {"size": "small"}, 50_223_688, marks=SLOW),
        pytest.param("efficientnet", {"size": "b1"}, 7_794_184, marks=SLOW),
        pytest.param("efficientnet", {"size": "b2"}, 9_109_994, marks=SLOW),
        pytest.param("efficientnet", {"size": "b3"}, 12_233_232, marks=SLOW),
        pytest.param("efficientnet", {"size": "b4"}, 19_341_616, marks=SLOW),
    ],
)
def test_standard_networks_have_their_published_size(
    name: str, settings: dict[str, object], expected: int
) -> None:
    """With three channels and 1000 classes they are the networks of the papers."""
    target = Classification("imagenet", tuple(str(i) for i in range(1000)))
    shape = (64, 64)
    config = model(name, norm="batch", **settings)
    network = build_network(config, target=target, n_dims=2, n_channels=3, shape=shape, seed=0)
    assert n_parameters(network) == expected


@pytest.mark.parametrize(("depth", "expected"), [(16, 14_714_688), (19, 20_024_384)])
def test_vgg_has_the_convolutions_of_the_paper(depth: int, expected: int) -> None:
    """The dense layers differ; the convolutions are those of configurations D and E."""
    config = model("vgg", depth=depth)
    network = build_network(config, target=LESION, n_dims=2, n_channels=3, shape=(64, 64), seed=0)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert sum(p.numel() for m in convolutions for p in m.parameters()) == expected


def test_cnn9_is_as_large_as_its_source_says() -> None:
    """Eight convolutions and a linear layer: 1.8 million parameters."""
    config = model("cnn9")
    network = build_network(config, target=AGE, n_dims=2, n_channels=1, shape=(64, 64), seed=0)
    layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(layers) == 9
    assert round(n_parameters(network) / 1e6, 1) == 1.8


def test_cnn5_has_the_size_that_its_layers_add_up_to() -> None:
    """Three convolutions of 3 x 3, two linear layers, and a scale and shift a channel."""
    convolutions = (9 * 1 * 32 + 32) + (9 * 32 * 64 + 64) + (9 * 64 * 128 + 128)
    linear = (128 * 64 + 64) + (64 * 1 + 1)
    norms = 2 * (32 + 64 + 128)
    config = model("cnn5")
    network = build_network(config, target=AGE, n_dims=2, n_channels=1, shape=(16, 16), seed=0)
    assert n_parameters(network) == convolutions + linear + norms


def test_cnn3d_has_the_size_that_its_layers_add_up_to() -> None:
    """Four convolutions of 3 x 3 x 3, two linear layers, and a scale and shift a channel."""
    convolutions = sum(27 * i * o + o for i, o in [(1, 8), (8, 16), (16, 32), (32, 64)])
    linear = (64 * 512 + 512) + (512 * 3 + 3)
    norms = 2 * (8 + 16 + 32 + 64)
    config = model("cnn3d")
    network = build_network(config, target=LESION, n_dims=3, n_channels=1, shape=(16,) * 3, seed=0)
    assert n_parameters(network) == convolutions + linear + norms


@pytest.mark.parametrize("n_channels", [*range(1, 40), 384, 1024])
def test_groups_divide_the_channels_and_hold_two_or_more(n_channels: int) -> None:
    """Group norm works for every width, and is instance norm for none but one channel."""
    groups = n_groups(n_channels)
    assert n_channels % groups == 0
    assert groups <= 8
    assert n_channels // groups >= min(2, n_channels)


def refusal(
    name: str, target: Task = LESION, shape: tuple[int, ...] = (64, 64), norm: str = "group"
) -> str:
    """Return the message of the ConfigError that building a network raises."""
    with pytest.raises(ConfigError) as caught:
        build_network(
            narrow(name, norm=norm),
            target=target,
            n_dims=len(shape),
            n_channels=1,
            shape=shape,
            seed=0,
        )
    return str(caught.value)


def test_an_unknown_network_is_answered_with_the_known_ones() -> None:
    """A mistyped name is put right from the message."""
    with pytest.raises(ConfigError, match="one of cnn3d, cnn5, cnn9, dual_path"):
        model("resnet19")


def test_a_network_for_another_task_is_answered_with_those_that_can() -> None:
    """A classifier cannot draw a mask, nor a U-Net name a class."""
    assert "model.name to one of ag_ms3d, attention_unet, dynunet, segresnet, " in refusal(
        "vit", target=MASK
    )
    assert "[C20]" in refusal("unet")


@pytest.mark.parametrize(
    ("name", "shape", "near"),
    [
        ("swin_unetr", (64, 48), "(64, 64)"),
        ("unet", (20, 32, 32), "(32, 32, 32)"),
        ("segresnet", (8, 12), "(8, 16)"),
        ("vit", (40, 64), "(48, 64)"),
        ("unet", (0, 0), "such a size"),
    ],
)
def test_a_size_that_cannot_be_halved_is_answered_with_one_that_can(
    name: str, shape: tuple[int, ...], near: str
) -> None:
    """The message says which size to set."""
    message = refusal(name, target_of(name), shape)
    assert f"set data.prepare.size or data.prepare.shape to {near}" in message
    assert "[C21]" in message


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_a_norm_that_one_voxel_cannot_have_is_refused(norm: str) -> None:
    """A single voxel has no spread; found before training and not in a site's last batch."""
    assert "model.norm=group" in refusal("resnet18", shape=(32, 32), norm=norm)


def test_images_that_vanish_in_the_pooling_are_refused() -> None:
    """Four poolings of 8 voxels leave nothing."""
    assert "set a larger data.prepare.size" in refusal("cnn3d", shape=(8, 8))


def test_images_of_differing_size_are_taken_where_the_network_pools_them() -> None:
    """A size of 0 says that scans differ."""
    config = narrow("resnet18")
    network = build_network(config, target=AGE, n_dims=2, n_channels=1, shape=(0, 0), seed=0)
    assert network(torch.randn(1, 1, 40, 56)).shape == (1, 1)


@pytest.mark.parametrize(("name", "width"), [("vit", 100), ("swin_unetr", 20)])
def test_a_width_that_heads_cannot_share_is_refused(name: str, width: int) -> None:
    """Attention heads take equal parts of the channels."""
    with pytest.raises(ConfigError, match=r"setting model.width.*multiple of"):
        model(name, width=width)


def test_threads_that_build_at_once_do_not_mix_their_draws() -> None:
    """Arms of a study start side by side; each network has the weights of its seed alone."""

    def build(_: int) -> str:
        network = build_network(
            model("cnn3d"),
            target=Regression("age"),
            n_dims=3,
            n_channels=1,
            shape=(16, 16, 16),
            seed=5,
        )
        return sha256(network)

    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(build, range(16)))) == 1
