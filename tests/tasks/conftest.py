"""Hospitals whose table also has findings, some of them unknown, and times to an event."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fedmri.data.scans import Scan


@pytest.fixture(scope="session")
def followed(hospitals: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a BIDS data set with columns of findings, a list of them, and survival in months."""
    folder = tmp_path_factory.mktemp("followed") / "bids"
    shutil.copytree(hospitals, folder)
    path = folder / "participants.tsv"
    table = pd.read_csv(path, sep="\t", dtype=str)
    random = np.random.default_rng(0)
    is_mass = table["lesion"] == "mass"
    is_old = table["age"].astype(float) > 50
    table["mass"] = np.where(is_mass, "yes", "no")
    table["old"] = np.where(random.random(len(table)) < 0.2, "n/a", np.where(is_old, "1", "0"))
    pairs = zip(is_mass, is_old, strict=True)
    lists = [";".join(["mass"] * mass + ["old"] * old) or "none" for mass, old in pairs]
    table["findings"] = lists
    times = random.exponential(np.where(is_mass, 8.0, 24.0))
    cut = random.uniform(6, 36, len(table))
    table["months"] = np.minimum(times, cut).round(2).astype(str)
    table["died"] = np.where(times <= cut, "1", "0")
    table.to_csv(path, sep="\t", index=False)
    return folder


def scan_of(columns: Mapping[str, str], subject: str = "sub-1", site: str = "north") -> Scan:
    """Return a scan with cells of its table."""
    return Scan(site, subject, "", {"T1w": Path("x.nii.gz")}, columns=columns)
