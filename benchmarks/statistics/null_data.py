"""How often every interval of ``fedmri.evaluate`` holds chance, on scores that are pure noise.

    python benchmarks/statistics/null_data.py [repetitions] [seed]

Hospitals have 5 to 60 patients; nothing that a model says depends on the truth. A cell is the share
of intervals that hold the true value, and in brackets the share of repetitions without an interval.
Rows with "level" count how often nothing is claimed where nothing is there. Prints Markdown.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fedmri.evaluate.comparisons.gap import gap_of_scores
from fedmri.evaluate.comparisons.joining import HospitalScores, worth_joining
from fedmri.evaluate.comparisons.paired import (
    mcnemar,
    non_inferiority,
    paired_areas,
    paired_means,
)
from fedmri.evaluate.comparisons.subgroups import subgroups
from fedmri.evaluate.estimate import Certainty, Estimate, mean_interval
from fedmri.evaluate.hospitals.new_hospital import (
    OF_AUC,
    WEAK,
    NewHospital,
    SpreadPrior,
    new_hospital,
)
from fedmri.evaluate.reliability.calibration import brier, calibration_line, ece_beside_null
from fedmri.evaluate.reliability.conformal import calibrated
from fedmri.evaluate.reliability.decisions import decision_curve
from fedmri.evaluate.resampling import bootstrap, drawn_weights
from fedmri.evaluate.scores.classes import table_of
from fedmri.evaluate.scores.federated_auc import counted, equal_edges, federated_auc
from fedmri.evaluate.scores.ranking import (
    auc,
    clustered_auc,
    delong,
    pr_auc,
    steady_area,
    weighted_auc,
)
from fedmri.evaluate.scores.sites import site_areas
from fedmri.evaluate.scores.values import values_of

Array = NDArray[np.float64]
LAYOUTS: Mapping[str, tuple[int, ...]] = {
    "3 x 5": (5,) * 3,
    "6 x 5": (5,) * 6,
    "3 x 20": (20,) * 3,
    "5+12+30+60": (5, 12, 30, 60),
    "6 x 60": (60,) * 6,
}
N_DRAWS = 200
N_SCANS = 3
MARGIN = 0.3
SPREAD = 0.4
"""Standard deviation between hospitals as logits, in the rows with spread."""


@dataclass(frozen=True)
class Noise:
    """Patients of several hospitals, and models that know nothing.

    Attributes:
        sites: Hospital of each patient, shape ``(n,)``.
        truth: Shape ``(n,)``; two of each class at least.
        probability: Of two models, uniform, shape ``(2, n)``.
        value: True number of each patient, normal, shape ``(n,)``.
        predicted: Of two models, normal, shape ``(2, n)``.
        overlap: Like a Dice, mean one half, of two models, shape ``(2, n)``.
        at_hospitals: The same with a spread between hospitals, shape ``(n,)``.
        elsewhere: True mean of that at a new hospital.
        rng: For what is drawn further.
    """

    sites: NDArray[np.intp]
    truth: NDArray[np.bool_]
    probability: Array
    value: Array
    predicted: Array
    overlap: Array
    at_hospitals: Array
    elsewhere: float
    rng: np.random.Generator


def drawn(sizes: tuple[int, ...], rng: np.random.Generator) -> Noise:
    """Draw patients of hospitals of some sizes."""
    sites = np.repeat(np.arange(len(sizes)), sizes)
    n = len(sites)
    truth = rng.random(n) < 0.5
    while not 2 <= truth.sum() <= n - 2:
        truth = rng.random(n) < 0.5
    means = 1 / (1 + np.exp(-SPREAD * rng.standard_normal(len(sizes) + 1)))
    overlap = rng.beta(2, 2, (2, n))
    own = means[sites]
    return Noise(
        sites=sites,
        truth=truth,
        probability=rng.random((2, n)),
        value=rng.standard_normal(n),
        predicted=rng.standard_normal((2, n)),
        overlap=overlap,
        at_hospitals=rng.beta(6 * own, 6 * (1 - own)),
        elsewhere=float(means[-1]),
        rng=rng,
    )


def holds(found: Estimate | None, truth: float) -> bool | None:
    """Return whether an interval holds a value; None where there is none."""
    if found is None or not found.has_interval:
        return None
    return found.low - 1e-12 <= truth <= found.high + 1e-12


def _areas(noise: Noise) -> dict[str, bool | None]:
    score, truth, n = noise.probability[0], noise.truth, len(noise.truth)
    shared = np.repeat(score, N_SCANS) + 0.3 * noise.rng.standard_normal(n * N_SCANS)
    patients, many = np.repeat(np.arange(n), N_SCANS), np.repeat(truth, N_SCANS)
    weights = drawn_weights(np.arange(n), truth, N_DRAWS, noise.rng)
    pairs = [counted(score[noise.sites == s], truth[noise.sites == s], equal_edges(50))
             for s in np.unique(noise.sites)]  # fmt: skip
    how = Certainty("logit", n - 2.0)
    return {
        "AUC (Newcombe)": holds(auc(score, truth), 0.5),
        "AUC (DeLong, logit)": holds(delong(score, truth).logit(), 0.5),
        "AUC, 3 scans a patient": holds(clustered_auc(shared, many, patients), 0.5),
        "AUC, bootstrap of patients": holds(
            bootstrap(lambda w: weighted_auc(score, truth, w), weights, n, how), 0.5
        ),
        "AUC within sites": holds(site_areas(score, truth, noise.sites).within, 0.5),
        "AUC from 50 bins": holds(federated_auc(pairs).estimate, 0.5),
        "PR-AUC": holds(pr_auc(score, truth), float(truth.mean())),
    }


def _classes(noise: Noise) -> dict[str, bool | None]:
    found = table_of(noise.truth, noise.probability[0] > 0.5).scores()
    return {name: holds(one, 0.5) for name, one in found.items()}


def _values(noise: Noise) -> dict[str, bool | None]:
    found = values_of(noise.value, noise.predicted[0])
    return {
        "MAE": holds(found.mae, 2 / math.sqrt(math.pi)),
        "r": holds(found.r, 0.0),
        "R2": holds(found.r2, -1.0),
        "concordance": holds(found.concordance, 0.0),
        "bias": holds(found.bias, 0.0),
        "mean Dice": holds(mean_interval(noise.overlap[0], Certainty("logit")), 0.5),
    }


def _probabilities(noise: Noise) -> dict[str, bool | None]:
    p, n = noise.probability[0], len(noise.truth)
    line = calibration_line([(p, noise.truth)])
    hits = (noise.rng.random(n) < p).astype(float)
    is_calm = ece_beside_null(p, hits, noise.rng, n_draws=N_DRAWS).p_value > 0.05
    limit = calibrated(np.abs(noise.value), 0.9).limit
    (benefit,) = decision_curve(p, noise.truth, [0.5])
    return {
        "Brier": holds(brier(p, noise.truth), 1 / 3),
        "calibration slope": holds(line.slope, 0.0),
        "calibration intercept": holds(line.intercept, 0.0),
        "net benefit at 0.5": holds(benefit.model, 0.0),
        "ECE against its null (level)": is_calm,
        "conformal interval, 0.90 promised": bool(abs(noise.rng.standard_normal()) <= limit),
    }


def _comparisons(noise: Noise) -> dict[str, bool | None]:
    first, second = noise.overlap
    means = paired_means(first, second, sites=noise.sites)
    areas = paired_areas(noise.probability[0], noise.probability[1], noise.truth)
    calls = (noise.probability > 0.5) == noise.truth
    worse = paired_means(first - MARGIN, second)
    sex = noise.rng.integers(0, 2, len(first))
    groups = subgroups(lambda own: mean_interval(first[own]), {"sex": sex})
    half = len(first) // 2
    loss = gap_of_scores(first[:half], first[half:])
    hospitals = [HospitalScores(str(s), second[noise.sites == s], first[noise.sites == s])
                 for s in np.unique(noise.sites)]  # fmt: skip
    said = [one.worth for one in worth_joining(hospitals, metric="Dice")]
    return {
        "paired difference of Dice": holds(means.difference, 0.0),
        "the same (level)": not means.p_value <= 0.05,
        "paired difference of AUC": holds(areas.difference, 0.0),
        "McNemar (level)": mcnemar(*calls) > 0.05,
        "non-inferiority, 0.975 promised (level)": non_inferiority(worse, MARGIN).verdict
        not in {"non-inferior", "superior"},
        "subgroup against the rest": holds(groups[0].against_rest, 0.0),
        "gap": holds(loss.points, 0.0),
        "gap is no fail, 0.975 promised (level)": loss.verdict != "fail",
        "worth joining, all hospitals (level)": not {"worth joining", "not worth joining"}
        & {*said},
    }


def _hospitals(noise: Noise) -> dict[str, bool | None]:
    alike, spread = (_new(noise, scores, WEAK) for scores in (noise.overlap[0], noise.at_hospitals))
    areas = _new_of_areas(noise)
    found = {}
    for name, one, truth, mean in (
        ("hospitals alike", alike, 0.5, 0.5),
        ("hospitals differ", spread, noise.elsewhere, 0.5),
    ):
        plain = one.frequentist if one else None
        n = len(noise.truth)
        found[f"mean, {name} (HKSJ)"] = holds(
            Estimate(plain.mean, plain.low, plain.high, n) if plain else None, mean
        )
        found[f"mean, {name} (prior)"] = holds(
            Estimate(one.mean, one.mean_low, one.mean_high, n) if one else None, mean
        )
        found[f"new hospital, {name} (no prior)"] = holds(
            Estimate(plain.mean, plain.new_low, plain.new_high, n) if plain else None, truth
        )
        found[f"new hospital, {name} (prior)"] = holds(
            Estimate(one.mean, one.low, one.high, n) if one else None, truth
        )
    found["new hospital, AUC alike (prior)"] = holds(areas, 0.5)
    differing, elsewhere = _differing_areas(noise)
    for name, ends in (("prior", "low high"), ("no prior", "new_low new_high")):
        found_of = differing.frequentist if differing and name == "no prior" else differing
        low, high = (getattr(found_of, end, math.nan) for end in ends.split())
        found[f"new hospital, AUC differs ({name})"] = holds(
            Estimate(0.8, low, high, len(noise.truth)), elsewhere
        )
    return found


def _new(noise: Noise, scores: Array, prior: SpreadPrior) -> NewHospital | None:
    each = [scores[noise.sites == s] for s in np.unique(noise.sites)]
    errors = [float(own.std(ddof=1)) / math.sqrt(len(own)) for own in each]
    return new_hospital([float(own.mean()) for own in each], errors, prior=prior)


def _new_of_areas(noise: Noise) -> Estimate | None:
    values, errors = [], []
    for site in np.unique(noise.sites):
        own = noise.sites == site
        if not 0 < noise.truth[own].sum() < own.sum():
            continue  # no area is there
        value, error = steady_area(noise.probability[0][own], noise.truth[own])
        values.append(value)
        errors.append(error)
    one = new_hospital(values, errors, prior=OF_AUC)
    return Estimate(one.mean, one.low, one.high, len(noise.truth)) if one else None


def _differing_areas(noise: Noise) -> tuple[NewHospital | None, float]:
    """Return the prediction from hospitals whose areas differ, and the area at one more."""
    areas = np.clip(
        0.8 + OF_AUC.centre * noise.rng.standard_normal(noise.sites.max() + 2), 0.55, 0.97
    )
    shift = math.sqrt(2) * special.ndtri(areas[:-1])[noise.sites]
    score = noise.predicted[0] + noise.truth * shift
    steady = [
        steady_area(score[own], noise.truth[own])
        for own in (noise.sites == site for site in np.unique(noise.sites))
        if 0 < noise.truth[own].sum() < own.sum()
    ]
    values, errors = ([one[i] for one in steady] for i in (0, 1))
    return new_hospital(values, errors, prior=OF_AUC), float(areas[-1])


CHECKS: tuple[Callable[[Noise], dict[str, bool | None]], ...] = (
    _areas,
    _classes,
    _values,
    _probabilities,
    _comparisons,
    _hospitals,
)


def measured(
    sizes: tuple[int, ...], repetitions: int, rng: np.random.Generator
) -> dict[str, tuple[float, float]]:
    """Return the share that is held among the intervals given, and the share without one."""
    rows: dict[str, list[bool | None]] = {}
    for _ in range(repetitions):
        noise = drawn(sizes, rng)
        for check in CHECKS:
            for name, is_held in check(noise).items():
                rows.setdefault(name, []).append(is_held)
    found = {}
    for name, values in rows.items():
        given = [one for one in values if one is not None]
        share = float(np.mean(given)) if given else math.nan
        found[name] = (share, 1 - len(given) / len(values))
    return found


def main() -> None:
    """Measure every layout and print one table."""
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    columns = {
        name: measured(sizes, repetitions, np.random.default_rng([seed, place]))
        for place, (name, sizes) in enumerate(LAYOUTS.items())
    }
    print(f"{repetitions} repetitions, seed {seed}\n")
    print("| interval of | " + " | ".join(columns) + " |")
    print("| --- |" + " ---: |" * len(columns))
    for row in next(iter(columns.values())):
        cells = [_cell(*column[row]) for column in columns.values()]
        print(f"| {row} | " + " | ".join(cells) + " |")


def _cell(share: float, missing: float) -> str:
    shown = "-" if math.isnan(share) else f"{share:.3f}"
    return f"{shown} ({missing:.2f})" if missing > 0 else shown


if __name__ == "__main__":
    main()
