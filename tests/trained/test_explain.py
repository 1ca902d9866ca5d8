"""A model explained on real scans: maps where the scan lies, aggregates, and nothing in between."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner

from fedmri.errors import ConfigError, UsageError
from fedmri.explain.options import METHODS, ExplainOptions, Method
from fedmri.trained.model import TrainedModel
from tests.conftest import program
from tests.trained.conftest import Train, images, labels, turned

QUICK: tuple[Method, ...] = ("gradcam", "integrated_gradients")


def read(folder: Path) -> dict[str, object]:
    """Return the aggregates of a folder."""
    found: dict[str, object] = json.loads((folder / "summary.json").read_text())
    return found


def test_maps_lie_on_the_scans_own_grid(train: Train, hospitals: Path, tmp_path: Path) -> None:
    """Every method gives one map a scan, with the affine of its file, not negative, top 1."""
    path = turned(images(hospitals, "FLAIR")[0], tmp_path / "in" / "sub-7_FLAIR.nii.gz", "PIR")
    options = ExplainOptions(n_steps=2)
    found = train("mask").model.explain(path, out=tmp_path / "out", options=options)
    maps = [file for file in found.files if file.name.endswith("_saliency.nii.gz")]
    scan = labels(path)
    assert len(maps) == len(METHODS) - 1  # a U-Net has no attention
    assert found.scans[0].skipped["attention"].startswith("the network has no attention")
    for file in maps:
        one = labels(file)
        values = np.asarray(one.dataobj)
        assert np.array_equal(one.affine, scan.affine)
        assert values.shape == scan.shape
        assert values.min() >= 0
        assert values.max() == pytest.approx(1)
    doubts = [file.name for file in found.files if file.name.endswith("_uncertainty.nii.gz")]
    assert len(doubts) == 2
    assert next(file for file in found.files if file.suffix == ".png").stat().st_size > 1000


def test_the_share_in_the_mask_is_of_patients_beside_an_untrained_network(
    train: Train, hospitals: Path, tmp_path: Path
) -> None:
    """Aggregates have intervals over patients; the table of scans has the numbers behind them."""
    paths = images(hospitals, "FLAIR")[:6]
    options = ExplainOptions(QUICK, masks=hospitals / "derivatives", n_steps=2)
    found = train("mask").model.explain(*paths, out=tmp_path / "out", options=options)
    summary = read(tmp_path / "out")
    assert found.left_out == ()
    assert summary["is_fit_to_leave"] is True
    for method in QUICK:
        one = summary["methods"][method]  # type: ignore[index]
        inside = [scan.judged[method].inside for scan in found.scans]
        assert one["share_in_mask"]["value"] == pytest.approx(float(np.mean(inside)))
        assert one["share_in_mask"]["n_subjects"] == 6
        assert one["share_in_mask"]["low"] < one["share_in_mask"]["value"]
        assert one["share_in_mask_untrained"]["value"] is not None
        assert -1 <= one["likeness_untrained"] <= 1
    assert all(0 < scan.chance < 1 for scan in found.scans)
    assert all(0 <= scan.risk <= 1 for scan in found.scans)
    assert summary["selection"]["coverage"] == [1]  # type: ignore[index]  # one group of five
    names = {path.name.split("_")[0] for path in paths}
    with (tmp_path / "out/explanations.tsv").open() as file:
        assert {row["participant_id"] for row in csv.DictReader(file, delimiter="\t")} == names
    assert not any(name in (tmp_path / "out/summary.json").read_text() for name in names)


def test_a_few_patients_are_no_aggregate(train: Train, hospitals: Path, tmp_path: Path) -> None:
    """What two patients have on the mean is nearly what one has: the file says so."""
    done = CliRunner().invoke(
        program(),
        [
            *("explain", str(train("kind").path), *map(str, images(hospitals, "T1w")[:2])),
            *("--out", str(tmp_path / "out"), "--method", "gradcam"),
        ],
        catch_exceptions=False,
    )
    assert "must stay" in done.stdout
    assert done.exit_code == 0
    assert read(tmp_path / "out")["is_fit_to_leave"] is False


def test_explaining_changes_no_answer_and_gives_the_same_bits(
    train: Train, hospitals: Path, tmp_path: Path
) -> None:
    """Hooks, gradients and dropout leave the network as it was."""
    model, path = train("kind").model, images(hospitals, "T1w")[0]
    before = model.predict(path).patients[0].prediction
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        model.explain(path, out=folder, options=ExplainOptions(("gradcam++", "occlusion")))
    assert model.predict(path).patients[0].prediction == before
    for file in folders[0].rglob("*.nii.gz"):
        assert file.read_bytes() == (folders[1] / file.relative_to(folders[0])).read_bytes()
    assert read(folders[0]) == read(folders[1])


def with_dropout(model: TrainedModel) -> TrainedModel:
    """Return the model as one that was trained with dropout."""
    plan = replace(model.card.plan, model=replace(model.card.plan.model, dropout=0.5))  # type: ignore[type-var]
    return TrainedModel(replace(model.file, card=replace(model.card, plan=plan)))


def test_dropout_tells_doubt_and_an_ensemble_of_one_model_none(
    train: Train, hospitals: Path, tmp_path: Path
) -> None:
    """Members that agree have no information between them; those of dropout do."""
    path, run = images(hospitals, "T1w")[0], train("kind")
    twice = ExplainOptions(("gradcam",), also=(run.path,))
    [same] = run.model.explain(path, out=tmp_path / "a", options=twice).scans
    assert same.n_members == 2
    assert same.between == pytest.approx(0, abs=1e-9)
    assert same.doubt > 0
    dropped = with_dropout(run.model)
    options = ExplainOptions(("gradcam",), n_samples=5)
    [one] = dropped.explain(path, out=tmp_path / "b", options=options).scans
    assert one.n_members == 5
    assert one.between > 1e-6
    assert one.doubt >= one.between


def test_models_of_other_preparations_are_no_ensemble(
    train: Train, hospitals: Path, tmp_path: Path
) -> None:
    """Their answers would be of other images."""
    options = ExplainOptions(also=(train("age").path,))
    with pytest.raises(UsageError, match=r"another target.*\[U85\]"):
        train("kind").model.explain(
            images(hospitals, "T1w")[0], out=tmp_path / "out", options=options
        )


def test_a_scan_of_noise_is_far_from_the_scans_that_training_knew(
    train: Train, hospitals: Path, tmp_path: Path
) -> None:
    """Sums that were saved give the same distance as the scans themselves."""
    paths, model = images(hospitals, "T1w"), train("kind").model
    known = tmp_path / "known"
    known.mkdir()
    for path in paths[:8]:
        (known / path.name).symlink_to(path)
    scan = labels(paths[8])
    noise = np.random.default_rng(0).gamma(0.3, 1e4, scan.shape).astype(np.float32)
    nib.save(nib.Nifti1Image(noise, scan.affine), tmp_path / "sub-noise_T1w.nii.gz")
    inputs = (paths[8], tmp_path / "sub-noise_T1w.nii.gz")
    first = model.explain(
        *inputs, out=tmp_path / "a", options=ExplainOptions(("gradcam",), reference=known)
    )
    for distance in ("distance", "look_distance"):
        found = {"noise" in one.input.name: getattr(one, distance) for one in first.scans}
        assert found[False] < found[True]
    assert first.summary["distance"]["look"]["n_beyond_usual"] >= 1
    sums = tmp_path / "a" / "reference_sums.safetensors"
    again = model.explain(
        *inputs, out=tmp_path / "b", options=ExplainOptions(("gradcam",), reference=sums)
    )
    for one, other in zip(again.scans, first.scans, strict=True):
        assert one.distance == pytest.approx(other.distance)
        assert one.look_distance == pytest.approx(other.look_distance)
    with pytest.raises(UsageError, match=r"another model.*\[U70\]"):
        train("age").model.explain(
            inputs[0], out=tmp_path / "c", options=ExplainOptions(reference=sums)
        )


@pytest.mark.slow
def test_a_regression_and_slices_are_explained_too(
    train: Train, hospitals: Path, tmp_path: Path
) -> None:
    """A value has one score; slices are put together on the scan's own grid."""
    for name, suffix in (("age", "T1w"), ("slices", "FLAIR")):
        path, out = images(hospitals, suffix)[0], tmp_path / name
        found = train(name).model.explain(path, out=out, options=ExplainOptions(QUICK, n_steps=2))
        shapes = {labels(f).shape for f in found.files if f.name.endswith(".nii.gz")}
        assert shapes == {labels(path).shape}
    assert not math.isnan(found.scans[0].gap)


def test_a_class_that_the_model_does_not_have_is_refused(
    train: Train, hospitals: Path, tmp_path: Path
) -> None:
    """Before anything is written."""
    with pytest.raises(ConfigError, match=r"--class.*\[C01\]"):
        train("kind").model.explain(
            images(hospitals, "T1w")[0],
            out=tmp_path / "out",
            options=ExplainOptions(explained_class="cat"),
        )
    assert not (tmp_path / "out").exists()


def test_a_picture_of_the_file_is_left_out_by_name(train: Train, tmp_path: Path) -> None:
    """One bad input ends nothing, and is in the table."""
    (tmp_path / "x_T1w.nii.gz").write_bytes(b"no image")
    found = train("kind").model.explain(tmp_path / "x_T1w.nii.gz", out=tmp_path / "out")
    assert [one.code for one in found.left_out] == ["D07"]
    assert found.summary["n_left_out"] == 1
