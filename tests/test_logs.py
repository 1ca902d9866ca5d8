"""Logs of a run of months: bounded on the disk, and followed over the change of a file."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedmri.commands.server import view
from fedmri.machine import logs
from fedmri.server.deployed import log_of_run
from fedmri.server.registry.home import ServerHome
from tests.server.conftest import Deploy, coordinator, deploy, trained  # noqa: F401  # fixtures


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """Return the root logger, and give it its own handlers back afterwards."""
    found = logging.getLogger()
    handlers, level = found.handlers[:], found.level
    yield found
    for handler in found.handlers:
        if handler not in handlers:
            handler.close()
    found.handlers[:], found.level = handlers, level


def test_the_log_of_a_run_never_fills_the_disk(
    root: logging.Logger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many rounds it has, its files are few and small; the newest lines are kept."""
    monkeypatch.setattr(logs, "MOST_BYTES", 1000)
    log_of_run(tmp_path / "log.txt")
    for number in range(2000):
        root.warning("site away left out of round %d: R05", number)
    files = list(tmp_path.glob("log.txt*"))
    assert len(files) == logs.N_KEPT + 1
    assert sum(file.stat().st_size for file in files) <= 1000 * len(files)
    assert "round 1999" in (tmp_path / "log.txt").read_text()


def test_who_follows_a_log_sees_its_next_file_too(
    coordinator: ServerHome,  # noqa: F811  # the fixture
    deploy: Deploy,  # noqa: F811  # the fixture
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A new file is shorter than what was read of the old one."""
    run = deploy("tiny", 4)
    path = run.path / "log.txt"
    path.write_text("many lines of the first file\n")
    monkeypatch.setattr(view, "wait", lambda: None)
    growth = view._growth(coordinator, "tiny", path, path.stat().st_size)
    assert next(growth) == ""
    path.write_text("next\n")
    assert next(growth) == "next\n"
    with path.open("a") as file:
        file.write("more\n")
    assert next(growth) == "more\n"
