"""Settings of a simulation: what is compared, and on what machinery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedmri.errors import require
from fedmri.strategies.settings import StrategyConfig

Arm = Literal["federated", "local", "pooled"]


@dataclass(frozen=True)
class SimulationConfig:
    """What is compared, and on what machinery; nothing here changes the bits of a result.

    Attributes:
        arms: ``federated``; ``local``, each site alone; ``pooled``, all data in one place. The
            baseline that looks at no image always stands beside them.
        strategies: Strategies that are compared under the plan's budget, each an arm of its own;
            empty trains the plan's strategy alone. ``loso`` always uses the plan's.
        protocol: ``sites`` tests every model at every site; ``loso`` also leaves each site out in
            turn, trains on the others and tests on it.
        n_seeds: Repetitions with other training seeds on the same split.
        external: Folder of a data set that takes no part and is tested on.
        is_rest_external: Whether sites beyond the N largest are tested on rather than left out.
        workers: Processes that train sites; 1 trains in this process, 0 takes all cores.
        backend: ``local`` processes, or a ``ray`` cluster (needs ``pip install 'fedmri[ray]'``).
        cache: Folder of prepared scans; ``""`` is ``~/.cache/fedmri``.
        runs: Folder that run folders are made in.
        n_pictures: Example pictures by site in the report.
    """

    arms: tuple[Arm, ...] = ("federated", "local", "pooled")
    strategies: tuple[StrategyConfig, ...] = ()
    protocol: Literal["sites", "loso"] = "sites"
    n_seeds: int = 1
    external: str = ""
    is_rest_external: bool = False
    workers: int = 0
    backend: Literal["local", "ray"] = "local"
    cache: str = ""
    runs: str = "runs"
    n_pictures: int = 2

    def __post_init__(self) -> None:
        require(bool(self.arms), "simulation.arms", self.arms, "one or more arms")
        names = [strategy.name for strategy in self.strategies]
        is_unique = len(set(names)) == len(names)
        require(is_unique, "simulation.strategies", ", ".join(names), "each strategy once")
        require(self.n_seeds >= 1, "simulation.n_seeds", self.n_seeds, "1 or more")
        require(self.workers >= 0, "simulation.workers", self.workers, "0 or more")
        require(self.n_pictures >= 0, "simulation.n_pictures", self.n_pictures, "0 or more")
