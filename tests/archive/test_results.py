"""Predictions as DICOM: the same mask to the voxel, of the same patient, and valid to a checker."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.data import get_testdata_file

from fedmri.api.archive import DicomExchange, predict_dicom
from fedmri.archive.results import DicomResults
from fedmri.archive.source import source_of
from fedmri.data.dicom.stack import load_series
from fedmri.data.preparation.geometry import Grid
from fedmri.data.scans import Scan
from fedmri.errors import ConfigError, DataError, UsageError
from fedmri.tasks.task import Reading
from fedmri.trained.inputs import Input
from fedmri.trained.model import TrainedModel
from fedmri.trained.predict import Prediction
from tests.archive.conftest import Lie, in_scan, oblique
from tests.reports_of_others.dicom_files import enhanced, fields
from tests.trained.conftest import labels
from tests.untrained import untrained

CHECKER = shutil.which("dciodvfy")
MASKS = untrained("mask", "target.classes=[lesion,'\u00d6dem']")


def complaints(path: Path) -> list[str]:
    """Return the errors that the checker of dicom3tools finds in a file."""
    done = subprocess.run(
        [str(CHECKER), str(path)], capture_output=True, text=True, errors="replace", check=False
    )
    assert done.stderr, "the checker said nothing"
    return [line for line in done.stderr.splitlines() if line.startswith("Error")]


def written(
    model: TrainedModel, scan: Path, folder: Path, made: NDArray[np.uint8] | Reading | None = None
) -> tuple[DicomResults, Prediction]:
    """Write results of a series as DICOM: of a reading, or of a mask with every class in it."""
    files = source_of([scan]).files
    voxels, affine = load_series(files)
    grid = Grid.of(voxels.shape, affine)
    one = Input(Scan("A", "p1", "", {model.card.plan.data.source.modalities[0]: scan}), "sub-p1")
    results = DicomResults(folder)
    results.begin(model.card)
    results.check(one)
    if isinstance(made, Reading):
        predicted = Prediction(one, grid, reading=made)
    else:
        random = np.random.default_rng(5)
        n_classes = model.card.plan.target.n_outputs - 1
        mask = random.integers(0, 1 + n_classes, grid.shape).astype(np.uint8)
        predicted = Prediction(one, grid, mask if made is None else made)
    results.add(predicted)
    return results, predicted


LIES = {
    "axial": Lie((0.0, 0.0, 0.0)),
    "sagittal": Lie((90.0, 0.0, 90.0)),
    "oblique": Lie(),
    "upside down": Lie((180.0, 0.0, 5.0)),
    "gantry tilt": Lie(tilt_mm=4.0),
}


@pytest.mark.parametrize("name", LIES)
def test_a_mask_in_dicom_is_the_mask_at_every_voxel(name: str, tmp_path: Path) -> None:
    """However the series lies, each voxel's place in the patient has the class of the mask."""
    scan = oblique(tmp_path / "A/p1", lie=LIES[name])
    results, one = written(MASKS, scan, tmp_path / "out")
    found = in_scan(results.files[0], one.grid.shape, np.array(one.grid.affine))
    assert one.mask is not None
    assert np.array_equal(found, one.mask)
    header, source = pydicom.dcmread(results.files[0]), source_of([scan]).first
    for field in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert header[field].value == source[field].value


def test_frames_of_one_file_keep_their_order(tmp_path: Path) -> None:
    """Frames that are stored against their places get the mask of their own place."""
    path = tmp_path / "A/p1/all.dcm"
    enhanced(path, [3], order=[(0, index) for index in (3, 0, 5, 1, 4, 2)])
    data = pydicom.dcmread(path)
    data.FrameOfReferenceUID = "1.2.3"
    for index, frame in enumerate(data.PerFrameFunctionalGroupsSequence):
        content = pydicom.Dataset()
        content.DimensionIndexValues = [1, 1 + index]
        frame.FrameContentSequence = [content]
    data.save_as(path)
    results, one = written(MASKS, path.parent, tmp_path / "out")
    found = in_scan(results.files[0], one.grid.shape, np.array(one.grid.affine))
    assert one.mask is not None
    assert np.array_equal(found, one.mask)


def test_a_report_has_each_volume_with_its_segment(tmp_path: Path) -> None:
    """Volumes are those of the mask in millilitres; an absent class has none."""
    scan = oblique(tmp_path / "A/p1")
    mask = np.zeros((16, 16, 6), dtype=np.uint8)
    mask[2:5, 3:8, 1] = 1
    results, one = written(MASKS, scan, tmp_path / "out", mask)
    report = pydicom.dcmread(results.files[1])
    numbers = [n for n in every_item(report) if n.get("ValueType") == "NUM"]
    assert [n.ConceptNameCodeSequence[0].CodeMeaning for n in numbers] == ["Volume", "Volume"]
    found = [float(n.MeasuredValueSequence[0].NumericValue) for n in numbers]
    assert found == pytest.approx([15 * 8 * 7 * 12 / 1000, 0.0], rel=1e-3)
    [segmentation] = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in every_item(report)
        if "ReferencedSegmentNumber" in item.get("ReferencedSOPSequence", [{}])[0]
    }
    assert segmentation == pydicom.dcmread(results.files[0]).SOPInstanceUID
    assert one.volumes_ml == pytest.approx(found[:1], rel=1e-4)


def every_item(data: pydicom.Dataset) -> list[pydicom.Dataset]:
    """Return a report's content items at every depth."""
    items = list(data.get("ContentSequence", []))
    return items + [deep for item in items for deep in every_item(item)]


def test_a_report_has_the_probabilities_and_the_likeliest_class(tmp_path: Path) -> None:
    """A scan's probabilities are the mean over its examples, as in the table."""
    scan, model = oblique(tmp_path / "A/p1"), untrained("kind")
    names = model.card.plan.target.outputs
    rows = ((0.2, 0.7, 0.1), (0.4, 0.5, 0.1))
    results, _ = written(model, scan, tmp_path / "out", Reading(2, 0.0, rows))
    items = every_item(pydicom.dcmread(results.files[0]))
    found = {
        i.ConceptNameCodeSequence[0].CodeMeaning: float(i.MeasuredValueSequence[0].NumericValue)
        for i in items
        if i.get("ValueType") == "NUM"
    }
    assert found == pytest.approx(dict(zip(names, (0.3, 0.6, 0.1), strict=True)))
    codes = [i.ConceptCodeSequence[0].CodeMeaning for i in items if "ConceptCodeSequence" in i]
    assert names[1] in codes


@pytest.mark.skipif(CHECKER is None, reason="no dciodvfy: apt install dicom3tools")
@pytest.mark.parametrize("kind", ["mask", "kind", "age"])
def test_an_independent_checker_finds_no_error(kind: str, tmp_path: Path) -> None:
    """Segmentation, report and pictures are what the standard wants, letters of all languages."""
    scan = oblique(tmp_path / "A/p1")
    model = MASKS if kind == "mask" else untrained(kind)
    n_values = model.card.plan.target.n_outputs
    reading = None if kind == "mask" else Reading(1, 0.0, ((1 / n_values,) * n_values,))
    results, _ = written(model, scan, tmp_path / "out", reading)
    kinds = {file.name for file in results.files}
    assert kinds >= ({"seg.dcm"} if kind == "mask" else set()) | {"sr.dcm", "sc-0001.dcm"}
    assert {file.name: complaints(file) for file in results.files} == {name: [] for name in kinds}


def test_pictures_show_the_slices_in_place_with_the_mask_in_colour(tmp_path: Path) -> None:
    """A viewer that reads no segmentation shows where it is: coloured there, gray elsewhere."""
    scan = oblique(tmp_path / "A/p1")
    mask = np.zeros((16, 16, 6), dtype=np.uint8)
    mask[10:, 12:, 4] = 1
    results, _ = written(MASKS, scan, tmp_path / "out", mask)
    pictures = [pydicom.dcmread(path) for path in results.files[2:]]
    assert len(pictures) == 6
    sources = source_of([scan]).headers
    for index, (picture, source) in enumerate(zip(pictures, sources, strict=True)):
        assert picture.ImagePositionPatient == source.ImagePositionPatient
        below = picture.pixel_array[10:].astype(int)  # the warning stands above
        is_coloured = (below.max(axis=2) - below.min(axis=2)) > 20
        assert np.array_equal(is_coloured, mask[:, 10:, index].T == 1)


@pytest.mark.skipif(CHECKER is None, reason="no dciodvfy: apt install dicom3tools")
def test_a_header_of_a_real_scanner_is_enough(tmp_path: Path) -> None:
    """A slice of a hospital's scanner, which pydicom brings along, gets valid results."""
    (tmp_path / "A/p1").mkdir(parents=True)
    shutil.copy(str(get_testdata_file("MR_small.dcm", download=False)), tmp_path / "A/p1/a.dcm")
    results, one = written(MASKS, tmp_path / "A/p1", tmp_path / "out")
    found = in_scan(results.files[0], one.grid.shape, np.array(one.grid.affine))
    assert one.mask is not None
    assert np.array_equal(found, one.mask)
    assert [line for file in results.files for line in complaints(file)] == []


def test_an_absent_package_or_half_an_archive_is_named(
    tuned: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written before it is known that all can be."""
    with pytest.raises(UsageError, match=r"archive and study.*\[U01\]"):
        DicomExchange(source="https://pacs.example/dicom-web")
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(ConfigError, match=r"no highdicom.*fedmri\[archive\].*\[C05\]"):
        predict_dicom(tuned, tmp_path, exchange=DicomExchange(tmp_path / "dicom"))
    assert not (tmp_path / "dicom").exists()


WRONG = {
    "patients": ({"PatientID": "other"}, "D86", "2 numbers"),
    "frames": ({"FrameOfReferenceUID": "1.2.3.4"}, "D87", "2 of them"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_series_of_two_owners_is_refused(name: str, tmp_path: Path) -> None:
    """One slice of another patient or frame of reference is enough; its number is not told."""
    values, code, found = WRONG[name]
    other = fields(**values)
    scan = oblique(tmp_path / "A/p1", then=lambda d, i: other(d, i) if i == 3 else None)
    with pytest.raises(DataError, match=rf"found {found}, want.*\[{code}\]"):
        source_of([scan])


def test_no_frame_of_reference_is_refused(tmp_path: Path) -> None:
    """Nothing says then where a segmentation lies."""

    def without(data: pydicom.FileDataset, _: int) -> None:
        del data.FrameOfReferenceUID

    with pytest.raises(DataError, match=r"found none.*\[D87\]"):
        source_of([oblique(tmp_path / "A/p1", then=without)])


UNFIT = {
    "SliceThickness": ({}, "no SliceThickness"),
    "PatientBirthDate": ({"PatientBirthDate": "31.12.1970"}, "a value of PatientBirthDate that"),
    "ReferringPhysicianName": ({"ReferringPhysicianName": "Roe\\Doe"}, "a value of Referring"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_header_that_does_not_fit_is_told_without_its_values(name: str, tmp_path: Path) -> None:
    """The field is named; what stands in it may name a person, and is not told."""
    values, found = UNFIT[name]

    def edit(data: pydicom.FileDataset, index: int) -> None:
        fields(**values)(data, index)
        if not values:
            delattr(data, name)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, about the value
        scan = oblique(tmp_path / "A/p1", then=edit)
    with pytest.raises(DataError, match=rf"found {found}.*\[D85\]") as error:
        written(MASKS, scan, tmp_path / "out")
    assert not any(value in str(error.value) for value in ("1970", "Roe"))


def test_folders_for_results_are_refused_before_one_is_made(
    tuned: TrainedModel, tmp_path: Path
) -> None:
    """A folder for DICOM may lie in that of the derivative; one that is full stops both."""
    scan = oblique(tmp_path / "A/p1")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "old.dcm").touch()
    with pytest.raises(UsageError, match=r"folder .*full.*\[U20\]"):
        predict_dicom(tuned, scan, exchange=DicomExchange(tmp_path / "full"), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    within = DicomExchange(tmp_path / "out" / "dicom")
    assert len(predict_dicom(tuned, scan, exchange=within, out=tmp_path / "out").files) > 1


def test_what_is_refused_is_left_out_and_the_rest_is_written(
    tuned: TrainedModel, tmp_path: Path
) -> None:
    """A file that is no DICOM and another patient are named; nothing of them is written."""
    good = oblique(tmp_path / "A/p1")
    oblique(tmp_path / "A/p2", 2, then=fields(PatientID="other"))
    nifti = tmp_path / "sub-9_FLAIR.nii.gz"
    shutil.copyfile(next(iter(_nifti(tuned, good, tmp_path / "first"))), nifti)
    number = pydicom.dcmread(next(good.iterdir())).PatientID
    exchange = DicomExchange(tmp_path / "dicom", patient=number)
    made = predict_dicom(tuned, tmp_path / "A", nifti, exchange=exchange, out=tmp_path / "out")
    assert sorted(one.code for one in made.predictions.left_out) == ["D85", "D86"]
    assert {path.parent.name for path in made.files} == {"sub-p1"}
    [mask] = made.predictions.files
    image = labels(mask)
    found = in_scan(made.files[0], image.shape, np.asarray(image.affine))
    assert np.array_equal(found, np.asarray(image.dataobj))
    assert 0 < found.mean() < 1


def _nifti(model: TrainedModel, scan: Path, out: Path) -> tuple[Path, ...]:
    return model.predict(scan, out=out).files
