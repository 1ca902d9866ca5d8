"""A site's half of a round: its data, its state, and the network that it trains."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fedmri.clients.egress.audit import audit
from fedmri.clients.egress.digests import order_digest, update_digest
from fedmri.clients.egress.gate import Leaving
from fedmri.clients.egress.privacy_ledger import Spend
from fedmri.clients.egress.revealed import Subject
from fedmri.clients.egress.scorings import MOST_MODELS, Asked, Scorings
from fedmri.clients.training.contrast import contrasting
from fedmri.clients.training.image_sums import ImageSums
from fedmri.clients.training.invariance import Invariance, Term
from fedmri.clients.training.network import Network, network_of
from fedmri.clients.training.private import Guard
from fedmri.clients.training.results import write_cases, write_pictures
from fedmri.clients.training.secure import SecureSite, Values, masked_form, sum_forms
from fedmri.clients.training.site_state import SiteState, SiteStates
from fedmri.codec import declared, encode
from fedmri.data.batches.examples import open_site
from fedmri.data.batches.site_data import SiteData, Split
from fedmri.errors import RoundError
from fedmri.filters import filtered_update
from fedmri.harmonize.images.image_stage import image_change
from fedmri.harmonize.sums import Arrays, version
from fedmri.models.weights import frozen, load_weights, norm, weights
from fedmri.plan import Plan, from_json
from fedmri.privacy.accounting import Steps
from fedmri.privacy.dp_sgd import round_steps
from fedmri.privacy.site_level import noised_weights
from fedmri.round import Form, Layout, Phase, SiteRound, Trained, Update, Weights
from fedmri.secagg.ring import Slot
from fedmri.secagg.updates import update_slots, weighted_update
from fedmri.secagg.wide import wide_slots
from fedmri.strategies.registry import STRATEGIES
from fedmri.training.budget import shared_steps
from fedmri.training.device import reproducible
from fedmri.training.evaluation import Evaluation, adapt_norm_statistics, evaluate
from fedmri.training.local import TrainResult, n_round_steps, train_round
from fedmri.training.seeds import derive_seed
from fedmri.training.settings import TrainConfig
from fedmri.wire import (
    ADAPTED,
    HARMONIZE,
    EvaluateOrder,
    Scores,
    SecureAnswer,
    SecureStep,
    Sums,
    SumsOrder,
    TrainOrder,
)

HIDDEN = frozenset({"n_steps", "n_seen", "n_skipped", "delta", "loss"})
"""Metrics that tell how many examples or patients a site has, or what its images are like: beside a
secure sum they do not leave."""


@dataclass(frozen=True)
class _PhaseResult:
    """What came of a phase of a round."""

    result: TrainResult
    trained: Trained

    def detached(self) -> _PhaseResult:
        """Return it with weights of its own, which the next phase does not change."""
        copies = {name: value.clone() for name, value in self.trained.weights.items()}
        return replace(self, trained=replace(self.trained, weights=copies))


def _label(phase: Phase) -> tuple[str, ...]:
    """Return what tells the seed of a phase from that of the round's main one."""
    return () if phase.name == Phase().name else (phase.name,)


def _no_head(site: str, strategy: str) -> RoundError:
    fix = "look at its scores under a strategy that shares the whole model"
    found = f"strategy {strategy}, of whose layers every site keeps some; this site trained none"
    want = "a site that took part"
    return RoundError("R10", f"model for site {site}", found=found, want=want, fix=fix)


class Site:
    """One institution in a run.

    Args:
        name: Name of the site.
        plan_json: The plan, as it travels.
        prepared: Prepared site files; several are trained on as one (the pooled arm).
        folder: The site's own folder for this run: state, and results that stay at the site.
        guard: What a plan with privacy needs of the site.
    """

    def __init__(
        self, name: str, plan_json: str, prepared: Sequence[Path], folder: Path, guard: Guard
    ) -> None:
        self.name = name
        self.plan: Plan = from_json(plan_json)
        self.folder = folder
        self._plan_json = plan_json
        self._states = SiteStates(folder / "state", self.plan.rounds.n_states)
        self._strategy = self.plan.strategy
        self._task = self.plan.target
        self._data: SiteData = open_site(prepared, self.plan.target, self.plan.data)
        self._guard = guard
        self._images = ImageSums(name, self.plan, self._data, guard)
        self._secure = SecureSite(name, folder, guard.membership)
        most_models = MOST_MODELS if guard.scorings else 0
        scorings = guard.scorings or folder / "scorings.jsonl"
        self._scorings = Scorings(scorings, guard.max_scorings, most_models)
        self._harmonized: tuple[str, SiteData] | None = None

    @property
    def layout(self) -> Layout:
        """Which entries of the model are what."""
        return network_of(self._plan_json).layout

    def sums(self, order: SumsOrder) -> Sums:
        """Return this site's part of the sums of a step of the plan's harmonization.

        Training scans alone are in it: what is tested on says nothing of how it is to look.
        """

        def own() -> Arrays:
            if order.weights:
                shown = update_digest(order.weights, {**order.extra, "shared": order.shared})
                split = f"sums over embeddings, step {order.step},"
                self._scorings.refuse_models(Asked(split, order.round_index, shown))
                data = self._data_as(order.extra)
                return self._invariance(order).sums(order, data, self._guard.n_least)
            return self._images.of(order)

        if self.plan.secagg.is_on:
            weights = self._secure.sums(order, self._sum_shapes(order), own, self._guard.sketch)
        else:
            weights = {name: torch.from_numpy(values) for name, values in own().items()}
        return Sums(self.name, weights, self._n_subjects, len(self._data.examples("train")))

    def sum_forms(self, order: SumsOrder) -> dict[str, Form]:
        """Return the arrays that an answer to an order for sums has."""
        return sum_forms(self._sum_shapes(order), is_masked=self.plan.secagg.is_on)

    def secure_step(self, order: SecureStep) -> SecureAnswer:
        """Return this site's answer to a step of a secure sum besides the values."""
        arrays = self._secure.answer(order, self._slots(order.sums))
        return SecureAnswer(self.name, arrays, self._n_subjects, len(self._data.examples("train")))

    def secure_forms(self, order: SecureStep) -> dict[str, Form]:
        """Return the arrays that an answer to a step of a secure sum has."""
        return self._secure.forms(order)

    def _slots(self, sums: SumsOrder | None) -> dict[str, Slot]:
        """Return what a secure sum is over: the sums of a step, or the updates of a round."""
        if sums is not None:
            return wide_slots(self._sum_shapes(sums))
        network = network_of(self._plan_json)
        entries = weights(network.module)
        shared = {n: v.numpy() for n, v in entries.items() if n not in network.initial}
        return update_slots(shared, self.plan.secagg.fraction_bits)

    def update_forms(self, order: TrainOrder) -> dict[str, Form]:
        """Return the entries of the model that an answer to an order to train has."""
        if self.plan.secagg.is_on:
            return masked_form(self._slots(None))
        return declared(order.weights, self.plan.transport)

    def _sum_shapes(self, order: SumsOrder) -> dict[str, tuple[int, ...]]:
        if not order.weights:
            return self._images.shapes(order)
        arrays = self._invariance(order).sums(order, None)
        return {name: values.shape for name, values in arrays.items()}

    def _invariance(self, order: SumsOrder) -> Invariance:
        """Return what works on embeddings, with the network as the order has it."""
        network = network_of(self._plan_json)
        self._load(network, order.weights, self._states.before(order.round_index + 1))
        return Invariance(self.name, self.plan, network.module, network.layout)

    def _data_as(self, extra: Mapping[str, Weights]) -> SiteData:
        """Return this site's data, harmonized by what the server sent, if anything."""
        if HARMONIZE not in extra:
            return self._data
        # copies: an order's memory is another order's soon
        parameters = {name: value.numpy().copy() for name, value in extra[HARMONIZE].items()}
        known = version(parameters)
        if self._harmonized is None or self._harmonized[0] != known:
            n_channels = len(self.plan.data.source.modalities)
            change = image_change(self.plan.harmonize, n_channels, parameters)
            self._harmonized = known, self._data.changed(change)
        return self._harmonized[1]

    def train(self, order: TrainOrder) -> Update:
        """Train from the received model for one round and return what the plan shares.

        The update's weights are as they travel: encoded by the plan's transport, or masked.
        """
        if not self.plan.secagg.is_on and not self._scorings.is_bounded:
            return self._trained(order)
        digest = order_digest(self.name, self._plan_json, order)
        self._scorings.refuse_models(Asked("training", order.round_index, digest))
        with self._scorings.counting(digest):
            return self._masked(order, digest) if self.plan.secagg.is_on else self._trained(order)

    def _masked(self, order: TrainOrder, digest: str) -> Update:
        """Train for one round and return the update under masks."""
        slots = self._slots(None)

        def values() -> Values:
            update = self._trained(order)
            self._refuse_large(update.weights, order.weights)
            weight = self._strategy.weigh(update)
            own = {name: value.numpy() for name, value in update.weights.items()}
            told = {name: v for name, v in update.metrics.items() if name not in HIDDEN}
            change = {name: values - order.weights[name].numpy() for name, values in own.items()}
            received = update_digest(order.weights, order.extra)
            of = Subject("update", received, self._guard.sketch(change))
            return Values(of, weighted_update(own, weight), told)

        masked, metrics = self._secure.mask(order.masking, digest, slots, values)
        counts = len(self._data.examples("train")), self._n_subjects
        return Update(self.name, masked, *counts, metrics)

    def _refuse_large(self, trained: Mapping[str, torch.Tensor], received: Weights) -> None:
        """Hold this site to the bound that the server holds updates to that it can look at."""
        names = self.layout.parameters
        most = self.plan.rounds.max_norm_ratio * max(1.0, norm(received, names))
        found = norm(dict(trained), names)
        if not found <= most:  # true for NaN too
            fix = "look at this site's data and log; lower train.lr"
            what, want = f"norm of the update of site {self.name}", f"at most {most:.3g}"
            raise RoundError("R41", what, found=f"{found:.3g}", want=want, fix=fix)

    def _trained(self, order: TrainOrder) -> Update:
        """Train for one round; return the update as it travels without masks."""
        network = network_of(self._plan_json)
        state = self._states.before(order.round_index) or SiteState()
        before = self._before(order, network.layout, state)
        self._load(network, order.weights, state)
        self._refuse_beyond(self._phase_steps(before))
        if self.plan.privacy.site.is_on:
            self._guard.refuse_site_beyond(self.plan.privacy.site)
        invariance = Invariance(self.name, self.plan, network.module, network.layout)
        data = self._data_as(order.extra)
        with invariance.training(data, order.round_index, order.extra, state.domain) as term:
            results = self._train_phases(network, before, order, state, term)
        trained = {name: phase.trained for name, phase in results.items()}
        kept = self._strategy.remember(before, trained)
        main = results[Phase().name]
        shared = dict(main.trained.weights)
        local = {name: shared.pop(name) for name in network.initial}
        shared = self._guarded(order, shared)
        sent = encode(shared, order.weights, self.plan.transport, state.residual)
        parameters = network.layout.parameters
        leaving = Leaving(self.name, self.plan, order, sent.arrays, local, parameters, data)
        self._guard.gate.refuse(leaving)
        optimizer = {n: p.result.optimizer_state for n, p in results.items()}
        after = SiteState(
            local,
            {name: value for name, value in optimizer.items() if value is not None},
            (*state.losses, main.result.loss),
            sent.residual,
            kept.memory,
            term.kept() if term is not None else {},
        )
        if main.result.n_examples:  # who has nobody to train on has nothing of its own
            self._keep(order.round_index, after)
        metrics = self._measured(before, results)
        metrics |= self._spend(order, before, sent.arrays, kept.extra)
        counts = main.result.n_examples, main.result.n_subjects
        return Update(self.name, sent.arrays, *counts, metrics, kept.extra)

    def _before(self, order: TrainOrder, layout: Layout, state: SiteState) -> SiteRound:
        """Return what the strategy's half at this site goes by in a round."""
        ticket = derive_seed(self.plan.seed, self.name, order.round_index, "ticket")
        momentum = self.plan.sgd_momentum
        return SiteRound(layout, ticket, order.weights, order.extra, state.memory, momentum)

    def _measured(self, before: SiteRound, results: Mapping[str, _PhaseResult]) -> dict[str, float]:
        """Return what a round's training tells of itself; beside noise, nothing of the data."""
        phases = [phase.result for phase in results.values()]
        told = {
            "loss": results[Phase().name].result.loss,
            "n_steps": float(sum(one.n_steps for one in phases)),
            "n_seen": self._n_seen(before, phases),
            "n_skipped": float(sum(one.n_skipped for one in phases)),
            "train_seconds": sum(one.seconds for one in phases),
        }
        if self.plan.privacy.is_noised:
            told["loss"] = math.nan
            del told["n_skipped"]
        return told

    def _guarded(self, order: TrainOrder, shared: Weights) -> Weights:
        """Return the shared entries filtered, and noised for the site as a whole, by the plan."""
        shared = filtered_update(shared, order.weights, self.layout.parameters, self.plan.filters)
        if not self.plan.privacy.site.is_on:
            return shared
        stream = self._guard.site_stream(order_digest(self.name, self._plan_json, order), shared)
        return noised_weights(shared, order.weights, self.plan.privacy.site, stream)

    def _train_phases(
        self,
        network: Network,
        before: SiteRound,
        order: TrainOrder,
        state: SiteState,
        term: Term | None,
    ) -> dict[str, _PhaseResult]:
        """Train the phases of a round one after another; return what came of each."""
        done: dict[str, _PhaseResult] = {}
        round_index, privacy = order.round_index, self.plan.privacy
        digest = ""
        if privacy.is_on:
            # other patients or another state, other noise: equal noise would show the difference
            digest = order_digest(self.name, self._plan_json, order)
            digest += self._data.fingerprint + state.digest
        for phase in self._strategy.phases(before):
            if phase.start is not None:
                # what was trained so far lies in the one network that there is
                done = {name: one.detached() for name, one in done.items()}
                load_weights(network.module, phase.start)
            with (
                frozen(network.module, phase.frozen),
                contrasting(network.module, network.layout, phase.contrast) as contrast,
            ):
                result = train_round(
                    network.module,
                    self._data_as(before.extra),
                    self._task,
                    self._config_of(phase, before),
                    round_index=round_index,
                    n_rounds=self.plan.rounds.n_rounds,
                    seed=derive_seed(self.plan.seed, self.name, round_index, *_label(phase)),
                    gradient_term=phase.term,
                    loss_term=contrast or (term.loss if term is not None else None),
                    optimizer_state=state.optimizer.get(phase.name),
                    loss_history=state.losses,
                    steps=self._guard.steps(privacy, digest, phase.name) if privacy.is_on else None,
                )
            trained = Trained(weights(network.module), result.n_steps, result.rate_sum)
            done[phase.name] = _PhaseResult(result, trained)
        return done

    def _phase_steps(self, before: SiteRound) -> Steps | None:
        """Return the private steps of all phases of a round; None without privacy or patients."""
        privacy, n_subjects = self.plan.privacy, self._n_subjects
        if not privacy.is_on or not n_subjects:
            return None
        n_steps = 0
        for phase in self._strategy.phases(before):
            train = self._config_of(phase, before)
            epochs, steps = train.local_epochs, train.local_steps
            one = round_steps(privacy, n_subjects, local_epochs=epochs, local_steps=steps)
            n_steps += one.n_steps
        return replace(one, n_steps=n_steps)

    def _n_seen(self, before: SiteRound, results: Sequence[TrainResult]) -> float:
        """Return the examples in a round's steps; with privacy those expected: a draw would tell.

        Under privacy the expectation follows from the plan and the number of patients alone.
        """
        steps = self._phase_steps(before)
        if steps is None:
            return float(sum(result.n_seen for result in results))
        return steps.n_steps * steps.sample_rate * self._n_subjects

    @property
    def _n_subjects(self) -> int:
        return len({(e.site, e.subject) for e in self._data.examples("train")})

    def _refuse_beyond(self, steps: Steps | None) -> None:
        if steps is not None:
            self._guard.refuse_beyond(steps, self.plan.privacy, self._n_subjects)

    def _spend(
        self,
        order: TrainOrder,
        before: SiteRound,
        arrays: Weights,
        extra: Mapping[str, Weights],
    ) -> dict[str, float]:
        """Write down what the update costs, before it leaves; return it as a metric."""
        privacy, found = self.plan.privacy, dict[str, float]()
        update, fingerprint = update_digest(arrays, extra), self._data.fingerprint
        if privacy.site.is_on:
            of_site = self._guard.reserve_site(privacy.site, fingerprint, order.round_index, update)
            found["site_epsilon"] = of_site.epsilon
        steps = self._phase_steps(before)
        if steps is None:
            return found
        spend = Spend(
            fingerprint,
            self._guard.run,
            order.round_index,
            update,
            steps.noise_multiplier,
            steps.sample_rate,
            steps.n_steps,
        )
        spent = self._guard.reserve(spend, privacy, self._n_subjects)
        delta = self._guard.delta_of(privacy, self._n_subjects)
        return {**found, "epsilon": spent.epsilon, "delta": delta}

    def _config_of(self, phase: Phase, before: SiteRound) -> TrainConfig:
        """Return the settings of a phase: the plan's, for its share of the round's steps."""
        train = self.plan.train
        if phase.share == 1:
            return train
        n_steps = n_round_steps(train, len(self._data.examples("train")))
        if self.plan.privacy.is_on and self._n_subjects:  # whose steps draw patients
            epochs, steps = train.local_epochs, train.local_steps
            n_steps = round_steps(
                self.plan.privacy, self._n_subjects, local_epochs=epochs, local_steps=steps
            ).n_steps
        parts = [one for one in self._strategy.phases(before) if one.share < 1]
        counts = shared_steps(n_steps, [one.share for one in parts])
        own = counts[[one.name for one in parts].index(phase.name)]
        return replace(train, local_steps=own, local_examples=0)

    def evaluate(self, order: EvaluateOrder) -> Scores:
        """Score the received model on this site's patients; a patient's own results stay here.

        Of each round and split one model is scored, once: asked again, the answer is the same.

        Raises:
            PrivacyError: See ``Scorings`` (P13, P14), and ``Guard.refuse_scoring`` (P16).
        """
        split: Split = "test" if order.split == "test" else "val"
        asked = Asked(split, order.round_index, order_digest(self.name, self._plan_json, order))
        scores = self._scorings.given(asked)
        if scores is None:
            self._guard.refuse_scoring()
            scores = self._scored(order, split)
            self._scorings.keep(asked, scores)
        return scores

    def _scored(self, order: EvaluateOrder, split: Split) -> Scores:
        started = time.monotonic()
        network, data = network_of(self._plan_json), self._data_as(order.extra)
        state = self._states.before(order.round_index + 1)
        self._load(network, order.weights, state)
        load_weights(network.module, self._strategy.own_model(state.memory if state else {}))
        own = network.layout.parameters - network.layout.norm_parameters
        if state is None and own & network.initial.keys():
            raise _no_head(self.name, STRATEGIES.name_of(self._strategy))
        is_adapted = False
        if state is None and network.initial:
            # No batch norm of its own: this site took no part, so its images supply the statistics.
            device = self.plan.train.device
            is_adapted = adapt_norm_statistics(network.module, data, split, device=device)
        invariance = Invariance(self.name, self.plan, network.module, network.layout)
        with (
            reproducible(self.plan.train.n_threads),
            invariance.scoring(data, split, order.extra),
        ):
            result = evaluate(
                network.module,
                data,
                split,
                self._task,
                batch_size=self.plan.train.batch_size,
                device=self.plan.train.device,
                n_pictures=order.n_pictures,
            )
        if split == "test":
            self._keep_results(result)
        metrics = {**self._task.metrics(self._task.clipped(result.cases)), "loss": result.loss}
        if split == "test" and self.plan.privacy.is_audited and self._guard.has_spent():
            metrics |= self._audit(network, data)
        if is_adapted or invariance.is_fitted_to_scored(data):
            metrics[ADAPTED] = 1.0
        metrics["seconds"] = time.monotonic() - started
        return Scores(self.name, len(result.cases), result.n_examples, metrics)

    def _audit(self, network: Network, data: SiteData) -> dict[str, float]:
        """Return what the losses of the model that was tested prove of its privacy."""
        delta = self._guard.delta_of(self.plan.privacy, self._n_subjects)
        seed = derive_seed(self.plan.seed, self.name, "audit")
        with reproducible(self.plan.train.n_threads):
            return audit(network.module, data, self._task, delta, seed)

    def _load(self, network: Network, received: Weights, state: SiteState | None) -> None:
        load_weights(network.module, received)
        local = state.local if state is not None and state.local else network.initial
        load_weights(network.module, local)

    def _keep(self, round_index: int, state: SiteState) -> None:
        has_tensors = (
            state.local or state.optimizer or state.residual or state.memory or state.domain
        )
        if has_tensors or self.plan.train.schedule == "plateau":
            self._states.save(round_index, state)

    def _keep_results(self, result: Evaluation) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_cases(self.folder / "cases.jsonl", result.cases)
        write_pictures(self.folder / "pictures.npz", result.pictures)
