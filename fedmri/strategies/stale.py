"""An update that comes rounds after its model was sent: its change, less the later it comes.

Nguyen, Malik, Zhan, Yousefpour, Rabbat, Malek and Huba 2022, Federated learning with buffered
asynchronous aggregation (FedBuff), arXiv:2106.06639.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from fedmri.round import Update, Weights

if TYPE_CHECKING:
    import torch


def staleness_weight(n_late: int, power: float) -> float:
    """Return what the change of an update that is some rounds late is multiplied by.

    It is ``(1 + n_late) ** -power``: 1 where it is in time, and FedBuff's for a power of 0.5.
    """
    return float((1 + n_late) ** -power)


def carried_over(
    update: Update, sent: Weights, now: Weights, parameters: frozenset[str], weight: float
) -> Update:
    """Return an update as if it had been trained from the model of now.

    A parameter is moved from where it is by the share ``weight`` of its change since it was sent.
    Other floating entries go that share of the way to the site's value: a variance stays positive.
    Integers are the site's.

    Args:
        update: What a site trained from ``sent``.
        sent: Entries that were sent to it, rounds ago.
        now: The same entries of the model that is aggregated now; not changed.
        parameters: Names of the trainable parameters.
        weight: Share of the change that counts, above 0, up to 1.
    """

    def carried(name: str, value: torch.Tensor) -> torch.Tensor:
        if not value.is_floating_point():
            return value
        if name in parameters:
            return now[name] + weight * (value - sent[name])
        return now[name].lerp(value, weight)

    weights: Mapping[str, torch.Tensor] = update.weights
    return replace(update, weights={name: carried(name, v) for name, v in weights.items()})
