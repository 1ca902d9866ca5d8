"""The reader of run folders takes what a run wrote, and says what is wrong with anything else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedmri.api.submission.comparing import compare_runs
from fedmri.config import as_yaml, load
from fedmri.errors import UsageError
from fedmri.machine.file_names import label_of
from fedmri.reports.own_task import refuse_other_task
from fedmri.reports.results import load_results
from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.kinds.regression import Regression
from fedmri.tasks.kinds.segmentation import Segmentation
from fedmri.tasks.task import Task

WriteRun = Callable[..., Path]


def half(arm: str, seed: int, site: str, i: int) -> dict[str, Any]:
    """Return Dice one half for every patient."""
    return {"scores": {"dice": 0.5}}


def test_a_run_folder_is_read_whole(full_run: Path) -> None:
    """Six arms with three seeds, four sites, three findings that exclude and one that does not."""
    results = load_results(full_run)
    assert len(results.cases) == 6 * 3
    assert list(results.cases["local:HT", 2]) == ["CS", "DU", "HT", "external:EZ"]
    assert [case.subject for case in results.cases["federated", 0]["CS"]][:2] == [
        "sub-000",
        "sub-001",
    ]
    assert [finding.is_excluded for finding in results.findings] == [True, True, True, False]
    assert results.usage["DU"].found - results.usage["DU"].used == 2
    assert results.environment["machine"]["cores"] == 2


@pytest.mark.parametrize(
    ("folder", "arm"),
    [
        ("federated", "federated"),
        ("federated-fedprox", "federated:fedprox"),
        ("local-Guys-1", "local:Guys-1"),
        ("loso-DU", "loso:DU"),
        ("loso-pooled-DU", "loso-pooled:DU"),
    ],
)
def test_a_folder_names_its_arm(folder: str, arm: str) -> None:
    """A site's own hyphens stay; only the one after the kind was a colon."""
    assert label_of(folder) == arm


def test_a_torn_last_record_is_left_out_and_said(write_run: WriteRun) -> None:
    """A run that was killed while it wrote has a report of what came before."""
    run = write_run({"A": 2}, half)
    (run / "metrics.jsonl").write_text('{"kind": "round", "arm": "federated"}\n{"kind": "ro')
    results = load_results(run)
    assert len(results.records) == 1
    assert "torn" in results.warnings[0]


def test_a_record_that_was_written_again_counts_once(write_run: WriteRun) -> None:
    """Of a round that a resumed run repeats, the later record is the one that holds."""
    run = write_run({"A": 2}, half)
    record = {"kind": "round", "arm": "federated", "seed": 0, "round": 1, "site": "A"}
    lines = [json.dumps({**record, "loss": loss}) for loss in (0.9, 0.4)]
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    assert [kept["loss"] for kept in load_results(run).of_kind("round")] == [0.4]


def test_an_arm_that_was_not_tested_is_named(write_run: WriteRun) -> None:
    """An arm that failed before its test is missing from the tables, not from the notes."""
    run = write_run({"A": 2}, half)
    (run / "metrics.jsonl").write_text('{"kind": "round", "arm": "pooled", "seed": 0}\n')
    assert load_results(run).warnings[0].startswith("Arm pooled, seed 0, was trained but not")


@pytest.mark.parametrize(
    "name", ["config.yaml", "environment.json", "manifest.tsv", "used.json", "metrics.jsonl"]
)
def test_a_missing_file_is_named(write_run: WriteRun, name: str) -> None:
    """Every file but the pictures is needed, and the message names the one that is not there."""
    run = write_run({"A": 2}, half)
    (run / name).unlink()
    with pytest.raises(UsageError, match=rf"found no {name}.*\[U10\]"):
        load_results(run)


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("config.yaml", b"\xff\xfe\x00", "not UTF-8"),
        ("environment.json", b'{"command": ', "no JSON at line 1"),
        ("environment.json", b"[1, 2]", "found list"),
        ("manifest.tsv", b"site\tsubject\tsession\tcode\treason\n", "no column excluded"),
        ("used.json", b'{"A": {"used": 3}}', "found"),
        ("used.json", b'{"A": 3}', "mapping"),
        ("metrics.jsonl", b'{"kind": "round"}\noops\n{"kind": "round"}\n', "no JSON at line 2"),
        ("metrics.jsonl", b'{"arm": "federated"}\n', "no kind at line 1"),
        ("cases/federated/seed-0/A.jsonl", b'{"subject": "x"}\n', "a case without 'n_examples'"),
        ("cases/federated/seed-0/A.jsonl", b'{"subject": "x", ', "torn"),
    ],
)
def test_a_broken_file_is_named(write_run: WriteRun, name: str, content: bytes, found: str) -> None:
    """Half-written, foreign and truncated files give one line that says which and where."""
    run = write_run({"A": 2}, half)
    (run / name).write_bytes(content)
    with pytest.raises(UsageError, match=rf"{Path(name).name}.*{found}.*\[U11\]"):
        load_results(run)


def test_a_run_without_test_results_has_no_report(write_run: WriteRun) -> None:
    """There is nothing to compare before the models are tested."""
    run = write_run({"A": 2}, half)
    shutil.rmtree(run / "cases")
    with pytest.raises(UsageError, match=r"no tested patient.*\[U12\]"):
        load_results(run)


def test_a_patient_who_stands_twice_is_refused(write_run: WriteRun) -> None:
    """One patient counted twice would narrow every interval."""
    run = write_run({"A": 2}, half)
    path = run / "cases/federated/seed-0/A.jsonl"
    path.write_text(path.read_text() * 2)
    with pytest.raises(UsageError, match=r"sub-000 of A twice under federated.*\[U13\]"):
        load_results(run)


def test_a_patient_with_two_truths_is_refused(write_run: WriteRun) -> None:
    """Models that were tested against different labels cannot be compared."""

    def label(arm: str, seed: int, site: str, i: int) -> dict[str, Any]:
        return {"truth": float(arm == "pooled"), "prediction": [0.5, 0.5]}

    run = write_run({"A": 2}, label, arms=["federated", "pooled"])
    with pytest.raises(UsageError, match=r"two truths of sub-000 of A.*\[U13\]"):
        load_results(run)


STAGE = Classification("stage", ("mild", "severe"))
OF_STAGE = {"truth": 1.0, "prediction": [0.2, 0.8], "scores": {"predicted": 1.0}}
OF_OTHERS = {
    "masks": {"scores": {"dice": 0.5}},
    "a value": {"truth": 61.5, "prediction": [60.0], "scores": {"absolute_error": 1.5}},
    "three classes": {**OF_STAGE, "prediction": [0.2, 0.6, 0.2]},
    "no votes": {**OF_STAGE, "scores": {}},
}


@pytest.mark.parametrize("case", OF_OTHERS.values(), ids=OF_OTHERS)
def test_cases_of_another_task_are_refused(case: dict[str, Any], write_run: WriteRun) -> None:
    """Read as the run's own they would end in a traceback, or in numbers that mean nothing."""
    results = load_results(write_run({"A": 2}, lambda *_: case))
    with pytest.raises(UsageError, match=r"federated.*classification of stage.*\[U13\]"):
        refuse_other_task(results, STAGE)


@pytest.mark.parametrize("task", [Regression("age"), Segmentation("mask", ("lesion",))])
def test_classes_are_no_values_and_no_masks(task: Task, write_run: WriteRun) -> None:
    """A regression would take the first probability for an age."""
    results = load_results(write_run({"A": 2}, lambda *_: OF_STAGE))
    refuse_other_task(results, STAGE)
    with pytest.raises(UsageError, match=r"another task.*\[U13\]"):
        refuse_other_task(results, task)


def test_runs_whose_cases_are_of_another_task_are_not_compared(write_run: WriteRun) -> None:
    """``fedmri compare`` says so in one line."""
    run = write_run({"A": 8}, lambda *_: OF_STAGE)
    (run / "config.yaml").write_text(as_yaml(load(["experiment=smoke"])))
    with pytest.raises(UsageError, match=r"another task.*\[U13\]"):
        compare_runs([run, run])


def test_one_run_alone_is_compared_with_nothing(write_run: WriteRun) -> None:
    """Nor is none: the command would print a table without a difference."""
    for runs in ([], ["runs/a"]):
        with pytest.raises(UsageError, match=rf"found {len(runs)}, want two or more.*U01"):
            compare_runs(runs)
