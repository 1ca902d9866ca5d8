"""Shares of counted patients: which of them one table of counts can have.

Every rule here is arithmetic of one test set. Means over folds or classes obey fewer of them: a
claim that says ``average`` is held to those alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from fedmri.evaluate.arrays import Array, Flags, Indices
from fedmri.evaluate.claims.paper import Claim
from fedmri.evaluate.claims.stated import SLACK, Finding, Severity, Stated
from fedmri.evaluate.proportions import clopper_pearson
from fedmri.evaluate.scores.classes import Table

MOST_CASES = 2000
"""Test sets up to this size are searched for a table."""
PERCENT = 100


def hits_for(one: Stated, n: int) -> range:
    """Return the numbers of hits among ``n`` that round to a share; empty where none does."""
    return range(
        max(0, math.ceil(one.low * n - SLACK)), min(n, math.floor(one.high * n + SLACK)) + 1
    )


def smallest_n(one: Stated, most: int = MOST_CASES) -> int | None:
    """Return the least number of patients of whom some share rounds to the stated one."""
    return next((n for n in range(1, most + 1) if hits_for(one, n)), None)


def counts_fit(claim: Claim) -> Iterator[Finding]:
    """Positive and negative patients are all patients."""
    counts = claim.counts
    n, parts = counts.get("n"), [counts.get(name) for name in ("n_positive", "n_negative")]
    known = [part for part in parts if part is not None]
    if n is None or not known:
        return
    total = sum(known)
    if total > n or (len(known) == 2 and total != n):
        text = f"{total} positive and negative patients together, but {n} in all"
        text = text if len(known) == 2 else f"{total} patients of one class, but {n} in all"
        yield _found(claim, "counts", "impossible", text)


def is_attainable(claim: Claim) -> Iterator[Finding]:
    """A share of n patients is a whole number of them."""
    sizes = {"accuracy": "n", "sensitivity": "n_positive", "specificity": "n_negative"}
    for name, size in sizes.items():
        one, n = claim.shares.get(name), _size(claim, size)
        if one is None or not n:
            continue
        if not hits_for(one, n) and not claim.is_average:
            below = math.floor(one.value * n)
            near = f"{below}/{n} is {_pc(below / n)}, {below + 1}/{n} is {_pc((below + 1) / n)}"
            yield _found(claim, "attainable", "impossible", f"{name} {one.text}: {near}")
        elif not claim.is_average:
            low, high = clopper_pearson(one.value, n)
            text = f"{name} {one.text} of {n} has a 95 % interval of {_pc(low)} to {_pc(high)}"
            yield _found(claim, "interval", "note", text)


def f1_follows(claim: Claim) -> Iterator[Finding]:
    """F1 is the harmonic mean of precision and recall; a mean of F1 is never above theirs.

    Source:
        Opitz and Burst 2019, arXiv:1911.03347 (averages of F1).
    """
    parts = [claim.shares.get(name) for name in ("precision", "sensitivity", "f1")]
    if any(part is None for part in parts):
        return
    precision, recall, f1 = (part for part in parts if part is not None)
    low, high = (
        _harmonic(getattr(precision, end), getattr(recall, end)) for end in ("low", "high")
    )
    said = f"F1 {f1.text}, but precision {precision.text} and recall {recall.text} give {_pc(low)}"
    said += f" to {_pc(high)}"
    if f1.low > high + SLACK:
        yield _found(claim, "f1", "impossible", f"{said}, and no average is above it")
    elif f1.high < low - SLACK and not claim.is_average:
        text = f"{said}; possible only if it is a mean over folds or classes, which is not said"
        yield _found(claim, "f1", "impossible", text)


def accuracy_is_between(claim: Claim) -> Iterator[Finding]:
    """On one test set accuracy lies between sensitivity and specificity."""
    names = ("accuracy", "sensitivity", "specificity")
    found = [claim.shares[name] for name in names if name in claim.shares]
    if len(found) < 3 or claim.is_average:
        return
    accuracy, *both = found
    low, high = min(one.low for one in both), max(one.high for one in both)
    if not accuracy.overlaps(low, high):
        text = f"accuracy {accuracy.text} is not between {both[0].text} and {both[1].text}"
        yield _found(claim, "between", "impossible", text)


def has_table(claim: Claim) -> Iterator[Finding]:
    """Accuracy, sensitivity, specificity and precision of one test set come from four counts."""
    wanted = [name for name in ("specificity", "precision") if name in claim.shares]
    if claim.is_average or not {"accuracy", "sensitivity"} <= claim.shares.keys() or not wanted:
        return
    n = claim.counts.get("n", 0)
    if n > MOST_CASES:  # so many cases fit any numbers of few digits, and the search takes hours
        return
    table = smallest_table(claim, sizes=(n,) if n else range(2, MOST_CASES + 1))
    where = f"of {n} cases" if n else f"of up to {MOST_CASES} cases"
    if table is None:
        severity: Severity = "impossible" if n else "unlikely"
        yield _found(claim, "table", severity, f"no test set {where} has these numbers together")
        return
    counts = f"TP {table.tp}, FN {table.fn}, TN {table.tn}, FP {table.fp}"
    which = "a test set" if n else "the smallest test set"
    yield _found(
        claim, "table", "note", f"{which} with these numbers has {table.n} cases: {counts}"
    )


def smallest_table(claim: Claim, *, sizes: range | tuple[int, ...]) -> Table | None:
    """Return the counts of the smallest test set that a claim may be of, None where none is."""
    for n in sizes:
        positives = np.arange(1, n)
        given = claim.counts.get("n_positive")
        positives = positives[positives == given] if given else positives
        if (found := _table_of(claim, n, positives)) is not None:
            return found
    return None


def _table_of(claim: Claim, n: int, positives: Indices) -> Table | None:
    accuracy, sensitivity = claim.shares["accuracy"], claim.shares["sensitivity"]
    least = np.ceil(sensitivity.low * positives - SLACK)
    for more in range(int((sensitivity.high - sensitivity.low) * n) + 2):
        tp = least + more
        is_hit = tp <= np.minimum(positives, sensitivity.high * positives + SLACK)
        for right in hits_for(accuracy, n):
            tn = right - tp
            fp = n - positives - tn
            is_good = is_hit & (tn >= 0) & (fp >= 0)
            is_good &= _fits(claim.shares.get("specificity"), tn, tn + fp)
            is_good &= _fits(claim.shares.get("precision"), tp, tp + fp)
            if is_good.any():
                i = int(np.flatnonzero(is_good)[0])
                counts = (tp[i], positives[i] - tp[i], tn[i], fp[i])
                return Table(*(int(one) for one in counts))
    return None


def _fits(
    one: Stated | None,
    hits: Array,
    n: Array,
) -> Flags:
    if one is None:
        return np.ones(len(hits), dtype=bool)
    return np.asarray((n > 0) & (hits >= one.low * n - SLACK) & (hits <= one.high * n + SLACK))


def implied_specificity(claim: Claim) -> Iterator[Finding]:
    """Sensitivity, precision and accuracy give the prevalence, and with it the specificity."""
    names = ("sensitivity", "precision", "accuracy")
    if not set(names) <= claim.shares.keys() or "specificity" in claim.shares or claim.is_average:
        return
    sensitivity, precision, accuracy = (claim.shares[name].value for name in names)
    if not precision > 0:
        return
    false_share = sensitivity * (1 - precision) / precision
    below = 1 - sensitivity + false_share
    prevalence = (1 - accuracy) / below if below > 0 else math.nan
    if not 0 < prevalence < 1:
        return
    specificity = 1 - prevalence * false_share / (1 - prevalence)
    text = f"implies a specificity of {_pc(specificity)} and a prevalence of {_pc(prevalence)}"
    if -0.02 <= specificity <= 1:
        yield _found(claim, "implied", "note", text)


def beats_majority(claim: Claim) -> Iterator[Finding]:
    """Accuracy means little without the share of the larger class."""
    accuracy, n = claim.shares.get("accuracy"), claim.counts.get("n", 0)
    if accuracy is None:
        return
    prevalence = claim.shares["prevalence"].value if "prevalence" in claim.shares else None
    if prevalence is None and n and _size(claim, "n_positive"):
        prevalence = _size(claim, "n_positive") / n
    if prevalence is None:
        if not {"sensitivity", "specificity", "balanced_accuracy", "auc"} & claim.shares.keys():
            text = f"accuracy {accuracy.text} without the share of the larger class (mistake 7)"
            yield _found(claim, "prevalence", "flag", text)
    elif accuracy.high <= max(prevalence, 1 - prevalence):
        text = f"accuracy {accuracy.text} is no better than calling everybody the larger class"
        yield _found(claim, "majority", "flag", f"{text} ({_pc(max(prevalence, 1 - prevalence))})")


def _size(claim: Claim, name: str) -> int:
    counts = claim.counts
    if name in counts or "n" not in counts:
        return counts.get(name, 0)
    other = {"n_positive": "n_negative", "n_negative": "n_positive"}.get(name, "")
    return max(0, counts["n"] - counts[other]) if other in counts else 0


def _harmonic(first: float, second: float) -> float:
    return 2 * first * second / (first + second) if first + second > 0 else 0.0


def _pc(value: float) -> str:
    return f"{PERCENT * value:.2f} %"


def _found(claim: Claim, rule: str, severity: Severity, text: str) -> Finding:
    return Finding(claim.name, rule, severity, text)
