"""What stands around the code agrees with it: versions, Pythons, words of the Makefile."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # it ships no types

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
WORDS = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.M)


def read(path: Path) -> dict[Any, Any]:
    """Return a YAML file."""
    values: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return values


def steps_of(workflow: Path) -> list[dict[str, Any]]:
    """Return the steps of all jobs of a workflow."""
    return [step for job in read(workflow)["jobs"].values() for step in job["steps"]]


def pythons() -> list[str]:
    """Return the versions of Python that the classifiers name."""
    found = [re.fullmatch(r".*:: Python :: (3\.\d+)", text) for text in PROJECT["classifiers"]]
    return [match[1] for match in found if match]


def test_the_citation_is_of_this_version() -> None:
    """It has what CFF 1.2.0 asks for, and the project's version, licence and keywords."""
    said = read(ROOT / "CITATION.cff")
    assert said["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= said.keys()
    assert [set(author) for author in said["authors"]] == [{"name"}]
    for name in ("version", "license", "keywords"):
        assert said[name] == PROJECT[name], name


def test_every_supported_python_is_tested() -> None:
    """The classifiers, the oldest that pip takes, and the matrix of the tests agree."""
    assert PROJECT["requires-python"] == f">={pythons()[0]}"
    matrix = read(ROOT / ".github/workflows/test.yml")["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["python"] == pythons()
    assert f"PYTHONS := {' '.join(pythons())}\n" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_calls_words_of_the_makefile_and_pinned_actions(workflow: Path) -> None:
    """It has no secret, writes nothing to the repository, and runs what a person can run."""
    text = workflow.read_text(encoding="utf-8")
    assert "secrets." not in text
    assert read(workflow)["permissions"] == {"contents": "read"}
    for step in steps_of(workflow):
        if "uses" in step:
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"]), step
        else:
            make, word, *_ = step["run"].split()
            assert make == "make"
            assert word in WORDS, step


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_a_form_asks_for_something(form: Path) -> None:
    """Each form has a name and fields of their own; reports promise to hold no patient data."""
    said = read(form)
    if form.stem == "config":
        assert said == {"blank_issues_enabled": False}
        return
    ids = [field["id"] for field in said["body"] if field["type"] != "markdown"]
    assert said["name"]
    assert said["description"]
    assert len(ids) == len(set(ids)) > 1
    if form.stem == "bug":
        (box,) = [field for field in said["body"] if field["type"] == "checkboxes"]
        assert all(option["required"] for option in box["attributes"]["options"])
