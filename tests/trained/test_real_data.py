"""Real scans: masks of tumours on their own grid, and ages, by models of a few rounds."""

from __future__ import annotations

import csv
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from fedmri.config import load
from fedmri.simulation.study import Study, refuse_failed, run_study
from fedmri.trained.model import TrainedModel
from fedmri.trained.scoring import ScoreOptions
from tests.trained.conftest import Train, labels

DATA = os.environ.get("FEDMRI_TEST_DATA", "")
LGG, IXI = Path(DATA) / "lgg-bids", Path(DATA) / "ixi-hh-bids"
NEEDS_DATA = pytest.mark.skipif(not DATA, reason="FEDMRI_TEST_DATA names no folder of real data")

N_SUBJECTS = 4
"""Of each hospital: enough to train for two steps on."""


@pytest.fixture(scope="module")
def tumours(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """Return the folder of a short run on a few patients of two hospitals."""
    folder = tmp_path_factory.mktemp("lgg")
    data = folder / "bids"
    (data / "derivatives").mkdir(parents=True)
    found = [sorted(LGG.glob(f"sub-TCGA{site}*"))[:N_SUBJECTS] for site in ("CS", "HT")]
    names = [path.name for paths in found for path in paths]
    masks = Path("derivatives/manual_masks")
    (data / masks).mkdir()
    for name in names:
        (data / name).symlink_to(LGG / name)
        (data / masks / name).symlink_to(LGG / masks / name)
    rows = (LGG / "participants.tsv").read_text().splitlines()
    kept = [rows[0], *(row for row in rows if row.split("\t")[0] in names)]
    (data / "participants.tsv").write_text("\n".join(kept) + "\n")
    experiment = load(
        [
            *("experiment=lgg_tumour", "data.prepare.size=[64,64]", "model.width=4"),
            *("rounds.n_rounds=1", "train.local_steps=4", "simulation.arms=[federated]"),
            *("simulation.workers=1", "simulation.n_pictures=0", "partition.n_sites=2"),
            *(f"data.source.path={data}", f"simulation.cache={cache}", "train.device=cpu"),
        ]
    )
    parts = (experiment.plan, experiment.partition, experiment.simulation)
    refuse_failed(run_study(Study(*parts, folder, "fedmri"), lambda _: None), folder)
    return folder


def overlap(predicted: Path, subject: str) -> float:
    """Return the Dice of a written mask and the one that a person drew."""
    name = f"sub-{subject}"
    drawn = LGG / "derivatives/manual_masks" / name / "anat" / f"{name}_label-tumor_mask.nii.gz"
    mask, truth = labels(predicted), labels(drawn)
    scan = labels(LGG / name / "anat" / f"{name}_FLAIR.nii.gz")
    assert np.array_equal(mask.affine, scan.affine)
    mine, theirs = np.asarray(mask.dataobj) == 1, np.asarray(truth.dataobj) > 0
    return float(2 * (mine & theirs).sum() / (mine.sum() + theirs.sum()))


@NEEDS_DATA
def test_masks_of_real_tumours_have_the_dice_that_the_run_scored(
    tumours: Path, cache: Path, tmp_path: Path
) -> None:
    """Written files against drawn masks, the run's cases, and `fedmri score`: one number each."""
    model = TrainedModel.open(tumours / "arms/federated/seed-0/model.safetensors")
    cases = {
        row["subject"]: row["scores"]["dice"]
        for path in (tumours / "cases/federated/seed-0").glob("*.jsonl")
        for row in map(json.loads, path.read_text().splitlines())
    }
    paths = [LGG / f"sub-{name}/anat/sub-{name}_FLAIR.nii.gz" for name in cases]
    found = model.predict(*paths, out=tmp_path / "out")
    assert {
        one.input.scan.subject: overlap(file, one.input.scan.subject)
        for one, file in zip(found, found.files, strict=True)
    } == cases
    assert max(cases.values()) > 0
    options = ScoreOptions(patients=tuple(cases), cache=cache)
    scored = model.score(tumours / "bids", options)
    assert {c.subject: c.scores["dice"] for of in scored.cases.values() for c in of} == cases


@NEEDS_DATA
def test_ages_of_a_hospital_that_took_no_part(train: Train, tmp_path: Path) -> None:
    """Real T1w scans of another voxel size: a finite age each, and a warning of the size."""
    subjects = sorted(IXI.glob("sub-*"))[:3]
    scans = [next(path.glob("anat/*_T1w.nii.gz")) for path in subjects]
    found = train("age").model.predict(*scans, out=tmp_path / "out")
    assert all("D80" in {code for code, _ in one.remarks} for one in found)
    with (tmp_path / "out/participants.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["participant_id"] for row in rows] == [path.name for path in subjects]
    assert all(math.isfinite(float(row["age"])) for row in rows)
    assert [float(row["age"]) for row in rows] == [case.prediction[0] for case in found.patients]
