"""How long all intervals of an evaluation take, beside a plain loop over resamples.

    python benchmarks/speed/evaluation_speed.py [sites] [patients] [draws] [draws of the loop]

Made patients: scores of three models, a true class, an age, a predicted age, and a Dice each. The
plain loop draws patients of each site, and asks scikit-learn for the area of each draw. Few of its
draws are timed, and their time is multiplied.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from fedmri.evaluate.comparisons.joining import HospitalScores, worth_joining
from fedmri.evaluate.comparisons.paired import non_inferiority, paired_areas, paired_means
from fedmri.evaluate.comparisons.subgroups import age_bands, subgroups
from fedmri.evaluate.estimate import Certainty, mean_interval
from fedmri.evaluate.hospitals.new_hospital import OF_AUC, new_hospital
from fedmri.evaluate.hospitals.planner import plan_halving
from fedmri.evaluate.reliability.calibration import brier, calibration_line, ece_beside_null
from fedmri.evaluate.reliability.conformal import calibrate_sets, coverage_by_site, prediction_sets
from fedmri.evaluate.reliability.decisions import decision_curve, risk_coverage
from fedmri.evaluate.resampling import bootstrap, drawn_weights
from fedmri.evaluate.scores.classes import table_of
from fedmri.evaluate.scores.federated_auc import counted, equal_edges, federated_auc
from fedmri.evaluate.scores.ranking import auc, delong, pr_auc, weighted_auc
from fedmri.evaluate.scores.sites import site_areas
from fedmri.evaluate.scores.values import values_of

Array = NDArray[np.float64]


class Made:
    """Patients of several sites, the same number at each."""

    def __init__(self, n_sites: int, n_subjects: int) -> None:
        rng = np.random.default_rng(0)
        n = n_sites * n_subjects
        self.rng = rng
        self.sites = np.repeat(np.arange(n_sites), n_subjects)
        self.truth = rng.random(n) < 0.4
        z = self.truth * rng.normal(1.2, 0.3, n_sites)[self.sites]
        self.scores = 1 / (1 + np.exp(-z - rng.standard_normal((3, n))))
        self.age = rng.uniform(20, 80, n)
        self.predicted = self.age + rng.normal(0, 6, n)
        self.dice = rng.beta(8, 3, (3, n))

    def own(self) -> list[NDArray[np.bool_]]:
        """Return the patients of each site."""
        return [self.sites == site for site in np.unique(self.sites)]


def classification(made: Made, n_draws: int) -> None:
    """Areas, calls, calibration, sets and decisions, over all and at each site."""
    score, truth = made.scores[0], made.truth
    for own in [np.ones(len(truth), bool), *made.own()]:
        auc(score[own], truth[own])
        pr_auc(score[own], truth[own])
        table_of(truth[own], score[own] > 0.5).scores()
        brier(score[own], truth[own])
        ece_beside_null(score[own], truth[own].astype(float), made.rng, n_draws=200)
        calibration_line([(score[own], truth[own])])
    site_areas(score, truth, made.sites)
    federated_auc([counted(score[own], truth[own], equal_edges(100)) for own in made.own()])
    calibration_line([(score[own], truth[own]) for own in made.own()])
    both = np.stack([1 - score, score], axis=1)
    limits = calibrate_sets(both, truth.astype(np.intp), 0.9, sites=made.sites)
    sets = prediction_sets(both, limits, sites=made.sites)
    coverage_by_site(sets[np.arange(len(truth)), truth.astype(int)], made.sites)
    decision_curve(score, truth, np.linspace(0.05, 0.95, 19).tolist())
    risk_coverage(np.abs(score - 0.5), ((score > 0.5) != truth).astype(float))


def resampled(made: Made, n_draws: int) -> None:
    """The bootstrap over patients within sites, of one area and of a difference."""
    n = len(made.truth)
    weights = drawn_weights(np.arange(n), made.sites, n_draws, made.rng)
    for model in (0, 1):
        bootstrap(
            partial(weighted_auc, made.scores[model], made.truth),
            weights,
            n,
            Certainty("logit", n - 1.0),
        )


def comparisons(made: Made, n_draws: int) -> None:
    """Three models against each other, subgroups, and every hospital's own worth."""
    for other in (1, 2):
        non_inferiority(paired_areas(made.scores[0], made.scores[other], made.truth), 0.02)
        non_inferiority(paired_means(made.dice[0], made.dice[other], sites=made.sites), 0.01)
    attributes = {"age": age_bands(made.age, (40, 60)), "site": made.sites}
    subgroups(lambda own: auc(made.scores[0][own], made.truth[own]), attributes)
    tested = [HospitalScores(str(i), *(made.dice[:, own])) for i, own in enumerate(made.own())]
    worth_joining(tested, metric="Dice")


def values(made: Made, n_draws: int) -> None:
    """Ages and overlaps at each site, and over the first 2,000 patients."""
    for own in [np.arange(len(made.age)) < 2000, *made.own()]:
        values_of(made.age[own], made.predicted[own])
        mean_interval(made.dice[0][own], Certainty("logit"))


def hospitals(made: Made, n_draws: int) -> None:
    """A new hospital, and what would tell it better."""
    areas = [delong(made.scores[0][own], made.truth[own]) for own in made.own()]
    found = [float(one.values[0]) for one in areas]
    errors = [float(np.sqrt(one.covariance[0, 0])) for one in areas]
    new = new_hospital(found, errors, prior=OF_AUC)
    if new is not None:
        plan_halving(new, errors, found)


def plain_loop(made: Made, n_draws: int) -> None:
    """Two areas a draw, patient by patient, as one writes it first."""
    places = [np.flatnonzero(own) for own in made.own()]
    for _ in range(n_draws):
        drawn = np.concatenate([made.rng.choice(own, len(own)) for own in places])
        for model in (0, 1):
            roc_auc_score(made.truth[drawn], made.scores[model][drawn])


def timed(work: Callable[[Made, int], None], made: Made, n_draws: int) -> float:
    """Return the seconds that some work takes."""
    start = time.perf_counter()
    work(made, n_draws)
    return time.perf_counter() - start


def main() -> None:
    """Time every part and print one table."""
    given = [int(text) for text in sys.argv[1:]]
    n_sites, n_subjects, n_draws, n_loop = (*given, *(50, 200, 2000, 20)[len(given) :])
    made = Made(n_sites, n_subjects)
    total = 0.0
    print(f"{n_sites} sites x {n_subjects} patients, {n_draws} draws\n")
    print("| part | seconds |\n| --- | ---: |")
    for work in (classification, resampled, comparisons, values, hospitals):
        seconds = timed(work, made, n_draws)
        total += seconds
        print(f"| {work.__name__} | {seconds:.2f} |")
    print(f"| all | {total:.2f} |")
    loop = timed(plain_loop, made, n_loop) * n_draws / n_loop
    ours = timed(resampled, made, n_draws)
    print(
        f"\nThe same two bootstraps as a plain loop: {loop:.1f} s, {loop / ours:.1f} times as long."
    )


if __name__ == "__main__":
    main()
