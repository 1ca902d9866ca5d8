"""Rows and covariates of a table that may not mean what they say: told, and left as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from fedmri.harmonize.cautions import Caution, named
from fedmri.harmonize.tables.levels import looks_coded

FEWEST_FEATURES = 2


def rows_twice(frame: pd.DataFrame, features: Sequence[str]) -> list[Caution]:
    """Tell of rows that say the same in every column: a subject that was pasted in twice (H29)."""
    is_twice = frame.duplicated().to_numpy(dtype=bool)
    if not is_twice.any() or len(features) < FEWEST_FEATURES:
        return []
    first = int(is_twice.argmax()) + 1
    said = f"{int(is_twice.sum())} rows repeat another one in every cell, the first is row {first}."
    return [Caution("H29", f"{said} Each counts again: remove them if they are copies.")]


def coded_covariates(frame: pd.DataFrame, kept: Mapping[str, tuple[str, ...]]) -> list[Caution]:
    """Tell of covariates that were read as numbers and may be codes, such as 1, 2, 3 (H30)."""
    found = [name for name, levels in kept.items() if not levels and looks_coded(frame[name])]
    if not found:
        return []
    said = (
        f"Kept as numbers: {named(found, len(found))}, with few whole values. If they are codes, "
        "as of a diagnosis, say --categorical with their names."
    )
    return [Caution("H30", said)]
