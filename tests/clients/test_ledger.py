"""The egress ledger: whatever happens to it, it is noticed and nothing is lost without a word."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmri.clients.egress.ledger import Egress, Ledger, entries, head_file, verify
from fedmri.errors import PrivacyError


def egress(number: int) -> Egress:
    """Return what a message of a round would be noted as."""
    return Egress("f" * 64, "brain", number, "update", 100 + number, f"{number:064x}", ("model",))


def written(folder: Path, n_entries: int) -> Path:
    """Write a ledger of so many entries and return it."""
    path = folder / "ledger/egress.jsonl"
    for number in range(1, n_entries + 1):
        Ledger(path).append(egress(number))
    return path


def test_entries_read_back_in_order(tmp_path: Path) -> None:
    """What was appended is what an auditor reads, with a time, and the chain holds."""
    path = written(tmp_path, 3)
    assert [(e["n"], e["round"], e["n_bytes"], e["epsilon"]) for e in entries(path)] == [
        (1, 1, 101, None),
        (2, 2, 102, None),
        (3, 3, 103, None),
    ]
    assert verify(path).n_entries == 3
    assert path.stat().st_mode & 0o077 == 0


def test_no_ledger_is_an_empty_one(tmp_path: Path) -> None:
    """A site that sent nothing has nothing to show."""
    path = tmp_path / "egress.jsonl"
    assert list(entries(path)) == []
    assert verify(path).n_entries == 0


def swap(lines: list[bytes]) -> list[bytes]:
    """Exchange the second and the third line."""
    return [lines[0], lines[2], lines[1], *lines[3:]]


CHANGES: dict[str, tuple[Callable[[list[bytes]], list[bytes]], int]] = {
    "one byte": (lambda lines: [lines[0], lines[1].replace(b": 102,", b": 192,"), *lines[2:]], 3),
    "last line": (lambda lines: [*lines[:-1], lines[-1].replace(b": 104,", b": 109,")], 4),
    "removed": (lambda lines: [lines[0], *lines[2:]], 2),
    "first removed": (lambda lines: lines[1:], 1),
    "twice": (lambda lines: [*lines[:2], *lines[1:]], 3),
    "moved": (swap, 2),
    "put in": (lambda lines: [lines[0], b'{"n": 2}\n', *lines[1:]], 2),
    "end cut within a line": (lambda lines: [*lines[:3], lines[3][:20]], 4),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_line_is_named(name: str, tmp_path: Path) -> None:
    """Whichever line is touched, the first that does not follow is named."""
    path = written(tmp_path, 4)
    change, number = CHANGES[name]
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(PrivacyError, match=rf"line {number} does not follow.*\[P05\]"):
        verify(path)


def test_nothing_is_added_to_a_ledger_whose_end_was_changed(tmp_path: Path) -> None:
    """A message that follows a false line would lend it its own chain."""
    path = written(tmp_path, 4)
    path.write_bytes(path.read_bytes().replace(b": 104,", b": 109,"))
    with pytest.raises(PrivacyError, match=r"line 4 does not follow.*\[P05\]"):
        Ledger(path).append(egress(5))


@pytest.mark.parametrize("n_left", [0, 1, 3])
def test_a_cut_end_is_noticed(n_left: int, tmp_path: Path) -> None:
    """A chain alone looks whole without its last links: the head counts them."""
    path = written(tmp_path, 4)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:n_left]))
    with pytest.raises(PrivacyError, match=rf"found {n_left} entries, want 4.*\[P06\]"):
        verify(path)


@pytest.mark.parametrize("left", [None, "{}", "nonsense"])
def test_a_ledger_without_its_head_is_noticed(left: str | None, tmp_path: Path) -> None:
    """Whoever cuts the end cannot hide it by taking the head away."""
    path = written(tmp_path, 4)
    if left is None:
        head_file(path).unlink()
    else:
        head_file(path).write_text(left)
    with pytest.raises(PrivacyError, match=r"\[P06\]"):
        verify(path)


@settings(max_examples=12, deadline=None)  # each example waits for the disk a dozen times
@given(n_torn=st.integers(1, 90), n_cuts=st.integers(1, 3))
def test_a_torn_write_is_named_and_kept(
    n_torn: int, n_cuts: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """After a power cut in a write, even in the repair of one, the ledger goes on and says so."""
    path = written(tmp_path_factory.mktemp("torn"), 2)
    whole, head = path.read_bytes(), head_file(path).read_bytes()
    for number in range(1, n_cuts + 1):
        Ledger(path).append(egress(3))
        path.write_bytes(path.read_bytes()[: len(whole) + number * n_torn])
        head_file(path).write_bytes(head)
    torn = path.read_bytes()
    Ledger(path).append(egress(3))
    assert path.read_bytes().startswith(torn)
    kinds = [entry["kind"] for entry in entries(path)]
    assert kinds == ["update", "update", "torn", "update"]
    assert [e["n_bytes"] for e in entries(path) if e["kind"] == "torn"] == [len(torn) - len(whole)]
    assert verify(path).n_entries == 4


def test_a_torn_part_is_answered_for_byte_by_byte(tmp_path: Path) -> None:
    """The entry that names it holds its digest, so that the part cannot be changed afterwards."""
    path = written(tmp_path, 2)
    with path.open("ab") as file:
        file.write(b'{"n": 3, "time"')
    Ledger(path).append(egress(3))
    assert verify(path).n_entries == 4
    path.write_bytes(path.read_bytes().replace(b'"n": 3, "time"\n', b'"n": 4, "time"\n'))
    with pytest.raises(PrivacyError, match=r"line 3 .*\[P05\]"):
        verify(path)


def test_a_power_cut_before_the_head_is_no_fault(tmp_path: Path) -> None:
    """The line is written first: a head that is one behind is brought up with the next."""
    path = written(tmp_path, 2)
    head = head_file(path).read_bytes()
    Ledger(path).append(egress(3))
    head_file(path).write_bytes(head)
    assert verify(path).n_entries == 3
    Ledger(path).append(egress(4))
    assert json.loads(head_file(path).read_text())["n"] == 4


def add_many(path: Path, start: int) -> None:
    """Append ten entries from a process of its own."""
    for number in range(start, start + 10):
        Ledger(path).append(egress(number))


def test_processes_take_turns(tmp_path: Path) -> None:
    """Two writers at once give one chain."""
    path = tmp_path / "egress.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=add_many, args=(path, start)) for start in (1, 101)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert verify(path).n_entries == 20
    assert sorted(e["round"] for e in entries(path)) == [*range(1, 11), *range(101, 111)]


def test_what_cannot_be_written_down_is_an_error(tmp_path: Path) -> None:
    """A full or foreign disk stops the message, not the accounting."""
    (tmp_path / "ledger").write_text("a file where the folder should be")
    with pytest.raises(PrivacyError, match=r"ledger.*\[P07\]"):
        Ledger(tmp_path / "ledger/egress.jsonl").append(egress(1))
