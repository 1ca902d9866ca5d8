"""A model that reads the table beside the image: trained, compared, used, and refused elsewhere."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from fedmri.agreement.signed_plan import sign_plan
from fedmri.clients.consent.plan_text import describe
from fedmri.clients.consent.policy import SitePolicy
from fedmri.errors import UsageError
from fedmri.explain.options import ExplainOptions
from fedmri.export.exporting import ExportOptions, export
from fedmri.reports.results import load_results
from fedmri.trained.model import TrainedModel
from fedmri.trained.scoring import ScoreOptions
from tests.test_signed_plan import key_pair
from tests.trained.conftest import Run, Train, images

SETTINGS = ("model=image_table_fusion", "data.source.covariates=[age:50/20,sex:F|M]")


@pytest.fixture(scope="module")
def run(train: Train) -> Run:
    """Return a run of a model that reads age and sex."""
    return train("kind", *SETTINGS)


@pytest.fixture(scope="module")
def model(run: Run) -> TrainedModel:
    """Return its model."""
    return run.model


def test_the_table_alone_stands_beside_the_network(run: Run) -> None:
    """What the image adds to age and sex can be read off; its cases are of the same patients."""
    results = load_results(run.folder)
    patients = {
        role: {(c.site, c.subject) for site in results.cases[role, 0].values() for c in site}
        for role in ("federated", "table", "linear")
    }
    assert patients["federated"] == patients["table"] == patients["linear"]
    assert patients["table"]


def test_a_run_without_covariates_has_no_such_model(train: Train) -> None:
    """There is no table to read."""
    assert ("table", 0) not in load_results(train("kind").folder).cases


def test_predictions_read_the_row_of_each_patient(
    model: TrainedModel, hospitals: Path, tmp_path: Path
) -> None:
    """Of a data set; an unknown age is told and counts as the centre, another age as itself."""

    def predicted(name: str, age: str) -> tuple[tuple[float, ...], tuple[tuple[str, str], ...]]:
        folder = tmp_path / name
        path = images(hospitals, "T1w")[0]
        shutil.copytree(path.parents[1], folder / path.parents[1].name)
        with (hospitals / "participants.tsv").open() as file:
            [row] = [
                row
                for row in csv.DictReader(file, delimiter="\t")
                if row["participant_id"] == path.parents[1].name
            ]
        lines = "\t".join(row), "\t".join((row | {"age": age}).values())
        (folder / "participants.tsv").write_text("\n".join(lines) + "\n")
        [one] = model.predict(folder)
        assert one.reading is not None
        return one.reading.predictions[0], one.remarks

    (young, told), (old, _), (unknown, remarks) = (
        predicted(*pair) for pair in (("young", "20"), ("old", "80"), ("gone", "-999"))
    )
    assert young != old != unknown
    assert "D79" not in dict(told)
    assert dict(remarks)["D79"] == "age is not known, and counts as missing"


def test_a_scan_without_a_row_is_left_out(model: TrainedModel, hospitals: Path) -> None:
    """A single file has no table; the message says what to name."""
    found = model.predict(images(hospitals, "T1w")[0])
    assert not found.predicted
    [gone] = found.left_out
    assert gone.code == "D84"
    assert "the model reads age, sex of a table: name a BIDS data set" in gone.reason


def test_scores_of_the_file_are_those_of_the_run(run: Run, hospitals: Path) -> None:
    """``fedmri score`` reads the same table."""
    results = load_results(run.folder)
    tested = [case for site in results.cases["federated", 0].values() for case in site]
    options = ScoreOptions(patients=tuple(case.subject for case in tested))
    again = [case for site in run.model.score(hospitals, options).cases.values() for case in site]
    known = {case.subject: case.prediction for case in tested}
    for case in again:
        assert case.prediction == pytest.approx(known.pop(case.subject))
    assert not known


def test_what_gives_images_alone_refuses_the_model(
    model: TrainedModel, hospitals: Path, tmp_path: Path
) -> None:
    """An export would be of another function."""
    with pytest.raises(UsageError, match=r"reads age, sex beside the image.*\[U86\]"):
        export(model.file, tmp_path / "export", ExportOptions())


def test_an_explanation_tells_what_each_column_adds(
    model: TrainedModel, hospitals: Path, tmp_path: Path
) -> None:
    """Beside maps of the image, by the rows of the other patients; sizes alone are aggregates."""
    options = ExplainOptions(methods=("gradcam", "integrated_gradients"), n_steps=4)
    found = model.explain(hospitals, out=tmp_path, options=options)
    assert found.scans
    for one in found.scans:
        assert set(one.judged) == {"gradcam", "integrated_gradients"}
        assert set(one.columns) == {"age", "sex"}
        assert {"age_shapley", "sex_lime"} < set(one.row)
    assert len({one.columns["age"].shapley for one in found.scans}) > 1
    sizes = [abs(one.columns["age"].shapley) for one in found.scans]
    shown = found.summary["columns"]["age"]["shapley"]
    assert shown["value"] == pytest.approx(sum(sizes) / len(sizes))


def test_a_single_patient_has_nobody_to_be_compared_with(
    model: TrainedModel, hospitals: Path, tmp_path: Path
) -> None:
    """Columns are then not told, and why is; maps are, and a reference gives the rows."""
    alone = tmp_path / "alone"
    path = images(hospitals, "T1w")[0]
    shutil.copytree(path.parents[1], alone / path.parents[1].name)
    shutil.copy(hospitals / "participants.tsv", alone)
    options = ExplainOptions(methods=("gradcam",))
    [one] = model.explain(alone, out=tmp_path / "out", options=options).scans
    assert not one.columns
    assert one.skipped["columns"].startswith("no row of another patient")
    options = replace(options, reference=hospitals)
    [one] = model.explain(alone, out=tmp_path / "more", options=options).scans
    assert one.columns


def test_a_hospital_reads_which_columns_the_network_reads(model: TrainedModel) -> None:
    """Before it approves; what leaves is as without them."""
    signed = sign_plan(model.card.plan, key_pair(1)[0])
    text = describe(signed, SitePolicy())
    assert "columns age, sex beside the image, which the network reads here" in text
