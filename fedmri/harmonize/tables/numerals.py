"""Numbers as people write them: decimal commas, marks between thousands, codes for missing.

``legible`` turns the columns of a table into plain numerals where there is one way to read them.
Where there are two, the text stays and the column is named as unclear.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fedmri.harmonize.cautions import Caution, named
from fedmri.harmonize.combat.site_table import Array
from fedmri.harmonize.tables.column_names import hint

MISSING = frozenset(
    {"", "na", "n/a", "nan", "null", "none", ".", "-", "--", "---", "?", "n.a.", "#n/a", "<na>"}
    | {"nat", "nil", "not available", "#na", "#n/a n/a", "#value!", "#div/0!", "#num!", "#null!"}
    | {"#ref!", "#name?", "**", "***"}
)
"""How people write that they do not know, in small letters."""

_GROUPS = r"[ '\u2019\u00a0\u202f]"
_END = r"([eE][+-]?\d+)?"
_POINT = re.compile(rf"[+-]?(\d{{1,3}}((,|{_GROUPS})\d{{3}})+|\d+)?(\.\d*)?{_END}")
_COMMA = re.compile(rf"[+-]?(\d{{1,3}}((\.|{_GROUPS})\d{{3}})+|\d+)?(,\d*)?{_END}")
_MARKED = re.compile(rf"[.,]|{_GROUPS}")
_DIGIT = re.compile(r"\d")

CODED = frozenset({-9.0, -99.0, -999.0, -9999.0, -99999.0, -777.0, -888.0, -7777.0, -8888.0})
CODED_HIGH = frozenset({888.0, 999.0, 8888.0, 9999.0, 88888.0, 99999.0, 999999.0})
CODED_SMALL = frozenset({-1.0, -4.0, -8.0})
"""Numbers that data bases write for a value that is not known. They count as such only where no
other value of the column is near them."""
_NEVER_CODED = ("identifier", "date", "code")
FAR = 10.0
"""Distance to the middle, in interquartile ranges, from which on a value is not near the others."""
FEWEST = 4


@dataclass(frozen=True)
class Legible:
    """A table whose numbers all have a decimal point.

    Attributes:
        frame: The table; codes for missing values are empty.
        marks: Decimal mark of the columns that were written with another one than the point.
        unclear: Columns that can be read in two ways, with the first such value.
        cautions: Codes that were taken as missing.
    """

    frame: pd.DataFrame
    marks: Mapping[str, str]
    unclear: Mapping[str, str]
    cautions: tuple[Caution, ...]


def legible(
    frame: pd.DataFrame, separator: str, decimal: str = "", missing: tuple[str, ...] = ()
) -> Legible:
    """Return a table with plain numerals.

    Args:
        frame: Every cell a text.
        separator: Between the file's cells: with semicolons the decimal mark is a comma where
            nothing else decides.
        decimal: ``.`` or ``,`` where the user says so.
        missing: Further texts that stand for missing values.
    """
    stripped = {name: frame[name].str.strip() for name in frame.columns}
    readings = {
        name: found
        for name, column in stripped.items()
        if (found := _readings(column[~is_missing(column, missing)].tolist()))
    }
    decided = {next(iter(of)) for of in readings.values() if len(of) == 1}
    marks, unclear = {}, {}
    for name, of in readings.items():
        mark = _chosen(stripped[name], of, decided, (separator, decimal))
        if mark:
            marks[name] = mark
        else:
            unclear[name] = next(text for text in stripped[name] if _MARKED.search(text))
    new = {name: stripped[name].map(_plain(mark)) for name, mark in marks.items()}
    plain = frame.assign(**new) if new else frame
    coded, told = _without_codes(plain, missing)
    commas = {name: mark for name, mark in marks.items() if mark == ","}
    return Legible(coded, commas, unclear, told)


def is_missing(column: pd.Series, further: tuple[str, ...] = ()) -> pd.Series:
    """Tell which cells of a column, stripped of blanks, say that nothing is known."""
    return column.str.lower().isin(MISSING | {text.strip().lower() for text in further})


def _readings(texts: list[str]) -> frozenset[str]:
    """Return decimal marks under which all texts are numbers; none where no mark matters."""
    if not any(_MARKED.search(text) for text in texts):
        return frozenset()
    if not all(_DIGIT.search(text) for text in texts):
        return frozenset()
    patterns = {".": _POINT, ",": _COMMA}
    return frozenset(m for m, pattern in patterns.items() if all(map(pattern.fullmatch, texts)))


def _chosen(column: pd.Series, of: frozenset[str], decided: set[str], said: tuple[str, str]) -> str:
    """Return a column's decimal mark; nothing where it is unclear."""
    separator, decimal = said
    if len(of) == 1:
        return next(iter(of))
    if decimal:
        return decimal
    if column.str.contains(",", regex=False).any():
        # 1,234: with commas between the cells as well, only another column tells
        alone = next(iter(decided)) if len(decided) == 1 else ""
        return alone or ("," if separator == ";" else "")
    return "" if "," in decided else "."


def _plain(mark: str) -> Callable[[str], str]:
    """Return what takes marks between thousands out of a text and gives it a decimal point."""
    pattern = {".": _POINT, ",": _COMMA}[mark]

    def plain(text: str) -> str:
        if not _DIGIT.search(text) or not pattern.fullmatch(text):
            return text
        bare = re.sub(_GROUPS, "", text)
        return bare.replace(".", "").replace(",", ".") if mark == "," else bare.replace(",", "")

    return plain


def _without_codes(
    frame: pd.DataFrame, missing: tuple[str, ...]
) -> tuple[pd.DataFrame, tuple[Caution, ...]]:
    new, found = {}, []
    for name in frame.columns:
        column = frame[name].str.strip()
        of_user = column.str.lower().isin({text.strip().lower() for text in missing})
        values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float)
        codes = _codes(values) if hint(str(name)) not in _NEVER_CODED else np.zeros(0)
        is_coded = np.isin(values, codes) | of_user.to_numpy(dtype=bool)
        if is_coded.any():
            new[name] = frame[name].where(~is_coded, "")
        if len(codes):
            counts = Counter(values[np.isin(values, codes)].tolist())
            each = ", ".join(f"{n} times {code:g}" for code, n in sorted(counts.items()))
            found.append(f"{name} ({each})")
    if not new:
        return frame, ()
    said = f"Taken as missing, as no other value is near: {named(found, len(found))}."
    return frame.assign(**new), (Caution("H32", said),) if found else ()


def _codes(values: Array) -> Array:
    """Return which values of a column are codes for missing ones."""
    known = values[np.isfinite(values)]
    suspects = np.array(sorted(CODED | CODED_HIGH | CODED_SMALL))
    present = suspects[np.isin(suspects, known)]
    others = known[~np.isin(known, present)]
    if not len(present) or len(others) < FEWEST:
        return np.zeros(0)
    low, middle, high = np.quantile(others, (0.25, 0.5, 0.75))
    is_far = np.abs(present - middle) > FAR * max(high - low, 1e-9 * abs(middle))
    is_far &= (present < others.min()) | (present > others.max())
    is_low = (others.min() >= 0) & (present < 0) & np.isin(present, sorted(CODED))
    is_small = np.isin(present, sorted(CODED_SMALL))
    is_apart = is_far & (~is_small | (others.min() > 0))
    return np.asarray(present[is_low | is_apart], dtype=np.float64)
