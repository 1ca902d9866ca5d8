"""A commented plan to begin with, from answers or from what a data set has."""

from __future__ import annotations

import json
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedmri.agreement.plan_changes import meanings
from fedmri.data.bids.data_set import modalities_in
from fedmri.data.read import read
from fedmri.data.scans import Scan
from fedmri.data.settings import SourceConfig
from fedmri.plan import from_dict
from fedmri.tasks.registry import TASKS

WIDTH = 96
MOST_CLASSES = 10
"""Different values of a column beyond which it is taken for no class."""
HEAD = """\
# A plan: all that the sites and the server must agree on. Change it, then check it by
# `fedmri plan check`, and submit it by `fedmri server run`. A changed plan is a new plan.
# `fedmri plan explain` tells every other setting with its default.
"""


@dataclass(frozen=True)
class PlanAnswers:
    """What a plan is begun with.

    Attributes:
        name: Name of the plan; runs carry it.
        kind: Kind of task.
        target: Column or label map that is learned.
        classes: Its classes; empty for a number.
        modalities: Images that a site must have.
        n_rounds: Rounds of training.
        min_sites: Sites that must be online before a round begins.
    """

    name: str = "experiment"
    kind: str = "classification"
    target: str = "diagnosis"
    classes: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ("T1w",)
    n_rounds: int = 20
    min_sites: int = 3


def answers_from(data: Path, answers: PlanAnswers) -> PlanAnswers:
    """Return answers with what a data set has: its modalities, and a target that it can teach.

    A label map comes before a column; of columns, the first with few different values.

    Raises:
        DataError: There is no data set, or nothing in it (D01, D04).
    """
    found = modalities_in(data)
    source = replace(SourceConfig(), path=str(data), modalities=found or answers.modalities)
    scans = read(source).scans
    labels = Counter(name for scan in scans for name in scan.labels)
    answers = replace(answers, modalities=source.modalities)
    if labels:
        name = labels.most_common(1)[0][0]
        return replace(answers, kind="segmentation", target=name, classes=(name,))
    for column, values in _columns(scans).items():
        if 1 < len(values) <= MOST_CLASSES and column != source.site_column:
            return replace(answers, kind="classification", target=column, classes=tuple(values))
    return answers


def draft_plan(answers: PlanAnswers) -> str:
    """Return a plan in YAML, each line under the meaning of its setting.

    Raises:
        ConfigError: An answer cannot be taken (C01 to C03).
    """
    values = _sections(answers)
    meant = meanings(from_dict(dict(values)))
    lines = [HEAD]
    for key, section in values.items():
        lines += list(_written({key: section}, meant, "", 0))
        lines.append("")
    return "\n".join(lines)


def _sections(answers: PlanAnswers) -> Mapping[str, Any]:
    example = TASKS.load(answers.kind).example
    about = {**example, "name": answers.target}
    if "classes" in example:
        about["classes"] = list(answers.classes or example["classes"])
    is_voxel = answers.kind == "segmentation"
    return {
        "name": answers.name,
        "seed": 0,
        "target": {"kind": answers.kind, **about},
        "data": {
            "source": {"modalities": list(answers.modalities), "missing": "skip"},
            "prepare": {"dimension": "3d", "spacing_mm": 2, "shape": [96, 112, 96]},
            "split": {"val": 0.15, "test": 0.25},
        },
        "model": {"name": "unet" if is_voxel else "resnet18", "norm": "group"},
        "strategy": {"name": "fedavg"},
        "train": {"batch_size": 2, "lr": 0.001, "local_epochs": 1, "clip_grad_norm": 1.0},
        "rounds": {
            "n_rounds": answers.n_rounds,
            "min_sites": answers.min_sites,
            "quorum": 0.6,
            "timeout_s": 3600,
        },
        "privacy": {"noise_multiplier": 0.0},
        "secagg": {"is_on": False},
    }


def _written(
    values: Mapping[str, Any], meant: Mapping[str, str], prefix: str, depth: int
) -> Iterator[str]:
    space = "  " * depth
    for name, value in values.items():
        key = f"{prefix}{name}"
        if meaning := meant.get(key, "").replace("``", "`"):
            yield from textwrap.wrap(
                meaning,
                WIDTH,
                initial_indent=f"{space}# ",
                subsequent_indent=f"{space}# ",
                break_on_hyphens=False,
            )
        if isinstance(value, Mapping):
            yield f"{space}{name}:"
            yield from _written(value, meant, f"{key}.", depth + 1)
        else:
            yield f"{space}{name}: {json.dumps(value, ensure_ascii=False)}"


def _columns(scans: tuple[Scan, ...]) -> dict[str, list[str]]:
    """Return the different values of each column that no scan lacks."""
    found: dict[str, set[str]] = defaultdict(set)
    for scan in scans:
        for column, value in scan.columns.items():
            found[column].add(value)
    return {column: sorted(values) for column, values in found.items() if "" not in values}
