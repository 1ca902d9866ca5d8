"""Survival: the time to an event that is not seen of every patient, in intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from fedmri.claims import Claim, Claims
from fedmri.data.batches.site_data import Example
from fedmri.data.scans import Finding, Scan, about, number
from fedmri.data.target import no_truth
from fedmri.errors import require
from fedmri.round import Answer, Truth
from fedmri.tasks.cells import ABSENT, PRESENT, Words
from fedmri.tasks.task import MOST_LOSS, Array, Case, Predict, Reading, frozen_lists

if TYPE_CHECKING:
    import torch

    from fedmri.reports.statistics.metrics import Metric

NAMES = ("concordance", "nll")


@dataclass(frozen=True)
class Survival:
    """Predict how long a patient stays free of an event.

    Time is divided into intervals, and the network answers the hazard of each. The likelihood of a
    patient depends on no other patient, so it can be private. A patient whose time was cut off
    counts up to there.

    Attributes:
        name: Column with the time to the event, or to the last visit without it.
        event: Column that says whether the event was seen.
        cuts: Ends of the intervals, ascending, in the unit of the time; the first begins at 0. They
            are public constants of the plan, and not computed from patients.
        unit: Unit of the time.
        present: Words of the column that say that the event was seen, in small letters.
        absent: Words that say that the time was cut off before.
    """

    name: str
    event: str
    cuts: Sequence[float]
    unit: Literal["days", "weeks", "months", "years"] = "months"
    present: Sequence[str] = PRESENT
    absent: Sequence[str] = ABSENT

    title: ClassVar[str] = "survival"
    activation: ClassVar[str] = "sigmoid of each channel: the hazard of its interval"
    source: ClassVar[str] = "Gensheimer and Narasimhan 2019, doi:10.7717/peerj.6257"
    example: ClassVar[Mapping[str, Any]] = {
        "name": "months",
        "event": "died",
        "cuts": (6.0, 12.0, 24.0),
    }
    claims: ClassVar[Claims] = frozenset({Claim.PATIENTS_APART})
    answer: ClassVar[Answer] = "image"
    n_groups: ClassVar[int] = 1
    primary: ClassVar[str] = "concordance"
    is_higher_better: ClassVar[bool] = True
    label_map: ClassVar[None] = None

    def __post_init__(self) -> None:
        frozen_lists(self, "cuts", "present", "absent")
        require(bool(self.name), "target.name", self.name, "a column")
        require(bool(self.event), "target.event", self.event, "a column")
        ends = (0.0, *self.cuts)
        is_ascending = all(a < b < math.inf for a, b in pairwise(ends))
        want = "one number or more, above 0 and ascending"
        require(bool(self.cuts) and is_ascending, "target.cuts", self.cuts, want)
        _ = self._words  # which looks at the words

    @cached_property
    def _words(self) -> Words:
        return Words(tuple(self.present), tuple(self.absent))

    @property
    def n_outputs(self) -> int:
        """A channel an interval."""
        return len(self.cuts)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the network's channels."""
        return tuple(f"hazard_{cut:g}" for cut in self.cuts)

    @property
    def columns(self) -> tuple[str, ...]:
        """Time and event."""
        return (self.name, self.event)

    @property
    def learned(self) -> str:
        """Event, time and horizon."""
        last = f"{self.cuts[-1]:g} {self.unit}"
        return f"{self.title}: {self.name} ({self.unit}) to {self.event}, up to {last}"

    @property
    def reads(self) -> str:
        """The two columns."""
        return f"columns {self.name} and {self.event} of the subject table"

    def truth(self, scan: Scan) -> Truth:
        """Return the time, and 1 for an event or 0; raise D16 where either is none."""
        cells = [scan.columns.get(name, "") for name in self.columns]
        time, event = number(cells[0]), self._words.value(cells[1])
        is_known = math.isfinite(time) and time >= 0 and event is not None
        if not is_known or event is None or math.isnan(event):
            found = f"{self.name} {cells[0]!r}, {self.event} {cells[1]!r}"
            raise no_truth(found, f"a time of 0 or more, and one of {self._words.shown}")
        return time, event

    def findings(self, scans: Sequence[Scan]) -> list[Finding]:
        """Return which scans have no time, one that cannot be true (D59), or no event (D16)."""
        from fedmri.data.checks.target_values import no_column, without_number

        found = without_number(scans, self.name)
        for scan in scans:
            time, text = number(scan.columns.get(self.name, "")), scan.columns.get(self.event)
            if time < 0:
                found.append(about(scan, "D59", f"{self.name} is {time:g}, a time below 0"))
            event = None if text is None else self._words.value(text)
            if text is None:
                found.append(no_column(scan, self.event))
            elif event is None or math.isnan(event):
                reason = f"{self.event} is {text!r}, not one of {self._words.shown}"
                found.append(about(scan, "D16", reason))
        return found

    def site_findings(
        self, site: str, scans: Sequence[Scan], maps: Sequence[frozenset[int]]
    ) -> list[Finding]:
        """Return that no patient of a site has the event, or none within the last cut (D77)."""
        rows = np.array([self.truth(scan) for scan in scans])
        is_event = rows[:, 1] == 1
        if not is_event.any():
            reason = f"no patient has {self.event}, of {len(rows)} scans"
        elif not (is_event & (rows[:, 0] < self.cuts[-1])).any():
            reason = f"no patient has {self.event} before {self.cuts[-1]:g} {self.unit}"
        else:
            return []
        return [Finding("D77", reason, site, is_excluded=False)]

    def stratum(self, scan: Scan) -> str:
        """Return whether the event was seen."""
        return str(self._words.value(scan.columns.get(self.event, "")))

    def batch_target(self, truths: Sequence[Truth]) -> torch.Tensor:
        """Return times and events, shape ``(B, 2)``, float32."""
        import torch

        return torch.tensor([_pair(truth) for truth in truths]).to(torch.float32)

    def at_site(self, examples: Sequence[Example]) -> Survival:
        """Return the task itself: nothing is counted."""
        return self

    def mean_loss(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the mean negative log-likelihood of hazards' logits ``(B, J)``."""
        from fedmri.tasks.hazards import hazard_loss

        return hazard_loss(outputs.float(), target, self.cuts)

    def predict(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return the probability to be free of the event at each cut, shape ``(B, J)``."""
        return (1 - outputs.double().sigmoid()).cumprod(1)

    def read(
        self, predictions: torch.Tensor, truth: torch.Tensor, examples: Sequence[Example]
    ) -> Reading:
        """Return the curves of a scan's examples."""
        rows = tuple(tuple(row) for row in predictions.tolist())
        # from the table and not from the batch, which holds it in single precision
        return Reading(len(rows), _pair(examples[0].target), rows)

    def case(self, site: str, subject: str, readings: Sequence[Reading]) -> Case:
        """Return a patient's mean curve; the time is that of the first scan."""
        rows = np.array([row for reading in readings for row in reading.predictions])
        mean, truth = tuple(rows.mean(axis=0).tolist()), readings[0].truth
        return Case(site, subject, len(rows), truth, mean, self._scores(truth, mean))

    def _scores(self, truth: Truth, curve: Sequence[float]) -> dict[str, float]:
        from fedmri.tasks.concordance import EXPECTED
        from fedmri.tasks.hazards import expected_time, negative_log_likelihood

        time, event = _pair(truth)
        lost = negative_log_likelihood(curve, time, self.cuts, is_event=event == 1)
        return {EXPECTED: expected_time(curve, self.cuts), "nll": lost}

    @property
    def reported(self) -> frozenset[str]:
        """All of them."""
        return frozenset(NAMES)

    @property
    def ranges(self) -> Mapping[str, tuple[float, float]]:
        """A share, and logarithms of probabilities."""
        least = (0.0, MOST_LOSS)
        return {"concordance": (0.0, 1.0), "nll": least, "loss": least}

    def clipped(self, cases: Sequence[Case]) -> list[Case]:
        """Return results whose curves are some; else they are the opposite of what was seen."""
        return [self._within(case) for case in cases]

    def _within(self, case: Case) -> Case:
        if all(map(math.isfinite, case.prediction)):
            return case
        wrong = (float(_pair(case.truth)[1] == 1),) * len(self.cuts)
        return replace(case, prediction=wrong, scores=self._scores(case.truth, wrong))

    def caption(self, reading: Reading) -> str:
        """Return what was seen, and the expected time."""
        from fedmri.tasks.hazards import expected_time

        time, event = _pair(reading.truth)
        mean = np.array(reading.predictions).mean(axis=0).tolist()
        seen = "event after" if event == 1 else "no event up to"
        known = f"{expected_time(mean, self.cuts):.1f} of {self.cuts[-1]:g}"
        return f"{seen} {time:g} {self.unit}, expected {known}"

    def metrics(self, cases: Sequence[Case]) -> dict[str, float]:
        """Return Harrell's concordance and the mean negative log-likelihood; NaN where undefined.

        Patients are ordered by the expected time without the event up to the last cut.
        """
        from fedmri.tasks.concordance import EXPECTED, concordance

        if not cases:
            return dict.fromkeys(NAMES, math.nan)
        truth = np.array([_pair(case.truth) for case in cases])
        expected = np.array([case.scores[EXPECTED] for case in cases])
        lost = [case.scores["nll"] for case in cases]
        return {
            "concordance": concordance(truth[:, 0], truth[:, 1] == 1, expected),
            "nll": math.fsum(lost) / len(lost),
        }

    def measures(self) -> tuple[Metric, ...]:
        """Return the metrics as a report shows them."""
        from functools import partial

        from fedmri.reports.statistics import bounds
        from fedmri.reports.statistics.metrics import DOWN, UP, Metric
        from fedmri.tasks import concordance as of

        share = partial(bounds.bounded_mean, low=0.0, high=1.0, failure=0.0, unseen=0.05)
        return (
            Metric("concordance", "concordance", 0, 1, UP, share, of.weighted, of.influence),
            Metric(
                "nll", "negative log-likelihood", 0, math.inf, DOWN,
                partial(bounds.positive_mean, unseen=0.1), is_patient_mean=True,
            ),
        )  # fmt: skip

    def guess(self, train: Sequence[Truth]) -> tuple[float, ...]:
        """Return the curve of the life table."""
        from fedmri.tasks.hazards import curve, life_table

        return tuple(curve(life_table(np.array([_pair(t) for t in train]), self.cuts)).tolist())

    def linear(self, features: Array, truths: Array, weights: Array, strength: float) -> Predict:
        """Return a logistic regression of the hazard of each interval, on those at risk."""
        import torch

        from fedmri.tasks.hazards import curve, passed
        from fedmri.tasks.linear.logistic import binary

        times, events = torch.from_numpy(truths[:, 0]), torch.from_numpy(truths[:, 1] == 1)
        masks = [mask.numpy().T for mask in passed(times, events, self.cuts)]
        fits = [
            binary(features[known], here[known].astype(int), strength, weights[known])
            for through, here in zip(*masks, strict=True)
            for known in [through | here]
        ]
        return lambda rows: curve(np.stack([fit(rows) for fit in fits], axis=1))

    def answers(self, prediction: Sequence[float], case: Case | None) -> dict[str, str]:
        """Return the expected time, and the probability to be free of the event at each cut."""
        from fedmri.tasks.hazards import expected_time

        pairs = zip(self._at_cuts, prediction, strict=True)
        return {
            f"{self.name}_expected": repr(expected_time(prediction, self.cuts)),
            **{name: repr(float(share)) for name, share in pairs},
        }

    @property
    def _at_cuts(self) -> tuple[str, ...]:
        return tuple(f"free_at_{cut:g}_{self.unit}" for cut in self.cuts)

    def described(self) -> dict[str, dict[str, str]]:
        """Return what the columns mean."""
        last = f"{self.cuts[-1]:g} {self.unit}"
        expected = f"expected time without {self.event}, up to {last}"
        share = f"probability to be without {self.event} until then"
        return {
            f"{self.name}_expected": {"Description": expected, "Units": self.unit},
            **{name: {"Description": share} for name in self._at_cuts},
        }


def _pair(truth: Truth) -> tuple[float, float]:
    """Return time and event; that of a scan without a table is unknown."""
    return (truth[0], truth[1]) if isinstance(truth, tuple) else (math.nan, math.nan)
