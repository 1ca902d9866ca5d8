"""Strategies by name, one line each."""

from __future__ import annotations

from collections.abc import Callable

from fedmri.errors import require
from fedmri.round import Strategy
from fedmri.strategies.fedavg import FedAvg
from fedmri.strategies.fedbn import FedBN, SiloBN
from fedmri.strategies.fedprox import FedProx
from fedmri.strategies.settings import StrategyConfig

STRATEGIES: dict[str, Callable[[StrategyConfig], Strategy]] = {
    "fedavg": lambda config: FedAvg(config.weighting, config.server_lr),
    "fedprox": lambda config: FedProx(config.weighting, config.server_lr, config.mu),
    "fedbn": lambda config: FedBN(config.weighting, config.server_lr),
    "silobn": lambda config: SiloBN(config.weighting, config.server_lr),
}


def make_strategy(config: StrategyConfig) -> Strategy:
    """Return the strategy of a name; raise ConfigError C01 where there is none."""
    names = ", ".join(STRATEGIES)
    require(config.name in STRATEGIES, "strategy.name", config.name, f"one of {names}")
    return STRATEGIES[config.name](config)
