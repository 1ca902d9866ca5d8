"""What the harmonization of a table did, as one page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedmri.harmonize.combat.combat_table import Harmonized
from fedmri.harmonize.combat.model import ComBat
from fedmri.harmonize.judging.calibration import N_DRAWS
from fedmri.harmonize.judging.table_judged import WHEN, Judged
from fedmri.harmonize.judging.table_target import Predicted
from fedmri.harmonize.sums import version
from fedmri.harmonize.tables.column_parts import left
from fedmri.harmonize.tables.table import Cohort
from fedmri.harmonize.tables.table_work import Work
from fedmri.reports.pages.before_after import BeforeAfter, Feature, Table, task_rows, write_page

N_DRAWN = 4


def _decodability_table(judged: Judged) -> Table:
    rows = []
    for name, sides in judged.decodability.items():
        for when, side in zip(WHEN, sides, strict=True):
            shares = f"{side.accuracy:.3f}", f"{side.largest_share:.3f}", f"{side.balanced:.3f}"
            rows.append((f"{name}, {when}", *shares, f"{side.p_value:.3f}"))
    first = next(iter(judged.decodability.values()))[0]
    caption = (
        "How often a linear probe names the site of a subject that it was not trained on (5 folds "
        f"by subject, {first.n_permutations} permutations). A site that cannot be told gives the "
        "share of the largest site, or less. After: all subjects were harmonized together, and a "
        "probe is then right less often than by chance, for what one fold has too little of "
        "the others have too much of. New subjects: harmonized by what was learnt of the others."
    )
    if first.n_left_out:
        caption += f" {first.n_left_out} rows of sites with fewer than 5 subjects are left out."
    head = ("", "Accuracy", "Largest site's share", "Mean over sites", "p")
    return Table("Can the site be told?", caption, head, tuple(rows))


def _task_table(work: Work, found: Predicted) -> Table:
    errors = found.errors
    sites, subjects = errors.sites.tolist(), work.subjects[errors.rows].tolist()
    parts = {"": errors.sizes()}
    if errors.is_number:
        parts[", without each site's mean error"] = errors.sizes_within_sites()
    rows = [
        (f"{name}{suffix}", *cells)
        for suffix, sizes in parts.items()
        for name, *cells in (task_rows(sites, subjects, sizes) if sites else ())
    ]
    measure = "Mean absolute error" if errors.is_number else "Share of wrong answers"
    caption = (
        f"A linear model of {work.target}, trained on all sites but one and tested there, each "
        "site in turn. The left-out site's own shift and spread come from its own rows without "
        "their targets (transductive). Kept covariates: "
        f"{', '.join(work.cohort.columns) or 'none'}; the target is never one. "
        f"{found.between}."
    )
    for site, reason in errors.failed:
        caption += f" {site} could not be left out: {reason}"
    head = ("", f"{measure} (95 % interval)", "Difference to before")
    return Table(f"{work.target} at left-out sites", caption, head, tuple(rows))


def _calibration_tables(work: Work, found: Predicted) -> list[Table]:
    """Return what labelled patients of the left-out site bring, if any number was asked for."""
    rows: list[tuple[str, ...]] = []
    for k, of in found.calibrations.items():
        errors = found.errors
        sites = errors.sites[of.rows].tolist()
        subjects = work.subjects[errors.rows][of.rows].tolist()
        sizes = {
            f"before, sites with {k + 2} or more": of.plain,
            f"before, {k} labelled": of.before,
            f"after, {k} labelled": of.after,
        }
        rows += task_rows(sites, subjects, sizes)
    if not rows:
        return []
    caption = (
        f"The same models, whose mean error on k labelled patients of the left-out site is taken "
        f"out (the sum of their errors over k + 1). The others are tested, mean of {N_DRAWS} draws."
    )
    head = ("", "Mean absolute error (95 % interval)", "Difference to before")
    return [
        Table(f"{work.target} with labelled patients of the new site", caption, head, tuple(rows))
    ]


def show(path: Path, work: Work, result: Harmonized, judged: Judged, seed: int) -> None:
    """Write the page that shows what a harmonization did."""
    tables = [_decodability_table(judged)] if judged.decodability else []
    if judged.predicted is not None:
        tables.append(_task_table(work, judged.predicted))
        tables += _calibration_tables(work, judged.predicted)
    cohort, stage = work.cohort, work.stage
    facts = (
        ("Method", f"{_method(stage)}; only sums over sites leave a site"),
        ("Sites", ", ".join(f"{n} ({(cohort.sites == n).sum()})" for n in cohort.names)),
        ("Features", ", ".join(cohort.features)),
        *((f"Left as they were: {what}", ", ".join(names)) for what, names in left(cohort.parts)),
        ("Kept covariates", ", ".join(cohort.columns) or "none"),
        ("Reference site", stage.reference or "none: the mean over all rows"),
        ("Version of the parameters", version(result.parameters)),
        ("Seed", str(seed)),
    )
    cautions = tuple((caution.code, caution.text) for caution in judged.cautions)
    title = f"{len(cohort.features)} features of {len(cohort.names)} sites, harmonized"
    lead = _lead(judged)
    drawn = _features(cohort, result)
    write_page(path, BeforeAfter(title, lead, facts, cautions, tuple(tables), drawn))


def _method(stage: ComBat) -> str:
    smooth = f", smooth in {', '.join(stage.smooth)}" if stage.smooth else ""
    return f"{'CovBat' if stage.is_covbat else 'ComBat'}, {stage.mode}{smooth}"


def _lead(judged: Judged) -> str:
    if not judged.decodability:
        return "The features were harmonized; how well the site can be told was not measured."
    name, (before, _, after) = list(judged.decodability.items())[-1]
    return (
        f"{name}: a linear probe was right about {before.accuracy:.0%} of subjects before and "
        f"{after.accuracy:.0%} of new ones after; always naming the largest site is right about "
        f"{before.largest_share:.0%}."
    )


def _features(cohort: Cohort, result: Harmonized) -> tuple[Feature, ...]:
    """Return the features of which sites explained most before."""

    def share(values: NDArray[np.float64]) -> float:
        known = np.isfinite(values)
        total = float(values[known].var()) if known.any() else 0.0
        if total <= 0:
            return 0.0
        groups = [values[known & (cohort.sites == name)] for name in cohort.names]
        mean = values[known].mean()
        between = sum(len(g) * (g.mean() - mean) ** 2 for g in groups if len(g)) / known.sum()
        return float(between / total)

    order = sorted(range(len(cohort.features)), key=lambda k: -share(cohort.values[:, k]))
    rows = {name: cohort.sites == name for name in cohort.names}
    return tuple(
        Feature(
            cohort.features[k],
            {name: cohort.values[own, k] for name, own in rows.items()},
            {name: result.values[own, k] for name, own in rows.items()},
        )
        for k in order[:N_DRAWN]
    )
