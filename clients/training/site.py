"""A site's half of a round: its data, its state, and the network that it trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

from fedmri.clients.egress.digests import order_digest, update_digest
from fedmri.clients.egress.scorings import MOST_MODELS, Asked, Scorings
from fedmri.clients.training.phases import MAIN, PhaseResult, RoundTraining
from fedmri.clients.training.protection.masked import MaskedUpdates
from fedmri.clients.training.protection.private import Guard
from fedmri.clients.training.protection.secure import SecureSite
from fedmri.clients.training.site_scores import SiteScores
from fedmri.clients.training.site_state import SiteState
from fedmri.clients.training.site_sums import SiteSums
from fedmri.clients.training.site_view import SiteView
from fedmri.data.batches.site_data import Split
from fedmri.plan import Plan
from fedmri.round import Form, Layout, SiteMemory, SiteRound, Update
from fedmri.stages.stage import Leaving, Term
from fedmri.training.seeds import derive_seed
from fedmri.wire import (
    EvaluateOrder,
    Scores,
    SecureAnswer,
    SecureStep,
    Sums,
    SumsOrder,
    TrainOrder,
)


class Site:
    """One institution in a run.

    Args:
        name: Name of the site.
        plan_json: The plan, as it travels.
        prepared: Prepared site files; several are trained on as one (the pooled arm). A plan for
            tables takes the site's table.
        folder: The site's own folder for this run: state, and results that stay at the site.
        guard: What a plan with privacy needs of the site.
        are_embeddings_kept: Whether embeddings of test patients are written at home, too.
    """

    def __init__(  # noqa: PLR0913  # what a site is made of
        self,
        name: str,
        plan_json: str,
        prepared: Sequence[Path],
        folder: Path,
        guard: Guard,
        *,
        are_embeddings_kept: bool = False,
    ) -> None:
        self._are_embeddings_kept = are_embeddings_kept
        self.view = SiteView(name, plan_json, prepared, folder, guard)
        most_models = MOST_MODELS if guard.scorings else 0
        scorings = guard.scorings or folder / "scorings.jsonl"
        self._scorings = Scorings(scorings, guard.max_scorings, most_models)
        self._secure = SecureSite(name, folder, guard.membership)
        self._sums = SiteSums(self.view, self._secure, self._scorings)

    @property
    def plan(self) -> Plan:
        """What is learned."""
        return self.view.plan

    @property
    def layout(self) -> Layout:
        """Which entries of the model are what."""
        return self.view.layout

    def sums(self, order: SumsOrder) -> Sums:
        """Return this site's part of the sums of a stage."""
        return self._sums.answer(order)

    def sum_forms(self, order: SumsOrder) -> dict[str, Form]:
        """Return the arrays that an answer to an order for sums has."""
        return self._sums.forms(order)

    def secure_step(self, order: SecureStep) -> SecureAnswer:
        """Return this site's answer to a step of a secure sum besides the values."""
        return self._sums.secure_step(order)

    def secure_forms(self, order: SecureStep) -> dict[str, Form]:
        """Return the arrays that an answer to a step of a secure sum has."""
        return self._secure.forms(order)

    def update_forms(self, order: TrainOrder) -> dict[str, Form]:
        """Return the entries of the model that an answer to an order to train has."""
        return self._sums.update_forms(order)

    def train(self, order: TrainOrder) -> Update:
        """Train from the received model for one round and return what the plan shares.

        The update's weights are as they travel: after all stages, and masked where the plan sums
        securely.
        """
        order = self.view.known(order)
        received = cache(lambda: update_digest(order.weights, order.extra))
        digest = cache(lambda: self._digest(order.round_index, received()))
        is_secure = self.plan.secagg.is_on
        if not is_secure and not self._scorings.is_bounded:
            return self._trained(order, digest)
        self._scorings.refuse_models(Asked("training", order.round_index, digest()))
        with self._scorings.counting(digest()):
            if not is_secure:
                return self._trained(order, digest)
            slots = self._sums.slots(None, order.round_index)
            masked = MaskedUpdates(self.view, self._secure, slots)
            return masked.of(order, received(), digest(), lambda: self._trained(order, digest))

    def evaluate(self, order: EvaluateOrder) -> Scores:
        """Score the received model on this site's patients; a patient's own results stay here.

        Of each round and split one model is scored, once: asked again, the answer is the same.

        Raises:
            PrivacyError: See ``Scorings`` (P13, P14), and ``Guard.refuse_scoring`` (P16).
        """
        order = self.view.known(order)
        split: Split = "test" if order.split == "test" else "val"
        digest = self._digest(order.round_index, update_digest(order.weights, order.extra))
        asked = Asked(split, order.round_index, digest)
        scores = self._scorings.given(asked)
        if scores is None:
            self.view.guard.refuse_scoring()
            task = self.view.task(order.extra)
            scores = SiteScores(self.view, task, self._are_embeddings_kept).of(order, split)
            self._scorings.keep(asked, scores)
        return scores

    def _digest(self, round_index: int, received: str) -> str:
        return order_digest(self.view.name, self.view.plan_json, round_index, received)

    def _trained(self, order: TrainOrder, digest: Callable[[], str]) -> Update:
        """Train for one round; return the update as it travels without masks."""
        view = self.view
        state = view.states.before(order.round_index) or SiteState()
        made = view.load(order, state).made
        before = self._before(order, state)
        seen = view.seen(order.extra, order.round_index, state)
        training = RoundTraining(
            self.plan.strategy, view.task(order.extra), before, state, seen, view.stages, digest,
            made.still(order.round_index),
        )  # fmt: skip
        training.refuse_spending()
        with training.terms() as terms:
            results = training.results([term.loss for term in terms.values()])
        trained = {name: phase.trained for name, phase in results.items()}
        kept = self.plan.strategy.remember(before, trained)
        whole = results[MAIN].trained.weights
        shared, local = made.shared(whole, order.round_index), made.kept(whole)
        leaving = Leaving(order.weights, shared, local, made.layout.parameters, digest, kept.extra)
        for name, stage in view.stages.items():
            leaving = stage.outgoing(seen[name], leaving)
        self._keep(order.round_index, state, results, leaving, kept, terms)
        metrics = _measured(results)
        steps = training.noised_steps()
        for name, stage in reversed(view.stages.items()):
            metrics = stage.told(seen[name], leaving, steps, metrics)
        main = results[MAIN].result
        counts = main.n_examples, main.n_subjects
        return Update(view.name, leaving.arrays, *counts, metrics, kept.extra)

    def _before(self, order: TrainOrder, state: SiteState) -> SiteRound:
        """Return what the strategy's half at this site goes by in a round."""
        ticket = derive_seed(self.plan.seed, self.view.name, order.round_index, "ticket")
        momentum = self.plan.sgd_momentum
        return SiteRound(self.layout, ticket, order.weights, order.extra, state.memory, momentum)

    def _keep(  # noqa: PLR0913  # what a round leaves behind
        self,
        round_index: int,
        before: SiteState,
        results: Mapping[str, PhaseResult],
        leaving: Leaving,
        kept: SiteMemory,
        terms: Mapping[str, Term],
    ) -> None:
        """Write down what the next round starts from."""
        main = results[MAIN].result
        optimizer = {name: one.result.optimizer_state for name, one in results.items()}
        of_terms = {name: values for name, term in terms.items() if (values := term.kept())}
        after = SiteState(
            leaving.local,
            {name: value for name, value in optimizer.items() if value is not None},
            (*before.losses, main.loss),
            kept.memory,
            {**leaving.kept, **of_terms},
        )
        has_tensors = after.local or after.optimizer or after.memory or after.stages
        # who has nobody to train on has nothing of its own
        if main.n_examples and (has_tensors or self.plan.train.schedule == "plateau"):
            self.view.states.save(round_index, after)


def _measured(results: Mapping[str, PhaseResult]) -> dict[str, float]:
    """Return what a round's training tells of itself."""
    phases = [phase.result for phase in results.values()]
    return {
        "loss": results[MAIN].result.loss,
        "n_steps": float(sum(one.n_steps for one in phases)),
        "n_seen": float(sum(one.n_seen for one in phases)),
        "n_skipped": float(sum(one.n_skipped for one in phases)),
        "train_seconds": sum(one.seconds for one in phases),
    }
