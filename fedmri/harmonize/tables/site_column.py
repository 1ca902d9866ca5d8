"""The column that holds the site of each row: what counts as none, and what as one."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedmri.errors import HarmonizeError
from fedmri.harmonize.tables.numerals import MISSING
from fedmri.machine.delimited import blurred, is_unknown, tidied

SUMMARIES = frozenset(
    {"mean", "average", "avg", "total", "sum", "sd", "std", "median", "min", "max", "grand total"}
    | {"mittelwert", "summe", "gesamt", "moyenne", "promedio"}
)
"""What stands in place of a site in a row that sums up the others."""


def sites_of(column: pd.Series, pattern: str) -> NDArray[np.str_]:
    """Return the site of each row.

    Args:
        column: Cells as they are written.
        pattern: Regular expression whose first group is the site; the whole cell if empty.

    Raises:
        HarmonizeError: The pattern is none, a row has no site or sums up others (H13), or two names
            look alike (H37).
    """
    text = column.str.strip()
    try:
        found = text.str.extract(f"({pattern})" if not re.compile(pattern).groups else pattern)[0]
    except re.error as error:
        fix = "give a regular expression such as ^(.*)_sub"
        what = f"pattern {pattern!r}"
        raise HarmonizeError("H13", what, found=str(error), want="one", fix=fix) from error
    written = (text if not pattern else found.fillna("")).map(tidied)
    sites = written.to_numpy(dtype=str)
    _refuse_unknown(column, sites)
    _refuse_summaries(column, sites)
    _refuse_alike(sites)
    return sites


def _refuse_unknown(column: pd.Series, sites: NDArray[np.str_]) -> None:
    is_none = [is_unknown(site) or site.lower() in MISSING for site in sites.tolist()]
    if not any(is_none):
        return
    first = is_none.index(True)
    shown = f" ({column.iloc[first].strip()!r})" if column.iloc[first].strip() else ""
    found = f"{sum(is_none)} rows without one, the first row {first + 1}{shown}"
    fix = "fill the column in or remove rows that are no subject, such as units; or correct the "
    fix += "pattern: its first group is the site"
    what = f"site in column {column.name!r}"
    raise HarmonizeError("H13", what, found=found, want="one in each row", fix=fix)


def _refuse_summaries(column: pd.Series, sites: NDArray[np.str_]) -> None:
    """Refuse a row that sums up the others: it would be a site of one subject."""
    counts = Counter(sites.tolist())
    for site, n_rows in counts.items():
        if n_rows == 1 and site.lower() in SUMMARIES:
            row = sites.tolist().index(site) + 1
            fix = "remove rows that sum up others"
            what, want = f"site in column {column.name!r}", "a hospital in each row"
            raise HarmonizeError("H13", what, found=f"{site!r} in row {row}", want=want, fix=fix)


def _refuse_alike(sites: NDArray[np.str_]) -> None:
    """Refuse names that are likely one site's, written in two ways (H37)."""
    seen: dict[str, str] = {}
    for site in sorted(set(sites.tolist())):
        key = blurred(site) or site
        if key in seen:
            found = f"{seen[key]!r} and {site!r}"
            fix = "write one site one way in the whole column; name two sites more differently"
            raise HarmonizeError("H37", "sites", found=found, want="one name a site", fix=fix)
        seen[key] = site
