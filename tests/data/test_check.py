"""The preflight keeps what can be trained on and stops where too little, or a copy, is left."""

from __future__ import annotations

import csv
import hashlib
import math
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from fedmri.data.checks.check import check, enforce, examine
from fedmri.data.checks.manifest import HEADER, findings_table, used_by_site, write_manifest
from fedmri.data.files.volume import load_label
from fedmri.data.read import read
from fedmri.data.scans import Finding, Scan, ScanTable
from fedmri.data.settings import CheckConfig, SourceConfig
from fedmri.data.target import LabelMap
from fedmri.errors import CODES, DataError
from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.kinds.regression import Regression
from fedmri.tasks.kinds.segmentation import Segmentation
from tests.conftest import program
from tests.data.worlds import (
    add_subject,
    bids_rows,
    bids_world,
    image_rows,
    image_world,
    mask,
    mask_path,
    picture,
    save,
    save_picture,
    scan_path,
    write_table,
)

DATA = os.environ.get("FEDMRI_TEST_DATA", "")
real_data = pytest.mark.skipif(not DATA, reason="FEDMRI_TEST_DATA is not set")

CLASSES = Classification("class", ("one", "two"))
MASKS = Segmentation("mask", ("tumour",))
AGE = Regression("age")
EXCLUDE = CheckConfig(duplicates="exclude")


def images(root: Path, config: CheckConfig = EXCLUDE) -> ScanTable:
    """Examine a folder of pictures."""
    return examine(read(SourceConfig(path=str(root))), CLASSES, config, ("T1w",))


def keys(table: ScanTable) -> list[str]:
    """Return the names of the scans that are used."""
    return [scan.key for scan in table.scans]


def lost(n_lost: int, n_found: int, code: str = "D07") -> ScanTable:
    """Return a table of site A that lost scans for one reason."""
    kept = [Scan("A", f"s{index}", "", {}) for index in range(n_found - n_lost)]
    gone = [Finding(code, "why", "A", f"x{index}") for index in range(n_lost)]
    return ScanTable(tuple(kept), tuple(gone), {"A": n_found})


def test_a_site_may_lose_its_share_and_not_one_more() -> None:
    """Of ten scans and a share of 0.2, two may go; the third stops everything."""
    enforce(lost(2, 10), CheckConfig())
    with pytest.raises(DataError, match=r"A lost 3 of 10 \(3 x a file cannot be read \[D07\]\)"):
        enforce(lost(3, 10), CheckConfig())


def test_what_is_left_out_by_choice_is_no_loss() -> None:
    """Copies that a setting leaves out may be most of a site."""
    enforce(lost(9, 10, "D20"), EXCLUDE)


def test_nothing_left_is_an_error_that_says_why() -> None:
    """The commonest reasons stand in the message."""
    with pytest.raises(DataError, match=r"found none \(4 x .*\[D07\]; such as: why\).*\[D01\]"):
        enforce(lost(4, 4), CheckConfig(max_excluded=1.0))


def test_copies_are_refused_until_the_setting_says_what_to_do(tmp_path: Path) -> None:
    """The message counts them by kind and site and names the manifest and the setting."""
    image_world(tmp_path)
    shutil.copy(tmp_path / "A/one/g0.png", tmp_path / "B/one/xbad.png")
    table = read(SourceConfig(path=str(tmp_path)))
    with pytest.raises(DataError, match=r"1 x .*\[D19\], at 1 x B.*manifest.*exclude.*\[D03\]"):
        check(table, CLASSES, CheckConfig(), ("T1w",))
    assert "p-xbad_xbad" not in keys(check(table, CLASSES, EXCLUDE, ("T1w",)))
    warned = check(table, CLASSES, CheckConfig(duplicates="warn"), ("T1w",))
    assert len(warned.scans) == 5
    assert [(f.code, f.is_excluded) for f in warned.findings] == [("D19", False)]


def test_of_copies_the_first_site_keeps_its_own(tmp_path: Path) -> None:
    """Whatever order files were written in, site A keeps the image and site B loses it."""
    image_world(tmp_path)
    shutil.copy(tmp_path / "B/one/g2.png", tmp_path / "A/one/g0.png")
    table = images(tmp_path)
    assert [(f.code, f.site, f.subject) for f in table.findings] == [
        ("D67", "B", ""),  # a third of the site is more than may be lost without a word
        ("D19", "B", "p-g2"),
    ]
    assert used_by_site(table) == {"A": (2, 2), "B": (2, 3)}


def test_copies_of_one_subject_are_no_finding(tmp_path: Path) -> None:
    """Neighbouring slices of a patient are alike, and stay together anyway."""
    image_world(tmp_path)
    shutil.copy(tmp_path / "B/one/g2.png", tmp_path / "B/one/xbad.png")
    rows = image_rows(["one/g2.png", "two/g3.png", "one/xbad.png"])
    rows[2]["patient"] = "p-g2"
    write_table(tmp_path / "B", rows)
    assert images(tmp_path).findings == ()


def test_the_subject_that_stays_keeps_all_of_its_scans(tmp_path: Path) -> None:
    """Two slices of a patient in site A are copied in site B: the copy goes, not a slice."""
    image_world(tmp_path)
    for name in ("A/one/more.png", "B/one/g2.png"):
        shutil.copy(tmp_path / "A/one/g0.png", tmp_path / name)
    rows = image_rows(["one/g0.png", "two/g1.png", "one/more.png"])
    rows[2]["patient"] = "p-g0"
    write_table(tmp_path / "A", rows)
    table = images(tmp_path)
    assert [f.subject for f in table.findings if f.is_excluded] == ["p-g2"]
    assert used_by_site(table) == {"A": (3, 3), "B": (2, 3)}


def test_contradicting_copies_all_go(tmp_path: Path) -> None:
    """Nobody knows which of two classes one image has."""
    image_world(tmp_path)
    shutil.copy(tmp_path / "A/one/g0.png", tmp_path / "B/two/g3.png")
    table = images(tmp_path)
    assert [(f.code, f.subject) for f in table.findings if f.is_excluded] == [
        ("D21", "p-g0"),
        ("D21", "p-g3"),
    ]


def test_a_class_that_a_site_lacks_is_reported(tmp_path: Path) -> None:
    """Site A has lost its only picture of class two."""
    image_world(tmp_path)
    (tmp_path / "A/two/g1.png").write_bytes(b"")
    absent = [f for f in images(tmp_path).findings if f.code == "D23"]
    assert [(f.site, f.reason, f.is_excluded) for f in absent] == [
        ("A", "no scan of class two", False)
    ]


def test_subjects_listed_by_hand_are_left_out_unopened(tmp_path: Path) -> None:
    """Even one whose file cannot be read."""
    image_world(tmp_path)
    (tmp_path / "B/one/xbad.png").write_bytes(b"")
    table = images(tmp_path, replace(EXCLUDE, exclude=("p-xbad",)))
    assert [f.code for f in table.findings] == ["D31"]


@pytest.mark.parametrize("age", ["", "n/a", "old", "inf", "nan", "1e999", "4,5"])
def test_what_is_no_number_cannot_be_predicted(age: str, tmp_path: Path) -> None:
    """A missing or infinite age leaves its subject out."""
    bids_world(tmp_path)
    rows = bids_rows(["g0", "g1", "g2", "g3", "xbad"])
    rows[-1]["age"] = age
    write_table(tmp_path, rows)
    table = examine(read(SourceConfig(path=str(tmp_path))), AGE, EXCLUDE, ("T1w",))
    assert [(f.code, f.subject) for f in table.findings] == [("D16", "xbad")]


def test_a_mistyped_target_says_what_there_is(tmp_path: Path) -> None:
    """Nothing is left, and the message lists the labels."""
    bids_world(tmp_path)
    table = read(SourceConfig(path=str(tmp_path)))
    target = Segmentation("maks", ("tumour",))
    with pytest.raises(DataError, match=r"no label 'maks' among manual/mask, mask\).*\[D01\]"):
        check(table, target, EXCLUDE, ("T1w",))


@pytest.mark.parametrize("value", [1, 255])
def test_a_mask_may_have_any_single_value(value: int, tmp_path: Path) -> None:
    """Masks of 0 and 255 are as common as those of 0 and 1."""
    save(tmp_path / "m.nii.gz", mask(0) * np.uint8(value))
    labels, _ = load_label(tmp_path / "m.nii.gz", MASKS.label_map)
    assert np.array_equal(labels, mask(0))


def test_declared_classes_are_kept_as_they_stand(tmp_path: Path) -> None:
    """Of three declared classes, 2 stays 2 though 1 and 3 are not there."""
    save(tmp_path / "m.nii.gz", mask(0) * np.uint8(2))
    labels, _ = load_label(tmp_path / "m.nii.gz", LabelMap("mask", ("a", "b", "c")))
    assert set(np.unique(labels)) == {0, 2}


def test_an_empty_mask_is_used(tmp_path: Path) -> None:
    """A patient without a tumour is a patient."""
    bids_world(tmp_path)
    save(mask_path(tmp_path, "g0"), np.zeros((16, 16, 16), np.uint8))
    table = examine(read(SourceConfig(path=str(tmp_path))), MASKS, EXCLUDE, ("T1w",))
    assert (len(table.scans), table.findings) == (5, ())


def test_the_manifest_names_every_scan_and_every_finding(tmp_path: Path) -> None:
    """Used scans have no code; a name with tabs and line breaks stays on its line."""
    table = ScanTable(
        (Scan("A", "s", "1", {}),),
        (Finding("D07", "two\nlines\tand a tab \udcff", "A", "x"), Finding("D26", "odd", "A")),
        {"A": 2},
    )
    table = replace(
        table, findings=(table.findings[0], replace(table.findings[1], is_excluded=False))
    )
    write_manifest(tmp_path / "manifest.tsv", table)
    lines = (tmp_path / "manifest.tsv").read_text().splitlines()
    rows = list(csv.reader(lines, delimiter="\t"))
    assert [tuple(row) for row in rows] == [
        HEADER,
        ("A", "", "", "D26", "no", "odd"),
        ("A", "s", "1", "", "no", ""),
        ("A", "x", "", "D07", "yes", "two lines and a tab  "),
    ]
    (first, second) = findings_table(table)
    assert (first.code, first.title, first.count, first.n_excluded) == ("D07", CODES["D07"], 1, 1)
    assert (second.code, second.count, second.n_excluded) == ("D26", 1, 0)


def test_the_same_folder_gives_the_same_table(tmp_path: Path) -> None:
    """Threads finish in any order; the result does not show it."""
    image_world(tmp_path)
    shutil.copy(tmp_path / "A/one/g0.png", tmp_path / "B/one/xbad.png")
    assert images(tmp_path) == images(tmp_path)


def test_volumes_are_fingerprinted_too(tmp_path: Path) -> None:
    """A subject renamed is found by its file, whatever its number of the session."""
    bids_world(tmp_path)
    add_subject(tmp_path, "z", 0)
    write_table(tmp_path, bids_rows(["g0", "g1", "g2", "g3", "xbad", "z"]))
    table = examine(read(SourceConfig(path=str(tmp_path))), MASKS, EXCLUDE, ("T1w",))
    assert [(f.code, f.subject) for f in table.findings] == [("D19", "z")]
    assert scan_path(tmp_path, "z").exists()


@real_data
def test_lgg_is_clean() -> None:
    """No false alarm on 96 real patients: no copies, no CT, every mask fits."""
    source = SourceConfig(path=f"{DATA}/lgg-bids", modalities=("FLAIR",))
    table = check(read(source), MASKS, CheckConfig(), source.modalities)
    assert (len(table.scans), table.findings) == (96, ())


@real_data
def test_ixi_lacks_the_age_of_some() -> None:
    """The subjects whose row has no age are left out, and nothing else is."""
    source = SourceConfig(path=f"{DATA}/ixi-hh-bids")
    table = check(read(source), AGE, CheckConfig(), source.modalities)
    lines = Path(source.path, "participants.tsv").read_text().splitlines()[1:]
    ageless = sorted(line.split("\t")[0][4:] for line in lines if line.split("\t")[2] == "n/a")
    assert [f.subject for f in table.findings] == ageless
    assert all(math.isfinite(float(scan.columns["age"])) for scan in table.scans)
    assert used_by_site(table) == {"HH": (185 - len(ageless), 185)}


def byte_copies(scans: tuple[Scan, ...]) -> set[str]:
    """Return the keys of scans whose file's bytes an earlier scan has, by hashing every file."""
    seen: set[str] = set()
    copies: set[str] = set()
    for scan in scans:
        digest = hashlib.md5(scan.images["T1w"].read_bytes(), usedforsecurity=False).hexdigest()
        copies |= {scan.key} & ({scan.key} if digest in seen else set())
        seen.add(digest)
    return copies


@real_data
@pytest.mark.slow
def test_byte_copies_within_a_real_site_are_found_exactly() -> None:
    """Every file of SARTAJ that another has is left out, and no other is called such a copy."""
    source = SourceConfig(path=f"{DATA}/tumor2d/sartaj")
    target = Classification("class", ("glioma", "meningioma", "pituitary", "notumor"))
    table = read(source)
    checked = examine(table, target, EXCLUDE, source.modalities)
    found = {f"{f.subject}_{f.session}" for f in checked.findings if f.code == "D19"}
    doubted = {f"{f.subject}_{f.session}" for f in checked.findings if f.code == "D21"}
    truth = byte_copies(table.scans)
    assert found == truth - doubted
    left = byte_copies(checked.scans)
    assert left == set()


@real_data
@pytest.mark.slow
def test_copies_of_one_real_site_in_another_are_found() -> None:
    """SARTAJ holds more than 2,300 images of Cheng; no two patients of Cheng are confused."""
    source = SourceConfig(path=f"{DATA}/tumor2d", sites=("cheng", "sartaj"))
    target = Classification("class", ("glioma", "meningioma", "pituitary"))
    table = read(source)
    with pytest.raises(DataError, match=r"data\.check\.duplicates=exclude.*\[D03\]"):
        check(table, target, CheckConfig(max_excluded=1.0), source.modalities)
    checked = examine(table, target, EXCLUDE, source.modalities)
    counts = Counter((f.code, f.site) for f in checked.findings)
    assert 2300 < counts["D20", "sartaj"] + counts["D21", "sartaj"] < 2400
    assert counts["D20", "cheng"] == counts["D19", "cheng"] == counts["D22", "cheng"] == 0


def test_a_class_folder_of_noise_has_no_near_copies(tmp_path: Path) -> None:
    """Fifty different pictures stay fifty."""
    for seed in range(50):
        save_picture(tmp_path / "A" / ("one", "two")[seed % 2] / f"{seed}.png", picture(seed))
    assert len(images(tmp_path).scans) == 50


def three_hospitals(root: Path, n_subjects: int = 4) -> None:
    """Write three hospitals that each number their patients from 1."""
    seed = 0
    for site in "ABC":
        names = [f"{'one' if i % 2 else 'two'}/img{i}.png" for i in range(1, n_subjects + 1)]
        for name in names:
            save_picture(root / site / name, picture(seed))
            seed += 1
        rows = [{"file": name, "patient": str(i + 1)} for i, name in enumerate(names)]
        write_table(root / site, rows)


def test_equal_numbers_at_three_hospitals_are_different_patients(tmp_path: Path) -> None:
    """All twelve are used under the strictest setting, and the shared names are said."""
    three_hospitals(tmp_path)
    table = read(SourceConfig(path=str(tmp_path)))
    checked = check(table, CLASSES, CheckConfig(duplicates="refuse"), ("T1w",))
    assert used_by_site(checked) == {"A": (4, 4), "B": (4, 4), "C": (4, 4)}
    assert [(f.code, f.is_excluded) for f in checked.findings] == [("D62", False)]


def test_a_copy_under_the_same_number_at_another_hospital_is_found(tmp_path: Path) -> None:
    """Equal names of two hospitals hide no equal image."""
    three_hospitals(tmp_path)
    shutil.copy(tmp_path / "A/one/img1.png", tmp_path / "B/one/img1.png")
    found = [(f.code, f.site, f.subject) for f in images(tmp_path).findings if f.is_excluded]
    assert found == [("D19", "B", "1")]


def test_a_key_that_all_hospitals_share_names_one_patient(tmp_path: Path) -> None:
    """The declared column joins them, and whoever is at two hospitals stays at the first."""
    three_hospitals(tmp_path)
    for site in "ABC":
        path = tmp_path / site / "participants.tsv"
        head, *lines = path.read_text().splitlines()
        keyed = [
            f"{line}\tkey-{site if line.endswith('2') else 'both'}-{i}"
            for i, line in enumerate(lines)
        ]
        path.write_text("\n".join([f"{head}\tkey", *keyed]) + "\n")
    table = read(SourceConfig(path=str(tmp_path), key_column="key"))
    with pytest.raises(DataError, match=r"6 x .*\[D17\].*D03"):
        check(table, CLASSES, CheckConfig(), ("T1w",))
    kept = examine(table, CLASSES, EXCLUDE, ("T1w",))
    assert used_by_site(kept) == {"A": (4, 4), "B": (1, 4), "C": (1, 4)}


def test_a_hospital_that_a_setting_drops_whole_stops_the_run(tmp_path: Path) -> None:
    """Site B is a mirror of A: to keep one copy of each would leave B out without a word."""
    image_world(tmp_path)
    shutil.rmtree(tmp_path / "B")
    shutil.copytree(tmp_path / "A", tmp_path / "B")
    table = images(tmp_path)
    with pytest.raises(DataError, match=r"B lost all of its 2 \(2 x .*\[D19\]\).*\[D64\]"):
        enforce(table, EXCLUDE)
    only_a = read(SourceConfig(path=str(tmp_path), sites=("A",)))
    assert len(check(only_a, CLASSES, EXCLUDE, ("T1w",)).scans) == 2


def test_a_name_to_leave_out_that_fits_three_patients_is_refused(tmp_path: Path) -> None:
    """Only the site says which of the patients with number 1 is meant."""
    three_hospitals(tmp_path)
    with pytest.raises(DataError, match=r"1, a name at A, B, C.*write A/1 or B/1.*\[D65\]"):
        images(tmp_path, replace(EXCLUDE, exclude=("1",)))
    table = images(tmp_path, replace(EXCLUDE, exclude=("B/1",)))
    assert used_by_site(table) == {"A": (4, 4), "B": (3, 4), "C": (4, 4)}


def test_what_a_setting_costs_a_site_stands_last(tmp_path: Path) -> None:
    """A hospital that goes on with a part of its scans is named when the command ends."""
    image_world(tmp_path)
    shutil.copy(tmp_path / "A/one/g0.png", tmp_path / "B/one/g2.png")
    settings = ["target.kind=classification", "target.name=class", "target.classes=[one,two]"]
    manifest = str(tmp_path / "manifest.tsv")
    command = ["data", "check", str(tmp_path), *settings, "data.check.duplicates=exclude"]
    result = CliRunner().invoke(program(), [*command, "--manifest", manifest])
    assert result.exit_code == 0
    assert "Warning: B goes on with 2 of 3 scans: 1 x" in result.stdout
