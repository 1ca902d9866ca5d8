"""Maps of networks whose answer is known: they must point at what moves it."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from fedmri.explain.attribution.attention import attention_map
from fedmri.explain.attribution.maps import Seen, attributions, incompleteness
from fedmri.explain.attribution.scores import Scores, feature_layers, with_head_of
from fedmri.explain.options import METHODS, Method
from fedmri.models.build import build_network
from fedmri.models.registry import MODELS
from fedmri.models.weights import layout
from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.kinds.segmentation import Segmentation
from tests.made import each, few_slices, n_covariates_of, n_dims_of, narrow

KIND = Classification("kind", ("a", "b"))
HYBRIDS = tuple(
    name
    for name, module in MODELS.own.items()
    if ".hybrid." in module and not n_covariates_of(name)
)


def spotted(n_dims: int) -> Seen:
    """Return a network whose first score is the mean of the positive voxels."""
    convolution = nn.Conv2d(1, 1, 1) if n_dims == 2 else nn.Conv3d(1, 1, 1)
    pool = nn.AdaptiveAvgPool2d(1) if n_dims == 2 else nn.AdaptiveAvgPool3d(1)
    last = nn.Linear(1, 2)
    network = nn.Sequential(convolution, nn.ReLU(), pool, nn.Flatten(1), last)
    for module in (convolution, last):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # each has one
    with torch.no_grad():
        last.weight[1] = -1
    image = torch.rand(1, 1, *[6] * n_dims)
    return Seen(Scores(network, "image").eval(), feature_layers(network, image, "4"))


@pytest.mark.parametrize("n_dims", [2, 3])
@pytest.mark.parametrize("method", METHODS[:-1])
def test_a_map_points_at_the_voxels_that_make_the_score(method: Method, n_dims: int) -> None:
    """A bright corner on air: all of the map is there for its class, whatever the method."""
    image = torch.zeros(1, 1, *[10] * n_dims)
    corner = torch.zeros_like(image, dtype=torch.bool)
    corner[0, 0, :2, :2] = True if n_dims == 2 else corner.new_tensor([True, True] + [False] * 8)
    image[corner] = 5
    found = spotted(n_dims).map(method, image, 0)
    assert found is not None
    assert found.shape == image.shape
    assert found.min() >= 0
    assert float(found[corner].sum() / found.sum()) == pytest.approx(1)


def test_a_class_that_the_voxels_speak_against_has_another_map() -> None:
    """Grad-CAM and occlusion show what raises a score, not what lowers it."""
    image = torch.rand(1, 1, 10, 10)
    methods: tuple[Method, ...] = ("gradcam", "occlusion")
    for method in methods:
        assert not spotted(2).map(method, image, 1).any()  # type: ignore[union-attr]


def test_attributions_sum_to_the_way_from_air() -> None:
    """Exactly for a network that is linear along the way."""
    seen, image = spotted(2), torch.rand(1, 1, 6, 6)
    with torch.no_grad():
        way = seen.scores(image)[0, 0] - seen.scores(torch.zeros_like(image))[0, 0]
    assert float(attributions(seen, image, 0).sum()) == pytest.approx(float(way), rel=1e-5)
    assert incompleteness(seen, image, 0) < 1e-5


def test_a_score_of_a_mask_is_the_mean_over_its_region() -> None:
    """Voxels elsewhere do not count."""
    scores = Scores(nn.Identity(), "voxel")
    image, region = torch.rand(1, 2, 4, 4), torch.zeros(4, 4)
    region[:2] = 1
    scores.look_at(region)
    assert torch.allclose(scores(image), image[:, :, :2].mean((2, 3)))
    scores.look_at(None)
    assert torch.allclose(scores(image), image.mean((2, 3)))


@pytest.mark.parametrize("name", each([*HYBRIDS, "cnn3d", "resnet18", "vit"]))
def test_every_network_of_images_has_a_layer_with_places(name: str) -> None:
    """Grad-CAM, Grad-CAM++ and attention come at the image's size; no hook stays behind."""
    n_dims = n_dims_of(name)[-1] if name in HYBRIDS else 2
    shape = few_slices(name, (32,) * n_dims)
    given = {"target": KIND, "n_dims": n_dims, "n_channels": 1, "shape": shape, "seed": 1}
    looks = {"pooling": "attention"} if name == "slice_pool" else {}
    network = build_network(narrow(name, **looks), **given).eval()  # type: ignore[arg-type]
    image = torch.randn(1, 1, *shape)
    layers = feature_layers(network, image, layout(network).head_layer)
    assert layers
    seen = Seen(Scores(network, "image"), layers)
    methods: tuple[Method, ...] = ("gradcam", "gradcam++")
    for method in methods:
        found = seen.map(method, image, 0)
        assert found is not None
        assert found.shape == (1, 1, *shape)
        assert found.isfinite().all()
    attended = seen.map("attention", image, 0)
    has_one = {"vit", "vit_gru", "vgg16_vit", "slice_pool", "densenet121_transformer"}
    if name in has_one:
        assert attended is not None
        assert attended.shape == (1, 1, *shape)
    assert not any(module._forward_hooks for module in network.modules())


def test_attention_over_slices_is_the_pools_own_weights() -> None:
    """Of the slice that the network weighs most, the map is largest."""
    shape = (16, 16, 5)
    given = {"target": KIND, "n_dims": 3, "n_channels": 1, "shape": shape, "seed": 1}
    looks = narrow("slice_pool", pooling="attention")
    network = build_network(looks, **given).eval()  # type: ignore[arg-type]
    image = torch.randn(1, 1, *shape)
    found = attention_map(network, image)
    assert found is not None
    with torch.no_grad():
        items = network.reader(image)  # type: ignore[operator]
        wanted = network.over.weights(items)  # type: ignore[union-attr,operator]
    assert torch.allclose(found.flatten(), wanted.flatten())
    assert float(found.sum()) == pytest.approx(1)


def test_the_gates_of_an_attention_unet_are_its_attention() -> None:
    """The finest gate has the image's size and lies between 0 and 1."""
    target = Segmentation("mask", ("lesion",))
    made = partial(build_network, narrow("attention_unet"), target=target, n_dims=2, n_channels=1)
    image = torch.randn(1, 1, 32, 32)
    found = attention_map(made(shape=(32, 32), seed=1).eval(), image)
    assert found is not None
    assert found.shape == image.shape
    assert 0 < found.min() < found.max() < 1


def test_a_network_with_anothers_head_differs_in_it_alone() -> None:
    """The first step of the sanity check draws the last layer anew."""
    made = partial(build_network, narrow("cnn5"), target=KIND, n_dims=2, n_channels=1)
    one, other = (made(shape=(16, 16), seed=seed) for seed in (1, 2))
    head = layout(one).head
    mixed = with_head_of(one, other, tuple(head)).state_dict()
    for name, value in mixed.items():
        assert torch.equal(value, (other if name in head else one).state_dict()[name])
