"""Tables of features from several scanners, harmonized by ComBat as the command does it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd

from fedmri.harmonize.cautions import Caution
from fedmri.harmonize.combat.combat_table import Harmonized, harmonize_later, saved_of
from fedmri.harmonize.combat.model import ComBat, refuse_target
from fedmri.harmonize.combat.saved_combat import SavedComBat, read_combat
from fedmri.harmonize.judging.decodability import ProbeSettings
from fedmri.harmonize.judging.table_judged import Judged, judged
from fedmri.harmonize.tables.table import Cohort, Columns, cohort, cohort_like
from fedmri.harmonize.tables.table_source import Source, of_frame, read
from fedmri.harmonize.tables.table_work import (
    Work,
    harmonized,
    known_mode,
    subjects_of,
    training_rows,
)

AnyTable: TypeAlias = "pd.DataFrame | str | os.PathLike[str]"


@dataclass(frozen=True)
class TableHarmonizer:
    """A fitted ComBat, which harmonizes rows that come later. Nothing is fitted anew.

    Attributes:
        saved: What was fitted, and of what.
        site_column: Column that holds the site.
        site_pattern: Regular expression whose first group is the site in that column.
    """

    saved: SavedComBat
    site_column: str
    site_pattern: str = ""

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], site_column: str, site_pattern: str = ""
    ) -> TableHarmonizer:
        """Open what ``save`` or the command wrote (``.npz``); nothing in it is unpickled.

        Raises:
            HarmonizeError: The file is none of those, or its numbers were changed (H27).
        """
        return cls(read_combat(Path(path)), site_column, site_pattern)

    @property
    def version(self) -> str:
        """SHA-256 of the parameters that all sites share."""
        return self.saved.version

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the parameters, plain arrays without pickles."""
        self.saved.write(Path(path))

    def apply(
        self,
        table: AnyTable,
        *,
        decimal: str = "",
        missing: Sequence[str] = (),
        n_min: int = 10,
        exclude_incomplete: bool = False,
    ) -> HarmonizedTable:
        """Harmonize rows that come later. A site that was not in the fit joins.

        Args:
            table: A frame, or a file of text.
            decimal: Decimal mark, if the table does not show it.
            missing: Further texts that stand for missing values.
            n_min: Fewest rows with which a new site joins.
            exclude_incomplete: Rows without a covariate come out empty instead of being refused.

        Raises:
            HarmonizeError: The table does not fit the one of the fit (H05, H11, H13, H31), a
                covariate is missing (H04), or a new site has too few rows (H02).
        """
        source, features = _source(table, decimal, missing), self.saved.features
        place = self.site_column, self.site_pattern
        columns = Columns(*place, features=features, unclear=source.unclear)
        found = cohort_like(source.frame, columns, self.saved.kept)
        result = harmonize_later(found, self.saved, n_min, may_exclude=exclude_incomplete)
        cautions = (*source.cautions, *result.cautions)
        own = replace(self, saved=replace(self.saved, effects=result.effects))
        frame = _frame(table, source, found, result)
        return HarmonizedTable(frame, cautions, own, source, found, result)


@dataclass(frozen=True)
class HarmonizedTable:
    """A table without the effects of its scanners.

    Attributes:
        frame: The table, with harmonized features; NaN where a row was left out. Of a file, all
            columns but features and covariates are texts, as they are written.
        cautions: What a reader of the table must be told, by codes of ``docs/errors.md``.
        harmonizer: What was fitted, for rows that come later.
        source: The table as it was.
        cohort: Its numbers.
        result: What came of them.
    """

    frame: pd.DataFrame
    cautions: tuple[Caution, ...]
    harmonizer: TableHarmonizer
    source: Source
    cohort: Cohort
    result: Harmonized

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the harmonized columns."""
        return self.cohort.features

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the table; a cell of a file that did not change keeps its bytes."""
        self.source.write(Path(path), self.cohort, self.result.values)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the parameters; ``fedmri.TableHarmonizer.open`` reads them."""
        self.harmonizer.save(path)

    def apply(self, table: AnyTable) -> HarmonizedTable:
        """Harmonize rows that come later; see ``TableHarmonizer.apply``."""
        return self.harmonizer.apply(table)


@dataclass(frozen=True)
class FittedTable(HarmonizedTable):
    """A harmonized table with the call that fitted it, so that its effect can be measured.

    Attributes:
        work: The call.
    """

    work: Work

    def judged(
        self, permutations: int = 200, seed: int = 0, calibrate: Sequence[int] = (3, 5, 10)
    ) -> Judged:
        """Measure how well a linear probe tells the site, and a model of the target if any.

        Args:
            permutations: For the p value of the probe.
            seed: Of folds, permutations and resampling.
            calibrate: Numbers of labelled subjects of a left-out site.
        """
        probe = ProbeSettings(permutations, seed)
        return judged(self.work, self.result, probe, tuple(sorted(calibrate)))

    def report(self, path: str | os.PathLike[str], found: Judged, seed: int = 0) -> None:
        """Write the page that shows features, site and model before and after."""
        from fedmri.api.pages.table_page import show

        show(Path(path), self.work, self.result, found, seed)


def harmonize_table(  # noqa: PLR0913  # every one is named at the call
    table: AnyTable,
    site_column: str,
    *,
    site_pattern: str = "",
    covariates: Sequence[str] = (),
    categorical: Sequence[str] = (),
    features: Sequence[str] = (),
    also: Sequence[str] = (),
    keep: Sequence[str] = (),
    decimal: str = "",
    missing: Sequence[str] = (),
    mode: str = "eb",
    smooth: Sequence[str] = (),
    covbat: bool = False,
    reference: str = "",
    n_min: int = 10,
    train_column: str = "",
    train_sites: Sequence[str] = (),
    target: str = "",
    subject_column: str = "",
    exclude_incomplete: bool = False,
) -> FittedTable:
    """Remove scanner effects from a table of features by ComBat, by sums over sites alone.

    Args:
        table: A frame, or a file of text (CSV, TSV). A row is a subject or a scan.
        site_column: Column that holds the site.
        site_pattern: Regular expression: its first group is the site in that column.
        covariates: Columns whose effect is kept.
        categorical: Covariates that are coded as numbers but are categories.
        features: Columns to harmonize, or patterns (``lh_*``). Without it, a rule finds them.
        also: Further columns to harmonize, beside the columns that the rule finds.
        keep: Columns to leave as they are, even if the rule finds them.
        decimal: Decimal mark, ``.`` or ``,``, if the table does not show it.
        missing: Further texts that stand for missing values.
        mode: ``eb``, ``no_eb``, ``mean_only`` or ``nonparametric``.
        smooth: Covariates with a curved effect (cubic splines).
        covbat: Harmonize the covariance of features too (CovBat).
        reference: Reference site: the other sites are brought to its scale.
        n_min: Smallest number of rows with which a site takes part.
        train_column: Column that is 1, true, yes or train in the rows to fit on.
        train_sites: Sites to fit on. The others join later, with frozen parameters.
        target: Column that a model predicts at left-out sites. It is never kept.
        subject_column: Column of the subject, where subjects have several rows.
        exclude_incomplete: Rows without a covariate come out empty instead of being refused.

    Raises:
        HarmonizeError: The table cannot be read or fitted; the message has a code of
            ``docs/errors.md``.
        ConfigError: There is no such mode (C01).
    """
    refuse_target(tuple(covariates), target or None)
    source = _source(table, decimal, missing)
    columns = Columns(
        site_column,
        site_pattern,
        tuple(covariates),
        tuple(categorical),
        tuple(features),
        tuple(name for name in (target, train_column, subject_column) if name),
        tuple(also),
        tuple(keep),
        source.unclear,
    )
    found = cohort(source.frame, columns)
    stage = ComBat(
        len(found.features),
        found.columns,
        known_mode(mode),
        reference=reference or None,
        n_min=n_min,
        smooth=tuple(smooth),
        is_covbat=covbat,
    )
    subjects = subjects_of(source.frame, found, subject_column)
    work = Work(source, found, stage, subjects, target or None)
    is_train = training_rows(work, train_column, tuple(train_sites))
    result = harmonized(work, is_train, may_exclude=exclude_incomplete)
    own = TableHarmonizer(saved_of(result, found, stage), site_column, site_pattern)
    frame = _frame(table, source, found, result)
    return FittedTable(frame, result.cautions, own, source, found, result, work)


def _source(table: AnyTable, decimal: str, missing: Sequence[str]) -> Source:
    if isinstance(table, pd.DataFrame):
        return of_frame(table, decimal, tuple(missing))
    return read(Path(table).expanduser(), decimal, tuple(missing))


def _frame(table: AnyTable, source: Source, found: Cohort, result: Harmonized) -> pd.DataFrame:
    """Return the table as it was given, with harmonized features."""
    numbers = dict(zip(found.features, result.values.T, strict=True))
    if not isinstance(table, pd.DataFrame):
        known = {
            name: pd.to_numeric(source.frame[name], errors="coerce")
            for name, levels in found.kept.items()
            if not levels
        }
        return source.frame.assign(**known, **numbers)
    new = table.copy()
    for (name, after), before in zip(numbers.items(), found.values.T, strict=True):
        if not np.array_equal(before, after, equal_nan=True):
            new.isetitem(source.file.places[name], after)
    return new
