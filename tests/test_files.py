"""Secrets are private from the first byte; settings are read whole or refused by name."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from fedmri.errors import ConfigError, require
from fedmri.files import make_private_folder, write_private, write_whole
from fedmri.settings_file import read_settings


@pytest.fixture
def open_umask() -> Iterator[None]:
    """Let new files be readable by all, as on a carelessly set up machine."""
    old = os.umask(0)
    yield
    os.umask(old)


def mode(path: Path) -> int:
    """Return the permission bits of a file or folder."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("open_umask")
def test_secrets_are_private_whatever_the_umask(tmp_path: Path) -> None:
    """Neither a key nor its folder is ever readable by others."""
    make_private_folder(tmp_path / "keys")
    write_private(tmp_path / "keys/site.key", b"secret")
    assert [mode(tmp_path / "keys"), mode(tmp_path / "keys/site.key")] == [0o700, 0o600]


def test_a_secret_is_not_written_over(tmp_path: Path) -> None:
    """A key that is lost cannot be made again."""
    write_private(tmp_path / "key", b"old")
    with pytest.raises(FileExistsError, match="key"):
        write_private(tmp_path / "key", b"new")
    assert (tmp_path / "key").read_bytes() == b"old"


def test_a_reader_keeps_the_old_file_whole(tmp_path: Path) -> None:
    """Whoever opened a file before it was replaced reads on in the old one; no part is left."""
    path = tmp_path / "sites.json"
    write_whole(path, "old")
    with path.open() as reader:
        write_whole(path, "a longer new text", 0o600)
        assert reader.read() == "old"
    assert (path.read_text(), mode(path), list(tmp_path.iterdir())) == (
        "a longer new text",
        0o600,
        [path],
    )


@dataclass(frozen=True)
class Inner:
    """Settings inside settings."""

    share: float = 0.5
    kinds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(0 <= self.share <= 1, "inner.share", self.share, "0 to 1")


@dataclass(frozen=True)
class Outer:
    """Settings of a party."""

    name: str = "x"
    mode: Literal["a", "b"] = "a"
    inner: Inner = field(default_factory=Inner)


def read(tmp_path: Path, text: str) -> Outer:
    """Return the settings of a text."""
    path = tmp_path / "outer.yaml"
    path.write_text(text)
    return read_settings(path, Outer)


@pytest.mark.parametrize("text", ["", "# nothing\n", "inner:\n  # share: 1\n", "name:\n"])
def test_settings_left_out_or_commented_keep_their_default(tmp_path: Path, text: str) -> None:
    """A file in which every line is a comment is the default."""
    assert read(tmp_path, text) == Outer()


def test_settings_are_read_into_the_dataclass(tmp_path: Path) -> None:
    """Lists become tuples, and a number in exponent form is a number."""
    text = "name: ä\nmode: b\ninner: {share: 5e-1, kinds: [t, u]}\n"
    assert read(tmp_path, text) == Outer("ä", "b", Inner(0.5, ("t", "u")))


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("nam: x", "C02", "write name"),
        ("inner: {shares: 1}", "C02", "write inner.share"),
        ("mode: c", "C01", "setting mode"),
        ("name: [a]", "C01", "setting name"),
        ("inner: 3", "C01", "setting inner"),
        ("inner: {share: 7}", "C01", "want 0 to 1. To fix: change inner.share"),
        ("- a", "C04", "a list"),
        ("a: b: c", "C04", "mapping values are not allowed"),
        ("!!python/object/apply:os.getcwd []", "C04", "could not determine a constructor"),
    ],
)
def test_what_cannot_be_taken_is_named(tmp_path: Path, text: str, code: str, said: str) -> None:
    """Unknown names, wrong values and broken files: which, and what to write instead."""
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert (caught.value.code, said in str(caught.value)) == (code, True)
    assert "outer.yaml" in "".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
