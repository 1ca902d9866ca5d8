"""A model as a program of torch.export: no Python class of ours is needed to run it."""

from __future__ import annotations

from pathlib import Path

import torch

from fedmri.export.called import Called
from fedmri.export.capture import quiet_exporters
from fedmri.export.subject import Subject


def write_program(subject: Subject, folder: Path) -> Path:
    """Write ``model.pt2``."""
    path = folder / "model.pt2"
    with quiet_exporters():
        torch.export.save(subject.program, path)
    return path


def read_program(path: Path) -> Called:
    """Return a written program as a network."""
    with quiet_exporters():
        module = torch.export.load(path).module()
    return Called(lambda image: module(image))
