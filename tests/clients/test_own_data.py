"""A hospital prepares its own scans as a simulation of it would, and notices when they change."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from fedmri.clients.process.home import ClientHome, SiteConfig
from fedmri.clients.training.own_data import (
    MANIFEST,
    checked_own,
    n_prepared,
    n_subjects,
    prepare_own,
)
from fedmri.data.preparation.prepared import read_site
from fedmri.data.settings import CheckConfig
from fedmri.errors import DataError, UsageError
from fedmri.models.hybrid.image_table_fusion import ImageTableFusion
from fedmri.models.voxel.unet import UNet
from fedmri.plan import Plan
from fedmri.simulation.partition import PartitionConfig
from fedmri.simulation.sites import SiteSource, prepare_sites
from fedmri.tasks.kinds.segmentation import Segmentation
from tests.clients.conftest import OWN


def test_a_hospital_and_its_simulation_train_on_the_same(
    home: ClientHome, plan: Plan, cache: Path, tmp_path: Path
) -> None:
    """Whatever its own table calls it, and without the others' patients: one fingerprint."""
    source = SiteSource(plan, PartitionConfig(), "", False, cache)
    simulated = prepare_sites(source, tmp_path)
    path = prepare_own(home.config, plan, OWN, cache, tmp_path / "plan")
    assert read_site(path).fingerprint == simulated.fingerprints[OWN]
    counts = n_prepared(path)
    assert counts == {side: simulated.used[OWN][side] for side in ("train", "val", "test")}
    table = checked_own(home.config, plan, OWN, tmp_path / "manifest.tsv")
    assert n_subjects(table, plan) == counts


def test_covariates_of_a_hospital_are_those_of_its_simulation(
    home: ClientHome, plan: Plan, cache: Path, tmp_path: Path
) -> None:
    """The columns are the plan's, and each site's rows are judged alone: one fingerprint."""
    source = replace(plan.data.source, covariates=("field_tesla:2/1", "sex:F|M"))
    other = replace(plan, data=replace(plan.data, source=source), model=ImageTableFusion())
    simulated = prepare_sites(SiteSource(other, PartitionConfig(), "", False, cache), tmp_path)
    path = prepare_own(home.config, other, OWN, cache, tmp_path / "plan")
    assert read_site(path).fingerprint == simulated.fingerprints[OWN]
    assert {len(scan.covariates) for scan in read_site(path).scans} == {5}


def test_a_hospital_says_itself_which_classes_it_draws(
    home: ClientHome, plan: Plan, tmp_path: Path
) -> None:
    """In its own settings, whatever the plan says of others."""
    target = Segmentation("mask", ("core", "edema"))
    source = replace(plan.data.source, drawn=("north:edema",))
    config = replace(home.config, data=replace(home.config.data, drawn=("core",)))
    other = Plan(target, data=replace(plan.data, source=source), model=UNet())
    table = checked_own(config, other, OWN, tmp_path / "manifest.tsv")
    assert {scan.drawn for scan in table.scans} == {("core",)}
    assert "D23" not in {finding.code for finding in table.findings}


def test_the_same_data_are_prepared_to_the_same_place(
    home: ClientHome, plan: Plan, cache: Path, tmp_path: Path
) -> None:
    """A restart goes on where it was."""
    paths = {prepare_own(home.config, plan, OWN, cache, tmp_path / "plan") for _ in range(2)}
    assert len(paths) == 1


def test_a_patient_who_is_taken_out_makes_other_data(
    home: ClientHome,
    plan: Plan,
    cache: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What was kept between rounds lies beside the old data and is not continued with."""
    before = prepare_own(home.config, plan, OWN, cache, tmp_path / "plan")
    gone = read_site(before).scans[0].subject
    check = replace(home.config.check, exclude=(gone,))
    config = replace(home.config, check=check)
    after = prepare_own(config, plan, OWN, cache, tmp_path / "plan")
    assert after.parent != before.parent
    assert gone not in {scan.subject for scan in read_site(after).scans}
    assert "the data changed since" in caplog.text
    assert f"{gone}\t" in (tmp_path / "plan" / MANIFEST).read_text()


def test_a_patient_whose_files_are_gone_makes_other_data(
    home: ClientHome, own_scans: Path, plan: Plan, cache: Path, tmp_path: Path
) -> None:
    """Deleting a folder is enough: under the same settings the site goes on without the patient."""
    config = replace(home.config, check=replace(home.config.check, max_excluded=0.5))
    before = prepare_own(config, plan, OWN, cache, tmp_path / "plan")
    gone, *stay = sorted({scan.subject for scan in read_site(before).scans})
    for folder in own_scans.rglob(f"sub-{gone.removeprefix('sub-')}"):
        shutil.rmtree(folder)
    after = prepare_own(config, plan, OWN, cache, tmp_path / "plan")
    assert after.parent != before.parent
    assert sorted({scan.subject for scan in read_site(after).scans}) == stay


def test_the_limits_of_the_check_are_the_sites_alone(
    home: ClientHome, own_scans: Path, plan: Plan, cache: Path, tmp_path: Path
) -> None:
    """Whatever the plan says, a strict site refuses one bad image and a loose one goes on."""
    image = next(own_scans.rglob("*_T1w.nii.gz"))
    image.write_bytes(b"no image")
    strict, loose = (
        replace(home.config, check=CheckConfig(max_excluded=limit)) for limit in (0.0, 1.0)
    )
    for of_plan in (0.0, 1.0):
        other = replace(plan, data=replace(plan.data, check=CheckConfig(max_excluded=of_plan)))
        with pytest.raises(DataError, match=r"\[D02\]"):
            prepare_own(strict, other, OWN, cache, tmp_path / "plan")
        assert read_site(prepare_own(loose, other, OWN, cache, tmp_path / "plan")).scans


def test_a_site_without_a_data_folder_is_told(plan: Plan, cache: Path, tmp_path: Path) -> None:
    """An empty path is no invitation to read whatever lies in the current folder."""
    with pytest.raises(UsageError, match=r"site\.yaml.*\[U30\]"):
        prepare_own(SiteConfig(), plan, OWN, cache, tmp_path / "plan")
