"""Run folders made for tests: real files, numbers chosen by the test."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmri.arm import Arm, Role, compared, write_comparison
from fedmri.machine.file_names import label_of
from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.kinds.regression import Regression
from fedmri.tasks.kinds.segmentation import Segmentation
from fedmri.tasks.task import Task

ROLES: dict[str, Role] = {
    "": "federated",
    "federated": "federated",
    "pooled": "pooled",
    "linear": "linear",
    "baseline": "baseline",
}
WriteRun = Callable[..., Path]
Predict = Callable[[str, int, str, int], Mapping[str, Any]]
"""Arm, seed, site and number of the patient, to the fields of the case."""


def write_cases(folder: Path, lines: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Write the test patients of one model, by site."""
    folder.mkdir(parents=True)
    for site, of_site in lines.items():
        text = "".join(json.dumps(line) + "\n" for line in of_site)
        (folder / f"{site.replace(':', '-')}.jsonl").write_text(text, encoding="utf-8")


def write_run(  # noqa: PLR0913  # what a run folder holds
    run: Path,
    sites: Mapping[str, int],
    predict: Predict,
    *,
    arms: Sequence[str] = ("federated",),
    n_seeds: int = 1,
    validation: Predict | None = None,
) -> Path:
    """Write a run folder with test patients, and nothing excluded, drawn or recorded.

    Args:
        run: Folder to make.
        sites: Number of test patients by site.
        predict: What each arm makes of each patient.
        arms: Names of the arms.
        n_seeds: Seeds of each arm.
        validation: What each arm makes of as many validation patients; None keeps none.
    """
    run.mkdir(parents=True)
    sides = {"cases": predict} | ({"validation": validation} if validation else {})
    for side, arm, seed in itertools.product(sides, arms, range(n_seeds)):
        lines = {
            site: [
                {"site": site, "subject": f"sub-{i:03d}", "n_examples": 30}
                | {"truth": math.nan, "prediction": []}
                | dict(sides[side](arm, seed, site, i))
                for i in range(n)
            ]
            for site, n in sites.items()
        }
        write_cases(run / side / arm.replace(":", "-") / f"seed-{seed}", lines)
    (run / "config.yaml").write_text("train:\n  lr: 0.001\n", encoding="utf-8")
    environment = {"command": "fedmri simulate --sites 3", "fedmri": "0.1.0"}
    (run / "environment.json").write_text(json.dumps(environment), encoding="utf-8")
    head = "site\tsubject\tsession\tcode\texcluded\treason\n"
    (run / "manifest.tsv").write_text(head, encoding="utf-8")
    used = {site: {"used": n, "found": n} for site, n in sites.items()}
    (run / "used.json").write_text(json.dumps(used), encoding="utf-8")
    (run / "metrics.jsonl").touch()
    write_comparison(run, compared(arm_of(label) for label in arms))
    return run


def arm_of(label: str) -> Arm:
    """Return the arm that a label of these tests stands for."""
    kind, _, name = label_of(label).partition(":")
    if kind.startswith("loso"):
        return Arm(ROLES[kind.removeprefix("loso").lstrip("-")], left_out=name)
    return Arm("local", site=name) if kind == "local" else Arm(ROLES[kind], strategy=name)


@pytest.fixture(name="write_run")
def write_run_fixture(tmp_path: Path) -> WriteRun:
    """Return a function that writes a run folder of chosen scores."""
    return partial(write_run, tmp_path / "2026-01-01-test")


@pytest.fixture(scope="session")
def full_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run folder with all that a report can show; read it, do not write to it."""
    return write_full_run(tmp_path_factory.mktemp("runs") / "2026-03-04-tumour")


@pytest.fixture
def segmentation() -> Task:
    """Return a task whose metrics are means of the patients' own scores, ``dice`` first."""
    return Segmentation("lesion", ("tumour",))


@pytest.fixture
def classification() -> Task:
    """Return a task of two classes, scored by balanced accuracy."""
    return Classification("group", ("a", "b"))


@pytest.fixture
def regression() -> Task:
    """Return a task of one value, scored by its mean absolute error: lower is better."""
    return Regression("age")


def write_full_run(run: Path) -> Path:
    """Write a segmentation run with all that a report can show; one site is external."""
    sites = {"DU": 14, "HT": 11, "CS": 6, "external:EZ": 8}
    own = {"DU": 0.80, "HT": 0.76, "CS": 0.70, "external:EZ": 0.72}
    level = {"federated": 0.02, "pooled": 0.03, "local": -0.12, "baseline": -0.7}
    arms = ["federated", "pooled", "baseline", *(f"local:{site}" for site in ("DU", "HT", "CS"))]

    def predict(arm: str, seed: int, site: str, i: int) -> dict[str, Any]:
        kind, _, owner = arm.partition(":")
        hard = np.random.default_rng([i, len(site)]).normal(0, 0.09)
        chance = np.random.default_rng([i, seed, len(arm)]).normal(0, 0.02)
        value = own[site] + level[kind] + (0.08 if owner == site else 0) + hard + chance
        dice = float(np.clip(value, 0, 0.97))
        return {"scores": {"dice": dice, "hd95_mm": 12 * (1 - dice), "n_missed": float(dice == 0)}}

    write_run(run, sites, predict, arms=arms, n_seeds=3)
    records = [record for arm in arms for record in _records(arm, tuple(own))]
    text = "".join(json.dumps(record) + "\n" for record in records)
    (run / "metrics.jsonl").write_text(text + '{"kind": "rou', encoding="utf-8")
    _write_what_was_used(run)
    for arm, site in (
        [("federated", s) for s in own]
        + [(f"local:{s}", s) for s in list(own)[:3]]
        + [("pooled", "DU")]
    ):
        _write_pictures(run, arm, site)
    return run


def _records(arm: str, sites: Sequence[str]) -> Iterator[dict[str, Any]]:
    kind, _, owner = arm.partition(":")
    speed = {"federated": 0.22, "pooled": 0.3, "local": 0.25}.get(kind)
    if speed is None:
        return
    for seed, number in itertools.product(range(3), range(1, 16)):
        fixed = {"arm": arm, "seed": seed, "round": number}
        noise = np.random.default_rng([seed, number, len(arm)]).normal(0, 0.015)
        for site in sites[:3]:
            if owner not in {"", site}:
                continue
            loss = float(0.3 + 0.7 * np.exp(-speed * number) + noise)
            is_lost = (arm, seed, number, site) == ("federated", 1, 7, "CS")
            yield {
                "kind": "round", **fixed, "site": site, "status": "R04" if is_lost else "ok",
                "loss": loss, "n_examples": 900, "n_subjects": 30, "n_steps": 113,
                "seconds": 4.2, "bytes_down": 7_760_000, "bytes_up": 7_760_000,
            }  # fmt: skip
            score = float(0.8 - (0.1 if owner else 0) - 0.6 * np.exp(-speed * number) + noise)
            metrics = {"dice": score, "loss": loss}
            yield {"kind": "validation", **fixed, "site": site, "metrics": metrics, "n_subjects": 5}
        rejected = {"CS": "R04"} if (arm, seed, number) == ("federated", 1, 7) else {}
        total = {"seconds": 14.0, "n_sites": 3 - len(rejected), "rejected": rejected}
        yield {"kind": "round_total", **fixed, **total}


def _write_what_was_used(run: Path) -> None:
    """Write the manifest, the counts and the environment of the full run."""
    rows = [
        ("DU", "sub-DU07", "ses-01", "D10", "yes", "a reason"),
        ("DU", "sub-DU08", "ses-01", "D10", "yes", "a reason"),
        ("HT", "sub-HT02", "", "D20", "yes", "another reason"),
        ("HT", "sub-HT03", "", "D20", "no", "only a warning"),
    ]
    head = "site\tsubject\tsession\tcode\texcluded\treason\n"
    lines = "".join("\t".join(row) + "\n" for row in rows)
    (run / "manifest.tsv").write_text(head + lines, encoding="utf-8")
    used = {
        "DU": {"used": 43, "found": 45, "train": 24, "val": 5, "test": 14},
        "HT": {"used": 33, "found": 34, "train": 18, "val": 4, "test": 11},
        "CS": {"used": 16, "found": 16, "train": 8, "val": 2, "test": 6},
        "external:EZ": {"used": 8, "found": 8, "train": 0, "val": 0, "test": 8},
    }
    (run / "used.json").write_text(json.dumps(used), encoding="utf-8")
    environment = {
        "command": "fedmri simulate --data lgg-bids --sites 3 --external EZ model=unet seeds=3",
        "fedmri": "0.1.0",
        "versions": {"python": "3.11.9", "torch": "2.9.0", "flwr": "1.41.0"},
        "machine": {"cpu": "x86_64", "cores": 2, "memory_gb": 16.0},
        "data_fingerprints": {"DU": "3f5a" * 16, "HT": "90bc" * 16, "CS": "aa17" * 16},
        "started": "2026-03-04T10:15:00+00:00",
        "seconds": 2412.0,
    }
    (run / "environment.json").write_text(json.dumps(environment), encoding="utf-8")


def _write_pictures(run: Path, arm: str, site: str) -> None:
    """Write two discs in noise, each with its mask and a predicted one beside it."""
    folder = run / "pictures" / arm.replace(":", "-") / "seed-0"
    folder.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:128, :128]
    arrays: dict[str, Any] = {}
    for i in range(2):
        stream = np.random.default_rng([i, len(arm), len(site)])
        at = stream.uniform(45, 80, size=2)
        head = np.hypot((y - 64) / 1.15, x - 64) < 50
        lesion = np.hypot((y - at[0]) / 1.4, x - at[1]) < 16
        found = np.hypot((y - at[0] - 4) / 1.2, x - at[1] + 4) < 15
        noise = np.abs(stream.normal(0, 8, size=x.shape))
        arrays[f"image_{i}"] = (
            90.0 * head + 40 * lesion - 50 * (np.hypot(y - 60, x - 50) < 9) + noise
        ).astype(np.float32)
        arrays[f"truth_{i}"] = lesion.astype(np.uint8)
        arrays[f"predicted_{i}"] = found.astype(np.uint8)
        arrays[f"caption_{i}"] = np.array(f"sub-{i:03d}, slice 14, Dice 0.7{i}")
    np.savez_compressed(folder / f"{site.replace(':', '-')}.npz", allow_pickle=False, **arrays)
