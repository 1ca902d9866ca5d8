"""Discrete-time survival: hazards of intervals, their likelihood, and the curve that they make."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from fedmri.tasks.task import MOST_LOSS, Array

LEAST = math.exp(-MOST_LOSS)
"""Probability below which none is counted, so that no patient decides a mean."""


def passed(
    times: torch.Tensor, is_event: torch.Tensor, cuts: Sequence[float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which intervals a patient came through, and in which one the event was.

    A patient whose time was cut off came through an interval if half of it was seen.

    Args:
        times: Shape ``(B,)``.
        is_event: Shape ``(B,)``, bool.
        cuts: Ends of the intervals, ascending; the first begins at 0.

    Returns:
        Two masks of shape ``(B, J)``, bool. In an interval that neither marks, nothing is known.
    """
    ends = torch.tensor(cuts, dtype=times.dtype, device=times.device)
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    seen, event = times[:, None], is_event[:, None]
    is_through = torch.where(event, seen >= ends, seen >= (starts + ends) / 2)
    return is_through, event & (seen >= starts) & (seen < ends)


def hazard_loss(logits: torch.Tensor, target: torch.Tensor, cuts: Sequence[float]) -> torch.Tensor:
    """Return the mean negative log-likelihood of patients, in nats; each adds a part of its own.

    Args:
        logits: Of the hazard of each interval, shape ``(B, J)``.
        target: Time, and 1 for an event or 0, shape ``(B, 2)``.
        cuts: Ends of the intervals.

    Source:
        Gensheimer and Narasimhan 2019, doi:10.7717/peerj.6257.
    """
    is_through, is_here = passed(target[:, 0], target[:, 1] > 0.5, cuts)  # 0 or 1
    each = torch.where(is_through, functional.softplus(logits), 0.0)
    each = each + torch.where(is_here, functional.softplus(-logits), 0.0)
    return each.sum(1).mean()


def curve(hazards: Array) -> Array:
    """Return the probability to come through each interval and all before, shape ``(…, J)``."""
    return np.asarray((1 - hazards).cumprod(axis=-1), np.float64)


def expected_time(survival: Sequence[float], cuts: Sequence[float]) -> float:
    """Return the expected time without the event up to the last cut; straight between cuts."""
    heights = np.array([1.0, *survival])
    widths = np.diff([0.0, *cuts])
    return float(((heights[:-1] + heights[1:]) / 2) @ widths)


def negative_log_likelihood(
    survival: Sequence[float], time: float, cuts: Sequence[float], *, is_event: bool
) -> float:
    """Return what a patient adds to the loss, from a curve; NaN where the time is not known."""
    if math.isnan(time):
        return math.nan
    one = torch.tensor([time], dtype=torch.float64)
    through, here = passed(one, torch.tensor([is_event]), cuts)
    heights = [1.0, *survival]
    n_through = int(through.sum())
    if bool(here.any()):
        return -math.log(max(heights[n_through] - heights[n_through + 1], LEAST))
    return -math.log(max(heights[n_through], LEAST))


def life_table(truths: Array, cuts: Sequence[float]) -> Array:
    """Return the hazards of patients together, shape ``(J,)``: events over those at risk."""
    times, events = torch.from_numpy(truths[:, 0]), torch.from_numpy(truths[:, 1] == 1)
    through, here = (mask.numpy().sum(axis=0) for mask in passed(times, events, cuts))
    return np.asarray(here / np.maximum(through + here, 1), np.float64)
