"""Covariates that are kept: numbers, or categories with their levels."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedmri.errors import HarmonizeError
from fedmri.harmonize.combat.site_table import Array
from fedmri.harmonize.tables.numerals import is_missing
from fedmri.machine.delimited import blurred

MANY_LEVELS = 10
FEW_CODES = (3, 6)
"""Numbers of different whole values that a number may have and codes often have."""


def numbers(column: pd.Series) -> tuple[Array, NDArray[np.bool_]]:
    """Return a column as numbers, NaN where missing, and where it holds other text."""
    text = column.str.strip()
    is_unknown = is_missing(text).to_numpy(dtype=bool)
    values = pd.to_numeric(text.where(~is_unknown, "nan"), errors="coerce").to_numpy(dtype=float)
    return values, np.isnan(values) & ~is_unknown


def levels_of(column: pd.Series, *, is_category: bool) -> tuple[str, ...]:
    """Return the levels of a category in ascending order; none of a number.

    Args:
        column: A covariate.
        is_category: Whether its numbers are names of categories.

    Raises:
        HarmonizeError: It is a number with some words in it, or a text that hardly repeats, such as
            a date; or two levels differ in capitals alone (H11).
    """
    values, is_text = numbers(column)
    if not is_category and not is_text.any():
        return ()
    text = column.str.strip()
    known = text[~is_missing(text)]
    if not is_category:
        _refuse_nearly_numbers(column, values, is_text)
    levels = sorted(set(known))
    if len(levels) > MANY_LEVELS and 2 * len(levels) > len(known):
        found = f"{len(levels)} different texts in {len(known)} rows"
        fix = "keep a number instead, such as an age in place of a date, or join levels"
        raise _unfit(column, found, "a number, or a category of few levels", fix)
    _refuse_alike(column, levels)
    return tuple(levels)


def looks_coded(column: pd.Series) -> bool:
    """Tell whether a covariate that is read as a number may be a code: few whole numbers alone."""
    values, _ = numbers(column)
    known = np.unique(values[np.isfinite(values)])
    is_few = FEW_CODES[0] <= len(known) <= FEW_CODES[1]
    return bool(is_few and (known == np.round(known)).all() and np.ptp(known) < 2 * len(known))


def _refuse_nearly_numbers(column: pd.Series, values: Array, is_text: NDArray[np.bool_]) -> None:
    """Refuse an age in which one cell says ``>89``: it would become a category for each age."""
    n_numbers = int(np.isfinite(values).sum())
    if n_numbers <= is_text.sum():
        return
    first = int(np.flatnonzero(is_text)[0])
    found = f"{n_numbers} numbers and {column.iloc[first]!r} in row {first + 1}"
    fix = "correct it or leave it empty; if the numbers are names, say --categorical"
    raise _unfit(column, found, "numbers alone", fix)


def _refuse_alike(column: pd.Series, levels: list[str]) -> None:
    alike: dict[str, list[str]] = defaultdict(list)
    for level in levels:
        alike[blurred(level) or level].append(level)
    for same in alike.values():
        if len(same) > 1:
            fix = "write one level one way in the whole column"
            raise _unfit(column, " and ".join(map(repr, same)), "one name a level", fix)


def _unfit(column: pd.Series, found: str, want: str, fix: str) -> HarmonizeError:
    return HarmonizeError("H11", f"covariate {column.name!r}", found=found, want=want, fix=fix)
