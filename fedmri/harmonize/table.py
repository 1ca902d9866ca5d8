"""A table of subjects, divided by site: which columns are what, and what in them is a number."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedmri.errors import HarmonizeError
from fedmri.harmonize.cautions import Caution
from fedmri.harmonize.site_table import Array, SiteTable

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", ".", "-", "?"})
"""How people write that they do not know, in small letters."""

_WRITTEN_NUMBER = re.compile(r"[+-]?\d{1,3}([ ,.']\d{3})*([.,]\d+)?")
"""A number as people write it: with a decimal comma, or marks between thousands."""
_IDENTIFIER = re.compile(r"(.*[_ ])?(id|index|subject|session|ses|run)|unnamed.*", re.IGNORECASE)


Kept = Mapping[str, tuple[str, ...]]
"""Covariates by name: of a category all levels, the first one the baseline; of a number none."""


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are what.

    Attributes:
        site: Column that holds the site.
        pattern: Regular expression whose first group is the site in that column; whole if empty.
        covariates: To be kept; text is taken as categories.
        categorical: Those of them whose numbers are names of categories.
        features: To be harmonized; without any, all columns of numbers with no other part.
        others: Columns that are no features: target, training flag, subject.
    """

    site: str
    pattern: str = ""
    covariates: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cohort:
    """The subjects of all sites in one place, as a simulation has them; rows as in the table.

    Attributes:
        sites: Site of each row, shape ``(n,)``.
        features: Names, p of them.
        values: Shape ``(n, p)``; NaN where missing.
        columns: Names of the covariate columns, q of them: ``age``, ``sex=M``.
        covariates: Shape ``(n, q)``; NaN where missing.
        kept: What the covariates are made of.
    """

    sites: NDArray[np.str_]
    features: tuple[str, ...]
    values: Array
    columns: tuple[str, ...]
    covariates: Array
    kept: Kept = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Sites in ascending order."""
        return tuple(sorted(set(self.sites.tolist())))

    @property
    def has_covariates(self) -> NDArray[np.bool_]:
        """Whether a row has all covariates, shape ``(n,)``."""
        return np.asarray(np.isfinite(self.covariates).all(axis=1), dtype=np.bool_)

    def table(self, site: str, rows: NDArray[np.bool_]) -> SiteTable:
        """Return some rows of a site."""
        chosen = (self.sites == site) & rows
        return SiteTable(site, self.values[chosen], self.covariates[chosen])


def read(path: Path) -> pd.DataFrame:
    """Read a table as it is written, every cell a text; tabs in ``.tsv``, else commas.

    Raises:
        HarmonizeError: The file is no such table, is empty, or two columns have one name (H11).
    """
    separator = separator_of(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file, delimiter=separator), [])
        frame = pd.read_csv(
            path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig"
        )
    except (OSError, ValueError) as error:
        fix = "give a table with a header, values between commas (tabs in .tsv), in UTF-8"
        found = str(error).splitlines()[0]
        what = f"table {path}"
        raise HarmonizeError("H11", what, found=found, want="a table", fix=fix) from error
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        fix = "rename one of them"
        found = f"two columns {twice[0]!r}"
        raise HarmonizeError("H11", f"table {path}", found=found, want="one name each", fix=fix)
    if frame.empty or not isinstance(frame.index, pd.RangeIndex):
        found = "no rows" if frame.empty else "rows longer than the header"
        fix = "give each row as many values as the header has"
        raise HarmonizeError("H11", f"table {path}", found=found, want="rows", fix=fix)
    return frame.fillna("")


def separator_of(path: Path) -> str:
    """Return what stands between the values of a table, by its file's name."""
    return "\t" if path.suffix.lower() == ".tsv" else ","


def cohort(frame: pd.DataFrame, columns: Columns) -> Cohort:
    """Return the numbers of a table.

    Raises:
        HarmonizeError: A column is missing or holds text where numbers are wanted (H11); a row has
            no site (H13).
    """
    named = (columns.site, *columns.covariates, *columns.categorical, *columns.features)
    refuse_missing_columns(frame, (*named, *columns.others))
    sites = _sites(frame[columns.site], columns.pattern)
    features = columns.features or _numeric_columns(frame, columns, sites)
    if not features:
        fix = "name them with --features"
        what = "features of the table"
        raise HarmonizeError("H11", what, found="none", want="columns of numbers", fix=fix)
    kept = {n: _levels(frame[n], is_category=n in columns.categorical) for n in columns.covariates}
    return _cohort(frame, sites, tuple(features), kept)


def cohort_like(frame: pd.DataFrame, columns: Columns, kept: Kept) -> Cohort:
    """Return the numbers of a table in the order and coding of an earlier one.

    Args:
        frame: The table.
        columns: Its site, and the features of the earlier one.
        kept: Covariates of the earlier one.

    Raises:
        HarmonizeError: A column is missing or holds text where numbers are wanted (H11), a row has
            no site (H13), or a level is none of the earlier ones (H05).
    """
    refuse_missing_columns(frame, (columns.site, *columns.features, *kept))
    return _cohort(frame, _sites(frame[columns.site], columns.pattern), columns.features, kept)


def _cohort(
    frame: pd.DataFrame, sites: NDArray[np.str_], features: tuple[str, ...], kept: Kept
) -> Cohort:
    values = np.column_stack([wanted_numbers(frame[name], name) for name in features])
    return Cohort(sites, features, values, kept_columns(kept), coded(frame, kept), kept)


def kept_columns(kept: Kept) -> tuple[str, ...]:
    """Return the columns of covariates: a number itself, of a category each level but the first."""
    return tuple(
        column
        for name, levels in kept.items()
        for column in ([f"{name}={level}" for level in levels[1:]] if levels else [name])
    )


def coded(frame: pd.DataFrame, kept: Kept) -> Array:
    """Return the covariates of a table as columns, shape ``(n, q)``; NaN where missing.

    Raises:
        HarmonizeError: A number is text (H11), or a level is none of the known ones (H05).
    """
    parts = [_coded(frame[name], name, levels) for name, levels in kept.items()]
    return np.column_stack([np.zeros((len(frame), 0)), *parts])


def refuse_missing_columns(frame: pd.DataFrame, names: Sequence[str]) -> None:
    """Refuse names that are no column (H11)."""
    missing = [name for name in names if name not in frame.columns]
    if missing:
        shown = ", ".join(map(str, frame.columns[:8]))
        fix = f"name columns as the header does: {shown}" + ", …" * (len(frame.columns) > 8)
        found = f"no column {', '.join(map(repr, missing))}"
        raise HarmonizeError("H11", "table", found=found, want="the columns named", fix=fix)


def numbers(column: pd.Series) -> tuple[Array, NDArray[np.bool_]]:
    """Return a column as numbers, NaN where missing, and where it holds other text."""
    text = column.str.strip()
    is_missing = text.str.lower().isin(MISSING).to_numpy(dtype=bool)
    values = pd.to_numeric(text.where(~is_missing, "nan"), errors="coerce").to_numpy(dtype=float)
    return values, np.isnan(values) & ~is_missing


def with_features(frame: pd.DataFrame, found: Cohort, clean: Array) -> pd.DataFrame:
    """Return the table with harmonized features; what did not change keeps its very text."""
    new = {}
    for k, name in enumerate(found.features):
        before, after = found.values[:, k], clean[:, k]
        is_same = (before == after) | (np.isnan(before) & np.isnan(after))
        written = ["" if np.isnan(value) else repr(float(value)) for value in after]
        new[name] = np.where(is_same, frame[name].to_numpy(dtype=object), written)
    replaced = pd.DataFrame(new, index=frame.index, dtype=object)
    others = frame.drop(columns=list(new))
    return pd.concat([others, replaced], axis=1)[list(frame.columns)]


def _sites(column: pd.Series, pattern: str) -> NDArray[np.str_]:
    text = column.str.strip()
    try:
        found = text.str.extract(f"({pattern})" if not re.compile(pattern).groups else pattern)[0]
    except re.error as error:
        fix = "give a regular expression such as ^(.*)_sub"
        what = f"pattern {pattern!r}"
        raise HarmonizeError("H13", what, found=str(error), want="one", fix=fix) from error
    sites = (text if not pattern else found.fillna("")).to_numpy(dtype=str)
    is_unknown = np.isin(np.char.lower(sites), list(MISSING))
    if is_unknown.any():
        first = int(np.flatnonzero(is_unknown)[0])
        found_text = f"{int(is_unknown.sum())} rows without one, the first row {first + 1}"
        fix = "fill the column in, or correct the pattern: its first group is the site"
        what = f"site in column {column.name!r}"
        raise HarmonizeError("H13", what, found=found_text, want="one in each row", fix=fix)
    return sites


def _numeric_columns(frame: pd.DataFrame, columns: Columns, sites: NDArray[np.str_]) -> list[str]:
    """Return columns of numbers, without identifiers and without names of the site as a number."""
    taken = {columns.site, *columns.covariates, *columns.others}
    found = []
    for name in frame.columns:
        if name in taken or _IDENTIFIER.fullmatch(str(name)):
            continue
        values, is_text = numbers(frame[name])
        if not is_text.any() and np.isfinite(values).any() and not _names_site(values, sites):
            found.append(str(name))
    return found


def nearly_numbers(frame: pd.DataFrame, columns: Columns) -> list[Caution]:
    """Return what is to be told of columns that are no features because some values are text.

    Without this, one stray word would leave a measurement out and nobody would notice.
    """
    if columns.features:
        return []
    taken = {columns.site, *columns.covariates, *columns.others}
    free = (n for n in frame.columns if n not in taken and not _IDENTIFIER.fullmatch(str(n)))
    return [caution for name in free for caution in _nearly_numbers(frame[name])]


def _nearly_numbers(column: pd.Series) -> list[Caution]:
    values, is_text = numbers(column)
    text = column.str.strip()
    looks_like = ~np.isnan(values) | text.map(_WRITTEN_NUMBER.fullmatch).notna().to_numpy()
    n_filled = int((~np.isnan(values) | is_text).sum())
    if not is_text.any() or 2 * int(looks_like.sum()) < n_filled:
        return []
    first = int(np.flatnonzero(is_text)[0])
    said = (
        f"Column {column.name!r} was left as it is: {int(is_text.sum())} of {n_filled} values are "
        f"no numbers, the first {text.iloc[first]!r} in row {first + 1}. Correct it to have it "
        "harmonized."
    )
    return [Caution("H11", said)]


def _names_site(values: Array, sites: NDArray[np.str_]) -> bool:
    """Tell whether a column has one value at each site, and not the same at all."""
    rows = [(s, v) for s, v in zip(sites.tolist(), values.tolist(), strict=True) if v == v]
    pairs = set(rows)
    n_values, n_sites = (len(set(part)) for part in zip(*pairs, strict=True))
    return 1 < n_sites == len(pairs) < len(rows) and n_values > 1


def wanted_numbers(column: pd.Series, name: str) -> Array:
    """Return a column as numbers, NaN where missing; refuse other text (H11)."""
    values, is_text = numbers(column)
    if is_text.any():
        first = int(np.flatnonzero(is_text)[0])
        found = f"{column.iloc[first]!r} in row {first + 1}"
        fix = "correct it, leave it empty, or do not name this column"
        raise HarmonizeError("H11", f"column {name!r}", found=found, want="numbers", fix=fix)
    return values


def _levels(column: pd.Series, *, is_category: bool) -> tuple[str, ...]:
    """Return the levels of a category in ascending order; none of a number."""
    _, is_text = numbers(column)
    if not is_category and not is_text.any():
        return ()
    text = column.str.strip()
    return tuple(sorted(set(text[~text.str.lower().isin(MISSING)])))


def _coded(column: pd.Series, name: str, levels: tuple[str, ...]) -> Array:
    if not levels:
        return wanted_numbers(column, name)[:, None]
    text = column.str.strip()
    is_missing = text.str.lower().isin(MISSING).to_numpy(dtype=bool)
    strange = sorted(set(text[~is_missing]) - set(levels))
    if strange:
        fix = "correct the table, or fit again with that level"
        what, want = f"column {name!r}", " or ".join(levels)
        raise HarmonizeError("H05", what, found=repr(strange[0]), want=want, fix=fix)
    each = [(text == level).to_numpy(dtype=float) for level in levels[1:]]
    values: Array = np.column_stack([np.zeros((len(text), 0)), *each])
    values[is_missing] = np.nan
    return values


def write(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as ``read`` reads it."""
    frame.to_csv(path, sep=separator_of(path), index=False, lineterminator="\n")
