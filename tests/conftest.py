"""Real data that many tests share: a small BIDS data set of three hospitals, and tiny studies."""

from __future__ import annotations

import functools
import gc
import locale
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
import torch
from typer.main import get_command

from fedmri.cli import app, main
from fedmri.config import as_yaml, load
from fedmri.data.synthetic.data_set import SyntheticConfig, generate
from fedmri.server.rounds.records import Record
from fedmri.simulation.study import Study, refuse_failed, run_study

TINY = (
    "experiment=smoke",
    "data.prepare.shape=[16,16,16]",
    "data.prepare.spacing_mm=12",
    "model.width=4",
    "simulation.workers=1",
    "simulation.n_pictures=1",
)

Settings = Callable[..., list[str]]
Command = Callable[..., subprocess.CompletedProcess[str]]
RunTiny = Callable[..., Path]


@functools.cache
def program() -> click.Command:
    """Return the tree of all commands: to build it takes longer than most of them do."""
    return get_command(app)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put whole consortia and simulations first: a process that begins them last ends last."""
    long = ("e2e", "simulation", "leakage")
    items.sort(key=lambda item: min(
        (long.index(part) for part in item.path.parts if part in long), default=len(long)
    ))  # fmt: skip


def pytest_collection() -> None:
    """Look for no garbage while all modules are imported: nearly all of it stays."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Let no later garbage collection go over modules and tests again: they stay to the end."""
    gc.enable()
    gc.freeze()


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Draw the same numbers in each run, whichever tests a worker process had before."""
    torch.default_generator.manual_seed(0)  # of the CPU: to note it for others takes 0.5 ms


@pytest.fixture(autouse=True)
def process_left_as_found() -> Iterator[None]:
    """Fail a test that changes what all later tests of its process stand on."""
    before = _process()
    yield
    changed = {name: (before[name], now) for name, now in _process().items() if now != before[name]}
    assert not changed, f"this test changed its process: {changed}"


def _process() -> dict[str, object]:
    texts = ("LANG", "LC_", "PYTHON", "HOME", "XDG_", "TZ", "FEDMRI_")
    umask = os.umask(0o077)
    os.umask(umask)
    return {
        "locale": locale.setlocale(locale.LC_ALL),
        "folder": Path.cwd(),
        "umask": umask,
        "environment": {n: text for n, text in os.environ.items() if n.startswith(texts)},
    }


@pytest.fixture(scope="session")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a BIDS data set of three hospitals with six patients on average."""
    folder = tmp_path_factory.mktemp("bids") / "hospitals"
    generate(folder, SyntheticConfig(n_sites=3, n_subjects=6, spacing_mm=8), 0)
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the cache of prepared scans that all tests share, as all runs of a user do."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def tiny(hospitals: Path, cache: Path) -> Settings:
    """Return the settings of a study that takes a second, with more settings after them."""

    def settings(*more: str) -> list[str]:
        paths = [f"data.source.path={hospitals}", f"simulation.cache={cache}"]
        return [*TINY, *paths, *more]

    return settings


@pytest.fixture
def run_tiny(tiny: Settings, tmp_path: Path) -> RunTiny:
    """Return a function that runs a tiny study in a folder, or goes on with it."""

    def run(name: str, *more: str, observe: Callable[[Record], None] = lambda _: None) -> Path:
        return run_in(tmp_path / name, tiny(*more), observe)

    return run


def run_in(
    folder: Path, settings: list[str], observe: Callable[[Record], None] = lambda _: None
) -> Path:
    """Run a study in a folder, or go on with it, and return the folder."""
    experiment = load(settings)
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(as_yaml(experiment), encoding="utf-8")
    study = Study(experiment.plan, experiment.partition, experiment.simulation, folder, "fedmri")
    refuse_failed(run_study(study, observe), folder)
    return folder


def forked(work: Callable[[], object]) -> int:
    """Start a process that does what is to be killed, and return its number.

    It is a copy of this one, which has imported all that is needed. It ends with status 0, or with
    1 where the work raises.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks, from Python 3.12 on
        child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return child


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Return what runs the command in this process, which has imported all that it needs."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["fedmri", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        code = int(ended.value.code or 0)
        return subprocess.CompletedProcess(sys.argv, code, said.out, said.err)

    yield run
    logging.captureWarnings(capture=False)
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers, root.level = handlers, level
