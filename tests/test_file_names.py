"""Whatever a site is called, its files lie in the run folder, apart from those of all others."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from fedmri.errors import UsageError
from fedmri.machine.file_names import INDEX, file_name, label_of, read_names, write_names

ODD = [
    "Siemens/1.5T",
    "GE/3T",
    "GE 3T",
    "GE-3T",
    "ge-3t",
    "GE\\3T",
    "../../evil",
    "..",
    ".",
    "",
    " ",
    "N" * 260,
    "n" * 260,
    "n" * 259 + "m",
    "Zürich",
    "zurich",
    "東京",
    "大阪",
    "con",
    "sites",
    "budgets",
    "a\nb",
    "a\0b",
    "-rf",
    "C:evil",
    "c:evil",
    "external:EZ",
    "external-EZ",
    "external:ez",
    "external-ez",
    "loso:pooled-x",
    "loso-pooled:x",
    "local:x",
    "local-x",
    "GE",
    "ge",
    "Ge",
    file_name("GE").lower(),
    "\udcff",
]


@pytest.mark.parametrize("label", ODD, ids=ascii)
def test_a_name_of_a_file_is_one_short_safe_part(label: str, tmp_path: Path) -> None:
    """It holds no separator, is no device, and a file of it lies where it was meant to."""
    name = file_name(label)
    assert name.isascii()
    assert len(f"{name}.jsonl") <= 80
    assert name[0].isalnum()
    (tmp_path / f"{name}.jsonl").write_text("x")
    assert [path.stem for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("label", ["sites", "budgets"])
def test_a_site_never_writes_over_a_list_of_the_run(label: str) -> None:
    """``prepared/sites.json`` lists all sites; a site of that name has another file."""
    assert file_name(label) != label


def test_no_two_names_meet_on_a_disk_that_knows_no_case() -> None:
    """A site of one name never writes over the files of another."""
    names = {label: file_name(label).casefold() for label in ODD}
    assert [pair for pair in combinations(ODD, 2) if names[pair[0]] == names[pair[1]]] == []


@pytest.mark.parametrize("label", ["site-1", "federated", "local:site-1", "loso-pooled:a_b"])
def test_a_plain_name_stays_and_needs_no_index(label: str) -> None:
    """Run folders of before, which have none, are read as they were."""
    assert file_name(label) == label.replace(":", "-")
    assert label_of(file_name(label)) == label


def test_the_index_gives_every_name_back(tmp_path: Path) -> None:
    """What a file stands for is recorded, not guessed."""
    labels = [label for label in ODD if label != "\udcff"]
    write_names(tmp_path, labels)
    names = read_names(tmp_path)
    assert [names[file_name(label)] for label in labels] == labels


def test_a_broken_index_is_told(tmp_path: Path) -> None:
    """A torn file names itself and the way out."""
    assert read_names(tmp_path) == {}
    (tmp_path / INDEX).write_text('{"a": ')
    with pytest.raises(UsageError, match=rf"{INDEX}.*\[U11\]"):
        read_names(tmp_path)
