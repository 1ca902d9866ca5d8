"""Mistakes of data, each planted once: copies, visits, slices, labels of other cohorts."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedmri.arm import Arm
from fedmri.config import load
from fedmri.data.batches.examples import open_site
from fedmri.data.checks.check import check, examine
from fedmri.data.patients import crossing
from fedmri.data.preparation.prepare import prepare_scans
from fedmri.data.preparation.prepared import write_site
from fedmri.data.read import read
from fedmri.data.scans import ScanTable
from fedmri.data.settings import CheckConfig, SourceConfig
from fedmri.errors import ConfigError, DataError, HarmonizeError
from fedmri.harmonize.combat.combat_table import harmonize
from fedmri.harmonize.combat.model import ComBat, refuse_target
from fedmri.harmonize.sums import version
from fedmri.simulation.arms.arm_runs import ArmRun
from fedmri.simulation.arms.running import refuse_known
from fedmri.simulation.partition import PartitionConfig
from fedmri.simulation.sites import SiteSource, checked
from fedmri.tasks.kinds.classification import Classification
from tests.data.worlds import image_world, picture, save_picture, write_table
from tests.harmonize.test_table import two_sites

CLASSES = Classification("class", ("one", "two"))
REFUSED = CheckConfig()


def table_of(root: Path, **source: str) -> ScanTable:
    """Read a folder of pictures."""
    return read(SourceConfig(path=str(root), **source))  # type: ignore[arg-type]  # texts alone


def pictures(root: Path, site: str, patients: Mapping[str, str], seed: int = 0) -> None:
    """Write a site whose pictures, by ``class/name``, are of the patients named."""
    for number, name in enumerate(patients, start=seed):
        save_picture(root / site / name, picture(number))
    write_table(root / site, [{"file": name, "patient": who} for name, who in patients.items()])


def test_1_slices_that_are_named_as_patients_are_suspected_and_said(tmp_path: Path) -> None:
    """Two slices of each of four patients, listed as eight; a split takes patient 1 apart.

    A split by slice: Yagis et al. 2021, doi:10.1038/s41598-021-01681-w.
    """
    names = {
        f"{'one' if p % 2 else 'two'}/p{p}_{s}.png": f"P00{p}-{s}" for p in range(4) for s in "12"
    }
    pictures(tmp_path, "A", names)
    found = check(table_of(tmp_path), CLASSES, REFUSED, ("T1w",))
    assert {f.code for f in found.findings} == {"C13"}
    splits = {name: ("A", "train" if name.endswith("1") else "test") for name in names.values()}
    assert {f.code for f in crossing(found.scans, splits)} == {"C14"}  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["byte copy", "stored again"])
def test_2_a_copy_under_another_name_is_refused(kind: str, tmp_path: Path) -> None:
    """SARTAJ has 88 test images that are training images (Cheng's, stored again, are more)."""
    image_world(tmp_path)
    first, copy = tmp_path / "A/one/g0.png", tmp_path / "B/one/xbad.png"
    if kind == "byte copy":
        shutil.copy(first, copy)
    else:
        Image.open(first).resize((60, 60)).save(copy)
    code = "D19" if kind == "byte copy" else "D20"
    with pytest.raises(DataError, match=rf"1 x .*\[{code}\], at 1 x B.*\[D03\]"):
        check(table_of(tmp_path), CLASSES, REFUSED, ("T1w",))


@pytest.mark.parametrize("axes", [(1,), (0,), (0, 1)], ids=["left-right", "up-down", "half-turn"])
def test_3_a_mirrored_image_among_other_patients_is_refused(
    axes: tuple[int, ...], tmp_path: Path
) -> None:
    """Augmented before the split: the mirrored image is a patient of another site.

    Kapoor and Narayanan 2023, doi:10.1016/j.patter.2023.100804.
    """
    image_world(tmp_path)
    pixels = np.asarray(Image.open(tmp_path / "A/one/g0.png"))
    save_picture(tmp_path / "B/one/xbad.png", np.flip(pixels, axes))
    with pytest.raises(DataError, match=r"1 x .*\[D20\], at 1 x B.*\[D03\]"):
        check(table_of(tmp_path), CLASSES, REFUSED, ("T1w",))


def test_3_augmentation_of_fedmri_makes_no_test_image(hospitals: Path, tmp_path: Path) -> None:
    """It draws while batches are made, and of training patients alone."""
    on = ("data.augment.flip=1", "data.augment.noise=1")
    scored = []
    for more in ((), on):
        plan = load(["experiment=smoke", f"data.source.path={hospitals}", *more]).plan
        scans = [s for s in read(plan.data.source).scans if s.site == "site01"]
        sides = dict.fromkeys((s.subject for s in scans), "test")
        prepared = prepare_scans(scans, plan.target, plan.data, sides, tmp_path)  # type: ignore[arg-type]
        write_site(tmp_path / "site.json", prepared)
        data = open_site([tmp_path / "site.json"], plan.target, plan.data)
        scored.append(
            np.concatenate(
                [batch.image.numpy() for batch in data.eval_batches("test", batch_size=4)]
            )
        )
    assert (scored[0] == scored[1]).all()


def test_4_rows_of_test_patients_move_no_fit_of_combat() -> None:
    """ComBat of all patients leaks: here the fit has the same bits, whatever test rows are.

    Feature selection and scaling: Whalen et al. 2022, doi:10.1038/s41576-021-00434-9.
    """
    cohort, is_train = two_sites(), np.arange(40) % 4 != 0
    before = version(harmonize(cohort, ComBat(3, ("age",)), is_train).parameters)
    cohort.values[~is_train] *= 1000
    assert version(harmonize(cohort, ComBat(3, ("age",)), is_train).parameters) == before


def test_5_a_target_that_combat_would_keep_is_refused() -> None:
    """On noise it gives an area of .62 (Marzi et al. 2024, doi:10.1038/s41597-023-02421-7)."""
    with pytest.raises(HarmonizeError, match=r"the target's effect hold the answers.*\[H07\]"):
        refuse_target(("sex", "Age "), "age")


def test_10_a_validation_patient_who_is_tested_is_refused(hospitals: Path, tmp_path: Path) -> None:
    """One patient is validated on and tested; nobody trained on him."""
    plan = load(["experiment=smoke", f"data.source.path={hospitals}"]).plan
    scans = [s for s in read(plan.data.source).scans if s.site == "site01"]
    names = sorted({s.subject for s in scans})
    sides = {name: ("val", "test", "train")[min(2, i)] for i, name in enumerate(names)}
    prepared = prepare_scans(scans, plan.target, plan.data, sides, tmp_path)  # type: ignore[arg-type]
    write_site(tmp_path / "own.json", prepared)
    planted = [replace(s, split="test") if s.split == "val" else s for s in prepared.scans]
    write_site(tmp_path / "planted.json", replace(prepared, scans=tuple(planted)))
    files = {"pooled": (tmp_path / "own.json",), "site01": (tmp_path / "planted.json",)}
    run = ArmRun(Arm("pooled"), plan, ("pooled",), files, ("site01",))
    with pytest.raises(ConfigError, match=r"1 patients of site01 on both sides.*\[C15\]"):
        refuse_known([run])


@pytest.mark.parametrize(
    ("classes", "code"),
    [(("one", "one"), "D23"), (("eins", "zwei"), "D16")],
    ids=["without the disease", "other words"],
)
def test_11_an_external_cohort_of_other_labels_is_said_or_refused(
    classes: tuple[str, str], code: str, tmp_path: Path
) -> None:
    """Tumour models tested on cohorts without tumours; definitions differ between trials.

    TRIPOD+AI item 16 (Collins et al. 2024, doi:10.1136/bmj-2023-078378).
    """
    for site in "AB":
        names = {f"{c}/{site}{i}.png": f"{site}{c}{i}x" for c in ("one", "two") for i in range(2)}
        pictures(tmp_path / "own", site, names, seed=10 * ord(site))
    names = {f"{c}/{i}.png": f"C{i}x" for i, c in enumerate(classes)}
    pictures(tmp_path / "other", "C", names, seed=5)
    own, other = tmp_path / "own", str(tmp_path / "other")
    settings = [f"data.source.path={own}", "data.source.modalities=[T1w]"]
    plan = replace(load(["experiment=smoke", *settings]).plan, target=CLASSES)
    source = SiteSource(plan, PartitionConfig(), other, False, tmp_path / "cache")
    if code == "D16":
        with pytest.raises(DataError, match=r"external:C lost 2 of 2 .*\[D16\]"):
            checked(source, tmp_path / "manifest.tsv")
    else:
        found = checked(source, tmp_path / "manifest.tsv").findings
        assert [(f.code, f.site) for f in found] == [("D23", "external:C")]


def test_20_a_patient_at_two_sites_is_refused(tmp_path: Path) -> None:
    """Two visits, one at each hospital; a key that both hospitals have joins them."""
    for site in "AB":
        pictures(
            tmp_path, site, {f"{c}/{site}.png": f"{site}-{c}" for c in ("one", "two")}, ord(site)
        )
        path = tmp_path / site / "participants.tsv"
        head, *rows = path.read_text().splitlines()
        keys = ("both", f"{site} alone")
        path.write_text(
            "\n".join([f"{head}\tkey", *map("\t".join, zip(rows, keys, strict=True))]) + "\n"
        )
    with pytest.raises(DataError, match=r"1 x .*\[D17\].*\[D03\]"):
        check(table_of(tmp_path, key_column="key"), CLASSES, REFUSED, ("T1w",))


def test_20_visits_by_their_names_are_one_patient_where_a_pattern_says_so(tmp_path: Path) -> None:
    """Without the pattern they are suspected; with it no split can take them apart."""
    names = {
        f"{'one' if p % 2 else 'two'}/{p}{v}.png": f"MR00{p}{v}" for p in range(4) for v in "AB"
    }
    pictures(tmp_path, "A", names)
    assert {f.code for f in examine(table_of(tmp_path), CLASSES, REFUSED, ("T1w",)).findings} == {
        "C13"
    }
    grouped = table_of(tmp_path, patient_pattern=r"(MR\d+)[AB]")
    assert {scan.subject for scan in grouped.scans} == {f"MR00{p}" for p in range(4)}
