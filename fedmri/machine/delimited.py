"""Text tables as people write them: any encoding, any separator, and every cell as it is written.

One reader of our own serves tables of subjects and tables that are harmonized. pandas and the
``csv`` module forget quotes, blanks and line ends, so no table could come back byte for byte. They
fill a short row in silence, where a site needs the number of its line.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_FOREIGN = (
    (b"PK\x03\x04", "an Excel workbook (.xlsx) or another archive"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook (.xls)"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"$FL2", "an SPSS file (.sav)"),
    (b"PAR1", "a Parquet file"),
    (b"RDX", "an R data file"),
    (b"%PDF", "a PDF"),
    (b"{\\rtf", "a text document (.rtf)"),
    (b"version https://git-lfs", "a pointer of Git LFS instead of the file itself"),
    (b"/annex/objects/", "a pointer of git-annex instead of the file itself"),
    (b"<", "a web page (HTML or XML), as some programs save under .xls"),
)
_TWINS = str.maketrans(
    "\u0430\u0432\u0435\u043a\u043c\u043d\u043e\u0440\u0441\u0442\u0443\u0445\u0456"
    "\u03b1\u03b2\u03b5\u03b9\u03ba\u03bd\u03bf\u03c1\u03c4\u03c5\u03c7",
    "abekmhopctyxi" + "abeiknoptyx",
)
"""Small Cyrillic and Greek letters whose capitals look like Latin ones."""

UNKNOWN = frozenset(
    {"n/a", "nan", "none", "null", "unknown", "unk", "missing", "undefined", "not available"}
    | {"not known", "not applicable", "#n/a", "#na", "<na>", "?", "??", ".", "-", "--", "n.a."}
    | {"not specified", "unspecified", "not recorded", "not provided", "tbd", "to be determined"}
)
"""Words in place of a name; not ``NA``, which may be one."""

_QUOTED = re.compile(r'[ ]*"([^"]*(?:""[^"]*)*)"[ ]*')


@dataclass(frozen=True)
class TableLine:
    """One line of a table: its cells as they are written, and what ended it."""

    cells: tuple[str, ...]
    end: str

    @property
    def is_blank(self) -> bool:
        """Whether nothing stands in it."""
        return not any(map(text_of, self.cells))


@dataclass(frozen=True)
class Text:
    """The text of a file, its encoding, and the mark of the encoding before it."""

    text: str
    encoding: str
    mark: bytes

    @property
    def is_guessed(self) -> bool:
        """Whether the file is not Unicode, so that letters beyond ASCII may be other ones."""
        return self.encoding in ("cp1252", "latin-1")


def foreign_kind(raw: bytes) -> str:
    """Return what a file is that is known to be no text table, or nothing."""
    start = raw[:64].lstrip()
    return next((kind for sign, kind in _FOREIGN if start.startswith(sign)), "")


def decoded(raw: bytes) -> Text | None:
    """Return the text of a file in UTF-8, UTF-16, UTF-32 or Western European; None for no text."""
    mark, encoding = next(
        ((mark, name) for mark, name in _MARKS if raw.startswith(mark)), (b"", "")
    )
    body = raw[len(mark) :]
    encoding = encoding or _unmarked(body)
    is_open = encoding == "utf-8" and not mark
    for name in (encoding, "cp1252", "latin-1") if is_open else (encoding,):
        try:
            text = body.decode(name)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return Text(text, name, mark)
    return None


def lines_of(text: str, separator: str, *, may_span: bool = True) -> Iterator[TableLine]:
    """Yield the lines of a table, empty ones among them.

    Args:
        text: The table.
        separator: Between cells.
        may_span: Whether a cell in quotes may hold ends of lines.
    """
    mark = re.escape(separator)
    inner = r'[^"]' if may_span else r'[^"\r\n]'
    cell = re.compile(
        rf'([ ]*"{inner}*(?:""{inner}*)*"[ ]*(?={mark}|[\r\n]|\Z)|[^{mark}\r\n]*)'
        rf"({mark}|\r\n|\n|\r|\Z)"
    )
    cells: list[str] = []
    for found in cell.finditer(text):
        cells.append(found[1])
        if found[2] != separator:
            yield TableLine(tuple(cells), found[2])
            cells = []


def is_unknown(name: str) -> bool:
    """Tell whether a cell says that a name is not known: empty, ``unknown`` or ``-999``."""
    plain = tidied(name).casefold()
    return not plain or plain in UNKNOWN or bool(re.fullmatch(r"-9+(\.0*)?", plain))


def tidied(name: str) -> str:
    """Return a name in one form of Unicode (NFC), without what cannot be seen or told apart."""
    visible = "".join(" " if unicodedata.category(c) == "Zs" else c for c in name)
    kept = "".join(c for c in visible if unicodedata.category(c) not in {"Cc", "Cf", "Cs"})
    return " ".join(unicodedata.normalize("NFC", kept).split())


def blurred(name: str) -> str:
    """Return a name without what readers overlook, to find two spellings of one name.

    Such are case, accents, blanks, hyphens, zeros in front, and letters of other alphabets that
    look alike.
    """
    letters = unicodedata.normalize("NFKD", name.casefold()).casefold().translate(_TWINS)
    plain = re.sub(r"[^\w.]|_", "", "".join(c for c in letters if not unicodedata.combining(c)))
    return re.sub(r"(?<![\d.])0+(?=\d)", "", re.sub(r"(?<=\d)\.0+$", "", plain))


def is_quoted(cell: str) -> bool:
    """Tell whether a cell is written in quotes."""
    return _QUOTED.fullmatch(cell) is not None


def text_of(cell: str) -> str:
    """Return what a cell says, without quotes around it; blanks inside quotes stay."""
    quoted = _QUOTED.fullmatch(cell) if '"' in cell else None
    return quoted[1].replace('""', '"') if quoted else cell


def _unmarked(body: bytes) -> str:
    """Return UTF-16 where every other byte is 0, else UTF-8."""
    start = body[:4096]
    for offset, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        some = start[offset::2]
        if len(some) > 1 and some.count(0) > 0.6 * len(some):
            return name
    return "utf-8"
