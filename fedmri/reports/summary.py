"""What a run showed: scores with intervals, paired differences, the matrix of sites, fairness."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fedmri.errors import UsageError, require
from fedmri.reports import models
from fedmri.reports.intervals import Estimate, NewSite, Patients, n_of, new_site_interval
from fedmri.reports.models import Model
from fedmri.reports.results import Results, site_name
from fedmri.reports.scoring import Score, Scorer, mean_score
from fedmri.training.task import Task

Verdict = Literal["better", "worse", "no difference shown", "cannot be said"]

UNIT_METRICS = frozenset({"dice", "jaccard", "accuracy", "balanced_accuracy", "macro_f1", "auc"})
"""Metrics between 0 and 1: combined over sites as logits, and judged in percentage points."""
FEW = 10
"""Below this many patients a bootstrap interval is too narrow to be taken at its word."""
LEAST_PAIRS = 6
"""With fewer pairs no sign test reaches 5 % (2 / 2**5 is 6 %), whatever an interval says."""


@dataclass(frozen=True)
class Row:
    """One model of the result table.

    Attributes:
        label: Name.
        n_seeds: Trainings that its scores are averaged over.
        overall: By metric, over the test patients of all sites that took part.
        by_site: By site (external ones too), then by metric.
        within_sites: Primary metric per site, averaged by patients: free of what a metric over
            all patients gains from differences between sites. None where there is no such value.
    """

    label: str
    n_seeds: int
    overall: Mapping[str, Estimate]
    by_site: Mapping[str, Mapping[str, Estimate]]
    within_sites: Estimate | None


@dataclass(frozen=True)
class Difference:
    """Primary metric of ``label`` minus that of ``reference``, over the same patients."""

    label: str
    reference: str
    estimate: Estimate
    verdict: Verdict


@dataclass(frozen=True)
class Matrix:
    """Primary metric of each model (rows) at each test site (columns).

    Attributes:
        rows: Models: the local ones in the order of ``columns``, then the others.
        columns: Test sites, external ones last.
        cells: One estimate a row and column; None where the model was not tested there.
        diagonal: Unweighted mean over local models at their own site.
        off_diagonal: Unweighted mean over local models at the other sites that took part.
        gap: Diagonal minus off-diagonal.
    """

    rows: tuple[str, ...]
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
class Generalisation:
    """Primary metric at sites that took part, minus at those that did not."""

    label: str
    inside: Estimate
    outside: Estimate
    gap: Estimate
    verdict: str


@dataclass(frozen=True)
class Summary:
    """All numbers of a report; see the classes above."""

    metric: str
    is_higher_better: bool
    sites: tuple[str, ...]
    external_sites: tuple[str, ...]
    n_patients: int
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    matrix: Matrix
    fairness: Fairness | None
    generalisation: Generalisation | None
    new_site: NewSite | None
    n_bootstrap: int
    seed: int
    notes: tuple[str, ...]

    def row(self, label: str) -> Row | None:
        """Return the row of a label, if there is one."""
        return next((row for row in self.rows if row.label == label), None)


def summarise(results: Results, task: Task, *, n_bootstrap: int = 2000, seed: int = 0) -> Summary:
    """Score every arm of a run on every patient that it was tested on.

    Patients are the unit of every interval. They are resampled with replacement within their site;
    the runs of several seeds are scored on the same resample and averaged first. Differences
    compare the same patients on the same resamples. Means over patients weigh each patient alike,
    so a large site weighs more than a small one; the means of the matrix weigh each cell alike.

    Args:
        results: What the run left behind.
        task: Its task, whose metrics are used as they are.
        n_bootstrap: Resamples.
        seed: Of the resampling.

    Raises:
        ConfigError: Fewer than 100 resamples (C01).
        UsageError: The seeds or arms of one row share no patient (U14).
    """
    require(n_bootstrap >= 100, "n_bootstrap", n_bootstrap, "100 or more")
    scorer = Scorer(task, n_bootstrap, seed)
    rows = models.compared(results)
    for model in rows:
        _require_patients(model)
    sites = sorted({site for model in rows for site, _ in model.patients()})
    inside = tuple(site for site in sites if not models.is_external(site))
    outside = tuple(site for site in sites if models.is_external(site))
    first = rows[0]
    return Summary(
        metric=task.primary,
        is_higher_better=task.is_higher_better,
        sites=inside,
        external_sites=outside,
        n_patients=max(n_of(models.only(model.patients(), inside)) for model in rows),
        rows=tuple(_row(model, scorer, task.primary) for model in rows),
        differences=tuple(_differences(rows, scorer, task)),
        matrix=_matrix(results, scorer, (*inside, *outside)),
        fairness=_fairness(first, scorer, task),
        generalisation=_generalisation(first, scorer, task),
        new_site=_new_site(rows, scorer, task),
        n_bootstrap=n_bootstrap,
        seed=seed,
        notes=(*results.warnings, *_notes(rows, inside)),
    )


def _require_patients(model: Model) -> None:
    if not model.patients():
        fix = "run the experiment again: its seeds were not tested on the same patients"
        what = f"test patients of {model.label}"
        raise UsageError("U14", what, found="none that all its runs share", want="some", fix=fix)


def _inside(model: Model) -> Patients:
    return tuple(entry for entry in model.patients() if not models.is_external(entry[0]))


def _row(model: Model, scorer: Scorer, primary: str) -> Row:
    inside = _inside(model)
    by_site = {
        entry[0]: {name: score.estimate for name, score in scorer.scores(model, (entry,)).items()}
        for entry in model.patients()
    }
    overall = scorer.scores(model, inside) if inside else {}
    return Row(
        label=model.label,
        n_seeds=model.n_seeds,
        overall={name: score.estimate for name, score in overall.items()},
        by_site=by_site,
        within_sites=_within_sites(model, scorer, inside, primary) if inside else None,
    )


def _within_sites(
    model: Model, scorer: Scorer, patients: Patients, primary: str
) -> Estimate | None:
    scores = [scorer.scores(model, (entry,))[primary] for entry in patients]
    scores = [score for score in scores if math.isfinite(score.value)]
    if not scores:
        return None
    shares = np.array([score.n_patients for score in scores], dtype=float)
    shares /= shares.sum()
    value = float(shares @ [score.value for score in scores])
    replicates = shares @ np.stack([score.replicates for score in scores])
    return Score(value, replicates, sum(score.n_patients for score in scores)).estimate


def _differences(rows: Iterable[Model], scorer: Scorer, task: Task) -> Iterator[Difference]:
    rows = tuple(rows)
    for row in rows:
        if models.is_federated(row.label):
            for reference in _references(rows):
                patients = models.common(_inside(row), _inside(reference))
                if patients and reference is not row:
                    pair = scorer.primary(row, patients), scorer.primary(reference, patients)
                    estimate = pair[0].minus(pair[1]).estimate
                    verdict = judge(estimate, is_higher_better=task.is_higher_better)
                    yield Difference(row.label, reference.label, estimate, verdict)


def _references(rows: tuple[Model, ...]) -> list[Model]:
    """Return what federated models are compared with; of several strategies also the first."""
    others = [row for row in rows if not models.is_federated(row.label)]
    others.sort(key=lambda row: row.label != models.OWN)  # the question asked first
    strategies = [row for row in rows if models.is_one_of_several(row.label)]
    return [*others, *(strategies[:1] if len(strategies) > 1 else [])]


def judge(difference: Estimate, *, is_higher_better: bool) -> Verdict:
    """Return what a difference shows: its interval must leave out zero to show anything."""
    if not difference.has_interval or difference.n_patients < LEAST_PAIRS:
        return "cannot be said"
    low, high = difference.low, difference.high
    if not is_higher_better:
        low, high = -high, -low
    if low > 0:
        return "better"
    return "worse" if high < 0 else "no difference shown"


def _matrix(results: Results, scorer: Scorer, columns: tuple[str, ...]) -> Matrix:
    rows = [models.of_arm(results, f"local:{site}") for site in columns]
    rows = [row for row in rows if row.runs]
    own = [row.label.partition(":")[2] for row in rows]
    rows += [row for row in models.compared(results) if row.label not in {models.OWN, models.ALL}]
    scores = {
        (row.label, entry[0]): scorer.primary(row, (entry,))
        for row in rows
        for entry in row.patients()
    }
    diagonal = _cells(scores, [(f"local:{site}", site) for site in own])
    inside = [site for site in columns if not models.is_external(site)]
    off = _cells(scores, [(f"local:{i}", j) for i in own for j in inside if i != j])
    return Matrix(
        rows=tuple(row.label for row in rows),
        columns=columns,
        cells=tuple(
            tuple(_estimate(scores.get((row.label, site))) for site in columns) for row in rows
        ),
        diagonal=_estimate(diagonal),
        off_diagonal=_estimate(off),
        gap=_estimate(diagonal.minus(off) if diagonal and off else None),
    )


def _cells(
    scores: Mapping[tuple[str, str], Score], keys: Iterable[tuple[str, str]]
) -> Score | None:
    found = [scores[key] for key in keys if key in scores]
    return mean_score(found) if found else None


def _estimate(score: Score | None) -> Estimate | None:
    return score.estimate if score else None


def _by_site(model: Model, scorer: Scorer) -> dict[str, Score]:
    return {entry[0]: scorer.primary(model, (entry,)) for entry in _inside(model)}


def _fairness(model: Model, scorer: Scorer, task: Task) -> Fairness | None:
    scores = {site: score.value for site, score in _by_site(model, scorer).items()}
    values = np.array(list(scores.values()))
    if len(scores) < 2 or not np.isfinite(values).all():
        return None
    worst = float(values.min() if task.is_higher_better else values.max())
    dealt = scorer.worst_by_chance(model, _inside(model))
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


def _generalisation(model: Model, scorer: Scorer, task: Task) -> Generalisation | None:
    inside = _inside(model)
    outside = tuple(entry for entry in model.patients() if models.is_external(entry[0]))
    if not inside or not outside:
        return None
    within, beyond = scorer.primary(model, inside), scorer.primary(model, outside)
    lost = within.minus(beyond) if task.is_higher_better else beyond.minus(within)
    return Generalisation(
        label=model.label,
        inside=within.estimate,
        outside=beyond.estimate,
        gap=lost.estimate,
        verdict=_gap_verdict(lost.estimate, beyond.n_patients, task.primary),
    )


def _gap_verdict(lost: Estimate, n_outside: int, metric: str) -> str:
    """Return whether ten percentage points are lost at sites that did not take part."""
    if metric not in UNIT_METRICS:
        return "no limit is set for this metric"
    if not lost.has_interval or n_outside < FEW:
        return f"inconclusive: fewer than {FEW} patients or no interval"
    if lost.high < 0.10:
        return "pass: less than 10 percentage points are lost"
    if lost.low > 0.10:
        return "fail: more than 10 percentage points are lost"
    return "inconclusive: the interval of the loss holds 10 percentage points"


def _new_site(rows: Iterable[Model], scorer: Scorer, task: Task) -> NewSite | None:
    """Predict a new site from sites that were left out of training; no others can stand for it."""
    model = next((row for row in rows if row.label == models.LEFT_OUT), None)
    if model is None:
        return None
    scores = list(_by_site(model, scorer).values())
    errors = [float(score.replicates.std(ddof=1)) for score in scores]
    is_proportion = task.primary in UNIT_METRICS
    return new_site_interval([s.value for s in scores], errors, is_proportion=is_proportion)


def _tested_on_fewer(rows: Sequence[Model], inside: tuple[str, ...]) -> Iterator[str]:
    counts = {row.label: n_of(models.only(row.patients(), inside)) for row in rows}
    n_most = max(counts.values(), default=0)
    for label, n in counts.items():
        if n < n_most:
            yield f"{label} was tested on {n} of {n_most} patients; compare with care."


def _notes(rows: tuple[Model, ...], inside: tuple[str, ...]) -> Iterator[str]:
    n_seeds = {model.label: model.n_seeds for model in rows if not models.is_reference(model.label)}
    once = [label for label, n in n_seeds.items() if n == 1]
    if once:
        which = "all models" if len(once) == len(n_seeds) else ", ".join(once)
        yield f"Trained with one seed: {which}. Chance in training is not in their intervals."
    if len(set(n_seeds.values())) > 1:
        counts = ", ".join(f"{label} {n}" for label, n in n_seeds.items())
        yield f"Arms were trained with unequal numbers of seeds: {counts}."
    whole = [model for model in rows if models.is_left_out(model.label)]
    if whole:
        n_whole = max(n_of(models.only(model.patients(), inside)) for model in whole)
        yield (
            f"Models without a site are tested on all its patients, {n_whole} patients in sum. "
            "The others know most of them. Differences are over patients that neither knows."
        )
    others = [model for model in rows if not models.is_left_out(model.label)]
    for alike in (whole, others):
        yield from _tested_on_fewer(alike, inside)
    sizes = {site: len(names) for model in rows for site, names in model.patients()}
    if small := [f"{site_name(site)} {n}" for site, n in sorted(sizes.items()) if n < FEW]:
        yield (f"Fewer than {FEW} test patients, intervals likely too narrow: {', '.join(small)}.")
    if sum(map(models.is_one_of_several, n_seeds)) > 1:
        yield "Several strategies are compared; intervals are not corrected for their number."
