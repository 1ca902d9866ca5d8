"""What a run showed: scores with intervals, paired differences, the matrix of sites, fairness."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fedmri.arm import OWN, Group
from fedmri.errors import UsageError, require
from fedmri.evaluate.comparisons.paired import holm
from fedmri.evaluate.hospitals.new_hospital import NewHospital
from fedmri.reports import models
from fedmri.reports.benefit import Benefit, Given, benefits, given
from fedmri.reports.budget import ArmBudget, arm_budgets
from fedmri.reports.elsewhere import (
    Generalisation,
    estimate_of_sum,
    generalisation,
    inside_of,
    left_out,
    new_site,
    scores_by_site,
)
from fedmri.reports.groups import GroupScore, group_scores, planned_groups
from fedmri.reports.models import Model
from fedmri.reports.reliability.calibration import Calibration, calibrations
from fedmri.reports.reliability.coverage import Coverage, coverages
from fedmri.reports.reliability.temperature import Tempered, temperatures
from fedmri.reports.results import Results
from fedmri.reports.statistics.contrast import Contrast, mean_of
from fedmri.reports.statistics.hospitals import difference_over_hospitals, over_hospitals
from fedmri.reports.statistics.intervals import Estimate, Patients, n_of
from fedmri.reports.statistics.metrics import Measured
from fedmri.reports.statistics.scores import Score
from fedmri.reports.statistics.scoring import Scorer
from fedmri.reports.statistics.verdicts import Verdict, judge
from fedmri.reports.text.notes import area_notes, notes_of, protocol_notes
from fedmri.reports.told_site import SiteTelling, site_telling


@dataclass(frozen=True)
class Row:
    """One model of the result table.

    Attributes:
        label: Name.
        group: Which arms it is of, and how they are read.
        n_seeds: Trainings that its scores are averaged over.
        overall: By metric, over the test patients of all sites that took part.
        by_site: By site (external ones too), then by metric.
        within_sites: Primary metric per site, averaged by patients: free of what a metric over
            all patients gains from differences between sites. None where there is no such value.
        hospitals: Mean of the hospitals' own primary metric, with an interval for another set of
            hospitals. None below three hospitals.
    """

    label: str
    group: Group
    n_seeds: int
    overall: Mapping[str, Estimate]
    by_site: Mapping[str, Mapping[str, Estimate]]
    within_sites: Estimate | None
    hospitals: Estimate | None


@dataclass(frozen=True)
class Difference:
    """Primary metric of ``label`` minus that of ``reference``, over the same patients.

    Attributes:
        label: First model.
        reference: Second model.
        estimate: The difference; its interval is not adjusted for other comparisons.
        p_value: Two-sided, of no difference; NaN where it cannot be said.
        p_adjusted: Adjusted for all comparisons of the table: what the verdict rests on.
        verdict: What is shown.
        n_trainings: Trainings behind it, of the model that has fewer.
        hospitals: Mean difference over hospitals, with an interval for another set of them.
    """

    label: str
    reference: str
    estimate: Estimate
    p_value: float
    p_adjusted: float
    verdict: Verdict
    n_trainings: int
    hospitals: Estimate | None


@dataclass(frozen=True)
class Matrix:
    """Primary metric of each model (rows) at each test site (columns).

    Attributes:
        rows: Models: the local ones in the order of ``columns``, then the others.
        owners: Site whose own model a row is; ``""`` for the others.
        are_baselines: Whether a row looks at no image.
        columns: Test sites, external ones last.
        cells: One estimate a row and column; None where the model was not tested there.
        diagonal: Unweighted mean over local models at their own site.
        off_diagonal: Unweighted mean over local models at the other sites that took part.
        gap: Diagonal minus off-diagonal.
    """

    rows: tuple[str, ...]
    owners: tuple[str, ...]
    are_baselines: tuple[bool, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[Estimate | None, ...], ...]
    diagonal: Estimate | None
    off_diagonal: Estimate | None
    gap: Estimate | None


@dataclass(frozen=True)
class Fairness:
    """How unequal the sites are under one model, beside what chance alone would give.

    Attributes:
        label: Model.
        worst_site: Site with the worst primary metric.
        worst: Its value.
        spread: Best minus worst, without sign.
        deviation: Standard deviation over sites.
        expected_worst: Mean worst site if patients were dealt to sites at random, same numbers.
        chance: Share of such deals with a worst site as bad as the observed one.
    """

    label: str
    worst_site: str
    worst: float
    spread: float
    deviation: float
    expected_worst: float
    chance: float


@dataclass(frozen=True)
class Summary:
    """All numbers of a report; see the classes above."""

    metric: str
    is_higher_better: bool
    sites: tuple[str, ...]
    external_sites: tuple[str, ...]
    n_subjects: int
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    matrix: Matrix
    fairness: Fairness | None
    generalisation: Generalisation | None
    left_out: Generalisation | None
    new_site: NewHospital | None
    n_bootstrap: int
    seed: int
    notes: tuple[str, ...]
    budgets: tuple[ArmBudget, ...] = ()
    benefits: tuple[Benefit, ...] = ()
    given: tuple[Given, ...] = ()
    calibrations: tuple[Calibration, ...] = ()
    temperatures: tuple[Tempered, ...] = ()
    coverages: tuple[Coverage, ...] = ()
    groups: tuple[GroupScore, ...] = ()
    telling: SiteTelling = field(default_factory=SiteTelling)

    def group(self, label: str) -> Group:
        """Return which arms the row of a label is of."""
        return next(row.group for row in self.rows if row.label == label)

    def row(self, label: str) -> Row | None:
        """Return the row of a label, if there is one."""
        return next((row for row in self.rows if row.label == label), None)


def summarise(
    results: Results, task: Measured, *, n_bootstrap: int = 2000, seed: int = 0
) -> Summary:
    """Score every arm of a run on every patient that it was tested on.

    Patients are independent within their site and the sites are fixed: an interval is for the mean
    over the patients of these sites. Trainings are crossed with patients. Differences compare the
    same patients and, where seeds are the same, the same trainings. Means over patients weigh each
    patient alike, so a large site weighs more than a small one; the means of the matrix weigh each
    cell alike, and those over hospitals each hospital.

    Args:
        results: What the run left behind.
        task: Its task, whose metrics are used as they are.
        n_bootstrap: Random deals of patients to sites, and resamples for an unknown metric.
        seed: Of both.

    Raises:
        ConfigError: Fewer than 100 resamples (C01).
        UsageError: The seeds or arms of one row share no patient (U14).
    """
    require(n_bootstrap >= 100, "n_bootstrap", n_bootstrap, "100 or more")
    budgets = arm_budgets(results)
    scorer = Scorer(task, n_bootstrap, seed)
    rows = models.compared(results)
    for model in rows:
        _require_patients(model)
    sites = sorted({site for model in rows for site, _ in model.patients()})
    inside = tuple(site for site in sites if not models.is_external(site))
    outside = tuple(site for site in sites if models.is_external(site))
    first = rows[0]
    differences = _differences(rows, scorer, task)
    table = tuple(_row(model, scorer, task.primary) for model in rows)
    return Summary(
        metric=task.primary,
        is_higher_better=task.is_higher_better,
        sites=inside,
        external_sites=outside,
        n_subjects=max(n_of(models.only(model.patients(), inside)) for model in rows),
        rows=table,
        differences=differences,
        matrix=_matrix(results, scorer, (*inside, *outside)),
        fairness=_fairness(first, scorer, task),
        generalisation=generalisation(first, scorer, task),
        left_out=left_out(rows, scorer, task),
        new_site=new_site(rows, scorer, task),
        n_bootstrap=n_bootstrap,
        seed=seed,
        notes=(
            *results.warnings,
            *notes_of(rows, inside, len(differences)),
            *area_notes(_areas(table, inside)),
            *protocol_notes(results, budgets),
        ),
        budgets=budgets,
        benefits=benefits(rows, scorer, task),
        given=given(results, rows, scorer, task),
        calibrations=calibrations(rows, seed),
        temperatures=temperatures(rows, seed),
        coverages=coverages(rows),
        groups=_groups(results, task, first),
        telling=site_telling(results, rows),
    )


def _groups(results: Results, task: Measured, model: Model) -> tuple[GroupScore, ...]:
    """Return the first model's scores by the columns that every report groups patients by."""
    columns = planned_groups(results.run, task, inside_of(model))
    return group_scores(results, task, columns) if columns else ()


def _require_patients(model: Model) -> None:
    if not model.patients():
        fix = "run the experiment again: its seeds were not tested on the same patients"
        what = f"test patients of {model.label}"
        raise UsageError("U14", what, found="none that all its runs share", want="some", fix=fix)


def _row(model: Model, scorer: Scorer, primary: str) -> Row:
    inside = inside_of(model)
    by_site = {
        entry[0]: {name: score.estimate for name, score in scorer.scores(model, (entry,)).items()}
        for entry in model.patients()
    }
    overall = scorer.scores(model, inside) if inside else {}
    return Row(
        label=model.label,
        group=model.group,
        n_seeds=model.n_seeds,
        overall={name: score.estimate for name, score in overall.items()},
        by_site=by_site,
        within_sites=_within_sites(model, scorer, inside, primary) if inside else None,
        hospitals=over_hospitals(list(scores_by_site(model, scorer).values())),
    )


def _areas(rows: Sequence[Row], inside: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return the area of each main model over all patients, and its mean within sites."""
    found = {}
    for row in rows:
        own = [row.by_site[s]["auc"] for s in inside if "auc" in row.by_site.get(s, {})]
        own = [one for one in own if math.isfinite(one.value)]
        if own and "auc" in row.overall and not row.group.is_beside:
            n_all = sum(one.n_subjects for one in own)
            within = sum(one.n_subjects * one.value for one in own) / n_all
            found[row.label] = (row.overall["auc"].value, within)
    return found


def _within_sites(
    model: Model, scorer: Scorer, patients: Patients, primary: str
) -> Estimate | None:
    scores = [scorer.scores(model, (entry,))[primary] for entry in patients]
    scores = [score for score in scores if math.isfinite(score.value)]
    if not scores:
        return None
    weights = [float(score.n_subjects) for score in scores]
    return estimate_of_sum(mean_of([score.contrast for score in scores], weights), primary)


def _differences(rows: Sequence[Model], scorer: Scorer, task: Measured) -> tuple[Difference, ...]:
    found = [
        _difference(row, reference, patients, scorer)
        for row in rows
        if row.group.role == "federated" and not row.group.is_beside
        for reference in _references(tuple(rows))
        if reference is not row
        if (patients := models.common(inside_of(row), inside_of(reference)))
    ]
    adjusted = holm([difference.p_value for difference in found])
    return tuple(
        _judged(difference, p, is_higher_better=task.is_higher_better)
        for difference, p in zip(found, adjusted, strict=True)
    )


def _difference(row: Model, reference: Model, patients: Patients, scorer: Scorer) -> Difference:
    first, second = scorer.primary(row, patients), scorer.primary(reference, patients)
    contrast = first.minus(second)
    pairs = [[scorer.primary(m, (entry,)) for entry in patients] for m in (row, reference)]
    return Difference(
        label=row.label,
        reference=reference.label,
        estimate=estimate_of_sum(contrast),
        p_value=contrast.p_value,
        p_adjusted=math.nan,
        verdict="cannot be said",
        n_trainings=min(row.n_seeds, reference.n_seeds),
        hospitals=difference_over_hospitals(*pairs),
    )


def _judged(difference: Difference, p_adjusted: float, *, is_higher_better: bool) -> Difference:
    estimate = difference.estimate
    verdict = judge(
        estimate.value, p_adjusted, estimate.n_subjects, is_higher_better=is_higher_better
    )
    return replace(difference, p_adjusted=p_adjusted, verdict=verdict)


def _references(rows: tuple[Model, ...]) -> list[Model]:
    """Return what federated models are compared with; of several strategies also the first."""
    others = [r for r in rows if r.group.role != "federated" and not r.group.is_beside]
    others.sort(key=lambda row: row.label != OWN)  # the question asked first
    strategies = [row for row in rows if row.group.strategy]
    return [*others, *(strategies[:1] if len(strategies) > 1 else [])]


def _matrix(results: Results, scorer: Scorer, columns: tuple[str, ...]) -> Matrix:
    alone = (one for one in results.comparison.arms if one.role == "local" and not one.part)
    local = {arm.site: arm.label for arm in alone if not arm.fold}
    tested = {label for label, _ in results.cases}
    own = {site: local[site] for site in columns if local.get(site) in tested}
    rows = [models.of_arm(results, label) for label in own.values()]
    others = (row for row in models.compared(results) if row.group.role != "local")
    rows += [row for row in others if not row.group.is_beside]
    scores = {
        (row.label, entry[0]): scorer.primary(row, (entry,))
        for row in rows
        for entry in row.patients()
    }
    diagonal = _cells(scores, [(label, site) for site, label in own.items()])
    inside = [site for site in columns if not models.is_external(site)]
    primary = scorer.metric
    off = _cells(scores, [(own[i], j) for i in own for j in inside if i != j])
    return Matrix(
        rows=tuple(row.label for row in rows),
        owners=tuple(results.comparison.arm(row.label).site for row in rows),
        are_baselines=tuple(row.group.role == "baseline" for row in rows),
        columns=columns,
        cells=tuple(
            tuple(_cell(scores.get((row.label, site))) for site in columns) for row in rows
        ),
        diagonal=estimate_of_sum(diagonal, primary) if diagonal else None,
        off_diagonal=estimate_of_sum(off, primary) if off else None,
        gap=estimate_of_sum(diagonal.minus(off)) if diagonal and off else None,
    )


def _cells(
    scores: Mapping[tuple[str, str], Score], keys: Iterable[tuple[str, str]]
) -> Contrast | None:
    found = [scores[key].contrast for key in keys if key in scores]
    return mean_of(found) if found else None


def _cell(score: Score | None) -> Estimate | None:
    return score.estimate if score else None


def _fairness(model: Model, scorer: Scorer, task: Measured) -> Fairness | None:
    scores = {site: score.value for site, score in scores_by_site(model, scorer).items()}
    values = np.array(list(scores.values()))
    if len(scores) < 2 or not np.isfinite(values).all():
        return None
    worst = float(values.min() if task.is_higher_better else values.max())
    dealt = scorer.worst_by_chance(model, inside_of(model))
    dealt = np.empty(0) if dealt is None else dealt[np.isfinite(dealt)]
    as_bad = dealt <= worst + 1e-12 if task.is_higher_better else dealt >= worst - 1e-12
    return Fairness(
        label=model.label,
        worst_site=next(site for site, value in scores.items() if value == worst),
        worst=worst,
        spread=float(np.ptp(values)),
        deviation=float(values.std(ddof=1)),
        expected_worst=float(dealt.mean()) if len(dealt) else math.nan,
        chance=float(as_bad.mean()) if len(dealt) else math.nan,
    )
