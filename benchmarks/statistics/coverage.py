"""How often intervals hold the true score, and how often a difference is seen that is none.

    python benchmarks/statistics/coverage.py [repetitions] [folder] [layout,layout...]

Each layout of hospitals and patients is a piece: a finished one is read from the folder and not run
again. Prints Markdown. "Before" is the percentile bootstrap over patients within hospitals that
reports had, kept here alone.
"""

from __future__ import annotations

import itertools
import json
import sys
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import simulated_patients as simulated
from numpy.typing import NDArray

from fedmri.evaluate.comparisons.paired import holm
from fedmri.reports.statistics import intervals
from fedmri.reports.statistics.metrics import Metric, metric_of, parts_of, weighted_metric
from fedmri.reports.statistics.scores import Outcomes, Score, score_of
from fedmri.reports.statistics.weighted import Panel

Array = NDArray[np.float64]
LAYOUTS = {
    "11+8+4": (11, 8, 4),
    "5 x 5": (5,) * 5,
    "3 x 20": (20,) * 3,
    "20 x 1": (1,) * 20,
    "10 x 2": (2,) * 10,
    "3 x 1": (1,) * 3,
    "3 x 3": (3,) * 3,
    "8 x 1": (1,) * 8,
    "3 x 10": (10,) * 3,
    "30+5+2+1+1": (30, 5, 2, 1, 1),
    "3 x 60": (60,) * 3,
    "20 x 3": (3,) * 20,
    "20 x 60": (60,) * 20,
}
BEFORE_UP_TO = 60
"""Patients up to which the old intervals are measured: many resamples of many patients are slow."""
N_RESAMPLES = 400
N_STRATEGIES = 17


def main() -> None:
    """Measure every layout, or read what was measured, and print the tables."""
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    populations = simulated.populations()
    wanted = sys.argv[3].split(",") if len(sys.argv) > 3 else list(LAYOUTS)
    found = {}
    for name in wanted:
        sizes = LAYOUTS[name]
        path = folder / f"{name.replace(' ', '')}-{repetitions}.json" if folder else None
        if path and path.exists():
            found[name] = json.loads(path.read_text(encoding="utf-8"))
            continue
        found[name] = measured(name, sizes, repetitions, populations)
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(found[name]), encoding="utf-8")
        print(f"measured {name}", file=sys.stderr, flush=True)
    print("\n\n".join(tables(found, populations)))


def measured(
    layout: str,
    sizes: Sequence[int],
    repetitions: int,
    populations: Sequence[simulated.Population],
) -> dict[str, list[float]]:
    """Return by task and metric: covered, covered before, without interval, called."""
    counts: dict[str, list[float]] = {}
    for population in populations:
        stream = np.random.default_rng([7, zlib.crc32(f"{layout}{population.name}".encode())])
        rows: dict[str, list[list[float]]] = {}
        for repetition in range(repetitions):
            sample = simulated.draw(population, sizes, stream)
            for metric in simulated.metrics_of(population):
                rows.setdefault(metric.name, []).append(one(metric, sample, repetition))
        for name, values in rows.items():
            counts[f"{population.name}: {name}"] = _shares(np.array(values))
    stream = np.random.default_rng([8, zlib.crc32(layout.encode())])
    for n_trainings in (1, 3, 5):
        values = [of_trainings(sizes, n_trainings, stream) for _ in range(repetitions)]
        counts[f"trainings: {n_trainings}"] = np.nanmean(np.array(values), axis=0).tolist()
    values = [of_strategies(sizes, stream) for _ in range(repetitions)]
    counts["strategies"] = np.nanmean(np.array(values), axis=0).tolist()
    return counts


def _shares(values: Array) -> list[float]:
    """Return shares of repetitions; coverage is among the intervals that were given."""
    given, covered, before, called = values.T
    has_any = given.any()
    return [
        float(covered[given > 0].mean()) if has_any else float("nan"),
        float(np.nanmean(before)) if np.isfinite(before).any() else float("nan"),
        float(1 - given.mean()),
        float(called.mean()),
    ]


def one(metric: Metric, sample: simulated.Sample, repetition: int) -> list[float]:
    """Return whether there was an interval, it covered, the old one did, and chance was called."""
    keys = tuple((site, str(i)) for i, site in enumerate(sample.sites))
    scores = [scored(metric, keys, (panel,)) for panel in sample.panels]
    truth, estimate = sample.truths[metric.name], scores[0].estimate
    old = before(metric, sample, repetition) if len(keys) <= BEFORE_UP_TO else None
    return [
        float(estimate.has_interval),
        float(estimate.low <= truth <= estimate.high),
        float(old[0] <= truth <= old[1]) if old else float("nan"),
        float(scores[0].minus(scores[1]).p_value <= 0.05),
    ]


def scored(metric: Metric, keys: tuple[tuple[str, str], ...], panels: tuple[Panel, ...]) -> Score:
    """Return the score of a model with one panel a training."""
    parts = [parts_of(metric, panel) or () for panel in panels]
    defined = [[p.value for p in own if np.isfinite(p.value)] for own in parts]
    values = [float(np.mean(own)) if own else float("nan") for own in defined]
    return score_of(metric, Outcomes(keys, panels, tuple(range(len(panels)))), values, parts)


def before(metric: Metric, sample: simulated.Sample, seed: int) -> tuple[float, float] | None:
    """Return the percentile interval of a bootstrap within hospitals, as reports had it."""
    panel = sample.panels[0]
    weighted = weighted_metric(metric, panel)
    if weighted is None:
        return None
    found = weighted(panel, _resamples(sample.sites, seed))
    found = found[np.isfinite(found)]
    if len(found) < 0.95 * N_RESAMPLES:
        return None
    low, high = np.round(np.quantile(found, [0.025, 0.975]), 12)
    return float(low), float(high)


@lru_cache(maxsize=2)
def _resamples(sites: tuple[str, ...], seed: int) -> Array:
    patients = tuple((name, tuple(map(str, own))) for name, own in itertools.groupby(sites))
    return intervals.draw(patients, N_RESAMPLES, seed)


def _dice(values: Array) -> Panel:
    n = len(values)
    return Panel(np.full(n, np.nan), np.zeros((n, 0)), {"dice": values})


def _keys(sizes: Sequence[int]) -> tuple[tuple[str, str], ...]:
    return tuple((f"site-{k:02d}", str(i)) for k, size in enumerate(sizes) for i in range(size))


def of_trainings(
    sizes: Sequence[int], n_trainings: int, stream: np.random.Generator
) -> list[float]:
    """Return whether the interval over trainings and patients covered, and chance was called."""
    first, second, truth = simulated.trainings(sizes, n_trainings, stream)
    scores = [
        scored(metric_of("dice"), _keys(sizes), tuple(_dice(row) for row in rows))
        for rows in (first, second)
    ]
    estimate = scores[0].estimate
    covered = estimate.low <= truth <= estimate.high if estimate.has_interval else float("nan")
    return [float(covered), float(scores[0].minus(scores[1]).p_value <= 0.05)]


def of_strategies(sizes: Sequence[int], stream: np.random.Generator) -> list[float]:
    """Return whether one of 17 equal strategies was called, adjusted, unadjusted and by accuracy.

    Their scores have what is the patient's in common: 0.75 of the variance.
    """
    n, keys = sum(sizes), _keys(sizes)
    common = 0.3 * np.repeat(stream.normal(size=len(sizes)), sizes) + 1.2
    common = common + np.sqrt(0.75) * stream.normal(size=n)
    latent = common + 0.5 * stream.normal(size=(1 + N_STRATEGIES, n))
    scores = [scored(metric_of("dice"), keys, (_dice(1 / (1 + np.exp(-row))),)) for row in latent]
    p_values = [score.minus(scores[0]).p_value for score in scores[1:]]
    truth = (stream.random(n) < 0.4).astype(float)
    called = np.where(latent > 0, truth, 1 - truth)
    panels = [Panel(truth, np.stack([1 - row, row], axis=1), {"predicted": row}) for row in called]
    hits = [scored(metric_of("balanced_accuracy"), keys, (panel,)) for panel in panels]
    p_hits = [score.minus(hits[0]).p_value for score in hits[1:]]
    return [
        float(_any(holm(p_values))),
        float(_any(p_values)),
        float(_any(holm(p_hits))),
    ]


def _any(p_values: Sequence[float]) -> bool:
    return any(p <= 0.05 for p in p_values)


def tables(
    found: dict[str, dict[str, list[float]]], populations: Sequence[simulated.Population]
) -> Iterator[str]:
    """Yield the tables as Markdown."""
    names = [f"{p.name}: {metric}" for p in populations for metric in p.metrics]
    head = ["Task and metric", *found]
    yield _table(head, [[name, *(_cell(of[name]) for of in found.values())] for name in names])
    rows = [[name, *(_short(of[name][3]) for of in found.values())] for name in names]
    yield _table(["One null comparison called", *found], rows)
    rows = [
        [f"{n} trainings, {what}", *(_short(of[f"trainings: {n}"][i]) for of in found.values())]
        for n in (1, 3, 5)
        for i, what in enumerate(("covered", "called"))
    ]
    for i, what in enumerate(("Dice, adjusted", "Dice, unadjusted", "balanced accuracy, adjusted")):
        rows.append(
            [f"17 strategies, {what}", *(_short(of["strategies"][i]) for of in found.values())]
        )
    yield _table(["Trainings and strategies", *found], rows)


def _cell(values: Sequence[float]) -> str:
    """Return before, after, and the share without an interval where it is not 0."""
    covered, old, none, _ = values
    after = "none" if none > 0.999 else _short(covered)
    some = f" ({none:.0%} none)" if 0.005 < none <= 0.999 else ""
    return f"{_short(old)} → {after}{some}" if np.isfinite(old) else f"{after}{some}"


def _short(value: float) -> str:
    return "-" if not np.isfinite(value) else f"{value:.3f}".lstrip("0")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
