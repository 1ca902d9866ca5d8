"""The egress ledger: a line for each message that left the site, each bound to the one before it.

A line is a JSON object; its ``prev`` is the SHA-256 of the line before. Lines are only ever
appended. A small head file beside the ledger counts them, since a chain cannot tell that its end
was cut off. Whoever can write to the site's disk can write a whole new chain: the ledger shows
mistakes and clumsy changes, and is proof to others only where its head was told to them in time.

A power cut may leave part of a line at the end. Its message never left, because a line is on the
disk before its message is handed over. The part stays where it is, and the next entry names it.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from fedmri.errors import PrivacyError, told
from fedmri.machine.files import PRIVATE_FILE, make_private_folder, write_whole

TORN = "torn"
FIRST = "0" * 64
"""What the first line has before it."""

TAIL = 1 << 16
"""Bytes at the end of a ledger in which its last line lies."""

N_UNCOUNTED = 2
"""Entries that may stand without a head: of a power cut in the first write after a torn one."""


@dataclass(frozen=True)
class Egress:
    """A message that is about to leave.

    Attributes:
        plan: Content hash of the plan.
        run: Name of the run.
        round: Round that it answers; None where the order could not be read.
        kind: Kind of answer, as ``fedmri.wire`` names it, or ``error``; ``letter`` is a word of a
            mailbox without values.
        n_bytes: Size of what leaves, without Flower's envelope.
        sha256: Digest of what leaves (see ``fedmri.clients.egress.border.digest_of``).
        what: Its records, in words.
        epsilon: Privacy loss; None where the plan has no differential privacy.
    """

    plan: str
    run: str
    round: int | None
    kind: str
    n_bytes: int
    sha256: str
    what: tuple[str, ...]
    epsilon: float | None = None


@dataclass(frozen=True)
class Chain:
    """What a ledger amounts to.

    Attributes:
        n_entries: Sound entries.
        sha256: Digest of the line of the last of them.
        torn: Bytes after it that are no entry: of a write that a power cut ended.
    """

    n_entries: int = 0
    sha256: str = FIRST
    torn: bytes = b""


class LedgerEntry(Protocol):
    """What a ledger can take: a dataclass whose ``kind`` tells its sort."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def kind(self) -> str:
        """Sort of entry; never ``torn``."""
        ...


class Ledger:
    """A ledger that can be added to; several processes may do so at once.

    Args:
        path: The ledger; made with its folder on first use, for its owner alone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, entry: LedgerEntry) -> None:
        """Write an entry; when this returns, it is on the disk.

        Raises:
            PrivacyError: The ledger was changed (P05) or cut (P06), or cannot be written (P07).
        """
        try:
            make_private_folder(self.path.parent)
            number = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, PRIVATE_FILE)
            try:
                fcntl.flock(number, fcntl.LOCK_EX)
                self._append(number, entry)
            finally:
                os.close(number)
        except OSError as error:
            raise unwritable(self.path, error) from error

    def _append(self, number: int, entry: LedgerEntry) -> None:
        chain = _quick_end(number, _head(self.path)) or verify(self.path)
        lines: list[bytes] = []
        if chain.torn:
            lines.append(b"")  # ends the part, so that it is a line of its own
            chain = _link(chain, {"kind": TORN, **_answered_for(chain.torn)}, lines)
        chain = _link(chain, asdict(entry), lines)
        _write_all(number, b"\n".join([*lines, b""]))
        os.fsync(number)
        head = {"n": chain.n_entries, "sha256": chain.sha256}
        write_whole(head_file(self.path), json.dumps(head), PRIVATE_FILE)


def head_file(path: Path) -> Path:
    """Return where the head of a ledger is kept."""
    return path.with_suffix(".head.json")


def unwritable(path: Path, error: OSError) -> PrivacyError:
    """Return the error of a ledger that cannot be added to (P07)."""
    found = told(error)
    fix = "make room on its disk, and let the client's user write there"
    return PrivacyError("P07", f"ledger {path}", found=found, want="a file to add to", fix=fix)


def entries(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries of a ledger, the oldest first; nothing is verified."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            entry = _parsed(line)
            if entry is not None:
                yield entry


REMEDY = "move it and its head away, and a new one begins"


def verify(path: Path, remedy: str = REMEDY) -> Chain:
    """Follow the chain from its first line to its head.

    Args:
        path: The ledger.
        remedy: What to do once it is known who changed or cut it.

    Raises:
        PrivacyError: A line was changed, removed, put in or moved (P05, with its number), or lines
            are missing at the end (P06).
    """
    head = _head(path)
    chain, first_odd = Chain(), 0
    for number, line in enumerate(_lines(path), 1):
        grown = _followed(chain, line)
        first_odd = first_odd or number
        if not grown.torn:
            first_odd = 0
        chain = grown
        if (chain.n_entries, chain.torn) == (head.n_entries, b"") and chain.sha256 != head.sha256:
            raise _changed(path, number, remedy)
    if first_odd and chain.n_entries < head.n_entries:
        raise _changed(path, first_odd, remedy)
    # Between a line and the head a power cut leaves the head behind, at first without a head.
    if chain.n_entries < head.n_entries or (not head.n_entries and chain.n_entries > N_UNCOUNTED):
        raise _cut(path, chain.n_entries, head.n_entries, remedy)
    return chain


def _followed(chain: Chain, line: bytes) -> Chain:
    """Return the chain with one more line of the file, an entry or part of what is torn."""
    entry, torn = _parsed(line), chain.torn
    is_next = entry is not None and (entry["n"], entry["prev"]) == (
        chain.n_entries + 1,
        chain.sha256,
    )
    if entry is None or not is_next:
        return Chain(chain.n_entries, chain.sha256, torn + line)
    part = torn.removesuffix(b"\n")
    wanted = {"kind": TORN, **_answered_for(part)} if torn else {}
    if (entry["kind"] == TORN) != bool(torn) or any(entry.get(k) != v for k, v in wanted.items()):
        return Chain(chain.n_entries, chain.sha256, torn + line)
    return Chain(entry["n"], _digest(line.removesuffix(b"\n")))


def _link(chain: Chain, fields: Mapping[str, Any], lines: list[bytes]) -> Chain:
    """Add the line of an entry to ``lines``; return the chain that ends with it."""
    time = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
    entry = {"n": chain.n_entries + 1, "time": time, **fields, "prev": chain.sha256}
    lines.append(json.dumps(entry).encode())
    return Chain(chain.n_entries + 1, _digest(lines[-1]))


def _answered_for(torn: bytes) -> dict[str, Any]:
    return {"n_bytes": len(torn), "sha256": _digest(torn)}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Return the entry of a whole line, or None where it is none."""
    if not line.endswith(b"\n"):
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    is_entry = isinstance(entry, dict) and {"n", "time", "kind", "prev"} <= entry.keys()
    return entry if is_entry else None


def _lines(path: Path) -> Iterator[bytes]:
    if path.exists():
        with path.open("rb") as file:
            yield from file


def _head(path: Path) -> Chain:
    """Return what the head file counts; nothing where there is none."""
    try:
        head = json.loads(head_file(path).read_text(encoding="utf-8"))
        return Chain(int(head["n"]), str(head["sha256"]))
    except FileNotFoundError:
        return Chain()
    except (ValueError, KeyError, TypeError):
        raise _cut(path, 0, 0) from None


def _quick_end(number: int, head: Chain) -> Chain | None:
    """Return the head where the file ends with its line; else the whole chain must be read."""
    size = os.fstat(number).st_size
    end = os.pread(number, TAIL, max(0, size - TAIL))
    is_end = end.endswith(b"\n") and _digest(end[:-1].rpartition(b"\n")[2]) == head.sha256
    return head if is_end else None


def _write_all(number: int, content: bytes) -> None:
    while content:
        content = content[os.write(number, content) :]


def _changed(path: Path, number: int, remedy: str = REMEDY) -> PrivacyError:
    found = f"line {number} does not follow from the line before it"
    want = "a chain without a break"
    fix = f"find out who changed it; then {remedy}"
    return PrivacyError("P05", f"ledger {path}", found=found, want=want, fix=fix)


def _cut(path: Path, n_found: int, n_counted: int, remedy: str = REMEDY) -> PrivacyError:
    found = f"{n_found} entries"
    want = f"{n_counted}, as {head_file(path).name} counts" if n_counted else "a head that counts"
    fix = f"find out who cut it; then {remedy}"
    return PrivacyError("P06", f"ledger {path}", found=found, want=want, fix=fix)
