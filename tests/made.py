"""Parts with the settings that they have, for tests that go over all of them."""

from __future__ import annotations

from typing import Any

from fedmri.models.model import Model
from fedmri.models.registry import MODELS
from fedmri.parts import NAME, Registry
from fedmri.round import Strategy
from fedmri.strategies.registry import STRATEGIES

WIDTH = {"vit": 64, "swin_unetr": 12}
"""Least widths of models that cannot have one of 8."""


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
    """Return a model of few channels."""
    return model(name, **{"width": WIDTH.get(name, 8), **settings})


def strategy(name: str, **settings: object) -> Strategy:
    """Return a strategy; a setting that it does not have is left out."""
    found: Strategy = _made(STRATEGIES, name, settings)
    return found


def _made(registry: Registry[Any], name: str, settings: dict[str, object]) -> Any:
    known = registry.settings(name)
    return registry.made({NAME: name, **{k: v for k, v in settings.items() if k in known}})
