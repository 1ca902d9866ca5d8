"""What an export costs and changes, each number beside that of the model itself."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fedmri.export.subject import Subject

GATE_BYTES = 10 * 10**6
"""Size that a model for small machines may have, ten megabytes."""
N_WARM, N_CALLS = 2, 12


@dataclass(frozen=True)
class Measured:
    """An exported model in numbers.

    Attributes:
        format: Which.
        path: Where it is.
        n_bytes: Bytes of its files.
        n_bytes_packed: The same after gzip: zeros take no room there.
        is_small: Whether it passes the gate of ten megabytes.
        latency_ms: Time of one image, the shortest of twelve.
        latency_ratio: The same over that of the model in PyTorch, called in turn with it.
        images_per_s: Images a second in batches of four.
        throughput_ratio: The same over that of the model in PyTorch.
        difference: Largest absolute difference of raw outputs over made images.
        metric: Name of the task's metric, where data were given.
        score_before: The model's metric on the data.
        score_after: That of the exported model.
    """

    format: str
    path: str
    n_bytes: int
    n_bytes_packed: int
    is_small: bool
    latency_ms: float
    latency_ratio: float
    images_per_s: float
    throughput_ratio: float
    difference: float
    metric: str = ""
    score_before: float | None = None
    score_after: float | None = None


def measured(name: str, path: Path, exported: nn.Module, subject: Subject) -> Measured:
    """Return size, speed and differences of an exported model, run beside its own model."""
    files = [file for file in _files(path) if file.is_file()]
    n_bytes = sum(file.stat().st_size for file in files)
    packed = sum(len(gzip.compress(file.read_bytes(), mtime=0)) for file in files)
    difference = largest_difference(exported, subject)
    one, many = subject.images[:1], subject.images
    with torch.no_grad():
        single = _side_by_side(lambda: exported(one), lambda: subject.network(one))
        batch = _side_by_side(lambda: exported(many), lambda: subject.network(many))
    return Measured(
        name,
        path.name,
        n_bytes,
        packed,
        n_bytes <= GATE_BYTES,
        1000 * single[0],
        single[0] / single[1],
        len(many) / batch[0],
        batch[1] / batch[0],
        difference,
    )


def largest_difference(exported: nn.Module, subject: Subject) -> float:
    """Return the largest absolute difference of raw outputs, for one image and for several."""
    with torch.no_grad():
        pairs = [
            (exported(images), subject.network(images))
            for images in (subject.images[:1], subject.images)
        ]
    return max(float((found.double() - own.double()).abs().max()) for found, own in pairs)


def _side_by_side(exported: Callable[[], object], own: Callable[[], object]) -> tuple[float, float]:
    """Return the shortest seconds of two calls, made in turn: a busy machine slows both."""
    times: list[tuple[float, float]] = []
    for _ in range(N_WARM + N_CALLS):
        start = time.perf_counter()
        exported()
        middle = time.perf_counter()
        own()
        times.append((middle - start, time.perf_counter() - middle))
    first, second = np.min(times[N_WARM:], axis=0)
    return float(first), float(second)


def _files(path: Path) -> list[Path]:
    return sorted(path.rglob("*")) if path.is_dir() else [path]
