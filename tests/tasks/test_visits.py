"""Patients with several visits: each counts once, and for what was true at the first."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from fedmri.data.target import first_alike
from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.kinds.gaussian_regression import GaussianRegression
from fedmri.tasks.kinds.multi_label import MultiLabel
from fedmri.tasks.kinds.regression import Regression
from fedmri.tasks.kinds.survival import Survival
from fedmri.tasks.task import Reading, Task, patient_cases
from tests.data.worlds import save, volume, write_table
from tests.reports_of_others.bids_worlds import AFFINE, SHAPE, image_path, looked_at

NAN = math.nan
CHANGED = [
    (Classification("stage", ("mild", "severe")), (0.0, 1.0), ((0.8, 0.2), (0.1, 0.9))),
    (MultiLabel("found", ("oedema", "bleed")), ((1.0, 0.0), (1.0, 1.0)), ((0.9, 0.1), (0.9, 0.8))),
    (Regression("age"), (60.0, 70.0), ((70.0,), (60.0,))),
    (GaussianRegression("age"), (60.0, 70.0), ((70.0, 1.0), (60.0, 1.0))),
    (Survival("time", "died", cuts=(1.0, 2.0)), ((2.5, 1.0), (0.5, 1.0)), ((0.1, 0.1), (0.9, 0.9))),
]


@pytest.mark.parametrize(("task", "truths", "predictions"), CHANGED, ids=lambda v: type(v).__name__)
def test_a_patient_whose_truth_changes_is_scored_at_the_first_visit(
    task: Task, truths: tuple[float, float], predictions: tuple[tuple[float, ...], ...]
) -> None:
    """Two ages that are predicted the wrong way round are no error of 0."""
    first, second = (Reading(1, t, (p,)) for t, p in zip(truths, predictions, strict=True))
    alike = Reading(1, truths[0], (predictions[1],))
    who = ("north", "a")
    assert patient_cases(task, {who: [first, second]}) == [task.case(*who, [first])]
    assert patient_cases(task, {who: [first, second, alike]}) == [task.case(*who, [first, alike])]


def test_what_is_not_known_at_a_visit_contradicts_nothing() -> None:
    """What a later visit adds counts for those that follow."""
    assert first_alike([(1.0, NAN), (NAN, 0.0), (1.0, 1.0), (NAN, NAN)]) == [
        True,
        True,
        False,
        True,
    ]
    assert first_alike([NAN, NAN]) == [True, True]


def test_a_target_that_changes_between_visits_is_said(tmp_path: Path) -> None:
    """One warning for each site names a patient; nobody is left out."""
    for number, (subject, session) in enumerate((s, v) for s in "ab" for v in ("v1", "v2")):
        path = image_path(tmp_path, subject, session=session)
        save(path, volume(number, SHAPE), AFFINE)
    cells = {"a": ("mild", "severe"), "b": ("mild", "mild")}
    write_table(
        tmp_path,
        [
            {"participant_id": s, "session_id": f"v{n}", "site": "A", "stage": cell}
            for s, own in cells.items()
            for n, cell in enumerate(own, 1)
        ],
    )
    table = looked_at(tmp_path, Classification("stage", ("mild", "severe")))
    [finding] = [f for f in table.findings if f.code == "D34"]
    assert (finding.site, finding.is_excluded) == ("A", False)
    assert "sub-a," in finding.reason
    assert len(table.scans) == 4
