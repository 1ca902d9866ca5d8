"""Parts with the settings that they have, for tests that go over all of them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from _pytest.mark.structures import ParameterSet
from torch import nn

from fedmri.claims import Claim, Need, claims_of, needs_of
from fedmri.errors import ConfigError
from fedmri.models.build import build_network
from fedmri.models.model import Model
from fedmri.models.registry import MODELS, model_names
from fedmri.parts import NAME, Registry
from fedmri.round import Strategy
from fedmri.strategies.registry import STRATEGIES
from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.kinds.segmentation import Segmentation
from fedmri.tasks.task import Task

SIDES = (32, 16, 8)
LESION = Classification("lesion", ("none", "round", "ring"))
MASK = Segmentation("mask", ("tumour",))
WIDTHS = (8, 12, 16, 32, 64)
"""Widths to try, the least first: heads of transformers want one that they can share."""


N_COVARIATES = 5
"""Numbers of a patient for the networks that read some."""
N_VISITS = 2
"""Visits for the networks that go over some; channels are multiples of it."""

LARGE_FOLDERS = ("backbone", "hybrid")
N_QUICK = 2
"""Models of a folder of large ones that quick tests take; the contract suite takes all."""


def marked(name: str) -> tuple[pytest.MarkDecorator, ...]:
    """Return the mark of a model: slow, where others of its folder stand for it."""
    folder = MODELS.own[name].split(".")[-2]
    own = [other for other, module in MODELS.own.items() if f".{folder}." in module]
    is_slow = folder in LARGE_FOLDERS and own.index(name) >= N_QUICK
    return (pytest.mark.slow,) if is_slow else ()


def each(names: Iterable[str]) -> list[ParameterSet]:
    """Return models as parameters of a test."""
    return [pytest.param(name, marks=marked(name)) for name in names]


def n_dims_of(name: str) -> tuple[int, ...]:
    """Return the spatial dimensions that a model takes."""
    found: tuple[int, ...] = getattr(MODELS.load(name), "n_dims", (2, 3))
    return found


def few_slices(name: str, shape: tuple[int, ...], n_slices: int = 6) -> tuple[int, ...]:
    """Return a shape with few slices for a model that goes over each of them."""
    return (*shape[:-1], n_slices) if n_dims_of(name) == (3,) else shape


def model(name: str, **settings: object) -> Model:
    """Return a model; a setting that it does not have is left out."""
    found: Model = _made(MODELS, name, settings)
    return found


def narrow(name: str, **settings: object) -> Model:
    """Return a model of few layers and channels: with the least sizes that it takes."""
    least = {key: choices[0] for key, choices in _choices(name).items() if key != "norm"}
    for width in WIDTHS:
        with suppress(ConfigError):
            return model(name, **{"width": width, **least, **settings})
    return model(name, **settings)


def _choices(name: str) -> dict[str, tuple[object, ...]]:
    """Return the settings of a model that are one of a few values, which grow from the first."""
    hints = get_type_hints(MODELS.load(name))
    return {key: get_args(hint) for key, hint in hints.items() if get_origin(hint) is Literal}


def n_covariates_of(name: str) -> int:
    """Return the covariates that a network is built for here: none, unless it reads some."""
    return N_COVARIATES if Claim.READS_COVARIATES in claims_of(narrow(name)) else 0


def n_visits_of(name: str) -> int:
    """Return the visits that a network is built for here: one, unless it goes over several."""
    return N_VISITS if Need.VISITS in needs_of(narrow(name)) else 1


def beside(name: str) -> dict[str, int]:
    """Return what a network is built for beside its images."""
    return {"n_covariates": n_covariates_of(name), "n_visits": n_visits_of(name)}


def inputs_of(name: str, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return what a network is called with: images, and covariates where it reads some."""
    n = n_covariates_of(name)
    rows = torch.randn(len(images), max(1, n), generator=torch.Generator().manual_seed(11))
    return (images, rows.to(images)) if n else (images,)


def target_of(name: str) -> Task:
    """Return a target that a model can predict."""
    return MASK if name in model_names("voxel") else LESION


@cache
def least_shape(name: str, n_dims: int = 0) -> tuple[int, ...]:
    """Return the least image that goes through a narrow model; slices are not square.

    Without ``n_dims`` it is for the first kind of images that the model takes.
    """
    n_dims = n_dims or n_dims_of(name)[0]
    found: tuple[int, ...] = ()
    norm = "instance" if n_dims == 2 else "group"  # in slices the norm that wants most voxels
    for side in SIDES:
        shape = few_slices(name, (side, 2 * side) if n_dims == 2 else (side,) * n_dims)
        with suppress(ConfigError):
            built(name, norm, n_dims, shape=shape)
            found = shape
            continue
        if found:
            break  # a large network is built for two sizes, and not for every smaller one
    assert found, name
    return found


def built(  # noqa: PLR0913  # every one is named at the call
    name: str,
    norm: str = "group",
    n_dims: int = 0,
    *,
    shape: tuple[int, ...] = (),
    n_channels: int = 2,
    seed: int = 1,
) -> nn.Module:
    """Return the network of a narrow model, for its least images where no shape is given."""
    n_dims = n_dims or n_dims_of(name)[0]
    return build_network(
        narrow(name, norm=norm),
        target=target_of(name),
        n_dims=n_dims,
        n_channels=n_channels,
        shape=shape or least_shape(name, n_dims),
        seed=seed,
        **beside(name),
    )


shared = cache(built)
"""The same network for all tests of a process: whoever changes one takes a copy."""


def strategy(name: str, **settings: object) -> Strategy:
    """Return a strategy; a setting that it does not have is left out."""
    found: Strategy = _made(STRATEGIES, name, settings)
    return found


def _made(registry: Registry[Any], name: str, settings: dict[str, object]) -> Any:
    known = registry.settings(name)
    return registry.made({NAME: name, **{k: v for k, v in settings.items() if k in known}})
