"""One call that harmonizes a table: what was asked, the rows of the fit, and what came out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedmri.errors import HarmonizeError, require
from fedmri.harmonize.combat.combat_table import Harmonized, harmonize
from fedmri.harmonize.combat.model import MODES, ComBat, Mode
from fedmri.harmonize.combat.own_table import SUBJECT_COLUMNS
from fedmri.harmonize.tables.doubtful_rows import coded_covariates, rows_twice
from fedmri.harmonize.tables.table import (
    Cohort,
    named_identifiers,
    nearly_numbers,
    refuse_missing_columns,
)
from fedmri.harmonize.tables.table_source import Source
from fedmri.harmonize.tables.unfit_values import unfit_values

TRUE = frozenset({"1", "1.0", "true", "yes", "train", "training"})


@dataclass(frozen=True)
class Work:
    """One call: the table as text and as numbers, and what was asked."""

    source: Source
    cohort: Cohort
    stage: ComBat
    subjects: NDArray[np.str_]
    target: str | None


def harmonized(work: Work, is_train: NDArray[np.bool_] | None, *, may_exclude: bool) -> Harmonized:
    """Harmonize, and add what is to be told of the table itself; see ``combat_table.harmonize``."""
    result = harmonize(work.cohort, work.stage, is_train, may_exclude=may_exclude)
    frame, parts = work.source.frame, work.cohort.parts
    told = (
        *work.source.cautions,
        *nearly_numbers(frame, parts),
        *named_identifiers(frame, parts),
        *rows_twice(frame, work.cohort.features),
        *coded_covariates(frame, work.cohort.kept),
        *unfit_values(work.cohort, result.parameters["is_fitted"] > 0),
        *result.cautions,
    )
    return replace(result, cautions=told)


def known_mode(text: str) -> Mode:
    """Return a mode of ComBat as it is written in a call.

    Raises:
        ConfigError: There is none of the name (C01).
    """
    modes: dict[str, Mode] = {mode: mode for mode in MODES}
    name = text.strip().replace("-", "_")
    require(name in modes, "--mode", text, f"one of {', '.join(MODES)}")
    return modes[name]


def subjects_of(frame: pd.DataFrame, found: Cohort, column: str) -> NDArray[np.str_]:
    """Return the subject of each row, told apart between sites; each row is one by default.

    Raises:
        HarmonizeError: There is no such column (H11).
    """
    if column:
        refuse_missing_columns(frame, [column])
    name = column or next((name for name in SUBJECT_COLUMNS if name in frame.columns), "")
    own = frame[name].tolist() if name else range(len(frame))
    return np.array([f"{s}/{subject}" for s, subject in zip(found.sites, own, strict=True)])


def training_rows(work: Work, column: str, sites: tuple[str, ...]) -> NDArray[np.bool_] | None:
    """Return the rows to fit on, None for all.

    Raises:
        HarmonizeError: A site is not in the table (H12).
    """
    unknown = [site for site in sites if site not in work.cohort.names]
    if unknown:
        fix = f"name sites of the table: {', '.join(work.cohort.names)}"
        found = f"no site {', '.join(unknown)}"
        raise HarmonizeError("H12", "--train-sites", found=found, want="sites", fix=fix)
    rows = np.ones(len(work.source.frame), dtype=np.bool_)
    if column:
        rows &= work.source.frame[column].str.strip().str.lower().isin(TRUE).to_numpy(dtype=bool)
    if sites:
        rows &= np.isin(work.cohort.sites, list(sites))
    return rows if column or sites else None
