"""What one temperature for all hospitals, or one of each, does to calibration.

Temperatures are fitted on validation patients alone, and judged on test patients. The one for all
comes from sums over hospitals, as a consortium would find it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from fedmri.evaluate.comparisons.paired import paired_means
from fedmri.evaluate.estimate import Estimate
from fedmri.evaluate.reliability.by_sums import logits_of, loss_slopes, temperature_of
from fedmri.evaluate.reliability.calibration import ece_beside_null
from fedmri.reports.models import Model
from fedmri.reports.reliability.averaged import Said, tested, validated
from fedmri.reports.reliability.calibration import LEAST_PATIENTS
from fedmri.reports.statistics.weighted import Array

AS_IT_IS, FOR_ALL, BY_HOSPITAL = "as it is", "one for all", "one of each hospital"


@dataclass(frozen=True)
class Tempered:
    """Calibration of a model's probabilities under a temperature.

    Attributes:
        label: The model.
        how: As it is, one temperature for all, or one of each hospital.
        lowest: Lowest temperature that is used; above 1, probabilities become less certain.
        highest: Highest one.
        n_own: Hospitals with one of their own; the others have the one for all.
        n_validation: Validation patients behind it.
        ece: Calibration error of the probability of the called class, on test patients.
        null: Its mean for a perfect model of as many patients.
        brier: Mean squared distance of the probabilities, summed over classes.
        gained: That minus the one as it is, over the same patients; None for the latter.
        n_subjects: Test patients.
    """

    label: str
    how: str
    lowest: float
    highest: float
    n_own: int
    n_validation: int
    ece: float
    null: float
    brier: float
    gained: Estimate | None
    n_subjects: int


def temperatures(rows: Sequence[Model], seed: int) -> tuple[Tempered, ...]:
    """Return calibration with and without temperatures, of each main model that has validation."""
    return tuple(one for row in rows if row.is_main for one in _tempered(row, seed))


def _tempered(row: Model, seed: int) -> tuple[Tempered, ...]:
    new, old = tested(row), validated(row)
    if new is None or old is None or not (new.is_of_classes and old.is_of_classes):
        return ()
    if min(len(new.truth), len(old.truth)) < LEAST_PATIENTS:
        return ()
    common = _fitted(old)
    if common is None:
        return ()
    own = {
        str(site): found
        for site in np.unique(old.sites)
        if (found := _fitted(old.at(old.sites == site))) is not None
    }
    ways: tuple[tuple[str, float, Mapping[str, float]], ...]
    ways = ((AS_IT_IS, 1.0, {}), (FOR_ALL, common, {}), (BY_HOSPITAL, common, own))
    plain = _squares(new, new.predictions)
    return tuple(_judged(row.label, way, new, len(old.truth), plain, seed) for way in ways)


def _fitted(old: Said) -> float | None:
    """Return the temperature of validation patients, by sums of their sites; None for none."""
    if len(old.truth) < LEAST_PATIENTS:
        return None
    logits = logits_of(old.predictions)
    each = [old.sites == site for site in np.unique(old.sites)]
    slopes = sum(loss_slopes(logits[own], old.classes[own]) for own in each)
    found = temperature_of(np.asarray(slopes), len(old.truth))
    return found if np.isfinite(found) else None  # none where all of them are called right


def _judged(  # noqa: PLR0913  # a line of the table
    label: str,
    way: tuple[str, float, Mapping[str, float]],
    new: Said,
    n_validation: int,
    plain: Array,
    seed: int,
) -> Tempered:
    how, common, own = way
    used = np.array([own.get(str(site), common) for site in new.sites])
    logits = logits_of(new.predictions)
    shares = new.predictions if how == AS_IT_IS else special.softmax(logits / used[:, None], axis=1)
    hits = (shares.argmax(axis=1) == new.classes).astype(float)
    error = ece_beside_null(shares.max(axis=1), hits, np.random.default_rng(seed))
    squares = _squares(new, shares)
    is_plain = how == AS_IT_IS
    return Tempered(
        *(label, how, float(used.min()), float(used.max())),
        n_own=len(own.keys() & set(new.sites.tolist())),
        n_validation=0 if is_plain else n_validation,
        ece=error.value,
        null=error.null,
        brier=float(squares.mean()),
        gained=None if is_plain else paired_means(squares, plain, sites=new.sites).difference,
        n_subjects=len(squares),
    )


def _squares(new: Said, shares: Array) -> Array:
    """Return each patient's squared distance from the truth, summed over classes."""
    wanted = np.eye(shares.shape[1])[new.classes]
    return np.asarray(((shares - wanted) ** 2).sum(axis=1))
