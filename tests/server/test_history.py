"""A run's records, read while the run writes them: always as if read whole, and never again."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmri.errors import UsageError
from fedmri.server.rounds.records import Records
from fedmri.server.views import history
from fedmri.server.views.history import History, read_history


def anew(path: Path) -> History:
    """Return the records as who never looked before sees them."""
    history._READ.clear()
    return read_history(path)


def add_rounds(records: Records, first: int, last: int, loss: float) -> None:
    """Record what two sites did in some rounds."""
    for number in range(first, last + 1):
        for site in "AB":
            records.add("round", round=number, site=site, loss=loss + number)


def test_what_is_read_on_is_what_is_read_whole(tmp_path: Path) -> None:
    """After each step: lines, a torn line, the rest of it, and a run that resumed further back."""
    path = tmp_path / "metrics.jsonl"
    assert read_history(path) == History(())
    records = Records(path, {"arm": "federated"}, lambda record: None)
    seen = []

    def look() -> None:
        found = read_history(path)
        assert read_history(path) is found
        seen.append(found.records)
        assert found == anew(path)

    add_rounds(records, 1, 40, 0.0)
    checkpoint = records.n_bytes
    add_rounds(records, 41, 60, 0.0)
    look()
    line = path.read_bytes().splitlines(keepends=True)[-1].replace(b'"B"', b'"C"')
    with path.open("ab") as file:
        file.write(line[:20])
        file.flush()
        look()
        file.write(line[20:])
    look()
    records.rewind(checkpoint)
    add_rounds(records, 41, 70, 0.5)
    look()
    assert [len(found) for found in seen] == [120, 120, 121, 140]
    assert seen[-1][-1]["loss"] == 70.5


def test_what_was_read_is_not_read_again(tmp_path: Path) -> None:
    """A line that breaks afterwards, far before the end, is seen by who reads anew alone."""
    path = tmp_path / "metrics.jsonl"
    records = Records(path, {}, lambda record: None)
    add_rounds(records, 1, 100, 0.0)
    read_history(path)
    with path.open("r+b") as file:
        file.write(b"#")
    add_rounds(records, 101, 101, 0.0)
    assert len(read_history(path).records) == 202
    with pytest.raises(UsageError, match=r"no record at line 1, .*\[U41\]"):
        anew(path)
    path.write_bytes(path.read_bytes()[-200:] + b"no record\n")
    with pytest.raises(UsageError, match=r"no record at line \d.*\[U41\]"):
        read_history(path)
