"""The model that is exported, with what each format needs to know of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from fedmri.errors import UsageError
from fedmri.export.capture import INPUT, OUTPUT, as_onnx, captured
from fedmri.plan import Plan
from fedmri.stages.registry import STAGES
from fedmri.trained.file.card import ModelCard
from fedmri.trained.file.model_file import ModelFile
from fedmri.trained.harmonized import reading_of
from fedmri.trained.predict import make_network, refuse_covariates, refuse_incomplete

N_EXAMPLES = 4


@dataclass(frozen=True)
class Subject:
    """A model to export.

    Attributes:
        file: Its file.
        network: Its network in evaluation mode, on the CPU.
        images: Made images of the shape that it takes, ``(N, C, *shape)``.
    """

    file: ModelFile
    network: nn.Module
    images: torch.Tensor

    @property
    def card(self) -> ModelCard:
        """What the file says of the model."""
        return self.file.card

    @property
    def plan(self) -> Plan:
        """What it was trained by."""
        return self.file.card.plan

    @cached_property
    def program(self) -> torch.export.ExportedProgram:
        """The network as a program, captured once for all formats."""
        return captured(self.network, self.images)

    @cached_property
    def onnx(self) -> bytes:
        """The network as an ONNX file, made once for all formats."""
        return as_onnx(self.program, self.images)

    @property
    def reading(self) -> str:
        """How the outputs become what is predicted, for programs that run an export."""
        return reading_of(self.file)

    @property
    def n_outputs(self) -> int:
        """Channels of the outputs."""
        return self.plan.target.n_outputs

    @property
    def channels(self) -> tuple[str, ...]:
        """What each channel of the outputs is."""
        return self.plan.target.outputs


def subject_of(file: ModelFile, seed: int) -> Subject:
    """Return a model ready to be exported.

    Args:
        file: Of the model.
        seed: Of the made images.

    Raises:
        UsageError: Sites keep a part of it, or it needs the other scans of a site (U72, U73), or
            its images have no one size (U76), or it reads a table (U86).
    """
    refuse_incomplete(file)
    refuse_covariates(file, "an export")
    plan = file.card.plan
    if not all(plan.shape):
        what, fix = "images of the model", "train with data.prepare.shape or data.prepare.size"
        found = "a size that differs from scan to scan"
        raise UsageError("U76", what, found=found, want="one size", fix=fix)
    random = torch.Generator().manual_seed(seed)
    images = torch.randn(N_EXAMPLES, plan.n_channels, *plan.shape, generator=random)
    return Subject(file, make_network(file), images)


def contract(subject: Subject) -> dict[str, object]:
    """Return what a program that runs an exported model must know, for JSON."""
    plan, card = subject.plan, subject.card
    prepare = plan.data.prepare
    return {
        "model": plan.name,
        "weights_sha256": card.sha256,
        "plan_sha256": card.plan_sha256,
        "intended_use": card.intended_use,
        "input": {
            "name": INPUT,
            "dtype": "float32",
            "shape": ["batch", plan.n_channels, *plan.shape],
            "channels": list(plan.data.source.modalities),
            "preparation": {
                "dimension": prepare.dimension,
                "spacing_mm": prepare.spacing_mm,
                "scaling": prepare.scaling,
                "axes": "left to right, back to front, foot to head",
                "stages": [STAGES.name_of(stage) for stage in plan.stages],
            },
        },
        "output": {
            "name": OUTPUT,
            "shape": ["batch", subject.n_outputs],
            "channels": list(subject.channels),
            "then": subject.reading,
        },
    }
