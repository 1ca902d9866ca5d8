"""What a simulation knows of its models when it is over: scores with intervals, ranges of scans."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from fedmri.arm import Group
from fedmri.errors import DataError, UsageError
from fedmri.machine.file_names import file_name
from fedmri.reports.models import Model, is_external
from fedmri.reports.results import SiteCases, load_results
from fedmri.reports.statistics.metrics import Measured
from fedmri.reports.statistics.scoring import Scorer
from fedmri.trained.file.card import CardScore
from fedmri.trained.file.model_file import ModelFile, read_model, write_model
from fedmri.trained.file.names import MODEL
from fedmri.trained.file.ranges import ranges_of

log = logging.getLogger("fedmri.trained")

N_RESAMPLED = 2000
"""As in a report."""

LABEL = "model"


def put_ranges(path: Path, prepared: Iterable[Path]) -> None:
    """Put what the training scans were like into a model's file; weights do not change.

    Damaged data of a site, which took no part with them, leave it unsaid.

    Args:
        path: The model's file.
        prepared: Prepared files of the sites that trained.
    """
    file = _readable(path)
    if file is None or file.card.ranges is not None:
        return
    try:
        ranges = ranges_of(prepared)
    except DataError as error:
        log.warning("nothing is said of the training scans of a model: %s", error)
        return
    write_model(path, replace(file, card=replace(file.card, ranges=ranges)))


def card_scores(cases: SiteCases, seed: int, task: Measured) -> dict[str, CardScore]:
    """Return every metric of one training over the test patients of the sites that took part."""
    inside = {site: tested for site, tested in cases.items() if not is_external(site)}
    if not inside:
        return {}
    model = Model(Group(LABEL, "federated", (LABEL,)), (inside,), (seed,))
    scores = Scorer(task, N_RESAMPLED, 0).scores(model, model.patients())
    found = {name: score.estimate for name, score in scores.items()}
    return {
        name: CardScore.of(e.value, e.low, e.high, e.n_subjects)
        for name, e in found.items()
        if math.isfinite(e.value)
    }


def put_scores(run: Path, task: Measured) -> None:
    """Put the scores of a finished simulation, with intervals, into the file of each arm.

    Weights do not change. An arm whose file is not there has no scores to keep.

    Args:
        run: Folder of the run.
        task: Its task.

    Raises:
        UsageError: The folder cannot be read (U10 to U13).
    """
    results = load_results(run)
    for (arm, seed), cases in results.cases.items():
        path = run / "arms" / file_name(arm) / f"seed-{seed}" / MODEL
        file = _readable(path)
        if file is not None:
            card = replace(file.card, scores=card_scores(cases, seed, task))
            if card != file.card:
                write_model(path, replace(file, card=card))


def _readable(path: Path) -> ModelFile | None:
    """Return a model's file; None for one of an older version, whose run can still be shown."""
    if not path.exists():
        return None
    try:
        return read_model(path)
    except UsageError as error:
        log.warning("nothing is added to a model: %s", error)
        return None
