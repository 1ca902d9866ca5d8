"""What trackers are given of a run: scores by round, arm and hospital, and its settings.

A tracker is a module of this folder with one function ``write``. It writes files on this machine
and opens no connection. Everything is written after the run, from its records, so that no tracker
slows a round. No image, no name of a patient and no path of the data is among it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from fedmri.config import Experiment, as_yaml
from fedmri.machine.extras import require_packages
from fedmri.reports.results import Results, load_results

EXTRA, ALWAYS = "track", "tensorboard"
"""The extra that has all trackers, and the one that writes wherever it is installed."""


class Scalar(NamedTuple):
    """One number of a training: its name, such as ``validation/dice/site01``, and its round."""

    name: str
    round_index: int
    value: float


@dataclass(frozen=True)
class Training:
    """One arm with one seed.

    Attributes:
        name: ``ARM/seed-N``.
        scalars: In the order of the records.
    """

    name: str
    scalars: tuple[Scalar, ...]


class Tracker(Protocol):
    """Writes what was recorded in the format of a tracker, anew each time."""

    def write(self, folder: Path, name: str, trainings: Sequence[Training], settings: str) -> None:
        """Write to a folder that is not there; ``settings`` is YAML, ``name`` is the run's."""
        ...


def refuse_absent(trackers: Sequence[str]) -> None:
    """Refuse trackers whose packages are not installed, before hours of training (C05)."""
    for name in trackers:
        require_packages(EXTRA, [name], f"setting simulation.trackers={name}")


def track(run: Path, experiment: Experiment) -> tuple[Path, ...]:
    """Write the records of a finished run for each tracker; return their folders.

    TensorBoard is written wherever it is installed, the others where the settings name them.

    Raises:
        ConfigError: The package of a tracker that the settings name is not installed (C05).
    """
    asked = experiment.simulation.trackers
    refuse_absent(asked)
    names = [*([ALWAYS] if find_spec(ALWAYS) else []), *asked]
    if not names:
        return ()
    trainings, settings = tracked(load_results(run)), as_yaml(without_places(experiment))
    folders = []
    for name in names:
        tracker: Tracker = import_module(f"fedmri.api.tracking.{name}")
        tracker.write(run / name, run.resolve().name, trainings, settings)
        folders.append(run / name)
    return tuple(folders)


def tracked(results: Results) -> tuple[Training, ...]:
    """Return the numbers of each training of a run."""
    found: dict[str, list[Scalar]] = {}
    for record in results.records:
        if "round" in record:
            name = f"{record.get('arm')}/seed-{record.get('seed', 0)}"
            found.setdefault(name, []).extend(_scalars(record))
    return tuple(Training(name, tuple(scalars)) for name, scalars in found.items())


def _scalars(record: Mapping[str, Any]) -> Iterator[Scalar]:
    kind, site = str(record["kind"]), record.get("site")
    numbers = {**record, **dict(record.get("metrics") or {})}
    for name, value in numbers.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and name not in ("round", "seed") and math.isfinite(value):
            place = f"/{site}" if site is not None else ""
            yield Scalar(f"{kind}/{name}{place}", int(record["round"]), float(value))


def without_places(experiment: Experiment) -> Experiment:
    """Return settings without paths of this machine and names of patients."""
    from fedmri.trained.file.card import released

    bare: dict[str, Any] = {"cache": "", "runs": "runs", "store": "", "external": ""}
    bare |= {"weights": "", "workers": 0, "trackers": ()}
    simulation = replace(experiment.simulation, **bare)
    return replace(experiment, plan=released(experiment.plan)[0], simulation=simulation)
