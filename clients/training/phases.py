"""A site's training in a round: the phases of the strategy, one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace

from torch import nn

from fedmri.clients.training.site_state import SiteState
from fedmri.models.weights import frozen, hold_statistics, load_weights, weights
from fedmri.privacy.accounting import Steps
from fedmri.privacy.dp_sgd import PrivateSteps
from fedmri.round import LossTerm, Phase, SiteRound, Strategy, Trained
from fedmri.stages.stage import AtSite, Stage, Term, summed
from fedmri.tasks.task import Task
from fedmri.training.budget import shared_steps
from fedmri.training.local import TrainResult, n_round_steps, train_round
from fedmri.training.seeds import derive_seed
from fedmri.training.settings import TrainConfig

MAIN = Phase().name
"""The phase whose model is sent."""


@dataclass(frozen=True)
class PhaseResult:
    """What came of a phase of a round."""

    result: TrainResult
    trained: Trained

    def detached(self) -> PhaseResult:
        """Return it with weights of its own, which the next phase does not change."""
        copies = {name: value.clone() for name, value in self.trained.weights.items()}
        return replace(self, trained=replace(self.trained, weights=copies))


@dataclass(frozen=True)
class RoundTraining:
    """A round at a site, with the network loaded.

    Attributes:
        strategy: Rule whose phases are trained.
        task: What is learned.
        before: What the strategy's half goes by.
        state: What the site kept after its last round.
        seen: The site as each stage sees it, by the stage's name.
        stages: The stages of the plan, by name.
        order: Returns the digest of what the site was asked.
        still: Entries of the network that do not move in the round, whatever the phase.
    """

    strategy: Strategy
    task: Task
    before: SiteRound
    state: SiteState
    seen: Mapping[str, AtSite]
    stages: Mapping[str, Stage]
    order: Callable[[], str]
    still: frozenset[str] = frozenset()

    @property
    def at(self) -> AtSite:
        """The site; what a stage of its own has is no part of it."""
        return next(iter(self.seen.values()))

    def refuse_spending(self) -> None:
        """Refuse a round that would spend more privacy than is allowed (P31)."""
        steps = self.noised_steps()
        for name, stage in self.stages.items():
            stage.refuse_spending(self.seen[name], steps)

    @contextmanager
    def terms(self) -> Iterator[dict[str, Term]]:
        """Give what stages add to the loss, by their names, while the round is trained."""
        with ExitStack() as stack:
            found = {
                name: stack.enter_context(stage.training(self.seen[name]))
                for name, stage in self.stages.items()
            }
            yield {name: term for name, term in found.items() if term is not None}

    def results(self, terms: Sequence[LossTerm]) -> dict[str, PhaseResult]:
        """Train the phases; return what came of each, by its name."""
        done: dict[str, PhaseResult] = {}
        network = self._network
        for phase in self.strategy.phases(self.before):
            if phase.start is not None:
                # what was trained so far lies in the one network that there is
                done = {name: one.detached() for name, one in done.items()}
                load_weights(network, phase.start)
            result = self._trained(phase, terms)
            trained = Trained(weights(network), result.n_steps, result.rate_sum, result.squares)
            done[phase.name] = PhaseResult(result, trained)
        return done

    def noised_steps(self) -> Steps | None:
        """Return the noised steps of all phases; None where nothing is noised, or nobody there."""
        found = [
            self._noised(self._config_of(phase)) for phase in self.strategy.phases(self.before)
        ]
        steps = [one for one in found if one is not None]
        if not steps:
            return None
        return replace(steps[-1], n_steps=sum(one.n_steps for one in steps))

    def _trained(self, phase: Phase, terms: Sequence[LossTerm]) -> TrainResult:
        plan, at, network = self.at.plan, self.at, self._network
        label = () if phase.name == MAIN else (phase.name,)
        own = nullcontext() if phase.loss is None else phase.loss(network, at.layout)
        with frozen(network, phase.frozen | self.still), own as term:
            return train_round(
                network,
                at.data,
                self.task,
                self._config_of(phase),
                round_index=at.round_index,
                n_rounds=plan.rounds.n_rounds,
                seed=derive_seed(plan.seed, at.site, at.round_index, *label),
                gradient_term=phase.term,
                loss_term=summed([*terms, *([] if term is None else [term])]),
                squares=phase.squares,
                optimizer_state=self.state.optimizer.get(phase.name),
                loss_history=self.state.losses,
                steps=self._batches(phase.name),
                prepare=lambda module: hold_statistics(module, self.still),
            )

    def _batches(self, phase: str) -> PrivateSteps | None:
        """Return where batches and gradients come from, where a stage decides it."""

        def order() -> str:
            # other patients or another state, other noise: equal noise would show the difference
            return self.order() + self.at.data.fingerprint + self.state.digest

        found = (stage.batches(self.seen[n], order, phase) for n, stage in self.stages.items())
        return next((one for one in found if one is not None), None)

    def _noised(self, train: TrainConfig) -> Steps | None:
        n_subjects = self.at.n_subjects
        found = (stage.steps(train, n_subjects) for stage in self.stages.values())
        return next((one for one in found if one is not None), None)

    def _config_of(self, phase: Phase) -> TrainConfig:
        """Return the settings of a phase: the plan's, for its share of the round's steps."""
        train = self.at.plan.train
        if phase.share == 1:
            return train
        noised = self._noised(train)  # whose steps draw patients
        n_steps = n_round_steps(train, len(self.at.patients)) if noised is None else noised.n_steps
        parts = [one for one in self.strategy.phases(self.before) if one.share < 1]
        counts = shared_steps(n_steps, [one.share for one in parts])
        own = counts[[one.name for one in parts].index(phase.name)]
        return replace(train, local_steps=own, local_examples=0)

    @property
    def _network(self) -> nn.Module:
        assert self.at.network is not None, "a round is trained with a network"
        return self.at.network
