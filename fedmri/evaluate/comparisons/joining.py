"""Whether joining a federation is worth it: for each hospital, and for the others.

A hospital's own model, the federated one and a personalised one are tested on the same patients of
the hospital. None of them took part in its training.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fedmri.evaluate.arrays import Array, Flags, unfit
from fedmri.evaluate.comparisons.paired import Paired, holm, paired_areas, paired_means
from fedmri.evaluate.estimate import Estimate

LEAST_PATIENTS = 10
"""With fewer test patients, one that failed unseen changes the picture."""
MOST_FOR_SHAPLEY = 10
"""Ten hospitals have 1,024 groups; each is a training."""

Worth = Literal["worth joining", "not worth joining", "not shown", "too few patients"]


@dataclass(frozen=True)
class HospitalScores:
    """One hospital's own test patients under several models.

    Attributes:
        hospital: Its name.
        own: Score of each patient under the hospital's own model, shape ``(n,)``.
        federated: Under the federated model.
        personalised: Under the federated model fitted to the hospital, where there is one.
        is_positive: Truth of each patient, where scores are ranks and the metric is the ROC area.
    """

    hospital: str
    own: Array
    federated: Array
    personalised: Array | None = None
    is_positive: Flags | None = None


@dataclass(frozen=True)
class Joining:
    """What joining gave one hospital.

    Attributes:
        hospital: Its name.
        gain: Federated minus own model, so signed that higher is better.
        gain_personalised: Personalised minus own model.
        p_adjusted: Of no gain of either, adjusted for all hospitals and models (Holm).
        worth: What is shown of the better of the two models.
        sentence: The same in words.
    """

    hospital: str
    gain: Estimate
    gain_personalised: Estimate | None
    p_adjusted: tuple[float, ...]
    worth: Worth
    sentence: str


def worth_joining(
    hospitals: Sequence[HospitalScores],
    *,
    metric: str,
    is_higher_better: bool = True,
    alpha: float = 0.05,
) -> tuple[Joining, ...]:
    """Say for each hospital whether the federation was worth joining.

    Args:
        hospitals: Test patients of each.
        metric: Its name in the sentence, such as ``Dice``.
        is_higher_better: Direction of the scores.
        alpha: Two-sided error over all hospitals.

    Raises:
        UsageError: Models were tested on different patients (U80).

    Source:
        Student 1908, doi:10.1093/biomet/6.1.1; DeLong et al. 1988, doi:10.2307/2531595; Holm 1979,
        Scandinavian Journal of Statistics 6, 65-70.
    """
    found = [_gains(one, is_higher_better=is_higher_better) for one in hospitals]
    adjusted = iter(holm([one.p_value for gains in found for one in gains]))
    p_values = [tuple(next(adjusted) for _ in gains) for gains in found]
    rows = zip(hospitals, found, p_values, strict=True)
    return tuple(_judged(one.hospital, gains, ps, (metric, alpha)) for one, gains, ps in rows)


def _gains(one: HospitalScores, *, is_higher_better: bool) -> tuple[Paired, ...]:
    others = [one.federated, *([] if one.personalised is None else [one.personalised])]
    return tuple(_gain(one, other, is_higher_better=is_higher_better) for other in others)


def _gain(one: HospitalScores, other: Array, *, is_higher_better: bool) -> Paired:
    pair = (other, one.own) if is_higher_better else (one.own, other)
    if one.is_positive is not None:
        return paired_areas(*pair, one.is_positive)
    return paired_means(*pair)


def _judged(
    hospital: str, gains: Sequence[Paired], ps: tuple[float, ...], said: tuple[str, float]
) -> Joining:
    metric, alpha = said
    best = max(range(len(gains)), key=lambda i: gains[i].difference.value)
    worth = _worth(gains[best].difference, ps[best], alpha)
    if worth == "not shown" and all(
        _worth(one.difference, p, alpha) == "not worth joining"
        for one, p in zip(gains, ps, strict=True)
    ):
        worth = "not worth joining"
    model = ("federated", "personalised")[best]
    return Joining(
        hospital=hospital,
        gain=gains[0].difference,
        gain_personalised=gains[1].difference if len(gains) > 1 else None,
        p_adjusted=ps,
        worth=worth,
        sentence=_sentence(hospital, (model, metric), gains[best].difference, worth),
    )


def _worth(gain: Estimate, p_adjusted: float, alpha: float) -> Worth:
    if gain.n_subjects < LEAST_PATIENTS or not math.isfinite(p_adjusted):
        return "too few patients"
    if p_adjusted > alpha:
        return "not shown"
    return "worth joining" if gain.value > 0 else "not worth joining"


def _sentence(hospital: str, names: tuple[str, str], gain: Estimate, worth: Worth) -> str:
    model, metric = names
    patients = f"{gain.n_subjects} test patients"
    if worth == "too few patients":
        return f"At {hospital}, nothing can be said: {patients} are too few."
    by = f"{abs(gain.value):.3f} (95 % interval {gain.low:+.3f} to {gain.high:+.3f})"
    side = "better" if gain.value >= 0 else "worse"
    start = f"At {hospital}, the {model} model's {metric} was {by} {side} than the own model's"
    end = {
        "worth joining": "joining was worth it",
        "not worth joining": "joining was not worth it",
        "not shown": "this does not show whether joining is worth it",
    }[worth]
    return f"{start} on {patients}: {end}."


Value = Callable[[frozenset[str]], float]
"""Score of a model that a group of hospitals trained, on patients of all; higher is better."""


@dataclass(frozen=True)
class Contribution:
    """What one hospital gave to the others.

    Attributes:
        left_out: Score of all hospitals minus the score without this one.
        shapley: Its mean gain over all orders of joining; NaN where it was not asked for.
    """

    left_out: float
    shapley: float


def contributions(
    hospitals: Sequence[str], value: Value, *, is_shapley: bool = False
) -> Mapping[str, Contribution]:
    """Return what each hospital gives: exactly, by training without it.

    Leaving out takes one training a hospital. Shapley takes one for every group: 64 for six.

    Args:
        hospitals: Their names.
        value: Asked once for each group that is needed; of nobody, the score of an untrained model.
        is_shapley: Whether Shapley values are wanted beside it.

    Raises:
        UsageError: Shapley for more than ten hospitals, or a name twice (U80).

    Source:
        Shapley 1953, doi:10.1515/9781400881970-018; Ghorbani and Zou 2019, arXiv:1904.02868.
    """
    n = len(hospitals)
    if len(set(hospitals)) < n or (is_shapley and n > MOST_FOR_SHAPLEY):
        want = f"different names, at most {MOST_FOR_SHAPLEY} for Shapley values"
        raise unfit("hospitals of a contribution", f"{n} names", want)
    known: dict[frozenset[str], float] = {}

    def of(group: frozenset[str]) -> float:
        if group not in known:
            known[group] = value(group)
        return known[group]

    every = frozenset(hospitals)
    shapley = {one: _shapley(one, every, of) if is_shapley else math.nan for one in hospitals}
    return {one: Contribution(of(every) - of(every - {one}), shapley[one]) for one in hospitals}


def _shapley(one: str, every: frozenset[str], of: Value) -> float:
    others = sorted(every - {one})
    total = 0.0
    for size in range(len(others) + 1):
        share = 1 / (len(every) * math.comb(len(others), size))
        for group in itertools.combinations(others, size):
            total += share * (of(frozenset(group) | {one}) - of(frozenset(group)))
    return total
