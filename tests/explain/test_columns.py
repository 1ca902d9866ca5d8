"""What each column of a row adds: Shapley values and a local model, beside those of Captum."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients, LayerAttribution, LayerGradCam, ShapleyValues
from torch import nn

from fedmri.data.covariates import Covariate
from fedmri.explain.attribution.columns import beside, pulls, some_of
from fedmri.explain.attribution.maps import Seen, attributions
from fedmri.explain.attribution.scores import Scores, feature_layers
from fedmri.models.build import build_network
from fedmri.models.weights import layout
from fedmri.tasks.kinds.classification import Classification
from tests.made import narrow

KIND = Classification("kind", ("a", "b"))
COLUMNS = [Covariate("age", 50, 20), Covariate("sex", levels=("F", "M")), Covariate("dose", 0, 1)]
N_ENTRIES = sum(column.n_entries for column in COLUMNS)
OWNER = torch.tensor([0, 0, 1, 1, 1, 2, 2])


def scored() -> tuple[nn.Module, torch.Tensor]:
    """Return a network of an image and a row, and an image."""
    sizes = {"target": KIND, "n_dims": 2, "n_channels": 1, "shape": (16, 16), "seed": 1}
    network = build_network(narrow("image_table_fusion"), **sizes, n_covariates=N_ENTRIES)  # type: ignore[arg-type]
    return network.eval(), torch.randn(1, 1, 16, 16)


def test_shapley_values_are_captums_and_sum_to_the_way() -> None:
    """Of a network that mixes columns; the mean over other patients stands for the unknown."""
    network, image = scored()
    row, others = torch.randn(N_ENTRIES), torch.randn(3, N_ENTRIES)

    def score(given: torch.Tensor) -> float:
        with torch.no_grad():
            return float(network(image, given[None])[0, 0])

    found = pulls(score, row, others, COLUMNS)
    way = score(row) - sum(map(score, others)) / 3
    assert math.fsum(one.shapley for one in found.values()) == pytest.approx(way, abs=1e-6)
    oracle = ShapleyValues(lambda rows: network(image.expand(len(rows), -1, -1, -1), rows)[:, 0])
    theirs = sum(
        oracle.attribute(row[None], other[None], feature_mask=OWNER[None])[0] for other in others
    )
    for number, one in enumerate(found.values()):
        [wanted, *_] = theirs[number == OWNER] / 3  # each entry has that of its column
        assert one.shapley == pytest.approx(float(wanted), abs=1e-6)


def test_of_a_score_that_adds_columns_both_ways_say_the_same() -> None:
    """What a column adds is then its own part, less that of others; and an unread one adds 0."""
    slopes = torch.tensor([2.0, 0, 1, -1, 0, 0, 0])
    row, other = torch.tensor([1.0, 0, 1, 0, 0, 5, 0]), torch.zeros(1, N_ENTRIES)
    found = pulls(lambda given: float(given @ slopes), row, other, COLUMNS)
    for name, wanted in {"age": 2, "sex": 1, "dose": 0}.items():
        assert found[name].shapley == pytest.approx(wanted, abs=1e-6)
        assert found[name].lime == pytest.approx(wanted, abs=1e-6)


def test_the_local_model_counts_sets_near_the_row_most() -> None:
    """Two columns that matter together alone: a share of 0.5 each, and more near the patient."""
    both = COLUMNS[:2]
    row, other = torch.ones(5), torch.zeros(1, 5)
    found = pulls(lambda given: float(given[0] * given[2]), row, other, both)
    near, half, far = (math.exp(-n / (2 * 0.75**2 * 2)) for n in (0, 1, 2))
    known = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 1], [1, 1, 1]], dtype=float)
    weights = np.diag([far, half, half, near])
    wanted = np.linalg.solve(known.T @ weights @ known, known.T @ weights @ [0, 0, 0, 1])[1]
    assert found["age"].shapley == pytest.approx(0.5)
    assert found["age"].lime == pytest.approx(wanted)
    assert wanted > 0.5


def test_a_row_lies_beside_the_image_while_it_is_explained_and_no_longer() -> None:
    """Gradients of the image are those with the row; afterwards the network wants both again."""
    network, image = scored()
    row = torch.randn(N_ENTRIES)
    seen = Seen(Scores(network, "image"), ("image.0",))
    with beside(row, network, network):
        found = network(image.expand(3, -1, -1, -1))[0]
        assert torch.allclose(found, network(image, row[None])[0], atol=1e-6)  # other batch
        layers = feature_layers(network, image, layout(network).head_layer)
        assert layers[0].startswith("image")
        assert seen.map("gradcam", image, 0) is not None
    with pytest.raises(TypeError):
        network(image)


def test_rows_are_drawn_within_the_number_of_passes() -> None:
    """Many columns leave few rows, and never none; the seed decides which."""
    rows = torch.arange(40.0)[:, None]
    assert [len(some_of(rows, 2**n, 1, 0)) for n in (1, 7, 10)] == [16, 16, 2]
    assert len(some_of(rows, 1024, 30, 0)) == 1
    assert torch.equal(some_of(rows, 2, 1, 3), some_of(rows, 2, 1, 3))


@pytest.mark.parametrize("n_dims", [2, 3])
def test_maps_of_an_image_are_captums(n_dims: int) -> None:
    """Integrated gradients and Grad-CAM; Captum takes the same steps and layer."""
    shape = (16,) * n_dims
    sizes = {"target": KIND, "n_dims": n_dims, "n_channels": 2, "shape": shape, "seed": 1}
    network = build_network(narrow("cnn3d"), **sizes).eval()  # type: ignore[arg-type]
    image = torch.randn(1, 2, *shape)
    layers = feature_layers(network, image, layout(network).head_layer)
    seen = Seen(Scores(network, "image").eval(), layers)
    theirs = IntegratedGradients(network).attribute(
        image, target=1, n_steps=seen.n_steps, method="riemann_middle"
    )
    assert torch.allclose(attributions(seen, image, 1), theirs.float(), atol=1e-5)
    cam = LayerGradCam(network, network.get_submodule(layers[0])).attribute(image, target=1)
    mode = "trilinear" if n_dims == 3 else "bilinear"
    wanted = LayerAttribution.interpolate(cam.clamp(min=0), shape, mode)
    found = seen.map("gradcam", image, 1)
    assert found is not None
    assert torch.allclose(found / found.max(), (wanted / wanted.max()).detach(), atol=1e-4)
