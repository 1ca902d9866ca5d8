"""Correlations, areas, intervals, losses, and the arithmetic of training and of networks."""

from __future__ import annotations

import math
from collections.abc import Iterator

from fedmri.evaluate.claims.paper import Claim
from fedmri.evaluate.claims.stated import SLACK, Finding
from fedmri.evaluate.comparisons.gap import gap_of_shares
from fedmri.evaluate.proportions import clopper_pearson
from fedmri.evaluate.scores.ranking import error_of_auc

BYTES = 4
"""Of a parameter in single precision."""
MIB = 2**20
NETWORKS = {
    "alexnet": 61_100_840,
    "densenet121": 7_978_856,
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
}
"""Parameters with the 1,000 classes of ImageNet, as torchvision's documentation lists them."""


def r2_is_below_r(claim: Claim) -> Iterator[Finding]:
    """On one set of patients R2 = 1 - SSE / SST is never above the square of r."""
    r, r2 = claim.numbers.get("r"), claim.numbers.get("r2")
    if r is None or r2 is None:
        return
    most = max(r.low**2, r.high**2)
    if r2.low > most + SLACK:
        text = f"R2 {r2.text} is above the square of r {r.text}, {most:.4f} at most"
        yield Finding(claim.name, "r2", "impossible", f"{text}, unless they are of different sets")


def interval_holds_value(claim: Claim) -> Iterator[Finding]:
    """An interval holds its own number, and is about as wide as so many patients make it."""
    for name, (low, high) in claim.pairs.items():
        one = claim.shares.get(name.removesuffix("_interval"))
        if low.value > high.value:
            text = f"an interval from {low.text} to {high.text} ends below where it begins"
            yield Finding(claim.name, "interval", "impossible", text)
            continue
        if one is None:
            continue
        if not one.overlaps(low.low, high.high):
            text = f"{one.text} is not in its own interval, {low.text} to {high.text}"
            yield Finding(claim.name, "interval", "impossible", text)
        expected = _expected_width(claim, name)
        if expected and (high.value - low.value) < 0.6 * expected:
            text = (
                f"the interval of {name.removesuffix('_interval')} is {high.value - low.value:.3f} "
                f"wide; so many patients give about {expected:.3f}. Is it over slices, folds or "
                "seeds (mistake 8)?"
            )
            yield Finding(claim.name, "width", "unlikely", text)


def _expected_width(claim: Claim, name: str) -> float:
    one, n = claim.shares[name.removesuffix("_interval")].value, claim.counts.get("n", 0)
    m = claim.counts.get("n_positive", 0)
    if name == "auc_interval":
        sizes = (m, n - m)
        return 2 * 1.96 * error_of_auc(one, sizes) if min(sizes) > 0 else 0.0
    size = {"accuracy_interval": n, "sensitivity_interval": m, "specificity_interval": n - m}[name]
    if size <= 0 or (name != "accuracy_interval" and not m):
        return 0.0
    low, high = clopper_pearson(one, size)
    return high - low


def auc_is_attainable(claim: Claim) -> Iterator[Finding]:
    """A ROC area is a number of half pairs of a positive and a negative patient."""
    area, n, m = (
        claim.shares.get("auc"),
        claim.counts.get("n", 0),
        claim.counts.get("n_positive", 0),
    )
    if area is None or claim.is_average or not 0 < m < n:
        return
    halves = 2 * m * (n - m)
    if math.ceil(area.low * halves - SLACK) > math.floor(area.high * halves + SLACK):
        text = f"AUC {area.text} is no share of {m} times {n - m} pairs"
        yield Finding(claim.name, "auc", "impossible", text)


def drop_is_right(claim: Claim) -> Iterator[Finding]:
    """A stated loss is the difference of both scores; whether it passes depends on the patients."""
    inside, outside = claim.shares.get("internal"), claim.shares.get("external")
    if inside is None or outside is None:
        return
    low, high = inside.low - outside.high, inside.high - outside.low
    drop = claim.shares.get("drop")
    if drop is not None and not drop.overlaps(low, high):
        text = (
            f"drop {drop.text}, but {inside.text} - {outside.text} is {100 * (low + high) / 2:.2f}"
        )
        yield Finding(claim.name, "drop", "impossible", text)
    n_inside, n_outside = (claim.counts.get(name, 0) for name in ("n_internal", "n_external"))
    if not n_outside:
        text = "external score without its number of patients: whether the loss passes is not known"
        yield Finding(claim.name, "gap", "flag", text)
        return
    # Without the inside patients they are taken as very many: the verdict is then the surest one.
    judged = gap_of_shares((inside.value, n_inside or 10**6), (outside.value, n_outside))
    yield Finding(claim.name, "gap", "note", judged.sentence())


def external_is_attainable(claim: Claim) -> Iterator[Finding]:
    """A share of n external patients is a whole number of them, unless it is a mean of scores."""
    for name in ("internal", "external"):
        one, n = claim.shares.get(name), claim.counts.get(f"n_{name}", 0)
        if one is None or not n or claim.is_average or claim.words.get("metric", "") != "accuracy":
            continue
        if math.ceil(one.low * n - SLACK) > math.floor(one.high * n + SLACK):
            text = f"{name} accuracy {one.text} is no share of {n} patients"
            yield Finding(claim.name, "attainable", "impossible", text)


def iterations_fit(claim: Claim) -> Iterator[Finding]:
    """Every epoch has the same whole number of iterations, one for each batch."""
    epochs, iterations = claim.counts.get("epochs", 0), claim.counts.get("iterations", 0)
    if not epochs or not iterations:
        return
    if iterations % epochs:
        text = f"{iterations} iterations are no multiple of {epochs} epochs"
        yield Finding(claim.name, "iterations", "impossible", text)
        return
    a_epoch, n = iterations // epochs, claim.counts.get("n_train", 0)
    if n and not _is_number_of_batches(a_epoch, n):
        text = f"{n} training cases have no batch size with {a_epoch} iterations an epoch"
        yield Finding(claim.name, "iterations", "impossible", text)


def _is_number_of_batches(n_batches: int, n: int) -> bool:
    """Tell whether some batch size gives so many batches, with or without the rest at the end."""
    if n_batches > n:
        return False
    with_rest, without = -(-n // n_batches), n // n_batches  # the one size that can, either way
    return -(-n // with_rest) == n_batches or n // without == n_batches


def parts_add_up(claim: Claim) -> Iterator[Finding]:
    """The parts of a split add up to all cases."""
    total = claim.counts.get("total")
    if total is not None and claim.parts and sum(claim.parts) != total:
        text = f"the parts add up to {sum(claim.parts)}, and not to {total}"
        yield Finding(claim.name, "parts", "impossible", text)


def size_fits_parameters(claim: Claim) -> Iterator[Finding]:
    """A network in single precision takes four bytes a parameter."""
    known = NETWORKS.get(claim.words.get("network", "").lower().replace("-", ""))
    parameters, size = claim.counts.get("parameters"), claim.numbers.get("size_mb")
    if known and parameters and not 0.98 < parameters / known < 1.02:
        text = (
            f"{parameters / 1e6:.1f} M parameters; {claim.words['network']} has {known / 1e6:.1f} M"
        )
        yield Finding(claim.name, "parameters", "unlikely", text)
    counted = known or parameters
    if size is None or not counted:
        return
    ends = counted * BYTES / MIB, counted * BYTES / 1e6
    if not size.overlaps(0.99 * ends[0], 1.01 * ends[1]):
        text = f"{size.text} MB; {counted / 1e6:.1f} M parameters take {ends[0]:.0f} MiB"
        yield Finding(claim.name, "size", "unlikely", text)
