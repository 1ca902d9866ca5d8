"""Finished steps of studies, by a hash of all that decides them: what is there is not done again.

A step is the preparation of a data set, or the training of an arm with one seed. A step is complete
where its folder is there: it is renamed to its place when all its files are.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fedmri
from fedmri.machine.file_names import file_name
from fedmri.plan import to_dict
from fedmri.simulation.arms.arm_runs import ArmRun
from fedmri.simulation.settings import SimulationConfig

PACKAGES = ("fedmri", "torch", "flwr", "monai", "torchio", "numpy", "scikit-learn", "nibabel")
"""Other versions may give other bits."""
LEFT_OUT = shutil.ignore_patterns("checkpoints", "state", "best.safetensors", ".*")
"""What only a training that is not over needs."""


@dataclass(frozen=True)
class Store:
    """A folder of steps.

    Attributes:
        folder: The folder.
    """

    folder: Path

    def place(self, kind: str, key: str) -> Path:
        """Return where a step lies, or would."""
        return self.folder / kind / key

    def take_training(self, run: ArmRun, folder: Path, key: str) -> bool:
        """Copy a training into a run folder; tell whether it was there."""
        source = self.place("trainings", key)
        if not source.exists():
            return False
        for site in run.tested:
            name = file_name(site)
            if (source / "sites" / name).exists():
                _replace(source / "sites" / name, folder / "sites" / name / run.path)
        _replace(source / "arm", folder / "arms" / run.path)  # last: its presence says complete
        return True

    def keep_training(self, run: ArmRun, folder: Path, key: str) -> None:
        """Copy a complete training out of a run folder."""
        target = self.place("trainings", key)
        part = target.with_name(f".{key}.{os.getpid()}")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(folder / "arms" / run.path, part / "arm", ignore=LEFT_OUT)
        for site in run.tested:
            own = folder / "sites" / file_name(site) / run.path
            if own.exists():
                shutil.copytree(own, part / "sites" / file_name(site), ignore=LEFT_OUT)
        if target.exists():
            shutil.rmtree(part)
        else:
            part.rename(target)


def _replace(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, part)
    part.rename(target)


def training_key(run: ArmRun, config: SimulationConfig, runs: Sequence[ArmRun]) -> str:
    """Return the hash of all that decides a training and its test.

    Args:
        run: The training.
        config: How it is run; of it only what changes files.
        runs: All trainings of the study: one may start from the model of another.
    """
    start = next((one for one in runs if one.arm == run.start and _is_same_seed(one, run)), None)
    return _hash(
        {
            "plan": to_dict(run.plan),
            "arm": asdict(run.arm),
            "members": run.members,
            "tested": run.tested,
            "data": {
                node: [_fingerprint(p) for p in paths] for node, paths in run.prepared.items()
            },
            "policy": dict(run.policy),
            "slow": dict(run.slow),
            "replayed": _record_of(run.replayed),
            "pictures": config.n_pictures,
            "start": "" if start is None else training_key(start, config, runs),
        }
    )


def _record_of(path: Path | None) -> str:
    return "" if path is None else path.read_text(encoding="utf-8")


def _is_same_seed(one: ArmRun, other: ArmRun) -> bool:
    return one.plan.seed == other.plan.seed


def data_key(settings: Mapping[str, Any], folders: Sequence[str]) -> str:
    """Return the hash of settings, data sets and software, such as all that decides a preparation.

    Args:
        settings: Plain values.
        folders: Data sets; size and time of each file count. An empty name is none.
    """
    return _hash({"settings": settings, "files": [_listing(Path(one)) for one in folders if one]})


def _listing(folder: Path) -> list[tuple[str, int, int]]:
    files = sorted(path for path in folder.expanduser().rglob("*") if path.is_file())
    told = ((path, path.stat()) for path in files)
    return [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in told]


def _hash(values: Mapping[str, Any]) -> str:
    text = json.dumps({**values, "software": _software()}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _fingerprint(path: Path) -> str:
    """Return the fingerprint of a prepared site; of a damaged file its own hash."""
    content = path.read_bytes()
    try:
        return str(json.loads(content)["fingerprint"])
    except (ValueError, KeyError, TypeError):
        return hashlib.sha256(content).hexdigest()


@cache
def _software() -> dict[str, str]:
    """Return versions, and the hash of this very source code."""
    root = Path(fedmri.__file__).parent
    total = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        total.update(path.read_bytes())
    for room in ("server", "clients", "simulation"):
        for path in sorted((root / room).resolve().rglob("*.py")):
            total.update(path.read_bytes())
    return {**{name: version(name) for name in PACKAGES}, "source": total.hexdigest()}
