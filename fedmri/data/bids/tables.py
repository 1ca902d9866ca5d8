"""Subject tables (TSV), read without trust in what they hold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedmri.data.files.pointers import refuse_pointer
from fedmri.data.scans import Finding
from fedmri.errors import DataError
from fedmri.machine.delimited import TableLine, decoded, foreign_kind, lines_of, text_of

MAX_TABLE_BYTES = 64 * 2**20
MISSING = frozenset({"", "n/a", "nan"})  # BIDS writes n/a; not "NA", which may be a site's name
SEPARATORS = {",": "commas", ";": "semicolons", "|": "bars", " ": "spaces"}

END_OF_FILE = b"\x1a"
"""What programs of DOS write after the last line."""

_BINARY = re.compile("[\\x00-\\x08\\x0e-\\x1f]")

Row = Mapping[str, str]


@dataclass(frozen=True)
class SubjectTable:
    """Rows of a subject table.

    Attributes:
        columns: Names of the columns, in the file's order.
        rows: Cells by column; missing values are ``""``.
        findings: What was odd and could be read all the same.
    """

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...] = ()


def read_table(path: Path, required: str) -> SubjectTable:
    """Read a tab-separated table: UTF-8, UTF-16 or Western European.

    Args:
        path: The ``.tsv`` file.
        required: Column that must be there.

    Returns:
        The table; a row whose cells do not fit the header is left out with a finding.

    Raises:
        DataError: The table is too large, binary, empty, or lacks the column (D05), or only a
            pointer to it is there (D58).
    """
    text, findings = _decode(path)
    lines = ((n, _cells(line)) for n, line in enumerate(_lines(text), start=1))
    filled = [(n, cells) for n, cells in lines if any(cells)]
    if not filled:
        raise _unusable(path, "no line", "a header and rows", "write the table again")
    columns = _columns([cells for _, cells in filled])
    _check_header(path, columns, required)
    rows: list[Row] = []
    for number, written in filled[1:]:
        # spreadsheets write tabs after the last column
        cells = (*written[: len(columns)], *_without_end(written[len(columns) :]))
        if len(cells) == len(columns):
            values = ["" if cell.lower() in MISSING else cell for cell in cells]
            rows.append(dict(zip(columns, values, strict=True)))
        else:
            found = (
                f"line {number} of {path.name} has {len(cells)} cells, the header {len(columns)}"
            )
            findings.append(Finding("D05", found, is_excluded=False))
    return SubjectTable(columns, tuple(rows), tuple(findings))


def rows_by(table: SubjectTable, column: str) -> tuple[dict[str, Row], list[Finding]]:
    """Index a table by a column that should be unique.

    Args:
        table: The table.
        column: Column of the identifiers.

    Returns:
        One row by identifier, and findings: rows that repeat each other are one row with a
        warning; rows that contradict each other are left out, and whom they concern is excluded.
    """
    groups: dict[str, list[Row]] = {}
    for row in table.rows:
        groups.setdefault(row[column], []).append(row)
    chosen: dict[str, Row] = {}
    findings: list[Finding] = []
    for name, rows in groups.items():
        is_same = all(row == rows[0] for row in rows)
        if not name:
            findings.append(Finding("D05", f"{len(rows)} rows without {column}", is_excluded=False))
            continue
        if len(rows) > 1:
            says = "the same" if is_same else "different things"
            reason = f"{name} has {len(rows)} rows that say {says}"
            findings.append(Finding("D18", reason, subject=name, is_excluded=not is_same))
        if is_same:
            chosen[name] = rows[0]
    return chosen, findings


def _lines(text: str) -> Iterator[TableLine]:
    # A line is a row: an inch mark that nobody closed must not take the next rows with it.
    return lines_of(text, "\t", may_span=False)


def _cells(line: TableLine) -> tuple[str, ...]:
    return tuple(text_of(cell.strip()).strip() for cell in line.cells)


def _columns(lines: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the header without the columns at its end that hold nothing in any row."""
    header, *rows = lines
    n_filled = max(len(_without_end(cells[: len(header)])) for cells in (header, *rows))
    return header[:n_filled]


def _without_end(cells: tuple[str, ...]) -> tuple[str, ...]:
    """Return cells without the empty ones at the end."""
    n_filled = max((place for place, cell in enumerate(cells, start=1) if cell), default=0)
    return cells[:n_filled]


def _decode(path: Path) -> tuple[str, list[Finding]]:
    refuse_pointer(path, f"table {path}")
    try:
        if not path.is_file():
            raise _unusable(path, "no file", "a TSV file", "put it there")
        n_bytes = path.stat().st_size
        if n_bytes > MAX_TABLE_BYTES:
            want = f"at most {MAX_TABLE_BYTES} bytes"
            raise _unusable(path, f"{n_bytes} bytes", want, "keep one row a subject or image")
        raw = path.read_bytes().rstrip(END_OF_FILE)
    except OSError as error:
        raise _unusable(path, str(error), "a readable file", "check the rights") from error
    found = decoded(raw)
    if kind := foreign_kind(raw):
        raise _unusable(path, kind, "text", "export it as tab-separated text")
    if found is None or _BINARY.search(found.text):
        raise _unusable(path, "binary content", "text", "export it as tab-separated text")
    if not found.is_guessed:
        return found.text, []
    reason = f"{path.name} is not UTF-8 and was read as {found.encoding} (Western European)"
    return found.text, [Finding("D05", reason, is_excluded=False)]


def _check_header(path: Path, columns: tuple[str, ...], required: str) -> None:
    if len(set(columns)) < len(columns):
        twice = sorted({name for name in columns if columns.count(name) > 1})
        raise _unusable(path, f"columns {twice} twice", "each column once", "rename one")
    if required not in columns:
        named = ", ".join(columns)[:200]
        want = f"a column {required!r}, separated by tabs"
        raise _unusable(path, f"columns {named!r}", want, _mend_header(columns, required))


def _mend_header(columns: tuple[str, ...], required: str) -> str:
    """Return what puts a header right: another separator, another name, or one column more."""
    for separator, name in SEPARATORS.items():
        if required in [cell.strip(" \"'") for cell in columns[0].split(separator)]:
            return f"write the table with tabs in place of {name}"
    near = [name for name in columns if _plain(name) == _plain(required)]
    return f"rename the column {near[0]!r}" if near else f"add the column {required!r}"


def _plain(name: str) -> str:
    """Return a name without case and signs: ``Participant ID`` is ``participantid``."""
    return re.sub(r"[\W_]", "", name).casefold()


def _unusable(path: Path, found: str, want: str, fix: str) -> DataError:
    return DataError("D05", f"table {path}", found=found, want=want, fix=fix)
