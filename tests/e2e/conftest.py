"""A consortium of real processes that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fedmri.config import load
from fedmri.plan import Plan
from fedmri.simulation import demo
from tests.conftest import TINY

DEPLOYED = ("rounds.min_sites=3", "rounds.quorum=1.0", "rounds.timeout_s=60")


@dataclass(frozen=True)
class Deployment:
    """A running consortium, and the data set that its sites' own were taken from."""

    consortium: demo.Consortium
    data: Path


def plan_of(*settings: str) -> Plan:
    """Return a plan that a consortium of three trains in seconds."""
    return load([*TINY, *DEPLOYED, *settings]).plan


@pytest.fixture(scope="package")  # its processes look for orders as long as they live
def deployment(hospitals: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Run a coordinator and three sites, each with its own keys, folder and processes."""
    folder = tmp_path_factory.mktemp("consortium")
    consortium = demo.make_consortium(folder, demo.own_folders(hospitals, folder / "scans"))
    with demo.running(consortium):
        yield Deployment(consortium, hospitals)
