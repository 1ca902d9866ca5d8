"""What each column of a patient's row adds to a score, beside the image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from fedmri.data.covariates import Covariate

MOST_COLUMNS = 10
"""All sets of columns are looked at: 1024 of them."""
MOST_ROWS, MOST_PASSES = 16, 2048
"""Of other patients; and rows that the network reads for one scan."""
_KERNEL_WIDTH = 0.75
"""Of the local model, in square roots of the number of columns: that of the ``lime`` package."""


@dataclass(frozen=True)
class Pull:
    """What a column adds to a score.

    Attributes:
        shapley: Its Shapley value; those of all columns sum to the difference of the score from
            the mean score with other patients' rows.
        lime: Its coefficient in a linear model of the score near the patient.
    """

    shapley: float
    lime: float


@contextmanager
def beside(row: torch.Tensor, *networks: nn.Module) -> Iterator[None]:
    """Let networks read a row, shape ``(K,)``, wherever they are called with images alone."""

    def with_row(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return given if len(given) > 1 else (*given, row.expand(len(given[0]), -1))

    with ExitStack() as hooks:
        for network in networks if len(row) else ():
            hooks.callback(network.register_forward_pre_hook(with_row).remove)
        yield


def pulls(
    score: Callable[[torch.Tensor], float],
    row: torch.Tensor,
    others: torch.Tensor,
    columns: Sequence[Covariate],
) -> dict[str, Pull]:
    """Return what each column of a row adds to a score.

    Args:
        score: Of a row, for the image of the patient.
        row: The patient's own, encoded, shape ``(K,)``.
        others: Rows of other patients, shape ``(n, K)``: they stand for a column that is not known.
        columns: What the K numbers are, in order; at most ten.

    Source:
        Lundberg and Lee 2017, arXiv:1705.07874 (Shapley values, here exact over all sets of
        columns); Ribeiro, Singh and Guestrin 2016, arXiv:1602.04938 (the local linear model).
    """
    owner = torch.repeat_interleave(torch.tensor([column.n_entries for column in columns]))
    n_sets = 2 ** len(columns)
    is_own = (torch.arange(n_sets)[:, None] >> torch.arange(len(columns))) % 2 == 1
    worth = np.array(
        [
            math.fsum(score(torch.where(own, row, other)) for other in others) / len(others)
            for own in is_own[:, owner].to(row.device)
        ]
    )
    found = zip(_shapley(worth, len(columns)), _local(worth, is_own.numpy()), strict=True)
    return {
        column.name: Pull(*map(float, pair)) for column, pair in zip(columns, found, strict=True)
    }


def _shapley(worth: np.ndarray, n: int) -> list[float]:
    """Return Shapley values from the worth of each set; bit i of its number says column i."""
    values = []
    for bit in (1 << i for i in range(n)):
        without = [number for number in range(len(worth)) if not number & bit]
        orders = [1 / (n * math.comb(n - 1, number.bit_count())) for number in without]
        gains = [worth[number | bit] - worth[number] for number in without]
        values.append(math.fsum(share * gain for share, gain in zip(orders, gains, strict=True)))
    return values


def _local(worth: np.ndarray, is_own: np.ndarray) -> np.ndarray:
    """Return the coefficients of least squares, sets near the patient's own row counting most."""
    n = is_own.shape[1]
    width_squared = _KERNEL_WIDTH**2 * n
    root = np.exp(-(~is_own).sum(1) / width_squared / 4)  # of a weight that is a root itself
    known = np.column_stack([np.ones(len(worth)), is_own])
    found, *_ = np.linalg.lstsq(root[:, None] * known, root * worth, rcond=None)
    return np.asarray(found[1:])


def some_of(rows: torch.Tensor, n_sets: int, n_examples: int, seed: int) -> torch.Tensor:
    """Return as many rows, drawn by the seed, as the number of passes allows."""
    n_rows = min(MOST_ROWS, max(1, MOST_PASSES // (n_sets * n_examples)))
    drawn = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    return rows[drawn[:n_rows]]
