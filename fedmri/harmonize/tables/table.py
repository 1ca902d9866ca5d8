"""A table of subjects, divided by site: which columns are what, and what in them is a number."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedmri.errors import HarmonizeError
from fedmri.harmonize.cautions import Caution
from fedmri.harmonize.combat.site_table import Array, SiteTable
from fedmri.harmonize.tables.column_parts import (
    Judgement,
    judge,
    matched,
    refuse_identifiers,
    refuse_unclear,
    sure_part,
)
from fedmri.harmonize.tables.levels import levels_of, numbers
from fedmri.harmonize.tables.numerals import is_missing
from fedmri.harmonize.tables.site_column import sites_of

_UNIT = r"%|mm\^?[23]?|mm[\u00b2\u00b3]|cm\^?[23]?|cm[\u00b2\u00b3]|ml|mL|cc|\)"
_WRITTEN_NUMBER = re.compile(
    r"['\u2019<>\u2264\u2265~(]{0,2} ?[+\u2212-]?\d{1,3}([ ,.'\u2019]?\d{2,3})*([.,]\d+)?"
    rf"([eE][+-]?\d+)? ?({_UNIT})?"
)
"""A number as people write it: decimal comma, marks between thousands, a unit, an apostrophe."""

N_ABOVE = 5
"""Rows in which a header is looked for that does not stand in the first line."""

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
        features: To be harmonized, names or patterns; without any, by rule (``column_parts``).
        others: Columns that are no features: target, training flag, subject.
        also: To be harmonized besides what the rule says.
        keep: To be left as they are, whatever the rule says.
        unclear: Columns whose numbers can be read in two ways, with the first such value.
    """

    site: str
    pattern: str = ""
    covariates: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    unclear: Mapping[str, str] = field(default_factory=dict)


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
        parts: What each column of the table is, if it was asked for.
    """

    sites: NDArray[np.str_]
    features: tuple[str, ...]
    values: Array
    columns: tuple[str, ...]
    covariates: Array
    kept: Kept = field(default_factory=dict)
    parts: Mapping[str, Judgement] = field(default_factory=dict)

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


def cohort(frame: pd.DataFrame, columns: Columns) -> Cohort:
    """Return the numbers of a table.

    Raises:
        HarmonizeError: A column is missing or holds text where numbers are wanted (H11); a row has
            no site (H13), or two sites' names look alike (H37); it is unclear what a column is
            (H30), or how its numbers are written (H33).
    """
    refuse_missing_columns(
        frame, (columns.site, *columns.covariates, *columns.categorical, *columns.others)
    )
    sites = sites_of(frame[columns.site], columns.pattern)
    parts = parts_of(frame, columns, sites)
    refuse_unclear(parts)
    features = [name for name, of in parts.items() if of.part == "feature"]
    if not features:
        fix = "name them with --features, or correct the cells that are no numbers"
        what = "features of the table"
        said = " ".join(["none.", *(caution.text for caution in nearly_numbers(frame, parts))])
        found_text = said.rstrip(".")
        raise HarmonizeError("H11", what, found=found_text, want="columns of numbers", fix=fix)
    refuse_unclear_marks(columns.unclear, (*features, *columns.covariates, *columns.others))
    kept = {
        n: levels_of(frame[n], is_category=n in columns.categorical) for n in columns.covariates
    }
    found = _cohort(frame, sites, tuple(features), kept)
    return replace(found, parts=parts)


def parts_of(
    frame: pd.DataFrame, columns: Columns, sites: NDArray[np.str_]
) -> dict[str, Judgement]:
    """Return what each column is: as it was named, else by rule.

    Raises:
        HarmonizeError: A name or pattern chooses no column (H11).
    """
    named = {n: Judgement("named") for n in columns.others}
    named |= {n: Judgement("covariate") for n in columns.covariates}
    named[columns.site] = Judgement("site")
    keep = matched(frame.columns, columns.keep)
    wanted = matched(frame.columns, (*columns.features, *columns.also))
    found = {}
    for name in map(str, frame.columns):
        by_rule = _by_rule(frame[name], columns, sites)
        if name in named:
            found[name] = named[name]
        elif name in keep:
            found[name] = Judgement("kept")
        elif name in wanted and (wanted[name] or by_rule.part in ("feature", "unclear")):
            found[name] = Judgement("feature")
        elif columns.features:
            found[name] = Judgement("not named") if name not in wanted else by_rule
        else:
            found[name] = by_rule
    return found


def _by_rule(column: pd.Series, columns: Columns, sites: NDArray[np.str_]) -> Judgement:
    text = columns.unclear.get(str(column.name))
    if text is not None:
        return Judgement("unclear", f"{text!r}: say --decimal . or --decimal ,")
    return judge(str(column.name), column, sites)


def refuse_unclear_marks(unclear: Mapping[str, str], used: Iterable[str]) -> None:
    """Refuse columns in use whose numbers can be read in two ways (H33)."""
    for name in used:
        if name in unclear:
            fix = "say --decimal . or --decimal , (in a plan for tables: write a decimal point)"
            what, found = f"numbers of column {name!r}", f"{unclear[name]!r}, a thousand or one?"
            raise HarmonizeError("H33", what, found=found, want="one way to read it", fix=fix)


def cohort_like(frame: pd.DataFrame, columns: Columns, kept: Kept) -> Cohort:
    """Return the numbers of a table in the order and coding of an earlier one.

    Args:
        frame: The table.
        columns: Its site, and the features of the earlier one.
        kept: Covariates of the earlier one.

    Raises:
        HarmonizeError: A column is missing or holds text where numbers are wanted (H11), a row has
            no site (H13), a level is none of the earlier ones (H05), or a feature is an identifier
            or a date here (H31).
    """
    refuse_missing_columns(frame, (columns.site, *columns.features, *kept))
    refuse_identifiers(frame, columns.features)
    refuse_unclear_marks(columns.unclear, (*columns.features, *kept))
    return _cohort(frame, sites_of(frame[columns.site], columns.pattern), columns.features, kept)


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
        if row := _header_in(frame, missing):
            fix = f"remove the lines above the names of the columns, which stand in row {row}"
        found = f"no column {', '.join(map(repr, missing))}"
        raise HarmonizeError("H11", "table", found=found, want="the columns named", fix=fix)


def _header_in(frame: pd.DataFrame, names: Sequence[str]) -> int:
    """Return which of the first rows holds the names of columns, from 1 on; 0 for none."""
    first = frame.head(N_ABOVE).apply(
        lambda row: set(names) <= {text.strip() for text in row}, axis=1
    )
    return next((place for place, is_header in enumerate(first, start=1) if is_header), 0)


def named_identifiers(frame: pd.DataFrame, parts: Mapping[str, Judgement]) -> list[Caution]:
    """Return what is to be told of features that look like identifiers or dates."""
    features = (name for name, of in parts.items() if of.part == "feature")
    found = ((name, sure_part(name, frame[name])) for name in features)
    said = "Column {!r} looks like {}s; it was harmonized because it was named."
    return [Caution("H31", said.format(name, part)) for name, part in found if part]


def nearly_numbers(frame: pd.DataFrame, parts: Mapping[str, Judgement]) -> list[Caution]:
    """Return what is to be told of columns that are no features because some values are text.

    Without this, one stray word would leave a measurement out and nobody would notice.
    """
    texts = (name for name, of in parts.items() if of.part == "text")
    return [caution for name in texts for caution in _nearly_numbers(frame[name])]


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


def wanted_numbers(column: pd.Series, name: str) -> Array:
    """Return a column as numbers, NaN where missing; refuse other text (H11)."""
    values, is_text = numbers(column)
    if is_text.any():
        first = int(np.flatnonzero(is_text)[0])
        found = f"{column.iloc[first]!r} in row {first + 1}"
        fix = "correct it, leave it empty, or do not name this column"
        raise HarmonizeError("H11", f"column {name!r}", found=found, want="numbers", fix=fix)
    if np.isinf(values).any():
        first = int(np.flatnonzero(np.isinf(values))[0])
        found = f"{column.iloc[first]!r} in row {first + 1}"
        fix = "leave it empty, or mend the program that wrote it"
        raise HarmonizeError("H11", f"column {name!r}", found=found, want="finite numbers", fix=fix)
    return values


def _coded(column: pd.Series, name: str, levels: tuple[str, ...]) -> Array:
    if not levels:
        return wanted_numbers(column, name)[:, None]
    text = column.str.strip()
    is_unknown = is_missing(text).to_numpy(dtype=bool)
    strange = sorted(set(text[~is_unknown]) - set(levels))
    if strange:
        fix = "correct the table, or fit again with that level"
        what, want = f"column {name!r}", " or ".join(levels)
        raise HarmonizeError("H05", what, found=repr(strange[0]), want=want, fix=fix)
    each = [(text == level).to_numpy(dtype=float) for level in levels[1:]]
    values: Array = np.column_stack([np.zeros((len(text), 0)), *each])
    values[is_unknown] = np.nan
    return values
