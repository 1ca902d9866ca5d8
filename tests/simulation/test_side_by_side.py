"""Scans are prepared on several cores, to the same bits."""

from __future__ import annotations

import hashlib
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from fedmri.config import load
from fedmri.data.batches.site_data import Split
from fedmri.data.preparation import prepare, side_by_side
from fedmri.data.preparation.prepare import fill_cache, prepare_scans
from fedmri.data.read import read
from fedmri.data.scans import Scan
from fedmri.simulation.partition import PartitionConfig
from fedmri.simulation.sites import SiteSource, StudySites, prepare_sites
from tests.conftest import TINY


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "FEW", 2)


def bits(folder: Path) -> dict[str, str]:
    """Return the hash of every file, by its path in the folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_prepared_scans_have_the_same_bits(hospitals: Path, tmp_path: Path) -> None:
    """The cache is filled by processes, and what cannot be read is told as ever."""
    data = tmp_path / "data"
    data.symlink_to(hospitals)
    alone, together = (prepared(data, tmp_path / str(n), n) for n in (1, 2))
    assert together.fingerprints == alone.fingerprints
    found = [bits(tmp_path / str(n) / "cache") for n in (1, 2)]
    assert found[0] == found[1]


def test_a_scan_that_fails_on_the_way_is_found_all_the_same(
    hospitals: Path, tmp_path: Path
) -> None:
    """Filling the cache may neither swallow it nor end the run."""
    plan = load([*TINY, f"data.source.path={hospitals}"]).plan
    scan, *others = read(plan.data.source).scans[:4]
    lost = replace(scan, images=dict.fromkeys(scan.images, tmp_path / "lost.nii.gz"))
    scans, cache = [lost, *others], tmp_path / "cache"
    fill_cache(scans, plan.target, plan.data, cache, n_workers=1)
    splits: dict[str, Split] = {one.subject: "train" for one in scans}
    found = prepare_scans(scans, plan.target, plan.data, splits, cache)
    assert [finding.subject for finding in found.findings] == [lost.subject]
    assert [one.subject for one in found.scans] == [one.subject for one in others]


def test_a_process_that_dies_ends_no_run(
    hospitals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its scans are prepared one by one, as on a machine with too little memory for more."""
    died = tmp_path / "died"
    died.mkdir()

    def die(scan: Scan, **_: object) -> None:
        (died / scan.key.replace("/", "-")).touch()
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(prepare, "_try_to_prepare", die)
    sites = prepared(hospitals, tmp_path / "run", 2)
    assert any(died.iterdir())
    assert all(used["used"] == used["found"] for used in sites.used.values())


def prepared(data: Path, folder: Path, n_workers: int, *settings: str) -> StudySites:
    """Return the sites of a data set, prepared by some processes into an own cache."""
    masks = ("target=segmentation", "target.name=mask", "target.classes=[lesion]", "model=unet")
    plan = load([*TINY, *masks, f"data.source.path={data}", *settings]).plan
    (folder / "prepared").mkdir(parents=True)
    cache = folder / "cache"
    source = SiteSource(plan, PartitionConfig(), "", False, cache, n_workers=n_workers)
    return prepare_sites(source, folder)
