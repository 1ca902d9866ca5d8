"""Which columns of a table measure something, by rule: a name's words, and what its cells hold.

A wrong guess rewrites an identifier, so a column is a feature only where both allow it. Where they
leave two answers, the column is unclear and its owner is asked.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedmri.errors import HarmonizeError
from fedmri.harmonize.cautions import named
from fedmri.harmonize.combat.site_table import Array
from fedmri.harmonize.tables.column_names import hint, says_code
from fedmri.harmonize.tables.numerals import is_missing

Part = Literal[
    "site", "covariate", "named", "feature", "identifier", "date", "about the subject",
    "acquisition", "code", "names the site", "constant", "text", "empty", "kept", "not named",
    "unclear",
]  # fmt: skip
"""What a column is; all but ``feature`` leave a table as they came."""

MANY_DIGITS = 16
"""Whole numbers of so many digits are not kept by arithmetic; they are identifiers."""
FEWEST = 6
"""Of fewer values nothing is told from their distribution."""
FEW_CODES = 20
FEW_LEVELS = 5
NEARLY_UNIQUE = 0.95

_WHOLE = re.compile(r"[+-]?\d+(\.0*)?")
_ZEROS = re.compile(r"[+-]?0\d+")
_DATE_TEXT = re.compile(
    r"\d{1,4}[-/.]([a-z]{3,9}|\d{1,2})[-/.]\d{1,4}([ tT].*)?|\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?",
    re.IGNORECASE,
)


_OF_TEXT: Mapping[str, Part] = {"identifier": "identifier", "subject": "about the subject"}


@dataclass(frozen=True)
class Judgement:
    """A column's part, and in words why it is unclear or left."""

    part: Part
    why: str = ""


@dataclass(frozen=True)
class Numbers:
    """The values of a column that are known, and the texts they were written with."""

    values: Array
    texts: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether none has a fraction."""
        return bool((self.values == np.round(self.values)).all())

    @property
    def n_distinct(self) -> int:
        """How many differ."""
        return len(np.unique(self.values))


def judge(name: str, column: pd.Series, sites: NDArray[np.str_] | None = None) -> Judgement:
    """Return the part of a column that nobody named.

    Args:
        name: Of the column.
        column: Its cells, plain numerals with a decimal point.
        sites: Site of each row, ``(n,)``; None where the table is of one site.
    """
    text = column.str.strip()
    known = ~is_missing(text)
    if not known.any():
        return Judgement("empty")
    values = pd.to_numeric(text[known], errors="coerce").to_numpy(dtype=float)
    if np.isnan(values).any():
        is_date = text[known].map(_DATE_TEXT.fullmatch).notna().mean() > 0.9
        says = hint(name)
        return Judgement("date" if is_date else _OF_TEXT.get(says, "text"))
    own = Numbers(values, tuple(text[known]))
    if sites is not None and _names_site(own.values, sites[known.to_numpy(dtype=bool)]):
        return Judgement("names the site")
    return looks_like(name, own) or _by_values(name, own)


def looks_like(name: str, own: Numbers) -> Judgement | None:
    """Return the part that a name, or the way its numbers are written, leaves no doubt of."""
    says = hint(name)
    if any(map(_ZEROS.fullmatch, own.texts)) or max(map(_n_digits, own.texts)) >= MANY_DIGITS:
        return Judgement("identifier", "numbers written as a code")
    if says == "date" or _is_calendar(own):
        return Judgement("date")
    if says == "identifier" and own.is_whole:
        return Judgement("identifier")
    if says in ("subject", "acquisition"):
        return Judgement("about the subject" if says == "subject" else "acquisition")
    return None


def _by_values(name: str, own: Numbers) -> Judgement:
    says, n = hint(name), len(own.values)
    if own.n_distinct == 1 and n > 1:
        return Judgement("constant")
    if says == "identifier":
        return Judgement("unclear", "named as an identifier, with fractions")
    if says == "percentage":
        return Judgement("unclear", "a percentage: harmonized values may leave 0 to 100")
    if n >= FEWEST and _is_code(name, own):
        return Judgement("code")
    if says == "measure" or n < FEWEST:
        return Judgement("feature")
    return _whole(own) if own.is_whole else _fractional(own)


def _is_code(name: str, own: Numbers) -> bool:
    is_binary = own.n_distinct <= 2
    is_rating = own.is_whole and says_code(name) and own.n_distinct <= FEW_CODES
    return is_rating or (is_binary and (own.is_whole or hint(name) != "measure"))


def _whole(own: Numbers) -> Judgement:
    """Judge whole numbers under a name that says nothing: a count, a score, a code, a number."""
    n = len(own.values)
    if own.n_distinct < NEARLY_UNIQUE * n:
        why = f"{own.n_distinct} different whole numbers: a count, a score or a code?"
        return Judgement("unclear", why)
    steps = np.diff(own.values)
    is_dense = np.ptp(own.values) + 1 <= 2 * n
    if is_dense or (steps > 0).all() or (steps < 0).all():
        return Judgement("identifier", "whole numbers in a row, one each")
    return Judgement("unclear", "whole numbers, hardly one twice: an identifier?")


def _fractional(own: Numbers) -> Judgement:
    if own.n_distinct <= FEW_LEVELS and len(own.values) >= FEW_LEVELS * own.n_distinct:
        return Judgement("unclear", f"{own.n_distinct} different values alone: a setting?")
    return Judgement("feature")


def refuse_unclear(parts: Mapping[str, Judgement]) -> None:
    """Ask for the columns whose part is unclear.

    Raises:
        HarmonizeError: There are some (H30).
    """
    unclear = {name: of.why for name, of in parts.items() if of.part == "unclear"}
    if not unclear:
        return
    each = [f"{name} ({why})" for name, why in unclear.items()]
    names = ",".join(listed(name) for name in list(unclear)[:8]) + ",…" * (len(unclear) > 8)
    fix = (
        f"say --also {names} to harmonize them, --keep {names} to leave them as they are, or "
        "all features with --features"
    )
    found = named(each, len(each))
    want = "columns that are clear, or named"
    raise HarmonizeError("H30", "part of columns", found=found, want=want, fix=fix)


def refuse_identifiers(frame: pd.DataFrame, features: Iterable[str]) -> None:
    """Refuse features that are identifiers or dates here: sums would tell of them.

    For features that another party named, before anything leaves.

    Raises:
        HarmonizeError: There is one (H31).
    """
    for name in features:
        part = sure_part(name, frame[name])
        if part:
            found = f"{part}s, as its name or the way it is written says"
            fix = "leave it out of the features; if it is a measure, rename it everywhere"
            what = f"column {name!r}"
            raise HarmonizeError("H31", what, found=found, want="a measure", fix=fix)


def sure_part(name: str, column: pd.Series) -> str:
    """Return ``identifier`` or ``date`` where name or writing leaves no doubt, else nothing."""
    text = column.str.strip()
    text = text[~is_missing(text)]
    values = pd.to_numeric(text, errors="coerce").to_numpy(dtype=float)
    if not len(values) or not np.isfinite(values).all():
        return ""
    found = looks_like(name, Numbers(values, tuple(text)))
    return found.part if found and found.part in ("identifier", "date") else ""


_PLURAL: Mapping[Part, str] = {
    "identifier": "identifiers",
    "date": "dates or times",
    "covariate": "covariates",
    "about the subject": "about the subject",
    "acquisition": "about the acquisition",
    "code": "codes or flags",
    "names the site": "one value a site",
    "constant": "constant",
    "text": "text",
    "empty": "empty",
    "kept": "kept by --keep",
    "site": "site",
    "named": "named by other options",
    "not named": "not among --features",
}


def left(parts: Mapping[str, Judgement]) -> list[tuple[str, tuple[str, ...]]]:
    """Return the columns that stay as they are, by what they are, in the order of a table."""
    by_part: dict[str, list[str]] = {}
    for name, of in parts.items():
        if of.part != "feature":
            by_part.setdefault(_PLURAL.get(of.part, of.part), []).append(name)
    return [(what, tuple(names)) for what, names in by_part.items()]


def listed(name: str) -> str:
    """Return a name as it can stand in a list with commas."""
    return f'"{name}"' if "," in name else name


def matched(columns: Iterable[str], wanted: Sequence[str]) -> dict[str, bool]:
    """Return the columns that names and patterns choose, and whether each was named in full.

    Args:
        columns: Of the table.
        wanted: Names, or patterns such as ``lh_*``.

    Raises:
        HarmonizeError: One chooses no column (H11).
    """
    there, found = list(columns), dict[str, bool]()
    for text in wanted:
        chosen = [text] if text in there else fnmatch.filter(there, text)
        if not chosen:
            shown = ", ".join(there[:8]) + ", …" * (len(there) > 8)
            fix = f"name columns as the header does: {shown}"
            what, missing = "table", f"no column {text!r}"
            raise HarmonizeError("H11", what, found=missing, want="the columns named", fix=fix)
        for name in chosen:
            found[name] = found.get(name, False) or name == text
    return found


def _n_digits(text: str) -> int:
    return len(text.lstrip("+-")) if _WHOLE.fullmatch(text) else 0


def _is_calendar(own: Numbers) -> bool:
    """Tell whether all are days written as yyyymmdd, of 1900 to 2100."""
    if not own.is_whole or own.values.min() < 19000101 or own.values.max() > 21001231:
        return False
    month, day = own.values // 100 % 100, own.values % 100
    return bool(((month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)).all())


def _names_site(values: Array, sites: NDArray[np.str_]) -> bool:
    """Tell whether a column has one value at each site, and not the same at all."""
    pairs = set(zip(sites.tolist(), values.tolist(), strict=True))
    n_sites = len({site for site, _ in pairs})
    return 1 < n_sites == len(pairs) < len(values) and len({value for _, value in pairs}) > 1
