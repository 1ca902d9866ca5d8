"""Parts with the settings that they have, for tests that go over all of them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from fedmri.errors import ConfigError
from fedmri.models.model import Model
from fedmri.models.registry import MODELS
from fedmri.parts import NAME, Registry
from fedmri.round import Strategy
from fedmri.strategies.registry import STRATEGIES

WIDTHS = (8, 12, 16, 32, 64)
"""Widths to try, the least first: heads of transformers want one that they can share."""


def model(name: str, **settings: object) -> Model:
    """Return a model; a setting that it does not have is left out."""
    found: Model = _made(MODELS, name, settings)
    return found


def narrow(name: str, **settings: object) -> Model:
    """Return a model of few channels: with the least width that it takes."""
    for width in WIDTHS:
        with suppress(ConfigError):
            return model(name, **{"width": width, **settings})
    return model(name, **settings)


def strategy(name: str, **settings: object) -> Strategy:
    """Return a strategy; a setting that it does not have is left out."""
    found: Strategy = _made(STRATEGIES, name, settings)
    return found


def _made(registry: Registry[Any], name: str, settings: dict[str, object]) -> Any:
    known = registry.settings(name)
    return registry.made({NAME: name, **{k: v for k, v in settings.items() if k in known}})
