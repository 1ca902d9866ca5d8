"""What is known of each scan that was explained, and the aggregates over patients."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fedmri.explain.attribution.columns import Pull
from fedmri.explain.distance import KnownScans, Sums, median
from fedmri.explain.judged import by_patient, mean_difference, mean_share, verdict
from fedmri.explain.options import Method
from fedmri.explain.uncertainty import selection
from fedmri.reports.statistics.intervals import Estimate
from fedmri.trained.inputs import Input, LeftOut, Remark

LEAST_PATIENTS = 5
"""Aggregates over fewer are near to what one patient has: they stay at the site."""


@dataclass(frozen=True)
class Judged:
    """What is known of one method's map of one scan.

    Attributes:
        inside: Share of the map in the mask; NaN without one.
        untrained: The same of an untrained network.
        likeness: Rank correlation with the untrained network's map.
        likeness_head: The same where only the last layer is untrained.
    """

    inside: float
    untrained: float
    likeness: float
    likeness_head: float


@dataclass(frozen=True)
class ScanExplained:
    """What is known of one scan. It stays at the site.

    Attributes:
        input: The scan.
        answer: Predicted class or value, or the class whose mask is explained.
        judged: By method.
        columns: What each column of the patient's row adds to the score; empty where none is read.
        chance: Share of the head that the mask fills; NaN without a mask.
        gap: How far integrated gradients are from summing to the score's way; NaN without them.
        doubt: Total uncertainty: nats, or a variance.
        between: What passes or models disagree on, in the same unit.
        n_members: Passes and models behind it.
        risk: 1 for a wrong class, an absolute error, or 1 - Dice; NaN where no truth is known.
        distance: Of its embedding from those of scans that the model knows; NaN where none were
            named.
        look_distance: Of its look from theirs, likewise.
        skipped: Why a method has no map, or why there is no mask, by name.
        remarks: What is odd about the scan.
        files: What was written.
    """

    input: Input
    answer: str
    judged: Mapping[Method, Judged]
    columns: Mapping[str, Pull]
    chance: float
    gap: float
    doubt: float
    between: float
    n_members: int
    risk: float
    distance: float
    look_distance: float
    skipped: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[Remark, ...] = ()
    files: tuple[Path, ...] = ()

    @property
    def row(self) -> dict[str, str]:
        """The scan's line of the table."""
        numbers = {
            "chance": self.chance,
            "gap": self.gap,
            "doubt": self.doubt,
            "between": self.between,
            "risk": self.risk,
            "distance": self.distance,
            "look_distance": self.look_distance,
        }
        for method, one in self.judged.items():
            numbers |= {f"{method}_{name}": value for name, value in asdict(one).items()}
        for column, pull in self.columns.items():
            numbers |= {f"{column}_{name}": value for name, value in asdict(pull).items()}
        cells = {name: f"{v:.6g}" for name, v in numbers.items() if math.isfinite(v)}
        notes = [f"{name}: {why}" for name, why in self.skipped.items()]
        notes += [f"{reason} [{code}]" for code, reason in self.remarks]
        who = f"sub-{self.input.scan.subject}"
        first = {"scan": self.input.name, "participant_id": who, "answer": self.answer}
        return first | cells | {"remarks": "; ".join(notes) or "n/a"}


@dataclass(frozen=True)
class Explained:
    """What was explained.

    Attributes:
        scans: What is known of each scan; stays at the site.
        left_out: Scans that could not be used, and why.
        summary: Aggregates over patients, as ``summary.json`` holds them.
        files: What was written.
    """

    scans: tuple[ScanExplained, ...]
    left_out: tuple[LeftOut, ...]
    summary: Mapping[str, Any]
    files: tuple[Path, ...]


def summary_of(
    scans: Sequence[ScanExplained], n_left_out: int, sums: KnownScans | None
) -> dict[str, Any]:
    """Return the aggregates over patients, for JSON; what is not known is None."""
    n_subjects = len({one.input.scan.subject for one in scans})
    methods = dict.fromkeys(method for one in scans for method in one.judged)
    return {
        "n_scans": len(scans),
        "n_left_out": n_left_out,
        "n_subjects": n_subjects,
        "is_fit_to_leave": n_subjects >= LEAST_PATIENTS,
        "methods": {method: _method(scans, method) for method in methods},
        "columns": _columns(scans),
        "chance": _shown(mean_share(_patients(scans, [one.chance for one in scans]))),
        "integrated_gradients_gap": _mean(one.gap for one in scans),
        "doubt": _mean(one.doubt for one in scans),
        "between": _mean(one.between for one in scans),
        "n_members": max((one.n_members for one in scans), default=0),
        "selection": _selection(scans),
        "distance": None if sums is None else _distance(scans, sums),
    }


def _method(scans: Sequence[ScanExplained], method: Method) -> dict[str, Any]:
    having = [one for one in scans if method in one.judged]
    each = [one.judged[method] for one in having]
    mine, theirs = [one.inside for one in each], [one.untrained for one in each]
    gains = [a - b for a, b in zip(mine, theirs, strict=True)]
    correlations = [one.likeness for one in each]
    return {
        "share_in_mask": _shown(mean_share(_patients(having, mine))),
        "share_in_mask_untrained": _shown(mean_share(_patients(having, theirs))),
        "gain_over_untrained": _shown(mean_difference(_patients(having, gains))),
        "likeness_untrained": _mean(correlations),
        "likeness_untrained_head": _mean(one.likeness_head for one in each),
        "under_random_weights": verdict(correlations),
    }


def _columns(scans: Sequence[ScanExplained]) -> dict[str, Any]:
    """Return how far each column moves the score, as the mean size over patients."""
    having = [one for one in scans if one.columns]
    return {
        column: {
            way: _shown(
                mean_difference(
                    _patients(having, [abs(getattr(one.columns[column], way)) for one in having])
                )
            )
            for way in ("shapley", "lime")
        }
        for column in (having[0].columns if having else ())
    }


def _selection(scans: Sequence[ScanExplained]) -> dict[str, Any] | None:
    doubts = _patients(scans, [one.doubt if math.isfinite(one.risk) else math.nan for one in scans])
    found = selection(doubts, _patients(scans, [one.risk for one in scans]))
    if found is None:
        return None
    rows = shown_rows(len(found.risk))
    curve = {name: [getattr(found, name)[i] for i in rows] for name in ("coverage", "risk")}
    return {**asdict(found), **curve}


def shown_rows(n_subjects: int) -> list[int]:
    """Return the points of a curve that may be shown: no fewer than five patients lie between two.

    Between two neighbouring points of the whole curve lies the risk of one patient.
    """
    step = max(LEAST_PATIENTS, -(-n_subjects // 10))
    ends = [*range(step, n_subjects - step + 1, step), n_subjects]
    return [end - 1 for end in ends if end >= LEAST_PATIENTS]


def _distance(scans: Sequence[ScanExplained], known: KnownScans) -> dict[str, Any]:
    return {
        "n_reference": known.embedding.n_scans,
        "embedding": _far([one.distance for one in scans], known.embedding),
        "look": _far([one.look_distance for one in scans], known.look),
    }


def _far(values: Sequence[float], known: Sums) -> dict[str, Any]:
    return {
        "usual": _known(known.usual),
        "median": _known(median(values)),
        "n_beyond_usual": sum(value > known.usual for value in values),
    }


def _patients(scans: Sequence[ScanExplained], values: Sequence[float]) -> tuple[float, ...]:
    found: dict[str, list[float]] = defaultdict(list)
    for one, value in zip(scans, values, strict=True):
        found[one.input.scan.subject].append(value)
    return by_patient(found)


def _mean(values: Iterable[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else None


def _shown(found: Estimate) -> dict[str, Any]:
    ends = {"low": _known(found.low), "high": _known(found.high)}
    return {"value": _known(found.value), **ends, "n_subjects": found.n_subjects}


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
