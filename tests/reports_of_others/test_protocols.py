"""Comparisons that were not what they claimed: leaks, unequal budgets, tests that were seen."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fedmri.arm import compared, write_comparison
from fedmri.config import load
from fedmri.data.batches.site_data import Example, Split
from fedmri.data.batches.split import split_subjects
from fedmri.data.patients import grouped, suspected
from fedmri.data.scans import Scan, ScanTable
from fedmri.data.settings import SplitConfig
from fedmri.errors import UsageError
from fedmri.reports.results import load_results
from fedmri.reports.summary import summarise
from fedmri.round import Batch
from fedmri.simulation.arms.arm_runs import ArmSites
from fedmri.simulation.arms.running import arm_runs
from fedmri.simulation.baselines.linear import linear_cases
from fedmri.simulation.settings import SimulationConfig
from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.task import single
from fedmri.training.budget import Budget
from tests.reports.conftest import arm_of

KIND = Classification("kind", ("a", "b"))
PLAIN_SGD = ("train.optimizer=sgd", "train.momentum=0", "train.clip_grad_norm=0")


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        (("MR024780B", "MR024780D"), r"(MR\d+)[A-Z]?"),
        (("MR039473", "MR039473B"), r"(MR\d+)[A-Z]?"),
        (("p23_1", "p23_2"), r"(p\d+)_\d"),
        (("BraTS-GLI-00005-100", "BraTS-GLI-00005-101"), r"(BraTS-GLI-\d+)-\d+"),
        (("012-v1", "012-v2"), r"(\d+)-v\d"),
        (("s7_pre", "s7_post"), r"(s\d+)_\w+"),
        (("OAS1_0061_MR1", "OAS1_0061_MR2"), r"(OAS1_\d+)_MR\d"),
        (("41 followup", "41 baseline"), r"(\d+) \w+"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_visit_in_a_name_is_said_and_can_be_grouped(names: tuple[str, ...], pattern: str) -> None:
    """One patient under two names in training and test.

    UCSD-AI4H/COVID-CT issue 11 (a patient in train, validation and test);
    Lightning-Universe/lightning-Covid19 issue 11.
    """
    scans = tuple(Scan("x", name, "", {}, {}, {"kind": "a"}) for name in names)
    others = tuple(Scan("x", f"other{i:04}", "", {}, {}, {"kind": "a"}) for i in range(8))
    assert [finding.code for finding in suspected((*scans, *others))] == ["C13"]
    one = grouped(ScanTable((*scans, *others)), pattern).scans
    assert len({scan.subject for scan in one}) == 1 + len(others)
    assert not suspected(one)
    for seed in range(5):
        assert len(split_subjects(one, KIND, SplitConfig(), seed)) == 1 + len(others)


@pytest.mark.parametrize(
    ("settings", "budgets", "steps", "seen"),
    [
        (("train.local_steps=12",), [(12, 192), (12, 192), (12, 192)], 36, 576),
        (("train.batch_size=8",), [(3, 17), (2, 16), (1, 1)], 6, 34),
        (("train.local_epochs=3",), [(9, 51), (6, 48)], 15, 99),
        (("strategy=fedprox", "strategy.mu=0.1"), [(3, 17), (4, 30)], 7, 47),
        (("strategy=scaffold", *PLAIN_SGD), [(3, 17), (4, 30)], 7, 47),
        (("strategy=cyclic",), [(3, 17), (4, 30)], 7, 47),
    ],
    ids=["local steps", "uneven batches", "epochs", "fedprox", "scaffold", "cyclic"],
)
def test_pooled_training_has_the_budget_of_all_sites(
    settings: Sequence[str], budgets: list[tuple[int, float]], steps: int, seen: int
) -> None:
    """A central model that trained less than the federation that it is compared with.

    flwrlabs/flower issue 864 (which number of epochs to compare); owkin/FLamby issue 58 (steps or
    epochs as the unit); FedML-AI/FedML issue 113 (unequal accuracies, unequal batches).
    """
    names = "abc"[: len(budgets)]
    sites = ArmSites(
        {name: Path(name) for name in names},
        budgets={name: Budget(*one) for name, one in zip(names, budgets, strict=True)},
    )
    runs = arm_runs(load(["experiment=smoke", *settings]).plan, SimulationConfig(), sites)
    train = next(run.plan.train for run in runs if run.label == "pooled")
    assert (train.local_steps, train.local_examples) == (steps, seen)


def test_private_pooled_training_draws_as_many_patients_as_all_sites() -> None:
    """Noise at each step: expected patients are equal too. FedML-AI/FedML issue 113."""
    settings = ("privacy.noise_multiplier=1", "train.local_steps=4", *PLAIN_SGD)
    sites = ArmSites(
        {"a": Path("a"), "b": Path("b")}, budgets={"a": Budget(4, 32.0), "b": Budget(4, 12.0)}
    )
    runs = arm_runs(load(["experiment=smoke", *settings]).plan, SimulationConfig(), sites)
    plan = next(run.plan for run in runs if run.label == "pooled")
    assert plan.train.local_steps * plan.privacy.batch_subjects == 44


def test_a_left_out_site_is_tested_whole_by_arms_without_it() -> None:
    """A part of the left-out site as its test, or its labels in the choice of a round.

    xiaobaishu0097/MEGC2019 issue 7 (a choice within the loop over left-out subjects).
    """
    names = {name: Path(name) for name in "abc"}
    whole = {name: Path(f"whole-{name}") for name in "abc"}
    config = SimulationConfig(protocol="loso")
    runs = arm_runs(load(["experiment=smoke"]).plan, config, ArmSites(names, whole=whole))
    for run in (run for run in runs if run.arm.left_out):
        site = run.arm.left_out
        assert site in run.tested
        assert site not in run.members
        assert run.prepared[site] == (whole[site],)
        trained = {path for member in run.members for path in run.prepared[member]}
        assert names[site] not in trained
        assert whole[site] not in trained


def write_run(run: Path, arm: str, n_test: int, metrics: dict[str, float]) -> Path:
    """Write a run folder of one arm with eight tested patients of a site."""
    cases = run / "cases" / arm / "seed-0"
    cases.mkdir(parents=True)
    rows = [
        {"subject": f"p{i}", "n_examples": 1, "truth": i % 2, "prediction": [0.4, 0.6]}
        | {"scores": {"predicted": 1, "is_correct": float(i % 2)}}
        for i in range(8)
    ]
    (cases / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    used = {"x": {"used": 30, "found": 30, "train": 16, "val": 6, "test": n_test}}
    (run / "used.json").write_text(json.dumps(used))
    (run / "environment.json").write_text("{}")
    (run / "config.yaml").write_text("name: x\n")
    (run / "manifest.tsv").write_text("site\tsubject\tsession\tcode\texcluded\treason\n")
    record = {"kind": "test", "arm": arm, "seed": 0, "round": 1, "site": "x", "metrics": metrics}
    (run / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    write_comparison(run, compared([arm_of(arm)]))
    return run


@pytest.mark.parametrize("arm", ["federated", "pooled", "local-x", "linear", "baseline"])
def test_scores_of_patients_that_an_arm_knows_are_refused(tmp_path: Path, arm: str) -> None:
    """More patients than a site has to test: some were trained on.

    jspunda/prostatex issue 34; kkraoj/lfmc_from_sar issue 5 (test sites that trained before).
    """
    with pytest.raises(UsageError, match=r"8 patients of x.*\[U13\]"):
        load_results(write_run(tmp_path / "a", arm, 6, {}))


@pytest.mark.parametrize("arm", ["loso-x", "loso-pooled-x", "loso-linear-x"])
def test_arms_without_the_site_may_test_all_of_it(tmp_path: Path, arm: str) -> None:
    """The same patients, none of them known. xiaobaishu0097/MEGC2019 issue 7."""
    assert load_results(write_run(tmp_path / "a", arm, 6, {})).cases


def test_statistics_of_the_scored_images_are_called_transductive(tmp_path: Path) -> None:
    """Batch norm from a test batch: med-air/FedBN issue 9 (how to test at an external client)."""
    task = KIND
    adapted = load_results(write_run(tmp_path / "a", "federated", 8, {"is_adapted": 1.0}))
    plain = load_results(write_run(tmp_path / "b", "federated", 8, {}))
    notes = [summarise(one, task, n_bootstrap=100).notes for one in (adapted, plain)]
    assert [any("Transductive" in note for note in found) for found in notes] == [True, False]


@dataclass(frozen=True)
class Made:
    """A site in memory."""

    items: tuple[Example, ...]
    images: tuple[np.ndarray, ...]

    def examples(self, split: Split) -> tuple[Example, ...]:
        """Return the examples of a split."""
        return tuple(item for item in self.items if item.split == split)

    def eval_batches(self, split: Split, *, batch_size: int) -> Iterator[Batch]:
        """Yield them one by one."""
        for item, image in zip(self.items, self.images, strict=True):
            if item.split == split:
                truth = torch.tensor([int(single(item.target))])
                present = torch.ones(1, 1, dtype=torch.bool)
                yield Batch(torch.from_numpy(image)[None], truth, present, ("",), ("",))


def made() -> Made:
    """Return a site whose classes are noise: whatever is chosen on them is chance."""
    stream = np.random.default_rng(0)
    numbers: dict[Split, int] = {"train": 12, "val": 6, "test": 6}
    sides = [side for side, n in numbers.items() for _ in range(n)]
    items = tuple(
        Example("s", f"p{i}", f"p{i}", side, Path(), None, None, float(i % 2), (True,), (1.0, 1.0))
        for i, side in enumerate(sides)
    )
    return Made(items, tuple(stream.normal(size=(1, 8, 8)).astype(np.float32) for _ in items))


@pytest.mark.parametrize("side", ["test", "val"])
def test_the_linear_baseline_is_chosen_on_validation_patients_alone(side: Split) -> None:
    """Other truths of test patients change no prediction; a penalty was tuned on them elsewhere.

    GSanShui/XPert issue 2 (validation == test); titu1994/LSTM-FCN issue 7.
    """
    site, task = made(), KIND
    turned = tuple(
        replace(item, target=1 - single(item.target)) if item.split == side else item
        for item in site.items
    )
    found, other = (
        linear_cases([one], {"s": one}, task)["s"]  # type: ignore[list-item,dict-item]  # part of a site
        for one in (site, replace(site, items=turned))
    )
    same = [a.prediction == b.prediction for a, b in zip(found, other, strict=True)]
    assert all(same) if side == "test" else all(math.isfinite(a.prediction[0]) for a in other)
