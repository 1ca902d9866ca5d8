"""What the system refuses ends a command with one line, and a bug keeps its traceback."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedmri.machine.system_errors import MEANING, as_usage_error
from tests.reports_of_others.bids_worlds import world


@pytest.mark.parametrize("number", MEANING, ids=lambda number: errno.errorcode[number])
def test_each_kind_says_what_to_do(number: int) -> None:
    """The message names the file in letters that every terminal has, and no Python."""
    told = as_usage_error(OSError(number, os.strerror(number), "/x/\udcff" + "n" * 300))
    assert told is not None
    assert told.code == "U01"
    assert len(str(told)) < 500
    str(told).encode()


def test_what_is_no_refusal_stays_a_bug() -> None:
    """A broken pipe or a wrong call is not the fault of a disk."""
    assert as_usage_error(OSError(errno.EINVAL, "x")) is None
    assert as_usage_error(OSError("no number")) is None


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ("/dev/full/m.tsv", "a file where a folder should be"),
        ("/proc/fedmri/m.tsv", "no such file"),
        (f"{'n' * 300}.tsv", "a name that is too long"),
    ],
)
def test_a_manifest_that_cannot_be_written_is_one_line(
    manifest: str, said: str, tmp_path: Path
) -> None:
    """The real command, without UTF-8, over a data set with an umlaut in its path."""
    root = tmp_path / "Z\u00fcrich"
    world(root)
    call = "from fedmri.cli import main; main()"
    arguments = ["data", "check", str(root), "--manifest", manifest]
    result = subprocess.run(
        [sys.executable, "-c", call, *arguments],
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        cwd=tmp_path,
        capture_output=True,
        timeout=300,
        check=False,
    )
    *_, last = result.stderr.decode(errors="replace").strip().split("\n")
    assert result.returncode == 2
    assert said in last
    assert b"Traceback" not in result.stderr
