"""How the image of a scan looks, in a few numbers that no network makes: contrast, noise, blur."""

from __future__ import annotations

import numpy as np
import torch

SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
"""Quantiles of the head: what a contrast and a shading change."""
_LEAST = 1e-3
"""Added to differences of intensities, where the head's have a standard deviation of about 1."""


def look_of(images: torch.Tensor) -> torch.Tensor:
    """Return numbers of a scan's examples, the mean over them, in float64.

    Each channel has quantiles of its intensities, and the share of the image that is no air. Along
    each axis come logarithms of first and second differences of neighbours, as mean and median.
    Noise makes them large, and blur or a coarse grid makes them small along its axis.

    Args:
        images: Prepared examples, shape ``(N, C, *shape)``.

    Source:
        Frolova et al. 2022, arXiv:2212.06506 (intensities alone tell other 3D scans from known
        ones); the differences of neighbours are ours.
    """
    each = [torch.cat([_of_channel(channel) for channel in one]) for one in images.double().cpu()]
    return torch.stack(each).mean(0)


def _of_channel(image: torch.Tensor) -> torch.Tensor:
    is_head = image != image.flatten().mode().values  # air is one value after preparation
    if not bool(is_head.any()):
        return torch.zeros(len(SHARES) + 1 + 4 * image.ndim, dtype=image.dtype)
    levels = torch.from_numpy(np.quantile(image[is_head].numpy(), SHARES))  # torch's has a limit
    share = is_head.double().mean()[None]
    return torch.cat([levels, share, *(_differences(image, is_head, a) for a in range(image.ndim))])


def _differences(image: torch.Tensor, is_head: torch.Tensor, axis: int) -> torch.Tensor:
    """Return four numbers of neighbours along an axis, all of them in the head."""
    found, along, inside = [], image.movedim(axis, 0), is_head.movedim(axis, 0)
    for order in (1, 2):
        end = len(along) - order
        are_head = torch.stack([inside[i : max(end, 0) + i] for i in range(order + 1)]).all(0)
        sizes = along.diff(n=order, dim=0).abs()[are_head]
        both = (sizes.mean(), sizes.median()) if len(sizes) else (image.new_zeros(()),) * 2
        found += [(value + _LEAST).log() for value in both]
    return torch.stack(found)
