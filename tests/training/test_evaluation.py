"""Evaluation of a site: patients, order, memory, pictures, and norm statistics."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedmri.data.batches.site_data import SiteData, Split
from fedmri.round import Batch
from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.kinds.regression import Regression
from fedmri.tasks.kinds.segmentation import Segmentation
from fedmri.tasks.task import Task
from fedmri.training.evaluation import Evaluation, adapt_norm_statistics, evaluate
from fedmri.training.settings import TrainConfig

LESION = Classification("lesion", ("none", "round"))
TUMOUR = Segmentation("mask", ("tumour",))
AGE = Regression("age")
MakeSite = Callable[..., SiteData]


class Mean(nn.Module):
    """Predicts the mean of an image; class 1 by its odds."""

    def __init__(self, n_outputs: int) -> None:
        super().__init__()
        self.n_outputs = n_outputs
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the mean, after zeros for the other outputs."""
        mean = self.scale * image.flatten(1).mean(1, keepdim=True)
        return torch.cat([torch.zeros(len(image), self.n_outputs - 1), mean], 1)


class Threshold(nn.Module):
    """Predicts a tumour where an image is above one half."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits of background and tumour."""
        return torch.cat([torch.zeros_like(image), self.scale * (image - 0.5)], 1)


def constant_images(values: list[float]) -> torch.Tensor:
    """Return images of one value each."""
    return (
        torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 1, 1).expand(-1, 1, 4, 4).clone()
    )


def run(network: nn.Module, data: SiteData, target: Task, **settings: Any) -> Evaluation:
    """Evaluate on the test split, on the CPU."""
    train = TrainConfig(batch_size=settings.pop("batch_size", 2), device="cpu")
    return evaluate(network, data, "test", target, train, **settings)


def test_slices_and_scans_of_a_patient_make_one_case(make_site: MakeSite) -> None:
    """Two slices of a scan and one of another: the mean of three."""
    scans = ["b_0", "b_0", "b_1", "a_0"]
    ages = torch.tensor([50.0, 50.0, 50.0, 30.0])
    data = make_site(constant_images([45, 55, 62, 31]), ages, scans=scans, split="test")
    result = run(Mean(1), data, AGE)
    assert [(case.subject, case.n_examples) for case in result.cases] == [("a", 1), ("b", 3)]
    assert [case.prediction for case in result.cases] == [(31,), (54,)]
    assert result.n_examples == 4
    assert result.loss == pytest.approx(((5 + 5 + 12) / 3 + 1) / 2)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_the_batch_size_changes_no_case(make_site: MakeSite, batch_size: int) -> None:
    """A scan that is cut by the end of a batch is put together all the same."""
    volume = torch.rand(7, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    masks = (volume > 0.6).long()
    data = make_site(volume, masks, scans=["a_0"] * 3 + ["b_0"] * 4, split="test")
    cases = run(Threshold(), data, TUMOUR, batch_size=batch_size).cases
    assert [case.n_examples for case in cases] == [3, 4]
    for case, rows in zip(cases, (slice(0, 3), slice(3, 7)), strict=True):
        predicted, truth = volume[rows] > 0.5, masks[rows] > 0
        overlap = 2 * int((predicted & truth).sum()) / int(predicted.sum() + truth.sum())
        assert case.scores["dice"] == pytest.approx(overlap)


def test_volumes_are_scored_whole(make_site: MakeSite) -> None:
    """A perfect prediction has Dice 1 and distance 0."""
    volume = torch.rand(2, 1, 8, 8, 8)
    data = make_site(volume, (volume > 0.5).long(), split="test")
    result = run(Threshold(), data, TUMOUR)
    assert [case.scores["dice"] for case in result.cases] == [1, 1]
    assert [case.scores["hd95_mm"] for case in result.cases] == [0, 0]


def test_a_split_without_patients_has_no_score(make_site: MakeSite) -> None:
    """Nothing is invented for a site without test patients."""
    result = run(Mean(1), make_site(constant_images([1]), torch.ones(1)), AGE)
    assert (result.cases, result.n_examples, result.pictures) == ((), 0, ())
    assert math.isnan(result.loss)


def test_evaluation_leaves_the_network_as_it_was(make_site: MakeSite) -> None:
    """Modes stay, dropout is off meanwhile, and batch norm learns nothing from test patients."""
    network = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.5), Mean(2))
    network[0].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    data = make_site(constant_images([1, 2, 3]), torch.tensor([0, 1, 1]), split="test")
    first, second = (run(network, data, LESION) for _ in range(2))
    assert first == second
    assert [module.training for module in network] == [False, True, True]
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


class Watched:
    """A site that knows how many of its images are still held."""

    def __init__(self, data: SiteData) -> None:
        self._data, self._refs, self.most = data, list[weakref.ref[torch.Tensor]](), 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)

    def eval_batches(self, split: Split, *, batch_size: int) -> Iterator[Batch]:
        """Yield the batches of the site and count those that are left whenever one is asked for."""
        for batch in self._data.eval_batches(split, batch_size=batch_size):
            self._refs.append(weakref.ref(batch.image))
            yield batch
            del batch
            gc.collect()
            self.most = max(self.most, sum(ref() is not None for ref in self._refs))


@pytest.mark.parametrize("n_pictures", [0, 6])
def test_only_one_scan_is_held_at_a_time(make_site: MakeSite, n_pictures: int) -> None:
    """When a scan is asked for, the one before may still be held, and no other of the six."""
    volume = torch.rand(6, 1, 4, 4, 4)
    data = Watched(make_site(volume, (volume > 0.5).long(), split="test"))
    result = run(Threshold(), data, TUMOUR, batch_size=1, n_pictures=n_pictures)
    assert len(result.cases) == 6
    assert data.most <= 2


def test_pictures_are_of_evenly_spaced_patients(make_site: MakeSite) -> None:
    """Three of six, each with its caption; never more than there are patients."""
    data = make_site(
        constant_images([10, 20, 30, 40, 50, 60]), torch.full((6,), 35.0), split="test"
    )
    result = run(Mean(1), data, AGE, n_pictures=3)
    assert [picture.subject for picture in result.pictures] == ["sub00", "sub02", "sub04"]
    assert result.pictures[1].caption == "age 35.0, predicted 30.0"
    assert result.pictures[1].truth is None
    assert (result.pictures[1].image == 30).all()
    assert len(run(Mean(1), data, AGE, n_pictures=9).pictures) == 6


def test_a_picture_shows_the_plane_with_most_of_the_truth(make_site: MakeSite) -> None:
    """Plane 5 of the last axis, turned so that the second axis points up."""
    volume = torch.zeros(1, 1, 4, 6, 8)
    volume[0, 0, 1, 2, 5] = volume[0, 0, 1, 3, 5] = volume[0, 0, 0, 0, 2] = 1
    data = make_site(volume, volume.long(), split="test")
    picture = run(Threshold(), data, TUMOUR, n_pictures=1).pictures[0]
    assert picture.image.shape == (6, 4)
    assert np.argwhere(picture.image).tolist() == [[6 - 1 - 3, 1], [6 - 1 - 2, 1]]
    for mask in (picture.truth, picture.predicted):
        assert mask is not None
        assert (mask == picture.image).all()
        assert mask.dtype == np.uint8
    assert picture.caption == "Dice 1.00"


def test_a_picture_of_slices_shows_the_slice_with_most_of_the_truth(make_site: MakeSite) -> None:
    """The middle slice where there is no truth, and what was predicted where there is no truth."""
    slices = torch.zeros(3, 1, 4, 4)
    slices[2, 0, 1, 1] = 1
    data = make_site(slices, torch.zeros(3, 1, 4, 4).long(), scans=["a_0"] * 3, split="test")
    picture = run(Threshold(), data, TUMOUR, n_pictures=1).pictures[0]
    assert picture.predicted is not None
    assert picture.predicted.sum() == 1
    assert picture.truth is not None
    assert not picture.truth.any()


def test_norm_statistics_become_those_of_the_sites_images(make_site: MakeSite) -> None:
    """Batches of values 1 and 3, and of 5 and 9: mean (2 + 7) / 2; weights stay."""
    data = make_site(constant_images([1, 3, 5, 9]), torch.zeros(4), split="test")
    network = nn.Sequential(nn.BatchNorm2d(1, momentum=0.3), Mean(1))
    norm = network[0]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.fill_(100)
    adapt_norm_statistics(network, data, "test", TrainConfig(batch_size=2, device="cpu"))
    assert norm.running_mean.item() == pytest.approx(4.5)
    # unbiased variance of 32 voxels, half at each of two values: 1 and 4, times 32 / 31
    assert norm.running_var.item() == pytest.approx((1 + 4) / 2 * 32 / 31)
    assert norm.momentum == 0.3
    assert norm.training
    assert (norm.weight == 1).all()


class Unlabelled:
    """A site whose labels cannot be read."""

    def __init__(self, data: SiteData) -> None:
        self._data = data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)

    def eval_batches(self, split: Split, *, batch_size: int) -> Iterator[Batch]:
        """Yield batches whose targets are none."""
        for batch in self._data.eval_batches(split, batch_size=batch_size):
            yield Batch(batch.image, None, batch.present, batch.subjects, batch.scans)  # type: ignore[arg-type]  # on purpose


def test_norm_statistics_need_no_labels(make_site: MakeSite) -> None:
    """A hospital that only wants predictions has none."""
    data = Unlabelled(make_site(constant_images([1, 3]), torch.zeros(2), split="test"))
    network = nn.Sequential(nn.BatchNorm2d(1), Mean(1))
    adapt_norm_statistics(network, data, "test", TrainConfig(device="cpu"))
    assert network[0].running_mean.item() == 2  # type: ignore[operator]


def test_a_split_without_images_keeps_the_statistics(make_site: MakeSite) -> None:
    """Statistics of nothing would be zeros and ones."""
    network = nn.Sequential(nn.BatchNorm2d(1), Mean(1))
    network[0].running_mean.fill_(7)  # type: ignore[operator]
    data = make_site(constant_images([1]), torch.zeros(1))
    adapt_norm_statistics(network, data, "test", TrainConfig(device="cpu"))
    assert network[0].running_mean.item() == 7  # type: ignore[operator]


def test_embeddings_are_kept_by_patient_and_change_nothing(make_site: MakeSite) -> None:
    """The mean over a patient's images of what the last layer reads; weights and cases stay."""
    images = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.Linear(3, 2))
    scans = ["s1_0", "s1_1", "s2_0", "s3_0", "s3_0"]
    data = make_site(images, torch.tensor([0, 0, 1, 1, 1]), scans=scans, split="test")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    plain, kept = (run(network, data, LESION, layer=layer) for layer in ("", "2"))
    assert plain.embeddings == {}
    assert (kept.cases, kept.loss) == (plain.cases, plain.loss)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    read = network[:2](images).detach()
    for name, rows in {"s1": read[:2], "s2": read[2:3], "s3": read[3:]}.items():
        torch.testing.assert_close(kept.embeddings["north", name], rows.mean(0))
