"""Reports of others about BIDS and NIfTI files: the right pair, place and value."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fedmri.tasks.kinds.regression import Regression
from fedmri.tasks.kinds.segmentation import Segmentation
from tests.data.worlds import save
from tests.reports_of_others.bids_worlds import (
    AFFINE,
    BRIGHT,
    LESION,
    OF_HEADS,
    SHAPE,
    add,
    codes,
    head,
    image_path,
    lesion,
    looked_at,
    mask_path,
    prepared,
    save_form,
    under_lesion,
    world,
)

N_VOXELS = int(lesion().sum())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a good data set of three subjects."""
    world(tmp_path)
    return tmp_path


def two_runs(root: Path, first: str, second: str, *masks: str) -> None:
    """Give subject a a dark image, then the one that was drawn on, and masks by these names."""
    image_path(root, "a").unlink()
    mask_path(root, "a").unlink()
    save(image_path(root, "a", f"{first}_T1w".strip("_")), head(7)[::-1], AFFINE)
    save(image_path(root, "a", f"{second}_T1w".strip("_")), head(8), AFFINE)
    for name in masks:
        save(mask_path(root, "a", name), lesion(), AFFINE)


@pytest.mark.parametrize(
    ("first", "second", "mask"),
    [
        ("run-1", "run-2", "run-2_mask"),
        ("run-01", "run-02", "run-2_mask"),
        ("", "run-2", "run-2_mask"),
        ("acq-fast", "acq-slow", "acq-slow_mask"),
        ("rec-a", "rec-b", "rec-b_label-lesion_mask"),
        ("acq-x_run-1", "acq-x_run-2", "acq-x_run-2_mask"),
        ("run-1", "run-2", "run-2_space-orig_mask"),
    ],
)
def test_a_mask_goes_with_the_image_whose_entities_it_has(
    first: str, second: str, mask: str, root: Path
) -> None:
    """Only the kept run has a mask, so it is the one that is read.

    Source: PeerHerholz/BIDSonym#72 (a mask of another run), ExploreASL/ExploreASL#628.
    """
    two_runs(root, first, second, mask)
    assert under_lesion(prepared(root), "a") == (BRIGHT, N_VOXELS)
    assert codes(looked_at(root), "a") == {"D25": False}


@pytest.mark.parametrize(
    ("first", "second", "masks"),
    [
        ("run-1", "run-2", ["mask"]),
        ("acq-fast", "acq-slow", ["mask"]),
        ("run-1", "run-2", ["run-3_mask"]),
        ("run-1", "run-2", ["space-MNI152_mask"]),
        ("run-1", "run-2", ["run-2_mask", "run-2_desc-b_mask"]),
    ],
)
def test_a_mask_that_fits_no_image_or_several_is_not_guessed(
    first: str, second: str, masks: list[str], root: Path
) -> None:
    """The subject is left out with the reason, and the others stay.

    Source: nilearn/nistats#134 (several files for one session and no run to tell them apart).
    """
    two_runs(root, first, second, *masks)
    table = looked_at(root)
    assert codes(table, "a")["D55"]
    assert {scan.subject for scan in table.scans} == {"b", "c"}


def test_one_file_that_is_two_modalities_is_told_by_name(root: Path) -> None:
    """It counts as the one that names most of it; the other channel is empty, and that is said."""
    image_path(root, "a").rename(image_path(root, "a", "acq-fast_T1w"))
    table = looked_at(root, modalities=("T1w", "acq-fast_T1w"))
    scan = next(scan for scan in table.scans if scan.subject == "a")
    assert list(scan.images) == ["acq-fast_T1w"]
    assert codes(table, "a") == {"D56": False}
    assert any("T1w and acq-fast_T1w" in finding.reason for finding in table.findings)


def test_two_modalities_with_one_image_are_told_by_name(root: Path) -> None:
    """A FLAIR that is a copy of the T1w shows the network one contrast twice."""
    image_path(root, "a", "FLAIR").write_bytes(image_path(root, "a").read_bytes())
    table = looked_at(root, modalities=("T1w", "FLAIR"))
    assert codes(table, "a") == {"D56": False}
    assert any("T1w and FLAIR are one image" in finding.reason for finding in table.findings)


@pytest.mark.parametrize("axes", ["LPS", "LAS", "PSR", "SRA", "IPL", "ARS"])
def test_a_mask_in_another_order_of_axes_lies_where_it_lies(axes: str, root: Path) -> None:
    """A viewer stored the mask in its own order, with the right affine for it.

    Source: dorianps/LESYMAP#29 and #39 (masks refused for their directions),
    gjheij/linescanning#5 (PSR beside RAS).
    """
    mask = nib.Nifti1Image.from_filename(mask_path(root, "a"))
    order = nib.orientations.axcodes2ornt(axes)
    turn = nib.orientations.ornt_transform(nib.io_orientation(mask.affine), order)
    nib.save(mask.as_reoriented(turn), mask_path(root, "a"))
    assert under_lesion(prepared(root), "a") == (BRIGHT, N_VOXELS)
    assert not any(codes(looked_at(root), "a").values())


def test_modalities_on_their_own_grids_share_a_mask_on_one_of_them(root: Path) -> None:
    """The mask was drawn on the FLAIR, which has another grid than the T1w.

    Source: AIM-Harvard/pyradiomics#482 (grids that differ, one place in the world).
    """
    half = np.diag([1.0, 1.0, 1.0, 1.0])
    half[:3, 3] = -0.5  # the same box in voxels of half the size
    fine = head(9).repeat(2, axis=0).repeat(2, axis=1).repeat(2, axis=2)
    save(image_path(root, "a", "FLAIR"), fine, half)
    save(mask_path(root, "a"), lesion().repeat(2, 0).repeat(2, 1).repeat(2, 2), half)
    modalities = ("FLAIR", "T1w")
    assert not any(codes(looked_at(root, modalities=modalities), "a").values())
    value, count = under_lesion(prepared(root, modalities=modalities), "a")
    assert (value, count) == (BRIGHT, 8 * N_VOXELS)


@pytest.mark.parametrize("has_form", [(False, False), (False, True), (True, False)])
def test_a_header_that_does_not_say_left_and_right_turns_nothing(
    has_form: tuple[bool, bool], root: Path
) -> None:
    """Without both codes, libraries take the array for LAS; here its order is kept and it is said.

    Source: nipy/nibabel#522, spinalcordtoolbox/spinalcordtoolbox#4134.
    """
    for is_placed, path, array in zip(
        has_form,
        (image_path(root, "a"), mask_path(root, "a")),
        (head(0), lesion()),
        strict=True,
    ):
        form = np.diag([-2.0, 2, 2, 1])  # says that the array runs to the left
        forms = {"sform": form, "qform": form} if is_placed else {"codes": (0, 0)}
        save_form(path, array, **forms)  # type: ignore[arg-type]
    assert under_lesion(prepared(root), "a") == (BRIGHT, N_VOXELS)
    assert codes(looked_at(root), "a")["D57"] is False
    scan = next(scan for scan in prepared(root).scans if scan.subject == "a")
    if not any(has_form):
        assert np.array_equal(np.load(scan.label), lesion())  # type: ignore[arg-type]


HEADERS = {
    "2 mm by sform, 5 mm by pixdim": ({"pixdim": (5, 5, 5), "codes": (1, 0)}, "D57", True),
    "one axis three times as long": ({"pixdim": (2, 2, 6), "codes": (1, 0)}, "D57", True),
    "5 % apart": ({"pixdim": (2.1, 2.1, 2.1), "codes": (2, 0)}, "D57", False),
    "forms turned by 90 degrees": ({"qform": AFFINE[:, [1, 2, 0, 3]]}, "D57", True),
    "forms 12 mm apart": ({"qform": AFFINE + 12 * np.eye(4, k=3)}, "D57", False),
    "micron for mm": ({"units": "micron"}, "D12", True),
    "metre for mm": ({"units": "meter"}, "D12", True),
    "0.005 mm": (
        {"sform": np.diag([0.005, 0.005, 0.005, 1]), "pixdim": (0.005,) * 3, "codes": (1, 0)},
        "D12",
        True,
    ),
    "sheared by 30 degrees": (
        {"sform": AFFINE + np.eye(4, k=1) * 1.15, "codes": (1, 0)},
        "D12",
        True,
    ),
    "no size of voxels at all": ({"pixdim": (0, 0, 0), "codes": (0, 0)}, "D12", True),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_contradicts_itself_is_never_followed_in_silence(
    name: str, root: Path
) -> None:
    """Where no one place is right the scan is left out, else what counts is said.

    Source: MRtrix3/mrtrix3#94 and InsightSoftwareConsortium/ITK#3514 (sform against qform and
    pixdim), nipreps/fmriprep#786 and InsightSoftwareConsortium/ITK#4595 (units),
    InsightSoftwareConsortium/ITK#4839 and ANTsX/ANTs#1675 (shear).
    """
    header, code, is_excluded = HEADERS[name]
    save_form(image_path(root, "a"), head(0), **header)  # type: ignore[arg-type]
    assert codes(looked_at(root, Regression("age")), "a")[code] is is_excluded


@pytest.mark.parametrize(("units", "factor"), [("micron", 1e3), ("meter", 1e-3)])
def test_the_unit_of_a_header_is_honoured(units: str, factor: float, root: Path) -> None:
    """2000 micron and 0.002 m are 2 mm: the scan lies as those of its site do.

    Source: nipreps/fmriprep#786, nipy/nibabel#567.
    """
    scaled = np.diag([2 * factor] * 3 + [1])
    for path, array in ((image_path(root, "a"), head(0)), (mask_path(root, "a"), lesion())):
        sizes = (2 * factor,) * 3
        save_form(path, array, sform=scaled, codes=(1, 0), pixdim=sizes, units=units)
    assert codes(looked_at(root), "a") == {}
    scan = next(scan for scan in prepared(root).scans if scan.subject == "a")
    assert scan.spacing_mm == pytest.approx((2, 2, 2))


def scaled_mask(path: Path, slope: float, stored: int) -> None:
    """Write a mask whose voxels are 1 only after scaling by the header."""
    image = nib.Nifti1Image(lesion() * np.uint8(stored), AFFINE)
    image.header.set_slope_inter(slope, 0)
    raw = bytearray(image.to_bytes())
    raw[112:116] = np.float32(slope).tobytes()  # nibabel would write 1
    path.write_bytes(gzip.compress(bytes(raw)))


@pytest.mark.parametrize(
    ("slope", "stored"), [(0.999999, 1), (1 / 255, 255), (0.0333333, 30), (1.0000004, 1)]
)
def test_a_label_that_is_nearly_whole_is_whole(slope: float, stored: int, root: Path) -> None:
    """Scaling in the header gives 0.999999 for 1.

    Source: nipreps/petprep#152, spinalcordtoolbox/spinalcordtoolbox#4346, nipy/nibabel#1001.
    """
    scaled_mask(mask_path(root, "a"), slope, stored)
    assert under_lesion(prepared(root), "a") == (BRIGHT, N_VOXELS)


def test_a_label_that_lies_between_classes_is_refused(root: Path) -> None:
    """0.9882 is no class: the file was scaled for a picture.

    Source: TorchIO-project/torchio#220.
    """
    save(mask_path(root, "a"), lesion() * np.float32(0.9882), AFFINE)
    assert codes(looked_at(root), "a") == {"D15": True}


VALUES = {
    "2 alone": ([2], (), False),
    "1 and 2": ([1, 2], (), False),
    "255": ([255], (), True),
    "1 and 255": ([1, 255], (), False),
    "2 alone, declared": ([2], ("1:lesion", "2:lesion"), True),
    "1, 2 and 4, merged": ([1, 2, 4], ("*:lesion",), True),
    "4 as background": ([1, 4], ("1:lesion", "4:background"), True),
    "an undeclared value": ([1, 3], ("1:lesion", "2:lesion"), False),
}


@pytest.mark.parametrize("name", VALUES)
def test_one_rule_says_what_values_of_a_mask_mean(name: str, root: Path) -> None:
    """It looks at no scan's own values: 2 alone and 1 with 2 are the same to it.

    Source: Rubics-Xuan/TransBTS#59, MIC-DKFZ/nnUNet#439, Project-MONAI/tutorials#1355.
    """
    values, labels, is_used = VALUES[name]
    places = np.flatnonzero(lesion())
    mask = np.zeros(SHAPE, np.uint8)
    for number, value in enumerate(values):
        mask.flat[places[number :: len(values)]] = value
    save(mask_path(root, "a"), mask, AFFINE)
    table = looked_at(root, Segmentation("mask", ("lesion",), labels))
    assert ("a" in {scan.subject for scan in table.scans}) is is_used
    assert codes(table, "a").get("D15", False) is not is_used


def test_values_of_brats_become_the_classes_that_are_declared(root: Path) -> None:
    """1, 2 and 4 are core, oedema and enhancing tumour, whatever their numbers."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[1], mask[2], mask[3] = 1, 2, 4
    save(mask_path(root, "a"), mask, AFFINE)
    target = Segmentation("mask", ("oedema", "tumour"), ("1:tumour", "2:oedema", "4:tumour"))
    scan = next(scan for scan in prepared(root, target).scans if scan.subject == "a")
    label = np.load(scan.label)  # type: ignore[arg-type]
    assert [int(label[i].max()) for i in (1, 2, 3)] == [2, 1, 2]


def padded_with_nan(root: Path) -> None:
    """Leave the border without a value, as a resampling does."""
    image = np.full(SHAPE, np.nan, np.float32)
    image[1:-1, 1:-1, 1:-1] = head(0)[1:-1, 1:-1, 1:-1]
    save(image_path(root, "a"), image, AFFINE)


def hole_of_nan(root: Path) -> None:
    """Leave a hole in the middle of the head without a value."""
    image = head(0).astype(np.float32)
    image[6:9, 6:9, 6:9] = np.nan
    save(image_path(root, "a"), image, AFFINE)


def one_frame(root: Path) -> None:
    """Store the image as a time series of one frame."""
    save(image_path(root, "a"), head(0)[..., None, None], AFFINE)


def scaled_image(root: Path) -> None:
    """Store the image in bytes with a slope and an intercept."""
    image = nib.Nifti1Image(head(0).astype(np.float32), AFFINE)
    image.set_data_dtype(np.uint8)
    nib.save(image, image_path(root, "a"))


def pair(root: Path) -> None:
    """Store the image as .hdr and .img."""
    path = image_path(root, "a")
    path.unlink()
    nib.save(nib.Nifti1Pair(head(0), AFFINE), str(path).replace(".nii.gz", ".img"))


def mgz(root: Path) -> None:
    """Store the image as FreeSurfer does."""
    path = image_path(root, "a")
    path.unlink()
    image = nib.MGHImage(head(0).astype(np.float32), AFFINE)
    nib.save(image, str(path).replace(".nii.gz", ".mgz"))


def pointer(text: str) -> Callable[[Path], None]:
    """Return what leaves a small text file in place of the image."""
    return lambda root: (image_path(root, "a").write_text(text), None)[1]


def annexed(root: Path) -> None:
    """Leave a link into the annex, whose content was never fetched."""
    path = image_path(root, "a")
    path.unlink()
    path.symlink_to("../../.git/annex/objects/qF/8V/MD5E-s1896--43.nii.gz/MD5E-s1896--43.nii.gz")


def cut(root: Path) -> None:
    """Break the download off."""
    path = image_path(root, "a")
    path.write_bytes(path.read_bytes()[:-200])


FILES: dict[str, tuple[Callable[[Path], None], str, bool]] = {
    "NaN in the padding": (padded_with_nan, "D74", False),
    "NaN inside the head": (hole_of_nan, "D09", True),
    "one frame": (one_frame, "", False),
    "bytes with a slope": (scaled_image, "", False),
    "pair of hdr and img": (pair, "D73", True),
    "mgz": (mgz, "D73", True),
    "Git LFS": (
        pointer("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"),
        "D58",
        True,
    ),
    "git-annex, unlocked": (pointer("/annex/objects/MD5E-s1896--43.nii.gz\n"), "D58", True),
    "git-annex, a link": (annexed, "D58", True),
    "a link as text": (pointer("../../.git/annex/objects/qF/8V/MD5E-s1/MD5E-s1"), "D58", True),
    "truncated gzip": (cut, "D07", True),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_or_named_with_one_code(name: str, root: Path) -> None:
    """What can be read is used, with a word where it was odd; what cannot costs one scan.

    Source: datalad/datalad#3513 and ReproNim/reproin#69 (links without content),
    deepmedic/deepmedic#213 (NaN around the head), nipy/nibabel#480 (slopes).
    """
    spoil, code, is_excluded = FILES[name]
    spoil(root)
    table = looked_at(root, Regression("age"))
    assert codes(table, "a") == ({code: is_excluded} if code else {})
    assert {"b", "c"} <= {scan.subject for scan in table.scans}


def test_a_pointer_says_the_command_that_fetches_it(root: Path) -> None:
    """The finding names git annex or git lfs, not a damaged file."""
    annexed(root)
    text = " ".join(finding.reason for finding in looked_at(root).findings)
    assert "git annex get" in text


def test_a_good_data_set_says_nothing(root: Path) -> None:
    """None of the above passes because everything is found odd."""
    add(root, "a", 0)
    assert {finding.code for finding in looked_at(root, LESION).findings} <= OF_HEADS
