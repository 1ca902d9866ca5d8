"""A distribution with parts of its own, installed by pip where the tests ask for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedmri.data.reader import READERS
from fedmri.models.registry import MODELS
from fedmri.outside import forget_hashes
from fedmri.simulation.protocol import PROTOCOLS
from fedmri.stages.registry import STAGES
from fedmri.strategies.registry import STRATEGIES
from fedmri.tasks.registry import TASKS

ATLAS = Path(__file__).parent / "atlas"
AT_START = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
FEDMRI = (sys.executable, "-c", "from fedmri.cli import main; main()")


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build and install the distribution into a folder; fedmri itself never imports it."""
    source, target = tmp_path_factory.mktemp("atlas"), tmp_path_factory.mktemp("installed")
    shutil.copytree(ATLAS, source / "atlas", ignore=shutil.ignore_patterns("__pycache__"))
    options = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target")
    paths = (str(target), str(source / "atlas"))
    command = [sys.executable, "-m", "pip", "install", *options, *paths]
    subprocess.run(command, check=True)
    return target


@pytest.fixture
def at_hand(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Let this process find what is installed, and no other test after it."""
    monkeypatch.syspath_prepend(installed)
    _forget()
    yield installed
    monkeypatch.undo()
    _forget()


def _forget() -> None:
    for registry in (MODELS, STRATEGIES, STAGES, READERS, PROTOCOLS, TASKS):
        vars(registry).pop("outside", None)
    for name in [name for name in sys.modules if name.partition(".")[0] == "atlas_parts"]:
        del sys.modules[name]
    forget_hashes()


def python_path(*folders: Path) -> str:
    """Return a PYTHONPATH in which Python also finds what is installed in some folders."""
    return os.pathsep.join([*map(str, folders), *AT_START])
