"""ComBat on one table whose rows come from several sites, simulated as those sites."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmri.errors import HarmonizeError
from fedmri.harmonize import cautions
from fedmri.harmonize.cautions import Caution
from fedmri.harmonize.combat import covbat
from fedmri.harmonize.combat.combat_site import SiteEffect, apply, fit_site
from fedmri.harmonize.combat.model import ComBat
from fedmri.harmonize.combat.saved_combat import SavedComBat
from fedmri.harmonize.combat.site_table import Array
from fedmri.harmonize.sums import Arrays, run
from fedmri.harmonize.tables.table import Cohort

Rows = NDArray[np.bool_]


@dataclass(frozen=True)
class Harmonized:
    """What came of a table.

    Attributes:
        values: Features of all rows, ``(n, p)``; NaN where missing or not harmonized.
        parameters: What all sites share.
        effects: Each site's own.
        cautions: What the reader must be told.
    """

    values: Array
    parameters: Arrays
    effects: Mapping[str, SiteEffect]
    cautions: tuple[Caution, ...]


def harmonize(
    cohort: Cohort, stage: ComBat, is_train: Rows | None = None, *, may_exclude: bool = False
) -> Harmonized:
    """Fit on training rows over their sites, and harmonize all rows.

    A site without training rows is taken as one that joins later: its own effect comes from its own
    rows, without any label, under the frozen parameters.

    Args:
        cohort: The table.
        stage: Settings.
        is_train: Rows of the fit, ``(n,)``; all without it.
        may_exclude: Rows with a missing covariate come back empty instead of being refused.

    Raises:
        HarmonizeError: Fewer than two sites (H12), a missing covariate (H04), a level that no
            training row has (H05), or whatever the fit refuses.
    """
    is_usable = cohort.has_covariates
    if not may_exclude and not is_usable.all():
        _refuse_missing(cohort, int((~is_usable).sum()))
    is_train = is_usable if is_train is None else np.logical_and(is_train, is_usable)
    trained = tuple(sorted(set(cohort.sites[is_train].tolist())))
    _refuse_few_sites(cohort, trained)
    _refuse_unknown_level(cohort, is_train)
    parameters = run(stage, (cohort.table(site, is_train) for site in trained))
    values = np.full(cohort.values.shape, np.nan)
    effects = {}
    for site in sorted(set(cohort.sites[is_usable].tolist())):
        own = is_train if site in trained else is_usable
        effects[site] = fit_site(stage, parameters, cohort.table(site, own))
        rows = (cohort.sites == site) & is_usable
        values[rows] = apply(parameters, effects[site], cohort.table(site, rows))
    told = _cautions(cohort, stage, parameters, effects, set(trained))
    told += _beside_covbat(cohort, parameters, is_usable)
    if not is_usable.all():
        told.append(_left_empty(int((~is_usable).sum())))
    return Harmonized(values, parameters, effects, tuple(told))


def harmonize_later(
    cohort: Cohort, saved: SavedComBat, n_min: int, *, may_exclude: bool = False
) -> Harmonized:
    """Harmonize rows that come later, by what was fitted before; nobody else's rows change.

    A site whose effect was saved has that one. Any other joins with the parameters frozen: its own
    effect comes from its rows here, without any label.

    Args:
        cohort: The table, coded as that of the fit.
        saved: The fit.
        n_min: Fewest rows of a site that joins.
        may_exclude: Rows with a missing covariate come back empty instead of being refused.

    Raises:
        HarmonizeError: A covariate is missing (H04), or a site that joins has too few rows (H02).
    """
    is_usable = cohort.has_covariates
    if not may_exclude and not is_usable.all():
        _refuse_missing(cohort, int((~is_usable).sum()))
    stage, values, effects = saved.stage(n_min), np.full(cohort.values.shape, np.nan), {}
    for site in sorted(set(cohort.sites[is_usable].tolist())):
        table = cohort.table(site, is_usable)
        known = saved.effects.get(site)
        effects[site] = known or fit_site(stage, saved.parameters, table)
        values[(cohort.sites == site) & is_usable] = apply(saved.parameters, effects[site], table)
    new = {site: effect for site, effect in effects.items() if site not in saved.effects}
    told = [
        caution
        for effect in new.values()
        for caution in cautions.of_site(effect, saved.mode, cohort.features)
    ]
    told += [_not_in_the_fit(site) for site in new]
    told += _beside_covbat(cohort, saved.parameters, is_usable)
    if not is_usable.all():
        told.append(_left_empty(int((~is_usable).sum())))
    return Harmonized(values, saved.parameters, {**saved.effects, **effects}, tuple(told))


def saved_of(found: Harmonized, cohort: Cohort, stage: ComBat) -> SavedComBat:
    """Return what later rows need of a fit."""
    reference = stage.reference or ""
    return SavedComBat(
        found.parameters, cohort.features, cohort.kept, stage.mode, reference, found.effects
    )


def _cautions(
    cohort: Cohort,
    stage: ComBat,
    parameters: Arrays,
    effects: Mapping[str, SiteEffect],
    trained: set[str],
) -> list[Caution]:
    told = cautions.of_fit(parameters, cohort.columns, cohort.features)
    for site, effect in effects.items():
        told += cautions.of_site(effect, stage.mode, cohort.features)
        if site not in trained:
            told.append(_not_in_the_fit(site))
    return told


def _beside_covbat(cohort: Cohort, parameters: Arrays, is_usable: Rows) -> list[Caution]:
    """Tell of rows that miss a feature, if CovBat was asked for."""
    if "rotation" not in parameters:
        return []
    n_rows = int((is_usable & ~covbat.rows_used(parameters, cohort.values)).sum())
    text = f"{n_rows} rows miss a feature and were harmonized by ComBat alone, without CovBat."
    return [Caution("H38", text)] if n_rows else []


def _not_in_the_fit(site: str) -> Caution:
    return Caution("H15", f"{site}: not in the fit; harmonized by its own rows, without labels.")


def _left_empty(n_rows: int) -> Caution:
    text = f"{n_rows} rows with a missing covariate: their features are empty."
    return Caution("H04", text)


def _refuse_missing(cohort: Cohort, n_rows: int) -> None:
    pairs = zip(cohort.columns, cohort.covariates.T, strict=True)
    names = ", ".join(name for name, column in pairs if np.isnan(column).any())
    fix = "fill them in, exclude these rows, or do not keep that covariate"
    found = f"{n_rows} rows with a missing one ({names})"
    raise HarmonizeError("H04", "kept covariates", found=found, want="all of them", fix=fix)


def _refuse_few_sites(cohort: Cohort, trained: tuple[str, ...]) -> None:
    if len(trained) < 2:
        found = f"{len(trained)} of {len(cohort.names)}: {', '.join(trained) or 'none'}"
        fix = "give a table of several sites, or rows of several sites to train on"
        raise HarmonizeError("H12", "sites to fit on", found=found, want="2 or more", fix=fix)


def _refuse_unknown_level(cohort: Cohort, is_train: Rows) -> None:
    for name, column in zip(cohort.columns, cohort.covariates.T, strict=True):
        if "=" in name and not (column[is_train] == 1).any():
            fix = "train on rows that have it, or leave these rows out"
            what = f"level {name}"
            found = "no training row"
            raise HarmonizeError("H05", what, found=found, want="one or more", fix=fix)
