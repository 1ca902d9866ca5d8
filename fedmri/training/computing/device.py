"""Where training runs, and what makes it give the same bits again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils import deterministic

from fedmri.errors import ConfigError, RoundError


def pick_device(name: str) -> torch.device:
    """Return a device by name; ``auto`` is the first GPU, or the CPU where there is none.

    Raises:
        ConfigError: There is no such device on this machine (C23).
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        fix = "set train.device=auto, or install a build of PyTorch for this GPU"
        want = "a device of this machine"
        raise ConfigError("C23", "setting train.device", found=name, want=want, fix=fix) from error
    return device


@contextmanager
def reproducible(n_threads: int | None = None) -> Iterator[None]:
    """Ask torch for deterministic arithmetic, and for a number of threads, within the block.

    Sums depend on how many threads share them, so the bits of a result depend on ``n_threads``.
    Operations without a deterministic form on a GPU (3D max pooling) warn and go on.

    Args:
        n_threads: Threads of the CPU; None keeps what is set.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the GPU is first used
    fill: Any = deterministic  # a module with properties, which no stub knows
    threads, is_filled = torch.get_num_threads(), fill.fill_uninitialized_memory
    mode, benchmark = torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark
    try:
        if n_threads is not None:
            torch.set_num_threads(n_threads)
        torch.use_deterministic_algorithms(mode=True, warn_only=True)
        fill.fill_uninitialized_memory = False  # it would write every buffer twice
        torch.backends.cudnn.benchmark = False
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(mode)
        fill.fill_uninitialized_memory = is_filled
        torch.backends.cudnn.benchmark = benchmark


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw dropout from a seed within the block; the random state outside is left as it was."""
    is_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if is_gpu else []):
        torch.default_generator.manual_seed(seed)
        if is_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


@contextmanager
def memory_explained(device: torch.device) -> Iterator[None]:
    """Turn an exhausted memory within the block into a RoundError that says what helps (R21)."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        what = f"memory of {device}"
        want = "room for one step of training"
        fix = (
            "lower train.batch_size, data.prepare.size or model.width, or set train.precision=bf16"
        )
        raise RoundError("R21", what, found="none left", want=want, fix=fix) from error
