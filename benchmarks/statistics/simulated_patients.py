"""Patients whose true scores are known: what intervals and verdicts are measured on.

Hospitals differ: each is one of nine kinds, and has its own share of each class. Patients are
drawn with replacement from large finite populations, one for each kind of hospital. So every true
value is a sum. Two models are exchangeable: each patient is in the population a second time with
the models swapped. Whatever differs between them is chance.

- Segmentation: Dice is skewed, 6 % of the patients have Dice 0 and HD95 374 mm.
- Two classes: binormal scores, 20 to 60 % positive by hospital.
- Three classes: the third is rare, 5 % on average.
- Accurate: two classes, 97 % called rightly.
- Regression: errors of Student's t with 5 degrees of freedom and a bias of the hospital.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fedmri.reports.statistics.metrics import Metric, metric_of
from fedmri.reports.statistics.weighted import Panel

Array = NDArray[np.float64]
KINDS = 9
SIZE = 8_000
FAILED_SHARE = 0.06
EFFECTS = special.ndtri((np.arange(KINDS) + 0.5) / KINDS)
"""What a kind of hospital shifts, in standard deviations between hospitals."""


@dataclass(frozen=True)
class Population:
    """All patients of a task: by kind of hospital and class.

    Attributes:
        name: Of the task.
        metrics: What it is scored by.
        truth: Class or value, shape ``(kinds, classes, size)``.
        prediction: Of both models, shape ``(2, kinds, classes, size, outputs)``.
        scores: Patients' own scores of both models, each ``(2, kinds, classes, size)``.
    """

    name: str
    metrics: tuple[str, ...]
    truth: Array
    prediction: Array
    scores: dict[str, Array]


@dataclass(frozen=True)
class Sample:
    """Tested patients: the panels of two models, and the true score of both."""

    sites: tuple[str, ...]
    panels: tuple[Panel, Panel]
    truths: dict[str, float]


def _pair(stream: np.random.Generator, shape: tuple[int, ...], own: float) -> Array:
    """Return standard normal values of two models, with what is their own as a share."""
    common = stream.normal(size=(1, *shape))
    return np.asarray(np.sqrt(1 - own) * common + np.sqrt(own) * stream.normal(size=(2, *shape)))


def _swapped(values: Array, axis: int) -> Array:
    """Add each patient a second time with the models in each other's place."""
    return np.concatenate([values, values[::-1]], axis=axis)


def segmentation(stream: np.random.Generator) -> Population:
    """Return patients with Dice, Jaccard index and HD95."""
    shape = (KINDS, 1, SIZE)
    shift = (1.2 + 0.3 * EFFECTS)[None, :, None, None]
    dice = special.expit(shift + _pair(stream, shape, 0.25))
    common = stream.random((1, *shape)) < 0.75 * FAILED_SHARE
    dice[common | (stream.random((2, *shape)) < 0.25 * FAILED_SHARE)] = 0
    hd95 = np.exp(
        2.6 - 0.7 * special.logit(np.clip(dice, 0.02, 0.98)) + 0.3 * _pair(stream, shape, 0.5)
    )
    hd95[dice == 0] = 374
    scores = {"dice": dice, "jaccard": dice / (2 - dice), "hd95_mm": hd95}
    scores = {name: _swapped(values, 3) for name, values in scores.items()}
    n = 2 * SIZE
    nothing = np.zeros((2, KINDS, 1, n, 0))
    return Population(
        "segmentation", tuple(scores), np.full((KINDS, 1, n), np.nan), nothing, scores
    )


def classes(stream: np.random.Generator, n_classes: int, signal: float, name: str) -> Population:
    """Return patients of some classes with probabilities."""
    shape = (KINDS, n_classes, SIZE, n_classes)
    logits = 1.2 * _pair(stream, shape, 0.25)
    logits += signal * np.eye(n_classes)[None, None, :, None, :]
    logits[..., -1] += (0.4 * EFFECTS)[None, :, None, None]
    probabilities = np.round(special.softmax(logits, axis=-1), 3)
    truth = np.broadcast_to(np.arange(n_classes)[None, :, None], (KINDS, n_classes, 2 * SIZE))
    metrics = ("accuracy", "balanced_accuracy", "macro_f1", "auc", "brier")
    return Population(name, metrics, truth.astype(float), _swapped(probabilities, 3), {})


def regression(stream: np.random.Generator) -> Population:
    """Return patients with an age and a predicted one."""
    shape = (KINDS, 1, SIZE)
    age = 50 + 14 * stream.normal(size=shape) + (4 * EFFECTS)[:, None, None]
    heavy = np.sqrt(5 / stream.chisquare(5, size=shape))  # one factor of both: a hard patient
    error = 5 * np.sqrt(3 / 5) * heavy * _pair(stream, shape, 0.25)
    error += (1.5 * EFFECTS[::-1])[None, :, None, None] - 0.15 * (age - 50)
    prediction = _swapped(age + error, 3)[..., None]
    truth = np.concatenate([age, age], axis=2)
    return Population("regression", ("mae", "rmse", "r2", "pearson"), truth, prediction, {})


def populations(seed: int = 0) -> tuple[Population, ...]:
    """Return all tasks."""
    stream = np.random.default_rng(seed)
    return (
        segmentation(stream),
        classes(stream, 2, 1.3, "two classes"),
        classes(stream, 3, 2.0, "three classes, one rare"),
        classes(stream, 2, 3.6, "accurate"),
        regression(stream),
    )


def trainings(
    sizes: Sequence[int], n_trainings: int, stream: np.random.Generator
) -> tuple[Array, Array, float]:
    """Return Dice of two models of equal worth under several trainings of each.

    Each training shifts all its patients by 0.15 on the logit scale (standard deviation).

    Returns:
        Dice, two arrays of shape ``(n_trainings, n)``, and the true mean over trainings and over
        the patients of these hospitals.
    """
    n = sum(sizes)
    site = np.repeat(0.3 * stream.normal(size=len(sizes)), sizes)
    patient, spread = stream.normal(size=n), np.sqrt(0.75 + 0.25 + 0.15**2)
    dice = [
        special.expit(
            1.2 + site + np.sqrt(0.75) * patient
            + 0.5 * stream.normal(size=(n_trainings, n))
            + 0.15 * stream.normal(size=(n_trainings, 1))
        )
        for _ in range(2)
    ]  # fmt: skip
    nodes, weights = np.polynomial.hermite_e.hermegauss(30)
    expected = special.expit(1.2 + site[:, None] + spread * nodes) @ (weights / weights.sum())
    return dice[0], dice[1], float(expected.mean())


def shares(population: Population, stream: np.random.Generator, n_sites: int) -> Array:
    """Return the share of each class at each hospital, shape ``(n_sites, classes)``."""
    n_classes = population.truth.shape[1]
    if n_classes == 1:
        return np.ones((n_sites, 1))
    if n_classes == 2:
        positive = stream.uniform(0.2, 0.6, n_sites)
        return np.stack([1 - positive, positive], axis=1)
    return stream.dirichlet([11.0, 8.0, 1.0], n_sites)


def draw(population: Population, sizes: Sequence[int], stream: np.random.Generator) -> Sample:
    """Return patients of hospitals of these sizes."""
    kinds = stream.integers(KINDS, size=len(sizes))
    by_class = shares(population, stream, len(sizes))
    site = np.repeat(np.arange(len(sizes)), sizes)
    uniform = stream.random(len(site))
    index = (uniform[:, None] > by_class.cumsum(axis=1)[site]).sum(axis=1)
    index = np.minimum(index, by_class.shape[1] - 1)
    place = stream.integers(population.truth.shape[2], size=len(site))
    at = (kinds[site], index, place)
    panels = [
        Panel(
            population.truth[at],
            population.prediction[model][at],
            {name: values[model][at] for name, values in population.scores.items()},
        )
        for model in (0, 1)
    ]
    weights = np.zeros((KINDS, by_class.shape[1]))
    for kind, own, size in zip(kinds, by_class, sizes, strict=True):
        weights[kind] += size / len(site) * own
    names = tuple(f"site-{k:02d}" for k in site)
    return Sample(names, (panels[0], panels[1]), true_scores(population, weights))


_TABLES: dict[str, dict[str, Array]] = {}


def true_scores(population: Population, weights: Array) -> dict[str, float]:
    """Return every metric over the populations of hospitals and classes, weighted."""
    tables = _TABLES.setdefault(population.name, {})
    if not tables:
        tables |= _tables(population)
    found = {
        name: float((weights * table).sum()) for name, table in tables.items() if table.ndim == 2
    }
    if population.name == "regression":
        return _of_regression(found)
    if "called" in tables:
        return found | _of_classes(weights, tables)
    return found


def _tables(population: Population) -> dict[str, Array]:
    """Return means by kind of hospital and class, and what classes were called, of one model."""
    if population.scores:
        return {name: values[0].mean(axis=2) for name, values in population.scores.items()}
    prediction = population.prediction[0]
    if population.name == "regression":
        error, age = prediction[..., 0] - population.truth, population.truth
        guess = prediction[..., 0]
        products = {"mae": abs(error), "square": error**2, "x": age, "xx": age**2}
        products |= {"y": guess, "yy": guess**2, "xy": age * guess}
        return {name: values.mean(axis=2) for name, values in products.items()}
    n_classes = prediction.shape[-1]
    called = prediction.argmax(axis=-1)
    counts = np.stack([(called == k).mean(axis=2) for k in range(n_classes)], axis=2)
    wanted = np.eye(n_classes)[None, :, None, :]
    steps = np.round(prediction * 1000).astype(int)
    histograms = np.zeros((n_classes, KINDS, n_classes, 1001))
    for k, kind, label in np.ndindex(n_classes, KINDS, n_classes):
        own = np.bincount(steps[kind, label, :, k], minlength=1001)
        histograms[k, kind, label] = own / own.sum()
    return {
        "called": counts,
        "histograms": histograms,
        "brier": ((prediction - wanted) ** 2).sum(axis=-1).mean(axis=2),
    }


def _of_regression(found: dict[str, float]) -> dict[str, float]:
    spread_x = found["xx"] - found["x"] ** 2
    spread_y = found["yy"] - found["y"] ** 2
    covariance = found["xy"] - found["x"] * found["y"]
    return {
        "mae": found["mae"],
        "rmse": float(np.sqrt(found["square"])),
        "r2": 1 - found["square"] / spread_x,
        "pearson": covariance / float(np.sqrt(spread_x * spread_y)),
    }


def _of_classes(weights: Array, tables: dict[str, Array]) -> dict[str, float]:
    table = np.einsum("gc,gcj->cj", weights, tables["called"])
    hits, truth, called = table.diagonal(), table.sum(axis=1), table.sum(axis=0)
    areas = []
    for k, histogram in enumerate(tables["histograms"]):
        by_class = np.einsum("gc,gcs->cs", weights, histogram)
        positive = by_class[k] / by_class[k].sum()
        negative = np.delete(by_class, k, axis=0).sum(axis=0)
        below = np.cumsum(negative) - 0.5 * negative
        areas.append(float(positive @ below / negative.sum()))
    return {
        "accuracy": float(hits.sum()),
        "balanced_accuracy": float((hits / truth).mean()),
        "macro_f1": float((2 * hits / (truth + called)).mean()),
        "auc": float(np.mean(areas)),
    }


def metrics_of(population: Population) -> tuple[Metric, ...]:
    """Return what a task is scored by."""
    return tuple(metric_of(name) for name in population.metrics)
