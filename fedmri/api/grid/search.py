"""Values of settings that Optuna proposes, from the scores of validation patients alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict

from fedmri.errors import require
from fedmri.machine.extras import require_packages

if TYPE_CHECKING:
    import optuna

N_RANDOM = 5
"""Trials before the first that follows scores."""


@dataclass(frozen=True)
class Span:
    """Numbers from ``low`` to ``high``; whole ones where both ends are whole.

    Attributes:
        low: Least value.
        high: Largest value.
        is_log: Whether equal ratios are as likely, and not equal differences.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    low: int | float
    high: int | float
    is_log: bool = False

    def __post_init__(self) -> None:
        require(self.low < self.high, "tune.space", (self.low, self.high), "low below high")
        require(self.low > 0 or not self.is_log, "tune.space", self.low, "low above 0 for is_log")


@dataclass(frozen=True)
class Tune:
    """A search over settings.

    Attributes:
        space: By the dotted key of a setting: a list of choices, or the ends of a span.
        n_trials: Runs; each arm is tried with the same values.
        seed: Of the proposals.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    space: Mapping[str, list[Any] | Span]
    n_trials: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        require(bool(self.space), "tune.space", self.space, "one or more settings")
        for key, choices in self.space.items():
            require(choices != [], f"tune.space.{key}", choices, "one or more values")
        require(self.n_trials >= 1, "tune.n_trials", self.n_trials, "1 or more")


class Search:
    """Proposes values, trial after trial; the same scores give the same values again.

    Args:
        tune: What is searched.
        is_higher_better: Direction of the score.

    Raises:
        ConfigError: Optuna is not installed (C05).

    Source:
        Akiba et al. 2019, doi:10.1145/3292500.3330701 (Optuna); Bergstra et al. 2011, NeurIPS
        (tree-structured Parzen estimators).
    """

    def __init__(self, tune: Tune, *, is_higher_better: bool) -> None:
        require_packages("tune", ["optuna"], "tune of a study")
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._tune, self._random = tune, optuna.samplers.RandomSampler(seed=tune.seed)
        self._study = optuna.create_study(
            direction="maximize" if is_higher_better else "minimize", sampler=self._random
        )
        self._trial: optuna.Trial | None = None

    def follow_scores(self) -> None:
        """Propose what did well from now on, after a few random trials."""
        from optuna.samplers import TPESampler

        if self._study.sampler is self._random:
            other = self._tune.seed + 1  # the same seed would draw the first trial again
            self._study.sampler = TPESampler(seed=other, n_startup_trials=N_RANDOM)

    def ask(self) -> dict[str, Any]:
        """Return the values of the next trial."""
        self._trial = trial = self._study.ask()
        return {key: _proposed(trial, key, one) for key, one in self._tune.space.items()}

    def tell(self, score: float) -> None:
        """Take in the score of the trial that was asked for last; NaN where it failed."""
        from optuna.trial import TrialState

        assert self._trial is not None
        if math.isfinite(score):
            self._study.tell(self._trial, score)
        else:
            self._study.tell(self._trial, state=TrialState.FAIL)


def _proposed(trial: optuna.Trial, key: str, one: list[Any] | Span) -> Any:
    if isinstance(one, list):
        return one[trial.suggest_categorical(key, range(len(one)))]
    if isinstance(one.low, int) and isinstance(one.high, int):
        return trial.suggest_int(key, one.low, one.high, log=one.is_log)
    return trial.suggest_float(key, one.low, one.high, log=one.is_log)
