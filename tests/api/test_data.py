"""Arrays as a data set, the check of a data set, and the plan of privacy, from Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import fedmri
from fedmri.data.read import read
from fedmri.data.settings import SourceConfig

CLASSES = ["a", "b"]


def arrays(n: int, seed: int, *, is_map: bool = False) -> dict[str, Any]:
    """Return heads of noise, brighter in one class, as a hospital's arrays."""
    random = np.random.default_rng(seed)
    image = random.normal(0, 1, (n, 24, 24, 24)).astype(np.float32)
    image[:, 4:20, 4:20, 4:20] += 100 + random.normal(0, 10, (n, 16, 16, 16))
    if is_map:
        maps = np.zeros(image.shape, dtype=np.int64)
        maps[:, 8:12, 8:12, 8:12] = 1
        return {"image": image, "target": maps}
    return {"image": image, "target": [CLASSES[i % 2] for i in range(n)]}


def test_arrays_are_scans_at_their_sites(tmp_path: Path) -> None:
    """What is read is what was given, voxel for voxel, and patients keep their scans."""
    import nibabel as nib

    south_target = {"target": ["a", "a", "b", "b"], "subject": [1, 1, 2, 3]}
    given = {"North / 1": arrays(3, 0), "South": {**arrays(4, 1), **south_target}}
    sites = fedmri.Sites.from_arrays(given, tmp_path / "data", spacing_mm=2.0)
    table = read(SourceConfig(path=str(sites.folder)))
    assert {scan.site for scan in table.scans} == {"North / 1", "South"}
    south = [scan for scan in table.scans if scan.site == "South"]
    assert (len(south), len({scan.subject for scan in south})) == (4, 3)
    first = next(scan for scan in table.scans if scan.site == "North / 1")
    image: Any = nib.load(first.images["T1w"])
    assert np.array_equal(image.get_fdata(dtype=np.float32), given["North / 1"]["image"][0])
    assert image.header.get_zooms() == (2.0, 2.0, 2.0)


def test_a_study_of_arrays_trains(tmp_path: Path, cache: Path) -> None:
    """Label maps too: a folder of arrays is a data set like any other."""
    sites = fedmri.Sites.from_arrays(
        {"A": arrays(8, 0, is_map=True), "B": arrays(8, 1, is_map=True)},
        tmp_path / "data",
        target="mask",
    )
    size = ("data.prepare.dimension=3d", "data.prepare.size=[]", "data.prepare.shape=[16,16,16]")
    more = ("data.source.modalities=[T1w]", "train.batch_size=4", "rounds.n_rounds=1")
    here = ("simulation.arms=[federated]", "simulation.workers=1", "model.width=4")
    study = fedmri.Study(
        sites,
        target=fedmri.Segmentation("mask", ["cube"]),
        model="unet",
        settings=[*size, *more, *here, f"simulation.cache={cache}", f"simulation.runs={tmp_path}"],
    )
    table = study.run(lambda record: None).table()
    assert table[table["metric"] == "dice"]["value"].between(0, 1).all()


YES_NO_UNKNOWN = np.array([1, 0, np.nan])
TARGETS = [
    (fedmri.Survival("months", "died", [6.0]), {"months": [1.5, 7, 9], "died": [True, False, 1]}),
    (
        fedmri.MultiLabel("found", ["oedema", "bleed"]),
        {"oedema": YES_NO_UNKNOWN, "bleed": [0, 1, 1]},
    ),
    (fedmri.Classification("stage", ["1", "2"]), {"stage": [1, 2, 1], "age": [50, 60, 70]}),
]


@pytest.mark.parametrize(("task", "target"), TARGETS, ids=["survival", "findings", "classes"])
def test_each_task_reads_its_targets_of_arrays(
    tmp_path: Path, task: Any, target: dict[str, Any]
) -> None:
    """Several columns are given by name; a value that is not known stays so."""
    given = {"A": {**arrays(3, 0), "target": target}}
    sites = fedmri.Sites.from_arrays(given, tmp_path / "data")
    scans = read(SourceConfig(path=str(sites.folder))).scans
    assert not task.findings(scans)
    truths = [np.atleast_1d(task.truth(scan)) for scan in scans]
    if isinstance(task, fedmri.Classification):
        assert [truth.tolist() for truth in truths] == [[0], [1], [0]]
        assert [scan.columns["age"] for scan in scans] == ["50", "60", "70"]
    else:
        columns = [np.asarray(values, dtype=float) for values in target.values()]
        assert np.array_equal(truths, np.transpose(columns), equal_nan=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"target": ["a"]},
        {"image": np.zeros(3)},
        {"subject": [1]},
        {"target": np.zeros((3, 2, 2))},
        {"target": np.zeros((3, 2))},
        {"target": {"stage": ["a"] * 3, "age": [1]}},
        {"target": {"site": ["a"] * 3}},
    ],
    ids=["targets", "image", "patients", "map", "without names", "a short column", "no target"],
)
def test_arrays_that_do_not_fit_each_other_are_refused(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    """Nothing is guessed of which patient is which."""
    with pytest.raises(fedmri.FedmriError, match=r"arrays of A.*\[D08\]"):
        fedmri.Sites.from_arrays({"A": {**arrays(3, 0), **wrong}}, tmp_path / "data")


def test_patients_whose_names_look_alike_stay_apart(tmp_path: Path) -> None:
    """What BIDS does not take is left out of a label, and tells patients apart all the same."""
    given = {site: {**arrays(2, 0), "subject": ["a-1", "a1"]} for site in ("S 1", "S1")}
    sites = fedmri.Sites.from_arrays(given, tmp_path / "data")
    table = read(SourceConfig(path=str(sites.folder)))
    assert len({scan.subject for scan in table.scans}) == 4


def test_a_patient_of_two_targets_is_refused(tmp_path: Path) -> None:
    """Neither of them is taken in silence."""
    given = {"A": {**arrays(2, 0), "subject": ["x", "x"]}}
    with pytest.raises(fedmri.FedmriError, match=r"patient x of A: found a and b.*\[D18\]"):
        fedmri.Sites.from_arrays(given, tmp_path / "data")


def test_label_values_that_no_byte_holds_are_kept(tmp_path: Path) -> None:
    """300 is not 44; a label of a half is none."""
    import nibabel as nib

    given = arrays(1, 0, is_map=True)
    given["target"][given["target"] == 1] = 300
    sites = fedmri.Sites.from_arrays({"A": given}, tmp_path / "data", target="mask")
    [file] = sites.folder.rglob("*_mask.nii.gz")
    image: Any = nib.load(file)
    assert set(np.unique(image.get_fdata())) == {0, 300}
    given["target"] = given["target"] / 600
    with pytest.raises(fedmri.FedmriError, match=r"whole numbers.*\[D08\]"):
        fedmri.Sites.from_arrays({"A": given}, tmp_path / "half", target="mask")


def test_a_folder_with_files_is_not_written_over(tmp_path: Path) -> None:
    """Somebody's data may lie there."""
    (tmp_path / "scan.nii").touch()
    with pytest.raises(fedmri.FedmriError, match=r"\[D70\]"):
        fedmri.Sites.from_arrays({"A": arrays(3, 0)}, tmp_path)


def test_the_check_of_a_data_set_counts_what_is_used_and_why_not(hospitals: Path) -> None:
    """As the command prints it, in tables; a target that no scan has is found."""
    check = fedmri.check_data(hospitals)
    used = check.used()
    assert (used["used"] == used["found"]).all()
    check.enforce()
    lacking = fedmri.check_data(hospitals, fedmri.Segmentation("nothing", ["x"]))
    assert {"D16", "D55"} & set(lacking.findings()["code"])
    with pytest.raises(fedmri.FedmriError):
        lacking.enforce()


def test_a_privacy_plan_costs_what_was_asked(hospitals: Path) -> None:
    """The last round reaches epsilon; its settings are those that training takes."""
    plan = fedmri.privacy_plan(patients=100, rounds=5, epsilon=3, batch=10)
    assert plan.epsilon == pytest.approx(3, rel=0.01)
    table = plan.table()
    assert isinstance(table, pd.DataFrame)
    assert table["epsilon"].is_monotonic_increasing
    private = fedmri.Study(hospitals, settings=["experiment=smoke", *plan.settings])
    assert private.experiment.plan.privacy.is_on


def test_example_data_are_made_once(tmp_path: Path) -> None:
    """The same call takes what is there, another one refuses the folder, and files stay."""
    folder = fedmri.example_data(tmp_path / "a", sites=2, subjects=2, spacing_mm=8)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert fedmri.example_data(folder, sites=2, subjects=2, spacing_mm=8) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    with pytest.raises(fedmri.FedmriError, match=r"\[D70\]"):
        fedmri.example_data(folder, sites=2, subjects=2, spacing_mm=8, seed=1)
    assert fedmri.check_data(folder).used()["used"].sum() == len(list(folder.glob("sub-*")))


def test_privacy_of_a_site_costs_what_was_asked_and_more_sites_drown_less() -> None:
    """The mean over more hospitals has less noise, and a shared noise less than one for each."""
    plan = fedmri.site_privacy_plan(sites=3, rounds=4, epsilon=5, dimensions=100)
    assert plan.epsilon == pytest.approx(5, rel=0.01)
    table = plan.table().set_index("n_sites")
    assert table["each_adds_all"].is_monotonic_decreasing
    assert (table["sum_alone_seen"] < table["each_adds_all"]).all()


def test_models_are_listed_with_what_they_can_do() -> None:
    """All of them, and a U-Net segments."""
    table = fedmri.list_models().set_index("name")
    assert {"cnn3d", "unet", "densenet121"} <= set(table.index)
    assert "segmentation" in table["kinds"].to_dict()["unet"]
