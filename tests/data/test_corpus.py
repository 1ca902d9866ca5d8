"""Whatever a folder holds, the preflight answers with a code and goes on with the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmri.data.checks.check import examine
from fedmri.data.checks.manifest import used_by_site, write_manifest
from fedmri.data.read import read
from fedmri.data.scans import ScanTable
from fedmri.data.settings import CheckConfig, SourceConfig
from fedmri.errors import DataError
from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.kinds.regression import Regression
from fedmri.tasks.kinds.segmentation import Segmentation
from fedmri.tasks.task import Task
from tests.data.corpus import CASES
from tests.data.corpus_case import BAD, Case
from tests.data.worlds import bids_world, dicom_world, image_world

WORLDS = {"bids": bids_world, "images": image_world, "dicom": dicom_world}
TARGETS: dict[str, Task] = {
    "bids": Segmentation("mask", ("tumour",)),
    "images": Classification("class", ("one", "two")),
    "dicom": Regression("age"),
}


def examined(root: Path, world: str) -> ScanTable:
    """Read and examine a data set."""
    source = SourceConfig(path=str(root))
    config = CheckConfig(duplicates="exclude", is_ct_excluded=True)
    return examine(read(source), TARGETS[world], config, source.modalities)


@pytest.mark.parametrize("world", WORLDS)
def test_a_good_data_set_is_used_whole(world: str, tmp_path: Path) -> None:
    """Nothing below passes because the preflight refuses everything."""
    WORLDS[world](tmp_path)
    table = examined(tmp_path, world)
    assert (len(table.scans), table.findings) == (5, ())


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.world}: {case.name}")
def test_a_bad_input_gives_its_code_and_harms_no_other(case: Case, tmp_path: Path) -> None:
    """It is named by its code, not trained on, and the good scans beside it are."""
    root = tmp_path / "set"
    WORLDS[case.world](root)
    case.spoil(root)
    if case.outcome == "refused":
        with pytest.raises(DataError, match=rf"\[{case.code}\]"):
            examined(root, case.world)
        return
    table = examined(root, case.world)
    assert case.code in {finding.code for finding in table.findings}
    names = " ".join(f"{scan.subject} {scan.session}" for scan in table.scans)
    assert names.count("g") - names.count("p-g") >= case.n_good
    if case.outcome == "excluded":
        assert BAD not in names
        assert any(finding.is_excluded for finding in table.findings)
    write_manifest(tmp_path / "manifest.tsv", table)  # whatever the names hold
    assert all(used <= found for used, found in used_by_site(table).values())


def test_the_corpus_is_as_large_as_promised() -> None:
    """At least sixty bad inputs, each with a name of its own."""
    assert len({(case.world, case.name) for case in CASES}) == len(CASES) >= 60
