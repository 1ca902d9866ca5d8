"""Learning rate and momentum as pure functions of the global step: no round restarts them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fedmri.training.settings import TrainConfig

CYCLE_FLOOR = 0.1
"""Lowest rate of ``cyclic``, as a share of the highest."""
MOMENTUM_FLOOR = 8 / 9
"""Lowest momentum of ``cyclic``, as a share of the highest: 0.8 below 0.9."""
PLATEAU_FACTOR = 0.5


def learning_rate(config: TrainConfig, step: int, n_steps_total: int) -> tuple[float, float]:
    """Return the rate and the momentum of a step.

    The first ``warmup`` share of all steps rises evenly to the rate. ``cosine`` then falls to 0,
    ``cyclic`` moves between a tenth of the rate and the rate, its momentum the other way round.
    ``plateau`` is constant here; multiply it by ``plateau_factor``.

    Args:
        config: Schedule and its peak.
        step: Global step, from 0: steps of all rounds so far, as this site counts them.
        n_steps_total: Steps of the whole experiment.

    Source:
        Loshchilov and Hutter 2017, SGDR, arXiv:1608.03983. Smith 2017, Cyclical learning rates,
        arXiv:1506.01186. Mortazi, Cicek, Keles and Bagci 2023, doi:10.3389/fradi.2023.1175473.
    """
    n_warmup = round(config.warmup * n_steps_total)
    if step < n_warmup:
        return config.lr * (step + 1) / n_warmup, config.momentum
    if config.schedule == "cosine":
        share = (step - n_warmup) / max(1, n_steps_total - n_warmup)
        return config.lr * (1 + math.cos(math.pi * min(1.0, share))) / 2, config.momentum
    if config.schedule == "cyclic":
        return _cyclic(config, step - n_warmup)
    return config.lr, config.momentum


def plateau_factor(losses: Sequence[float], patience: int) -> float:
    """Return the factor of the rate after a history of training losses, one for each round.

    It is halved whenever ``patience`` rounds in a row have not brought a new lowest loss; a loss
    that is not finite never is one.
    """
    lowest, n_waited, factor = math.inf, 0, 1.0
    for loss in losses:
        if loss < lowest:
            lowest, n_waited = loss, 0
        else:
            n_waited += 1
        if n_waited == patience:
            factor, n_waited = factor * PLATEAU_FACTOR, 0
    return factor


def _cyclic(config: TrainConfig, step: int) -> tuple[float, float]:
    phase = (step % config.cycle_steps) / config.cycle_steps
    height = 1 - abs(2 * phase - 1)
    rate = config.lr * (CYCLE_FLOOR + (1 - CYCLE_FLOOR) * height)
    momentum = config.momentum * (1 - (1 - MOMENTUM_FLOOR) * height)
    return rate, momentum
