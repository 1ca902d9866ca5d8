"""What a checkout holds, the wheel holds, under one name."""

from __future__ import annotations

import json
import re
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


LOCK = ROOT / "requirements.lock"


def locked() -> dict[str, tuple[str, str]]:
    """Return version and hashes of each package of the list for users, by its name."""
    parts = re.split(r"\n(?=\w)", LOCK.read_text())
    heads = (re.match(r"([\w.-]+)==(\S+)", part) for part in parts)
    return {head[1]: (head[2], part) for head, part in zip(heads, parts, strict=True) if head}


def test_every_package_that_users_get_has_its_hashes_and_the_tested_version() -> None:
    """What ``pip install --require-hashes`` takes is what the tests ran with."""
    pins = dict(
        line.partition(" ")[0].split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    found = locked()
    assert len(found) > 100
    assert [name for name, (_, text) in found.items() if "--hash=sha256:" not in text] == []
    assert {n: v for n, (v, _) in found.items() if pins.get(n, v) != v} == {}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [re.match(r"[\w.-]+", text) for text in project["dependencies"]]
    assert {match[0] for match in asked if match} <= set(found)


@pytest.mark.slow
def test_a_file_that_was_exchanged_is_refused(tmp_path: Path) -> None:
    """Pip takes what the list names, and not with another hash; needs a package index."""
    small = tmp_path / "small.txt"
    small.write_text(locked()["humanize"][1] + "\n")
    words = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes"]
    call = [*words, "-d", str(tmp_path / "got"), "-r", str(small)]
    assert subprocess.run(call, capture_output=True, check=False).returncode == 0
    small.write_text(re.sub("sha256:....", "sha256:0000", small.read_text()))
    refused = subprocess.run(call, capture_output=True, text=True, check=False)
    assert refused.returncode
    assert "HASHES" in refused.stderr.upper()


@pytest.mark.slow
def test_the_bill_of_materials_names_every_package(tmp_path: Path) -> None:
    """As ``make release`` writes it: CycloneDX, with version and hashes of each."""
    pytest.importorskip("cyclonedx_py", reason="comes with the extra `release`")
    bill = tmp_path / "bill.json"
    words = [sys.executable, "-m", "cyclonedx_py", "requirements", str(LOCK), "--pyproject"]
    more = [str(ROOT / "pyproject.toml"), "--mc-type", "library", "--of", "JSON", "-o", str(bill)]
    subprocess.run([*words, *more], check=True, capture_output=True)
    said = json.loads(bill.read_text())
    assert (said["bomFormat"], said["metadata"]["component"]["name"]) == ("CycloneDX", "fedmri")
    versions = {part["name"]: part["version"] for part in said["components"]}
    assert versions == {name: version for name, (version, _) in locked().items()}
    assert all(part["externalReferences"][0]["hashes"] for part in said["components"])
