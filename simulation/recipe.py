"""A ready grid of the levers that decide most about a federation, within one budget of steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fedmri.errors import require

if TYPE_CHECKING:
    from fedmri.plan import Plan

SHORT, LONG = 12, 60
"""Steps of a short and of a long round; the one divides the other."""

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Recipe:
    """What is tried, in the order of what is known to help most.

    Every trial takes each site as many steps, and every arm has as many trials: federated, pooled
    and each hospital alone. Validation patients choose for each arm.

    Attributes:
        kind: ``auto`` tries them in a simulation, which then ends with what was chosen. ``none``
            trains the settings as they are. A file of a study tries them by having the section.
        n_steps: Steps of a site in a training, in place of ``rounds.n_rounds``.
        n_trials: How many of the settings are tried.
    """

    kind: Literal["none", "auto"] = "none"
    n_steps: int = 240
    n_trials: int = 6

    @property
    def is_on(self) -> bool:
        """Whether a simulation tries them."""
        return self.kind == "auto"

    def __post_init__(self) -> None:
        is_whole = self.n_steps > 0 and self.n_steps % LONG == 0
        require(is_whole, "recipe.n_steps", self.n_steps, f"a multiple of {LONG}")
        require(2 <= self.n_trials <= 8, "recipe.n_trials", self.n_trials, "2 to 8")

    def variants(self, plan: Plan) -> tuple[Values, ...]:
        """Return the settings of each trial, beside those of a plan.

        Source:
            Rates of sites above the pooled one: FeTS 2022, doi:10.1038/s41467-025-60466-1. Averages
            of the last models: Zhou et al. 2023, arXiv:2305.07845. Averaged second moments: Liu et
            al. 2025, arXiv:2510.27486.
        """
        short = {**self._rounds(SHORT), "train.is_optimizer_kept": True}
        lr = plan.train.lr
        tried: list[Values] = [
            self._rounds(LONG),
            short,
            {**short, "train.lr": 2 * lr},
            {**short, "strategy": "ima"},
            {**short, "train.lr": lr / 2},
            {**short, "train.lr": 2 * lr, "strategy": "ima"},
        ]
        if plan.train.optimizer in ("adam", "adamw"):
            tried.append({**short, "strategy": "fedadamw"})
        if norm := getattr(plan.model, "norm", ""):
            tried.append({**short, "model.norm": "instance" if norm == "group" else "group"})
        return tuple(tried[: self.n_trials])

    def _rounds(self, n_steps: int) -> Values:
        """Return rounds of some steps, as many as the budget has, scored after the last."""
        n_rounds = self.n_steps // n_steps
        return {
            "train.local_steps": n_steps,
            "rounds.n_rounds": n_rounds,
            "rounds.evaluate_every": n_rounds,
        }
