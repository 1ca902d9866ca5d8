"""The weighted mean of updates, streamed: the arithmetic that most strategies share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Literal

from fedmri.errors import RoundError
from fedmri.round import ServerState, Update, Weights

if TYPE_CHECKING:
    import torch

Weighting = Literal["examples", "subjects", "square_root", "uniform"]

WEIGHTINGS: dict[Weighting, Callable[[Update], float]] = {
    "examples": lambda update: float(update.n_examples),
    "subjects": lambda update: float(update.n_subjects),
    "square_root": lambda update: math.sqrt(update.n_examples),
    "uniform": lambda update: float(update.n_examples > 0),
}
"""Weight of a site by name; a site that trained on no example always weighs nothing."""


def weighted_mean(
    model: Weights, updates: Iterable[Update], weigh: Callable[[Update], float], out: Weights
) -> Weights:
    """Write the sites' weighted mean to ``out``, holding one update at a time.

    Floating entries are averaged in the order of sites, so that the bits do not depend on arrival.
    Integer entries (the batch count of batch norm) cannot be averaged: the largest is taken.
    Entries that no site shares keep the model's value.

    Args:
        model: Model before the round.
        updates: Updates in ascending order of site.
        weigh: Weight of an update, 0 or more.
        out: Buffers of the model's names and shapes; overwritten.

    Returns:
        ``out``.

    Raises:
        RoundError: All weights are zero (R02), or sites do not ascend (R07).
    """
    total, sites, shared = 0.0, list[str](), set[str]()
    for update in in_site_order(updates):
        sites.append(update.site)
        weight = weigh(update)
        if weight > 0:
            _accumulate(out, update.weights, weight, is_first=total == 0)
            total += weight
            shared.update(update.weights)
        del update  # before the next is taken: one update is held at a time
    if total == 0:
        raise nobody_trained(sites)
    for name, mean in out.items():
        if name not in shared:
            mean.copy_(model[name])
        elif mean.is_floating_point():
            mean.div_(total)
    return out


def nobody_trained(sites: list[str]) -> RoundError:
    """Return the error of a round in which no site had an example."""
    found = f"no examples at {', '.join(sites)}" if sites else "no update"
    fix = "see why the sites were left out in the run's log and in its manifest"
    want = "one site that trained"
    return RoundError("R02", "no site trained on any example", found=found, want=want, fix=fix)


def in_site_order(updates: Iterable[Update]) -> Iterable[Update]:
    """Yield the updates; raise RoundError R07 where sites do not ascend.

    Float sums depend on their order, so a strategy that saw arrival order would not be repeatable.
    """
    last: str | None = None
    for update in updates:
        if last is not None and update.site <= last:
            found = f"{update.site} after {last}"
            fix = "sort the updates by site"
            want = "ascending sites"
            raise RoundError("R07", "updates out of order", found=found, want=want, fix=fix)
        last = update.site
        yield update
        del update


def _accumulate(
    out: Weights, weights: Mapping[str, torch.Tensor], weight: float, *, is_first: bool
) -> None:
    import torch  # here, so that the settings of a plan are read without it

    for name, value in weights.items():
        total = out[name]
        if not value.is_floating_point():
            torch.maximum(value if is_first else total, value, out=total)
        elif is_first:
            torch.mul(value, weight, out=total)
        else:
            total.add_(value, alpha=weight)


def step_to(mean: Weights, state: ServerState, server_lr: float) -> None:
    """Take in place the share of the way to the mean; statistics of batch norm stay the mean.

    A step beyond the mean could make a running variance negative.
    """
    if server_lr != 1:
        for name in sorted(state.layout.parameters & mean.keys()):
            mean[name].copy_(state.model[name].lerp(mean[name], server_lr))
