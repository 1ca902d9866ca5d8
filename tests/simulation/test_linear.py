"""The linear baseline: fixed features, one optimum, chosen on validation patients alone."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

from fedmri.config import load
from fedmri.data.batches.site_data import Example, SiteData, Split
from fedmri.reports.results import load_results
from fedmri.reports.summary import summarise
from fedmri.round import Batch
from fedmri.simulation.baselines.features import image_features, voxel_features
from fedmri.simulation.baselines.linear import linear_cases
from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.kinds.regression import Regression
from fedmri.tasks.kinds.segmentation import Segmentation
from fedmri.tasks.linear.ridge import RidgeSums
from fedmri.tasks.task import Task
from tests.conftest import RunTiny

KIND = Classification("kind", ("a", "b"))
AGE = Regression("age")
MASK = Segmentation("mask", ("lesion",))
SITES = ("site01", "site02", "site03")
QUICK = ("rounds.n_rounds=1", "rounds.evaluate_every=0", "simulation.n_pictures=0")


@dataclass(frozen=True)
class Made:
    """A site of pictures in memory: what the baseline asks of a site."""

    target: Task
    items: tuple[Example, ...]
    images: Mapping[str, np.ndarray]
    labels: Mapping[str, np.ndarray]

    def examples(self, split: Split) -> tuple[Example, ...]:
        """Return the examples of a split."""
        return tuple(item for item in self.items if item.split == split)

    def eval_batches(self, split: Split, *, batch_size: int) -> Iterator[Batch]:
        """Yield them one by one."""
        for item in self.examples(split):
            label = torch.from_numpy(self.labels[item.scan])[None].long()
            truth = label if self.target is MASK else torch.tensor([item.target])
            image = torch.from_numpy(self.images[item.scan])[None]
            names = (item.subject,), (item.scan,)
            yield Batch(image, truth, torch.ones(1, 1, dtype=torch.bool), *names)


def site(target: Task, seed: int, n: int = 24) -> SiteData:
    """Return a site whose targets show in the images; one picture a patient.

    The class is the contrast of a square, the value its brightness, the lesion the square itself.
    """
    stream = np.random.default_rng(seed)
    items, images, labels = list[Example](), dict[str, np.ndarray](), dict[str, np.ndarray]()
    for index in range(n):
        name = f"p{seed}-{index:02}"
        value = float(stream.integers(2)) if target is KIND else float(stream.uniform(20, 80))
        bright = {KIND: value, AGE: value / 40, MASK: 2.0}[target]
        row, column = stream.integers(3, 13, 2)
        images[name] = stream.normal(0, 0.3, (1, 24, 24)).astype(np.float32)
        images[name][0, row : row + 8, column : column + 8] += bright
        labels[name] = np.zeros((1, 24, 24), np.uint8)
        labels[name][0, row : row + 8, column : column + 8] = 1
        split: Split = "train" if index % 4 else "test" if index % 8 else "val"
        truth = math.nan if target is MASK else value
        path = Path(name)
        at = Example(
            f"s{seed}", name, name, split, path, path, None, truth, (True,), (1.0, 1.0), None
        )
        items.append(at)
    return cast(SiteData, Made(target, tuple(items), images, labels))


@pytest.mark.parametrize(("target", "least"), [(KIND, 0.9), (AGE, -9.0), (MASK, 0.75)])
def test_it_learns_what_is_there_and_repeats_to_the_bit(target: Task, least: float) -> None:
    """Each kind of task: far above chance on a signal that any model sees; twice the same."""
    task = target
    data = {f"s{seed}": site(target, seed) for seed in (1, 2)}
    found = linear_cases(list(data.values()), data, task)
    assert repr(found) == repr(linear_cases(list(data.values()), data, task))
    cases = [case for of_site in found.values() for case in of_site]
    assert {case.subject for case in cases} == {
        example.subject for one in data.values() for example in one.examples("test")
    }
    value = task.metrics(cases)[task.primary]
    assert (value if task.is_higher_better else -value) > least


def test_test_patients_change_nothing_of_what_is_fitted() -> None:
    """Another site's tests beside one's own: the same predictions for one's own patients."""
    task = KIND
    own, other = site(KIND, 1), site(KIND, 2)
    alone = linear_cases([own], {"s1": own}, task)
    beside = linear_cases([own], {"s1": own, "s2": other}, task)
    assert alone["s1"] == beside["s1"]


@pytest.mark.parametrize("target", [KIND, AGE, MASK])
def test_a_site_without_patients_to_test_has_no_case(target: Task) -> None:
    """A hospital of one patient, whom the split gave to training or validation."""
    own, task = site(target, 1), target
    found = linear_cases([own], {"s1": own, "s2": site(target, 2, n=0)}, task)
    assert found["s1"]
    assert found["s2"] == []


@pytest.mark.parametrize("target", [KIND, AGE, MASK])
def test_nobody_to_learn_from_is_no_baseline(target: Task) -> None:
    """No training patient at any site: no cases, and no error."""
    assert linear_cases([], {"s1": site(target, 1)}, target) == {}


def test_ridge_of_sums_over_sites_is_that_of_all_rows() -> None:
    """A federation that adds its sites' sums has the pooled model, up to rounding."""
    stream = np.random.default_rng(0)
    rows, weights = stream.normal(size=(30, 5)), stream.uniform(0.1, 1, 30)
    truths = rows @ stream.normal(size=5) + 3 + stream.normal(size=30)
    whole = RidgeSums.of(rows, truths, weights).ridge(0.1)
    parts = [RidgeSums.of(rows[i::3], truths[i::3], weights[i::3]) for i in range(3)]
    summed = (parts[0] + parts[1] + parts[2]).ridge(0.1)
    assert summed[0] == pytest.approx(whole[0])
    assert np.allclose(summed[1], whole[1])
    centred = rows - np.average(rows, 0, weights)
    normal = centred.T @ (weights[:, None] * centred) + 0.1 * weights.sum() * np.eye(5)
    by_hand = np.linalg.solve(normal, centred.T @ (weights * truths))
    assert np.allclose(whole[1], by_hand)


@pytest.mark.parametrize("shape", [(1, 24, 24), (2, 5, 40), (1, 6, 8, 10), (3, 1, 9, 9)])
def test_features_are_finite_whatever_the_shape(shape: Sequence[int]) -> None:
    """Small images, one slice thick, and channels of zeros for a missing modality."""
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    image[-1] = 0
    assert np.isfinite(image_features(image)).all()
    found = voxel_features(image)
    assert found.shape[0] == np.prod(shape[1:])
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("target=regression", "target.name=age", "target.centre=50"),
        ("target=segmentation", "target.name=mask", "target.classes=[lesion]", "model=unet"),
        ("data.prepare.dimension=2d", "data.prepare.shape=[0,32,32]", "model=cnn5"),
    ],
    ids=["classification", "regression", "segmentation", "slices"],
)
def test_it_stands_in_every_table_and_without_a_left_out_site(
    run_tiny: RunTiny, settings: tuple[str, ...]
) -> None:
    """On the same patients as the networks; where a site is left out, on all of its patients."""
    arms = ("simulation.arms=[federated]", "simulation.protocol=loso")
    folder = run_tiny("a", *QUICK, *settings, *arms)
    experiment = load(["experiment=smoke", *settings])
    task = experiment.plan.target
    summary = summarise(load_results(folder), task, n_bootstrap=200)
    rows = {row.label: row for row in summary.rows}
    assert {"linear", "linear (site left out)"} <= set(rows)

    def n_subjects(label: str) -> int:
        return rows[label].overall[task.primary].n_subjects

    assert n_subjects("linear") == n_subjects("federated")
    assert n_subjects("linear (site left out)") == n_subjects("federated (site left out)")
    references = {d.reference for d in summary.differences if d.label == "federated"}
    assert "linear" in references


def test_a_call_again_writes_nothing_anew(run_tiny: RunTiny) -> None:
    """A resumed run keeps the baseline of its first call."""
    folder = run_tiny("a", *QUICK, "simulation.arms=[federated]")
    path = folder / "cases/linear/seed-0/site01.jsonl"
    before = path.stat().st_mtime_ns, path.read_bytes()
    run_tiny("a", *QUICK, "simulation.arms=[federated]")
    assert (path.stat().st_mtime_ns, path.read_bytes()) == before
    assert json.loads(path.read_text().splitlines()[0])["site"] == "site01"
