"""FedAvg: the weighted mean of the sites' models.

McMahan, Moore, Ramage, Hampson and Agüera y Arcas 2017, Communication-efficient learning of deep
networks from decentralized data, arXiv:1602.05629.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from fedmri.claims import Claim, Claims
from fedmri.errors import require
from fedmri.round import (
    ExtraForms,
    Layout,
    Phase,
    ServerState,
    SiteMemory,
    SiteRound,
    Trained,
    Update,
    Weights,
)
from fedmri.strategies.mean import WEIGHTINGS, Weighting, step_to, weighted_mean

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class FedAvg:
    """Mean of the sites' models. The other strategies are written as what they change of it.

    Attributes:
        weighting: Weight of a site: its training examples, its patients, the square root of its
            examples, or the same for all.
        server_lr: Step of the server along the mean change of the sites' parameters; 1 takes the
            mean.
    """

    weighting: Weighting = "examples"
    server_lr: float = 1.0

    claims: ClassVar[Claims] = frozenset(
        {
            Claim.SUM_IS_ENOUGH,
            Claim.MODEL_ALONE,
            Claim.BLIND_TO_PATIENTS,
            Claim.ONE_MODEL,
            Claim.LATE_IS_FINE,
        }
    )
    source: ClassVar[str] = "McMahan et al. 2017, arXiv:1602.05629"
    consent: ClassVar[str] = "the server averages the models of all hospitals"

    def __post_init__(self) -> None:
        known = ", ".join(WEIGHTINGS)
        require(self.weighting in WEIGHTINGS, "strategy.weighting", self.weighting, known)
        require(self.server_lr > 0, "strategy.server_lr", self.server_lr, "a positive number")

    def weigh(self, update: Update) -> float:
        """Return the weight of a site's update."""
        return WEIGHTINGS[self.weighting](update)

    def local_names(self, layout: Layout) -> frozenset[str]:
        """Return nothing: the whole model is shared."""
        return frozenset()

    def phases(self, before: SiteRound) -> tuple[Phase, ...]:
        """Return one: sites follow their own gradients."""
        return (Phase(),)

    def remember(self, before: SiteRound, trained: Mapping[str, Trained]) -> SiteMemory:
        """Return nothing: a site is as it was."""
        return SiteMemory()

    def own_model(self, memory: Mapping[str, Weights]) -> Weights:
        """Return nothing: the global model is everybody's."""
        return {}

    def extra_forms(self, shared: Mapping[str, torch.Tensor], layout: Layout) -> ExtraForms:
        """Declare nothing beside the update."""
        return {}

    def start(self, model: Weights, layout: Layout) -> ServerState:
        """Return the state before the first round: the initial model."""
        return ServerState(model, layout)

    def broadcast(self, state: ServerState) -> Mapping[str, Weights]:
        """Return nothing beside the model."""
        return {}

    def turns(self, sites: tuple[str, ...], round_index: int) -> tuple[tuple[str, ...], ...]:
        """Return one turn: all sites train side by side."""
        return (sites,)

    def aggregate(self, state: ServerState, updates: Iterable[Update], out: Weights) -> ServerState:
        """Return the state with the next model in ``out``; see ``Strategy.aggregate``."""
        mean = weighted_mean(state.model, updates, self.weigh, out)
        step_to(mean, state, self.server_lr)
        return replace(state, model=mean)
