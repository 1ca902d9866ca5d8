"""What a site writes of its patients to its own disk; it stays there."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedmri.machine.files import write_whole
from fedmri.tasks.task import Case
from fedmri.training.pictures import Picture

CASES, VALIDATION = "cases.jsonl", "validation.jsonl"
"""Files of a site's folder for a run: results of its test patients, and of its validation patients
under the same model."""
EMBEDDINGS = "embeddings.npz"
"""File beside them in a simulation: what reached the last layer, by test patient."""


def write_cases(path: Path, cases: Sequence[Case]) -> None:
    """Write patients' results, one JSON object a line; they stay at the site."""
    lines = [json.dumps(asdict(case)) for case in cases]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read_cases(path: Path) -> list[Case]:
    """Return the results that ``write_cases`` wrote."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [_case(json.loads(line)) for line in lines]


def _case(values: dict[str, Any]) -> Case:
    truth = values["truth"]
    values |= {"truth": tuple(truth) if isinstance(truth, list) else truth}
    return Case(**{**values, "prediction": tuple(values["prediction"])})


def remove_subjects(folder: Path, subjects: Container[str]) -> None:
    """Take a patient out of the results of a run; pictures, whose patients are mixed, all go."""
    for path in (folder / CASES, folder / VALIDATION):
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if json.loads(line)["subject"] not in subjects]
            write_whole(path, "".join(f"{line}\n" for line in kept))
    (folder / "pictures.npz").unlink(missing_ok=True)


def write_embeddings(path: Path, found: Mapping[tuple[str, str], torch.Tensor]) -> None:
    """Write embeddings of patients, by site and subject, as arrays ``subjects`` and ``values``."""
    if not found:
        return
    subjects = np.array([subject for _, subject in found])
    values = np.stack([value.numpy() for value in found.values()])
    np.savez_compressed(path, allow_pickle=False, subjects=subjects, values=values)


def write_pictures(path: Path, pictures: Sequence[Picture]) -> None:
    """Write example pictures; they stay at the site."""
    if not pictures:
        return
    arrays: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]] = {}
    for number, picture in enumerate(pictures):
        arrays[f"image_{number}"] = picture.image
        arrays[f"caption_{number}"] = np.array(picture.caption)
        if picture.truth is not None and picture.predicted is not None:
            arrays[f"truth_{number}"] = picture.truth
            arrays[f"predicted_{number}"] = picture.predicted
    np.savez_compressed(path, allow_pickle=False, **arrays)
