"""Secrets are private from the first byte; settings are read whole or refused by name."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from fedmri.errors import ConfigError, require
from fedmri.machine.files import (
    PRIVATE_FILE,
    make_private_folder,
    write_private,
    write_unsynced,
    write_whole,
)
from fedmri.settings.file import read_settings


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


EACH_WAY = pytest.mark.parametrize("write", [write_whole, write_unsynced])


@EACH_WAY
def test_a_reader_keeps_the_old_file_whole(tmp_path: Path, write: Callable[..., None]) -> None:
    """Whoever opened a file before it was replaced reads on in the old one; no part is left."""
    path = tmp_path / "sites.json"
    write(path, "old")
    with path.open() as reader:
        write(path, "a longer new text", 0o600)
        assert reader.read() == "old"
    assert (path.read_text(), mode(path), list(tmp_path.iterdir())) == (
        "a longer new text",
        0o600,
        [path],
    )


@EACH_WAY
def test_a_write_that_fails_leaves_the_old_file_and_no_part(
    tmp_path: Path, write: Callable[..., None]
) -> None:
    """What goes wrong in the middle is raised, and the file is as it was."""
    path = tmp_path / "sites.json"
    write(path, "old")

    def half(file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]  # any open file
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write(path, half)
    assert (path.read_text(), list(tmp_path.iterdir())) == ("old", [path])


@pytest.mark.usefixtures("open_umask")
@EACH_WAY
def test_a_secret_that_is_replaced_is_never_readable_by_others(
    tmp_path: Path, write: Callable[..., None]
) -> None:
    """The unfinished file beside it is as private as the file itself."""
    seen: list[int] = []

    def look(_: object) -> None:
        seen.extend(mode(path) for path in tmp_path.iterdir())

    write(tmp_path / "secret", look, PRIVATE_FILE)
    assert (seen, mode(tmp_path / "secret")) == ([0o600], 0o600)


WRITER = """
import sys
from pathlib import Path
from fedmri.machine import files
path, write = Path(sys.argv[1]), getattr(files, sys.argv[2])
write(path, bytes(2_000_000))
print("go", flush=True)
while True:
    for letter in range(256):
        write(path, bytes([letter]) * 2_000_000)
"""


@EACH_WAY
def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path, write: Callable[..., None]) -> None:
    """SIGKILL at any moment: the file is the old one or the new one."""
    path = tmp_path / "state"
    for delay_ms in (1, 5, 11, 23):
        command = [sys.executable, "-c", WRITER, str(path), write.__name__]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(delay_ms / 1000)  # the moment of the kill is the point of this test
            os.kill(writer.pid, signal.SIGKILL)
        content = path.read_bytes()
        assert (len(content), len(set(content))) == (2_000_000, 1)


LIMITED = """
import resource, sys
import numpy as np
from pathlib import Path
from fedmri.machine import files
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
path, write = Path(sys.argv[1]), getattr(files, sys.argv[2])
write(path, b"old")
for content in (bytes(200_000), lambda file: np.save(file, np.zeros(50_000))):
    try:
        write(path, content)
    except OSError as error:
        print(error.errno, path.read_bytes() == b"old", len(list(path.parent.iterdir())))
"""


@EACH_WAY
def test_a_full_disk_is_told_by_its_number(tmp_path: Path, write: Callable[..., None]) -> None:
    """Bytes and arrays: the error has the system's number, and the old file is whole."""
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "state"), write.__name__]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{errno.EFBIG} True 1"] * 2


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
