"""Strategies by name, one line each."""

from __future__ import annotations

from collections.abc import Callable

from fedmri.errors import require
from fedmri.round import Strategy
from fedmri.strategies.cyclic import Cyclic
from fedmri.strategies.fedavg import FedAvg
from fedmri.strategies.fedbn import FedBN, SiloBN
from fedmri.strategies.feddyn import FedDyn
from fedmri.strategies.fednova import FedNova
from fedmri.strategies.fedopt import FedAdagrad, FedAdam, FedAvgM, FedYogi
from fedmri.strategies.fedprox import FedProx
from fedmri.strategies.lgfedavg import LGFedAvg
from fedmri.strategies.moon import Moon
from fedmri.strategies.personal import Ditto, FedPer, FedRep
from fedmri.strategies.robust import GeometricMedian, Krum, Median, NormBound, TrimmedMean
from fedmri.strategies.scaffold import Scaffold
from fedmri.strategies.settings import StrategyConfig

_Make = Callable[[StrategyConfig, float], Strategy]

STRATEGIES: dict[str, _Make] = {
    "fedavg": lambda c, _: FedAvg(c.weighting, c.server_lr),
    "fedprox": lambda c, _: FedProx(c.weighting, c.server_lr, c.mu),
    "fedbn": lambda c, _: FedBN(c.weighting, c.server_lr),
    "silobn": lambda c, _: SiloBN(c.weighting, c.server_lr),
    "fedavgm": lambda c, _: FedAvgM(c.weighting, c.server_lr, c.beta),
    "fedadam": lambda c, _: FedAdam(c.weighting, c.server_lr, c.beta, c.beta2, c.tau),
    "fedyogi": lambda c, _: FedYogi(c.weighting, c.server_lr, c.beta, c.beta2, c.tau),
    "fedadagrad": lambda c, _: FedAdagrad(c.weighting, c.server_lr, tau=c.tau),
    "scaffold": lambda c, _: Scaffold(c.weighting, c.server_lr),
    "feddyn": lambda c, _: FedDyn(c.weighting, c.server_lr, c.mu),
    "fednova": lambda c, momentum: FedNova(c.weighting, c.server_lr, c.mu, momentum),
    "moon": lambda c, _: Moon(c.weighting, c.server_lr, c.mu, c.temperature),
    "ditto": lambda c, _: Ditto(c.weighting, c.server_lr, c.mu),
    "fedper": lambda c, _: FedPer(c.weighting, c.server_lr),
    "fedrep": lambda c, _: FedRep(c.weighting, c.server_lr, c.head_share),
    "lgfedavg": lambda c, _: LGFedAvg(c.weighting, c.server_lr),
    "cyclic": lambda c, _: Cyclic(c.weighting, c.server_lr),
    "median": lambda c, _: Median(c.weighting, c.server_lr),
    "trimmed_mean": lambda c, _: TrimmedMean(c.weighting, c.server_lr, c.n_outliers),
    "geometric_median": lambda c, _: GeometricMedian(c.weighting, c.server_lr),
    "krum": lambda c, _: Krum(c.weighting, c.server_lr, c.n_outliers),
    "norm_bound": lambda c, _: NormBound(c.weighting, c.server_lr, c.max_change),
}
"""By name, of the settings and the momentum of the sites' SGD."""


def make_strategy(config: StrategyConfig, momentum: float = 0.0) -> Strategy:
    """Return the strategy of a name.

    Args:
        config: Its name and numbers.
        momentum: Momentum of the sites' SGD, 0 under other optimizers.

    Raises:
        ConfigError: There is none of the name (C01).
    """
    names = ", ".join(STRATEGIES)
    require(config.name in STRATEGIES, "strategy.name", config.name, f"one of {names}")
    return STRATEGIES[config.name](config, momentum)
