"""What of an update leaves a site: bounded in its norm, or its largest entries alone.

**Neither is a guarantee.** What passes a filter is as exact as before: images have been rebuilt
from clipped and from sparse gradients, and which entries are large says something by itself. Only
noise of known size gives a bound; clipping is its first half.

Filters work on a change: trained weights less received ones. They are pure and deterministic, and
entries that are no floating-point numbers pass as they are.

Source:
    Shokri and Shmatikov 2015, Privacy-preserving deep learning, doi:10.1145/2810103.2813687
    (sharing the largest). That sparse and clipped gradients leak: Zhu, Liu and Han 2019,
    arXiv:1906.08935; Huang, Gupta, Song, Li and Arora 2021, arXiv:2112.00059.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch

from fedmri.errors import PrivacyError, require
from fedmri.plan import FilterConfig
from fedmri.round import Weights

INDEX, VALUE = "/index", "/value"
"""What follows an entry's name in its sparse form; no entry of a network has a slash."""


@dataclass(frozen=True)
class Filtered:
    """A change after the filters.

    Attributes:
        change: What may leave; entries that a filter leaves out are zero.
        norm: L2 norm of the floating-point entries before clipping.
        n_shared: Floating-point values that were let through.
    """

    change: Weights
    norm: float
    n_shared: int


def filtered(change: Weights, config: FilterConfig) -> Filtered:
    """Return a change after clipping and then leaving small entries out.

    Raises:
        PrivacyError: A value is not finite (P60).
    """
    size = change_norm(change)
    n = n_values(change)
    n_shared = math.ceil(n * (100 - config.percentile) / 100)
    kept = clipped(change, config.clip_norm) if config.clip_norm else change
    return Filtered(kept if n_shared == n else largest(kept, n_shared), size, n_shared)


def filtered_update(
    trained: Weights, received: Weights, parameters: Collection[str], config: FilterConfig
) -> Weights:
    """Return an update whose change of the parameters went through the filters.

    What the filters let through whole is ``trained`` itself, to the bit; a value that is left out
    is the received one. Statistics, counts and whatever else is no parameter pass as they are.

    Args:
        trained: Shared entries after training; not changed.
        received: The same entries before it.
        parameters: Names of trainable entries.
        config: The plan's filters.

    Raises:
        PrivacyError: A value is not finite (P60).
    """
    if not config.is_on:
        return trained
    names = sorted(trained.keys() & set(parameters))
    change = {name: trained[name] - received[name] for name in names}
    kept = filtered(change, config).change
    if kept is change:
        return trained
    return trained | {name: received[name] + value for name, value in kept.items()}


def n_values(change: Weights) -> int:
    """Return the number of floating-point values."""
    return sum(value.numel() for value in change.values() if value.is_floating_point())


def change_norm(change: Weights) -> float:
    """Return the L2 norm of all floating-point entries together.

    Raises:
        PrivacyError: It is not finite (P60).
    """
    floats = [change[name] for name in sorted(change) if change[name].is_floating_point()]
    size = math.hypot(*(float(torch.linalg.vector_norm(v, dtype=torch.float64)) for v in floats))
    if not math.isfinite(size):
        raise _unfiltered("NaN or infinity", "finite numbers")
    return size


def clipped(change: Weights, most: float) -> Weights:
    """Return the change scaled down to an L2 norm of ``most``, or itself where it is no larger.

    Args:
        change: Trained weights less received ones; integers pass as they are.
        most: Bound, above zero.

    Raises:
        PrivacyError: A value is not finite (P60).
    """
    require(most > 0, "filters.clip_norm", most, "above 0")
    size = change_norm(change)
    if size <= most:
        return change
    # a hair less, so that rounding never leaves the result above the bound
    slack = max(torch.finfo(v.dtype).eps for v in change.values() if v.is_floating_point())
    factor = most / size * (1 - slack)
    return {k: v * factor if v.is_floating_point() else v for k, v in change.items()}


def largest(change: Weights, n_kept: int) -> Weights:
    """Return the change with all but its largest values zero.

    Of values of the same magnitude, those of the first names, and in them the first in order, are
    kept: the same change gives the same result on every machine.

    Args:
        change: Trained weights less received ones; integers pass as they are.
        n_kept: Floating-point values to keep, over all entries together.

    Raises:
        PrivacyError: A value is not finite (P60).
    """
    n = n_values(change)
    require(0 <= n_kept <= n, "filters.n_kept", n_kept, f"0 to {n}")
    change_norm(change)
    names = [name for name in sorted(change) if change[name].is_floating_point()]
    if n_kept in (0, n):
        zeros = {name: torch.zeros_like(change[name]) for name in names}
        return change if n_kept == n else {**change, **zeros}
    sizes = torch.cat([change[name].flatten().abs().double() for name in names])
    # the k-th smallest is the smallest of those that are kept
    least = torch.kthvalue(sizes, n - n_kept + 1).values
    is_kept = sizes > least
    ties = (sizes == least).nonzero().flatten()
    is_kept[ties[: n_kept - int(is_kept.sum())]] = True
    parts = torch.split(is_kept, [change[name].numel() for name in names])
    masks = dict(zip(names, parts, strict=True))
    kept = {k: torch.where(m.view_as(change[k]), change[k], 0) for k, m in masks.items()}
    return {name: kept.get(name, value) for name, value in change.items()}


def to_sparse(change: Weights) -> Weights:
    """Return a change as the places and values of what is not zero in it.

    Returns:
        For each floating-point entry ``NAME/index``, int64 places in the flattened entry in
        ascending order, and ``NAME/value``; other entries as they are.
    """
    sparse: Weights = {}
    for name, value in change.items():
        if not value.is_floating_point():
            sparse[name] = value
            continue
        flat = value.flatten()
        places = flat.nonzero().flatten()
        sparse[name + INDEX], sparse[name + VALUE] = places, flat[places]
    return sparse


def from_sparse(sparse: Mapping[str, torch.Tensor], like: Weights) -> Weights:
    """Return the change that ``to_sparse`` took apart.

    Args:
        sparse: Places and values.
        like: Entries of the model, for names, shapes and types.

    Raises:
        PrivacyError: Names, types or places are not those of such a change (P60).
    """
    floats = {name for name, value in like.items() if value.is_floating_point()}
    wanted = {name + end for name in floats for end in (INDEX, VALUE)} | (like.keys() - floats)
    if sparse.keys() != wanted:
        odd = sorted(sparse.keys() ^ wanted)
        raise _unfiltered(f"{len(odd)} names that differ, such as {odd[0]!r}", "those of the model")
    change: Weights = {}
    for name, value in like.items():
        if name in floats:
            change[name] = _dense(name, sparse[name + INDEX], sparse[name + VALUE], value)
        elif sparse[name].shape == value.shape and sparse[name].dtype == value.dtype:
            change[name] = sparse[name]
        else:
            raise _unfiltered(f"{name} of another shape or type", "those of the model")
    return change


def _dense(
    name: str, places: torch.Tensor, values: torch.Tensor, like: torch.Tensor
) -> torch.Tensor:
    is_form = places.dtype == torch.int64 and values.dtype == like.dtype and places.dim() == 1
    if not is_form or places.shape != values.shape:
        raise _unfiltered(f"{name} in another form", "places and as many values")
    is_ascending = bool((places.diff() > 0).all())
    if len(places) and not (is_ascending and 0 <= int(places[0]) <= int(places[-1]) < like.numel()):
        raise _unfiltered(f"places of {name} out of order or range", "each place once, ascending")
    dense = torch.zeros(like.numel(), dtype=like.dtype)
    dense[places] = values
    return dense.view_as(like)


def _unfiltered(found: str, want: str) -> PrivacyError:
    fix = "lower train.lr where training diverges; run the same version of fedmri on all sides"
    return PrivacyError("P60", "change of a model", found=found, want=want, fix=fix)
