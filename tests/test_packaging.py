"""What a checkout holds, the wheel holds, under one name."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
ROOMS: dict[str, str] = {folder: name for name, folder in SETUPTOOLS["package-dir"].items()}
LINKED = sorted(set(ROOMS) - {"fedmri"})


def package(folder: Path) -> str:
    """Return the import name of a folder in the checkout."""
    room, *rest = folder.relative_to(ROOT).parts
    return ".".join([ROOMS[room], *rest])


def room_files() -> list[Path]:
    """Return every file of every room, each once: links are not followed."""
    found = [file for room in ROOMS for file in (ROOT / room).rglob("*") if file.is_file()]
    return [file for file in found if "__pycache__" not in file.parts]


def test_every_folder_with_code_is_in_the_wheel() -> None:
    """A new subfolder that nobody listed would vanish from the wheel in silence."""
    held = {package(file.parent) for file in room_files() if file.suffix == ".py"}
    assert held == set(SETUPTOOLS["packages"])


def test_every_file_that_is_not_code_matches_a_package_data_pattern() -> None:
    """A YAML file or template that no pattern names would vanish from the wheel in silence."""
    folders = {name: ROOT / folder for name, folder in SETUPTOOLS["package-dir"].items()}
    patterns = SETUPTOOLS["package-data"].items()
    matched = {
        file for name, globs in patterns for glob in globs for file in folders[name].glob(glob)
    }
    assert {file for file in room_files() if file.suffix != ".py"} == matched


@pytest.mark.parametrize("room", LINKED)
def test_a_link_shows_type_checkers_where_a_room_lies(room: str) -> None:
    """The links are relative, so that they hold wherever the repository is cloned to."""
    assert (ROOT / "fedmri" / room).readlink() == Path("..", room)


def test_a_room_is_found_under_fedmri_and_nowhere_else(tmp_path: Path) -> None:
    """Outside the repository ``import server`` fails: two names would be two registries."""
    names = [*LINKED, *(f"fedmri.{room}" for room in LINKED)]
    code = f"from importlib.util import find_spec as f; print([n for n in {names} if f(n)])"
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert found.strip() == str([f"fedmri.{room}" for room in LINKED])
