"""Tables of text that are harmonized: they come back byte for byte but for their features."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pandas as pd

from fedmri.errors import HarmonizeError, told
from fedmri.harmonize.cautions import Caution
from fedmri.machine.delimited import (
    TableLine,
    Text,
    decoded,
    foreign_kind,
    is_quoted,
    lines_of,
    text_of,
)

SEPARATORS = "\t;,|"  # of two that fit alike the first: commas also stand in numbers
N_SNIFFED = 200
_EXCEL_SEPARATOR = re.compile(r"sep=(.)[^\r\n]*(\r\n|\n|\r)", re.IGNORECASE)


@dataclass(frozen=True)
class TableFile:
    """A table of text, and how it is written.

    Attributes:
        frame: Every cell a text without its quotes; a row each, columns by their names.
        places: Cell of a record that holds a column, by name.
        records: All lines, the header and empty ones among them.
        header: Which of them is the header; rows are those after it that are not empty.
        separator: Between cells.
        encoding: Of the text.
        lead: What comes before the first line: a mark of the encoding, Excel's ``sep=;``.
        cautions: What the reader of the result must be told.
    """

    frame: pd.DataFrame
    places: Mapping[str, int]
    records: tuple[TableLine, ...]
    header: int
    separator: str
    encoding: str
    lead: bytes
    cautions: tuple[Caution, ...] = ()

    def write(self, path: Path, new: Mapping[str, Sequence[str | None]], suffix: str) -> None:
        """Write the table with other texts in some columns, all else as it was.

        Args:
            path: Where to.
            new: By column a text for each row, or None to keep the cell.
            suffix: Of the file that was read: one of another kind gets that kind's separator.
        """
        is_alike = path.suffix.lower() == suffix.lower()
        separator = self.separator if is_alike else _by_name(path)
        lead = self.lead if is_alike or b"=" not in self.lead else b""
        rows = iter(zip(*new.values(), strict=True)) if new else iter(())
        places = [self.places[name] for name in new]
        text = io.StringIO()
        for number, record in enumerate(self.records):
            cells = list(record.cells)
            if number > self.header and not record.is_blank and new:
                for place, written in zip(places, next(rows), strict=True):
                    if written is not None:
                        cells[place] = _replaced(cells[place], written, separator)
            if separator != self.separator:
                cells = [_quoted(text_of(cell), separator) for cell in cells]
            text.write(separator.join(cells) + record.end)
        path.write_bytes(lead + text.getvalue().encode(self.encoding))

    def with_rows(self, is_kept: Sequence[bool]) -> bytes:
        """Return the table with some of its rows, each as it was."""
        kept, text = iter(is_kept), io.StringIO()
        for number, record in enumerate(self.records):
            is_row = number > self.header and not record.is_blank
            if not is_row or next(kept):
                text.write(self.separator.join(record.cells) + record.end)
        return self.lead + text.getvalue().encode(self.encoding)


def read_table(path: Path) -> TableFile:
    """Read a table of text, whatever its encoding and what stands between its values.

    Raises:
        HarmonizeError: The file cannot be read or is no table of text (H28), or what is in it is no
            table with a header, one name a column and as many values in each row (H11).
    """
    read = _text(path)
    text, encoding, lead = read.text, read.encoding, read.mark
    told = []
    if read.is_guessed:
        said = (
            f"{path.name} is not UTF-8; it was read and written as {encoding} (Western European)."
        )
        told.append(Caution("H29", said))
    directive = _EXCEL_SEPARATOR.match(text)
    if directive:
        lead += directive[0].encode(encoding)
        text = text[directive.end() :]
    separator = directive[1] if directive else _separator(text, path)
    records = tuple(lines_of(text, separator))
    return _table(path, records, separator, encoding, (lead, told))


def table_of_frame(frame: pd.DataFrame) -> TableFile:
    """Return a table as pandas would write it; single precision is written as double.

    Raises:
        HarmonizeError: Two columns have one name (H11).
    """
    narrow = frame.select_dtypes("float32").columns
    text = frame.astype(dict.fromkeys(narrow, "float64")).to_csv(index=False, lineterminator="\n")
    return _table(Path("DataFrame"), tuple(lines_of(text, ",")), ",", "utf-8", (b"", []))


def _bytes(path: Path) -> bytes:
    fix = "name a CSV or TSV file that can be read"
    try:
        raw = path.read_bytes()
    except OSError as error:
        found = "a folder" if path.is_dir() else told(error)
        raise HarmonizeError(
            "H28", f"table {path}", found=found, want="a file of text", fix=fix
        ) from error
    if kind := foreign_kind(raw):
        fix = "open it in the program that wrote it and save it as CSV (UTF-8)"
        raise HarmonizeError("H28", f"table {path}", found=kind, want="CSV or TSV text", fix=fix)
    return raw


def _text(path: Path) -> Text:
    text = decoded(_bytes(path))
    if text is None:
        fix = "save it as CSV in UTF-8; if it was cut off, write it again"
        found = "bytes that are no text"
        raise HarmonizeError("H28", f"table {path}", found=found, want="CSV or TSV text", fix=fix)
    return text


def _separator(text: str, path: Path) -> str:
    """Return the separator that gives most rows as many values as the header, and most of them."""
    best, chosen = (0.0, 1), _by_name(path)
    for separator in SEPARATORS:
        filled = (record for record in lines_of(text, separator) if not record.is_blank)
        counts = [len(record.cells) for record in islice(filled, N_SNIFFED)]
        if counts and counts[0] > 1:
            share = sum(count == counts[0] for count in counts) / len(counts)
            if (round(share, 1), counts[0]) > best:
                best, chosen = (round(share, 1), counts[0]), separator
    return chosen


def _by_name(path: Path) -> str:
    return "\t" if path.suffix.lower() in (".tsv", ".tab") else ","


def _table(
    path: Path,
    records: tuple[TableLine, ...],
    separator: str,
    encoding: str,
    rest: tuple[bytes, list[Caution]],
) -> TableFile:
    lead, told = rest
    filled = [k for k, record in enumerate(records) if not record.is_blank]
    if not filled:
        raise _unfit(path, "nothing", "a table", "give a table with a header and rows")
    header, *numbers = filled
    rows = [records[k] for k in numbers]
    places = _places(path, records[header], rows)
    if len(places) == 1:
        found = f"one column, {next(iter(places))[:60]!r}"
        fix = "put commas, semicolons or tabs between values; blanks do not part them"
        if any(len(row.cells) > 2 for row in rows):
            fix = "remove the lines above the names of the columns"
        raise _unfit(path, found, "a site and features", fix)
    told += _uneven(path, rows, places)
    if not rows:
        raise _unfit(path, "no rows", "rows", "give a row for each subject or scan")
    columns = {
        name: [text_of(row.cells[place]) if place < len(row.cells) else "" for row in rows]
        for name, place in places.items()
    }
    frame = pd.DataFrame(columns, dtype=str)
    return TableFile(frame, places, records, header, separator, encoding, lead, tuple(told))


def _places(path: Path, header: TableLine, rows: Sequence[TableLine]) -> dict[str, int]:
    """Return the columns: of those without a name, the ones that hold anything."""
    names = [unicodedata.normalize("NFC", text_of(cell).strip()) for cell in header.cells]
    if all(re.fullmatch(r"[+-]?[\d.,]+", name) for name in names):
        found = f"a first row of numbers ({', '.join(names[:3])})"
        fix = "write the columns' names in the first row"
        raise _unfit(path, found, "a header", fix)
    places: dict[str, int] = {}
    for place, name in enumerate(names):
        is_used = bool(name) or any(
            text_of(row.cells[place]).strip() for row in rows if place < len(row.cells)
        )
        name = name or f"Unnamed: {place}"
        if is_used and name in places:
            raise _unfit(path, f"two columns {name!r}", "one name each", "rename one of them")
        if is_used:
            places[name] = place
    return places


def _uneven(path: Path, rows: Sequence[TableLine], places: Mapping[str, int]) -> list[Caution]:
    """Refuse rows with more values than the header, or a last one cut off; tell of short ones."""
    n_header = max(places.values()) + 1
    long = [k for k, row in enumerate(rows) if any(map(str.strip, row.cells[n_header:]))]
    if long:
        found = f"rows longer than the header, the first row {long[0] + 1}"
        fix = "give each row as many values as the header has"
        if len(long) == len(rows) and {len(row.cells) for row in rows} == {n_header + 1}:
            fix = "name the first column too (in R: row.names=FALSE or col.names=NA)"
        raise _unfit(path, found, "rows", fix)
    short = [k for k, row in enumerate(rows) if len(row.cells) < n_header]
    if short and short[-1] == len(rows) - 1 and not rows[-1].end:
        found = f"a last row of {len(rows[-1].cells)} values, cut off"
        raise _unfit(path, found, f"{n_header}", "write the table again: its end is missing")
    if not short:
        return []
    said = f"{len(short)} rows end early, the first row {short[0] + 1}; the rest of each is empty."
    return [Caution("H29", said)]


def _replaced(cell: str, written: str, separator: str) -> str:
    return f'"{written}"' if is_quoted(cell) else _quoted(written, separator)


def _quoted(text: str, separator: str) -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=separator, lineterminator="").writerow([text])
    return "" if not text else out.getvalue()


def _unfit(path: Path, found: str, want: str, fix: str) -> HarmonizeError:
    return HarmonizeError("H11", f"table {path}", found=found, want=want, fix=fix)
