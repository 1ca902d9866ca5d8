"""A site's own table of features, for ComBat as a stage of a federation.

No site sees another's table, so what must be the same at all sites is agreed on beforehand: names
of features, of covariates, and their levels.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedmri.errors import HarmonizeError
from fedmri.harmonize import cautions
from fedmri.harmonize.cautions import Caution
from fedmri.harmonize.combat.combat_site import SiteEffect, apply, fit_site
from fedmri.harmonize.combat.model import ComBat
from fedmri.harmonize.combat.saved_combat import SavedComBat
from fedmri.harmonize.combat.site_table import SiteTable
from fedmri.harmonize.settings import TableConfig
from fedmri.harmonize.sums import Arrays
from fedmri.harmonize.tables import table
from fedmri.harmonize.tables.column_parts import refuse_identifiers
from fedmri.harmonize.tables.table_file import read_table
from fedmri.harmonize.tables.table_source import Source, read

SUBJECT_COLUMNS = ("participant_id", "subject", "subject_id", "sub_id", "sub")


@dataclass(frozen=True)
class OwnTable:
    """A site's table as it is written, and as numbers.

    Attributes:
        source: Its file.
        found: Features and covariates in the plan's order.
        subjects: Subject of each row, ``(n,)``.
    """

    source: Source
    found: table.Cohort
    subjects: NDArray[np.str_]

    @property
    def rows(self) -> SiteTable:
        """What ComBat takes."""
        return SiteTable(self.found.sites[0], self.found.values, self.found.covariates)

    @property
    def n_subjects(self) -> int:
        """Patients in it."""
        return len(set(self.subjects.tolist()))


def table_stage(config: TableConfig) -> ComBat:
    """Return the ComBat of a plan for tables."""
    columns, reference = table.kept_columns(_kept(config)), config.reference or None
    return ComBat(
        len(config.features),
        columns,
        config.mode,
        reference=reference,
        n_min=config.n_min,
        smooth=config.smooth,
        is_covbat=config.is_covbat,
    )


def read_own(path: Path, site: str, config: TableConfig) -> OwnTable:
    """Read a site's table.

    Raises:
        HarmonizeError: It is no such table, lacks a column of the plan, or holds text where numbers
            are wanted (H11); a level is none of the plan's (H05); a covariate is missing (H04); a
            feature is an identifier or a date here (H31).
    """
    source = read(path)
    frame, kept = source.frame, _kept(config)
    table.refuse_missing_columns(frame, (*config.features, *kept))
    refuse_identifiers(frame, config.features)
    table.refuse_unclear_marks(source.unclear, (*config.features, *kept))
    covariates = table.coded(frame, kept)
    n_missing = int((~np.isfinite(covariates).all(axis=1)).sum())
    if n_missing:
        fix = "fill them in, or leave these rows out of the table"
        what, found = f"kept covariates in {path}", f"{n_missing} rows with a missing one"
        raise HarmonizeError("H04", what, found=found, want="all of them", fix=fix)
    values = np.column_stack([table.wanted_numbers(frame[name], name) for name in config.features])
    columns, sites = table.kept_columns(kept), np.full(len(frame), site)
    cohort = table.Cohort(sites, config.features, values, columns, covariates, kept)
    column = _subject_column(frame)
    subjects = frame[column].tolist() if column else [str(row) for row in range(len(frame))]
    return OwnTable(source, cohort, np.array(subjects, dtype=np.str_))


def without_subjects(path: Path, gone: Container[str]) -> bytes:
    """Return a table without the rows of some subjects; all else has its bytes.

    Raises:
        HarmonizeError: No column says whose rows they are (H40), or it is no table (H11, H28).
    """
    file = read_table(path)
    column = _subject_column(file.frame)
    if not column:
        found, want = "no column of subjects", f"one of {', '.join(SUBJECT_COLUMNS)}"
        fix = "add the column: subjects who withdrew their consent must be found in the table"
        raise HarmonizeError("H40", f"table {path}", found=found, want=want, fix=fix)
    return file.with_rows([name not in gone for name in file.frame[column]])


def subjects_of(path: Path) -> set[str]:
    """Return the subjects of a table as they are written; none where no column says who they are.

    Raises:
        HarmonizeError: It is no table (H11, H28).
    """
    frame = read_table(path).frame
    column = _subject_column(frame)
    return set(frame[column]) if column else set()


def _subject_column(frame: pd.DataFrame) -> str:
    return next((name for name in SUBJECT_COLUMNS if name in frame.columns), "")


def write_harmonized(
    own: OwnTable, config: TableConfig, fitted: Arrays, folder: Path
) -> tuple[Caution, ...]:
    """Write a site's harmonized table and what it was harmonized by; nothing of it leaves.

    Args:
        own: The site's table.
        config: Settings.
        fitted: What the last ``combine`` returned.
        folder: Where to; a file of the table's name, with ``.harmonized``, and an ``.npz``.

    Returns:
        What the site must be told of its table and its own effect.

    Raises:
        HarmonizeError: The parameters are not those of the plan (H21).
    """
    stage = table_stage(config)
    n, q = stage.n_features, len(stage.design)
    want = {"alpha": (n,), "sigma": (n,), "is_fitted": (n,), "beta": (q, n)}
    found = {name: fitted[name].shape for name in want if name in fitted}
    if found != want:
        fix = "run the same version of fedmri as the server"
        what = "parameters of the tables' harmonization"
        raise HarmonizeError("H21", what, found=f"{found}", want=f"{want}", fix=fix)
    effect = fit_site(replace(stage, n_min=1), fitted, own.rows)
    clean = apply(fitted, effect, own.rows)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{own.source.path.stem}.harmonized{own.source.path.suffix}"
    own.source.write(path, own.found, clean)
    saved_as(config, fitted, {effect.site: effect}).write(path.with_suffix(".npz"))
    named = config.features
    return (
        *own.source.cautions,
        *cautions.of_fit(fitted, stage.design, named),
        *cautions.of_site(effect, stage.mode, named),
    )


def saved_as(config: TableConfig, fitted: Arrays, effects: Mapping[str, SiteEffect]) -> SavedComBat:
    """Return what rows that come later need of a plan's fit."""
    return SavedComBat(
        fitted, config.features, _kept(config), config.mode, config.reference, effects
    )


def _kept(config: TableConfig) -> table.Kept:
    """Return the covariates of a plan: ``age``, or ``sex=F|M`` with all levels."""
    parts = [text.partition("=") for text in config.covariates]
    return {name: tuple(levels.split("|")) if levels else () for name, _, levels in parts}
