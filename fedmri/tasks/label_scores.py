"""Scores of several findings a patient, each over the patients of whom it is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedmri.reports.statistics.influence import Part, area, ratio
from fedmri.reports.statistics.weighted import Panel, auc, mean_over_classes
from fedmri.reports.statistics.weighted import ratio as weighted_ratio
from fedmri.tasks.task import Array

Known = NDArray[np.bool_]

THRESHOLD = 0.5
"""Probability from which a finding is called."""


def area_of(panel: Panel, label: int) -> tuple[Part, ...]:
    """Return the ROC area of one finding; patients of whom it is unknown have no influence."""
    return (_spread_out(area(*_known(panel, label)), ~np.isnan(panel.truth[:, label])),)


def areas(panel: Panel) -> tuple[Part, ...]:
    """Return the ROC area of each finding."""
    return tuple(part for k in range(panel.truth.shape[1]) for part in area_of(panel, k))


def recalls(panel: Panel) -> tuple[Part, ...]:
    """Return sensitivity and specificity of each finding."""
    is_called = panel.prediction >= THRESHOLD
    return tuple(
        ratio((panel.truth[:, k] == value) & (is_called[:, k] == value), panel.truth[:, k] == value)
        for k in range(panel.truth.shape[1])
        for value in (True, False)
    )


def weighted_areas(panel: Panel, weights: Array) -> Array:
    """Return the mean ROC area under weights of patients, shape ``(B,)``."""
    found = []
    for k in range(panel.truth.shape[1]):
        is_known = ~np.isnan(panel.truth[:, k])
        found.append(auc(*_known(panel, k), weights[:, is_known]))
    return mean_over_classes(np.stack(found, axis=1))


def weighted_recalls(panel: Panel, weights: Array) -> Array:
    """Return the mean of sensitivities and specificities under weights, shape ``(B,)``."""
    is_called = panel.prediction >= THRESHOLD
    found = []
    for k in range(panel.truth.shape[1]):
        for value in (True, False):
            is_class = (panel.truth[:, k] == value).astype(float)
            is_hit = is_class * (is_called[:, k] == value)
            found.append(weighted_ratio(weights @ is_hit, weights @ is_class))
    return mean_over_classes(np.stack(found, axis=1))


def _known(panel: Panel, label: int) -> tuple[Array, Known]:
    truth = panel.truth[:, label]
    is_known = ~np.isnan(truth)
    return panel.prediction[is_known, label], truth[is_known] == 1


def _spread_out(part: Part, is_known: Known) -> Part:
    """Return a part over all patients, from one over those whose finding is known."""
    influence = np.zeros(len(is_known))
    influence[is_known] = part.influence * (len(is_known) / max(1, int(is_known.sum())))
    return Part(part.value, influence, part.sizes)
