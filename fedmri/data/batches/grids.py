"""Where the voxels of changed images are taken from: one grid for a whole batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from fedmri.data.batches.drawing import N_CONTROLS, Drawn

DEGREES = 10.0
SCALES = 0.1
SHIFT = 0.05
"""Largest shift, as a share of the field of view."""
BEND = 0.03
"""Largest way of a control point, as a share of the field of view."""


def grids(
    drawn: Sequence[Drawn],
    spacings_mm: Sequence[Sequence[float]],
    shape: Sequence[int],
    device: torch.device,
) -> torch.Tensor:
    """Return the grid that ``grid_sample`` takes, shape ``(B, *shape, n)``.

    Args:
        drawn: What happens to each example.
        spacings_mm: Voxel sizes of each, in the order of the axes; the last ones count.
        shape: Spatial shape of all of them.
        device: Where the grid is made.
    """
    n_axes = len(shape)
    matrices = [
        _matrix(one, np.array(spacing[-n_axes:]) * [max(n - 1, 1) / 2 for n in shape])
        for one, spacing in zip(drawn, spacings_mm, strict=True)
    ]
    # PyTorch counts axes from the last to the first
    theta = torch.tensor(np.stack(matrices)[:, ::-1].copy(), dtype=torch.float32)
    theta = torch.cat([theta[:, :, :-1].flip(2), theta[:, :, -1:]], 2).to(device)
    grid = torch.nn.functional.affine_grid(theta, [len(drawn), 1, *shape], align_corners=True)
    if bent := [row for row, one in enumerate(drawn) if "elastic" in one.happens]:
        controls = torch.tensor(np.stack([drawn[row].bend for row in bent]) * 2 * BEND).to(device)
        ways = separable(controls.flatten(0, 1), [_splines(n).to(device) for n in shape])
        ways = ways.view(len(bent), n_axes, *shape).flip(1).movedim(1, -1)
        grid[bent] += ways
    return grid


def _matrix(drawn: Drawn, half_mm: np.ndarray) -> np.ndarray:
    """Return from where in an image each place is taken, in halves of it; shape ``(n, n + 1)``."""
    n_axes = len(half_mm)
    found = np.eye(n_axes, n_axes + 1)
    if "affine" not in drawn.happens:
        return found
    turned = np.eye(n_axes)
    planes = [(0, 1)] if n_axes == 2 else [(1, 2), (0, 2), (0, 1)]
    for (one, other), share in zip(planes, drawn.turn.tolist(), strict=False):
        angle = math.radians(DEGREES * share)
        plane = np.eye(n_axes)
        plane[one, one] = plane[other, other] = math.cos(angle)
        plane[one, other], plane[other, one] = -math.sin(angle), math.sin(angle)
        turned = turned @ plane
    scaled = turned / (1 + SCALES * drawn.scale)
    found[:, :-1] = scaled * half_mm[None] / half_mm[:, None]
    found[:, -1] = 2 * SHIFT * drawn.shift
    return found


def separable(factors: torch.Tensor, bases: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return sums of products of functions of one axis each.

    Args:
        factors: Of each product, shape ``(B, K, K, …)``.
        bases: Functions along each axis, shapes ``(K, n)``.

    Returns:
        Shape ``(B, n, m, …)``.
    """
    for basis in bases:
        factors = torch.tensordot(factors, basis, dims=([1], [0]))  # the axis goes to the end
    return factors


def legendre(n_voxels: int, n_degrees: int) -> torch.Tensor:
    """Return Legendre polynomials from one end of an axis to the other, ``(n_degrees, n)``."""
    at = np.linspace(-1, 1, n_voxels)
    return torch.tensor(np.polynomial.legendre.legvander(at, n_degrees - 1).T, dtype=torch.float32)


def _splines(n_voxels: int) -> torch.Tensor:
    """Return the cubic B-spline of each control point along an axis, shape ``(7, n)``."""
    at = np.linspace(1, N_CONTROLS - 2, n_voxels)
    far = abs(at - np.arange(N_CONTROLS)[:, None])
    near = 2 / 3 - far**2 + far**3 / 2
    values = np.where(far < 1, near, np.clip(2 - far, 0, None) ** 3 / 6)
    return torch.tensor(values, dtype=torch.float32)
