"""A network captured as a program of torch.export and as an ONNX graph, without its Python code."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from fedmri.machine.extras import require_packages

INPUT, OUTPUT = "image", "output"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
LOUD = ("torch.onnx", "root", "onnxscript", "onnx_ir")
"""Loggers that tell users of an export what is not installed and not needed."""


def captured(network: nn.Module, images: torch.Tensor) -> torch.export.ExportedProgram:
    """Return a network as a program that takes any number of images at once."""
    n_images = torch.export.Dim("batch", min=1)
    with quiet_exporters(), torch.no_grad():
        return torch.export.export(network, (images[:2],), dynamic_shapes=({0: n_images},))


def as_onnx(program: torch.export.ExportedProgram, images: torch.Tensor) -> bytes:
    """Return a program as the bytes of an ONNX file, weights included.

    Raises:
        ConfigError: A package is not installed (C05).
    """
    require_packages("export", PACKAGES, "an export to ONNX")
    with tempfile.TemporaryDirectory(prefix="fedmri-") as folder, quiet_exporters():
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            program,
            (images[:2],),
            path,
            dynamo=True,
            external_data=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
        return path.read_bytes()


@contextmanager
def quiet_exporters() -> Iterator[None]:
    """Keep exporters from telling users about their own insides, which nobody can change."""
    loggers = [logging.getLogger(None if name == "root" else name) for name in LOUD]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
