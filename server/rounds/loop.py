"""The rounds of a run: broadcast, train, aggregate, score, checkpoint, and so on after a crash."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import MessageType, RecordDict
from flwr.serverapp import Grid
from torch import nn

from fedmri.arm import Arm
from fedmri.assembly import assemble
from fedmri.codec import decode
from fedmri.errors import FedmriError, RoundError, explained
from fedmri.harmonize.embeddings.domain_head import site_numbers
from fedmri.harmonize.embeddings.embedding_choice import embedding_stage
from fedmri.harmonize.embeddings.embedding_stage import MomentsBySite
from fedmri.harmonize.images.image_stage import image_stage
from fedmri.harmonize.sums import version
from fedmri.models.pretrained import begin
from fedmri.models.weights import norm
from fedmri.plan import Plan
from fedmri.round import ExtraForms, Layout, ServerState, Strategy, Update, Weights
from fedmri.secagg.messages import Masked
from fedmri.secagg.ring import Slot
from fedmri.secagg.secure_sum import Roll
from fedmri.secagg.updates import mean_update, update_slots
from fedmri.server.registry.attendance import Attendance
from fedmri.server.rounds.accept import Bounds, check_update
from fedmri.server.rounds.checkpoint import (
    Checkpoint,
    Checkpoints,
    digest,
    load_weights_file,
    save_weights,
)
from fedmri.server.rounds.exchange import Answer, Exchanges
from fedmri.server.rounds.final_model import write_final
from fedmri.server.rounds.harmonizing import (
    Total,
    as_weights,
    fit,
    total_by_secure_sum,
    total_in_clear,
)
from fedmri.server.rounds.records import Observer, Records
from fedmri.server.rounds.secure import SecureSums, Wanted, masked_of
from fedmri.server.transport.asking import present, wait_for_sites
from fedmri.trained.card import Provenance
from fedmri.wire import (
    EMBEDDING,
    HARMONIZE,
    SCORES,
    UPDATE,
    EvaluateOrder,
    Masking,
    Scores,
    SumsOrder,
    TrainOrder,
    as_arrays,
    content_of,
    n_bytes,
    read_answer,
)

log = logging.getLogger("fedmri.server")


@dataclass(frozen=True)
class Run:
    """One training from its plan to its final model.

    Attributes:
        plan: What is learned.
        arm: Which arm of a comparison it is; its label stands in records.
        members: Sites that train; empty takes all.
        tested: Sites that the final model is tested at; empty takes all.
        folder: Where checkpoints, records and the model go.
        n_pictures: Example pictures that each site writes to its own disk at the end.
        declared: Training examples that a site has at most, as it said when it was enrolled.
        declared_subjects: The same of patients.
        weights: File that the plan starts from, where it names one by its hash.
        roll: Who takes part in secure sums, where the plan has them.
    """

    plan: Plan
    arm: Arm
    members: tuple[str, ...]
    tested: tuple[str, ...]
    folder: Path
    n_pictures: int = 0
    declared: Mapping[str, int] = field(default_factory=dict)
    roll: Roll = field(default_factory=Roll)
    declared_subjects: Mapping[str, int] = field(default_factory=dict)
    weights: Path | None = None


class Rounds:
    """The server's half of a run over a grid."""

    def __init__(self, run: Run, grid: Grid, observe: Observer) -> None:
        self.run = run
        self.grid = grid
        self.strategy: Strategy = run.plan.strategy
        self.checkpoints = Checkpoints(run.folder / "checkpoints", run.plan.fingerprint)
        fixed = {"arm": run.arm.label, "seed": run.plan.seed}
        self.records = Records(run.folder / "metrics.jsonl", fixed, observe)
        self.exchanges = Exchanges(grid, run.plan.rounds.timeout_s, Attendance(run.folder))
        self.secure = SecureSums(run.roll, run.folder, self.exchanges.ask)
        self.harmonized: dict[str, Weights] = {}
        self.embedded: tuple[int, dict[str, Weights]] = (-1, {})
        self.local: frozenset[str] = frozenset()
        self.parameters: frozenset[str] = frozenset()
        self.layout = Layout(frozenset(), frozenset(), frozenset())

    def go(self) -> str:
        """Train what is left to train, test, write the model; return its SHA-256."""
        checkpoint = self._start_or_resume()
        state, notes = checkpoint.state, self._harmonize(checkpoint.notes)
        out = {name: torch.empty_like(value) for name, value in state.model.items()}
        for round_index in range(checkpoint.round_index + 1, self.run.plan.rounds.n_rounds + 1):
            state, out = self._round(round_index, state, out)
            notes = self._score(round_index, state, notes)
            if self._is_checkpointed(round_index):
                self._write_checkpoint(Checkpoint(round_index, state, notes))
        self.checkpoints.wait()
        return self._finish(state, notes)

    def _start_or_resume(self) -> Checkpoint:
        made = assemble(self.run.plan).checked()
        model, entries = made.entries, made.layout
        self.local, self.parameters, self.layout = made.local, entries.parameters, entries
        found = self.checkpoints.latest()
        if found is None:
            self.records.rewind(0)
            self._begin(made.network)
            return Checkpoint(0, self.strategy.start(model, entries), {})
        self.records.rewind(found.notes["n_bytes"])
        log.info("%s goes on after round %d", self.run.arm.label, found.round_index)
        return replace(found, state=replace(found.state, layout=entries))

    def _begin(self, network: nn.Module) -> None:
        """Let the network start from the plan's file of weights, and record what was taken."""
        plan = self.run.plan
        fit = begin(network, plan.start.sha256, self.run.weights, plan.n_channels)
        if fit is not None:
            self.records.add("start", sha256=plan.start.sha256, **fit.as_dict())

    def _harmonize(self, notes: dict[str, Any]) -> dict[str, Any]:
        """Fit the plan's harmonization, or take it from the notes of a checkpoint."""
        plan, members = self.run.plan, self._members()
        stage = image_stage(plan.harmonize, len(plan.data.source.modalities))
        if stage is None:
            return notes
        if HARMONIZE not in notes:
            wait_for_sites(self.grid, members, plan.rounds.min_sites, plan.rounds.timeout_s)
            fitted = fit(stage, self._total_of_sums(), members, plan.rounds.n_needed(len(members)))
            self.records.add("harmonized", version=version(fitted))
            notes = {**notes, HARMONIZE: {name: v.tolist() for name, v in fitted.items()}}
        kept = {name: np.array(values) for name, values in notes[HARMONIZE].items()}
        self.harmonized = {HARMONIZE: as_weights(kept)}
        return notes

    def _total_of_sums(self) -> Total:
        if self.run.plan.secagg.is_on:
            return total_by_secure_sum(self.secure, self._ask_for_sums)
        return total_in_clear(self._ask_for_sums)

    def _ask_for_sums(self, order: SumsOrder, sites: Sequence[str]) -> Iterator[Answer]:
        content = content_of(order)
        return self.exchanges.ask(MessageType.QUERY, content, sites, self._n_needed())

    def _n_needed(self) -> int:
        """Return how many sites must answer an order that all are sent."""
        plan = self.run.plan
        is_hidden = plan.secagg.is_on
        return self.secure.n_needed if is_hidden else plan.rounds.n_needed(len(self._members()))

    def _fit_embeddings(self, after_round: int, model: Weights) -> dict[str, Weights]:
        """Fit what the plan does to embeddings, under the model after a round.

        The same model and sites give the same bits, so no checkpoint holds it.
        """
        plan, members = self.run.plan, self._members()
        stage = embedding_stage(plan.harmonize, model, self.layout, plan.target)
        if stage is None or self.embedded[0] == after_round:
            return self.embedded[1]
        shared = self._shared(model)
        start = site_numbers(members) if isinstance(stage, MomentsBySite) else {}
        first = SumsOrder(0, as_weights(start), shared, after_round, self.harmonized)
        n_needed = plan.rounds.n_needed(len(members))
        fitted = fit(stage, self._total_of_sums(), members, n_needed, first)
        self.embedded = after_round, {EMBEDDING: as_weights(fitted)}
        return self.embedded[1]

    def _scored_by(self, after_round: int, model: Weights) -> dict[str, Weights]:
        """Return what a model's inputs and embeddings are harmonized by where it is scored."""
        is_in_network = self.run.plan.harmonize.embedding == "combat"
        embedded = self._fit_embeddings(after_round, model) if is_in_network else {}
        return {**self.harmonized, **embedded}

    def _round(
        self, round_index: int, state: ServerState, out: Weights
    ) -> tuple[ServerState, Weights]:
        """Return the state after a round, and buffers for the next model."""
        started = time.monotonic()
        rounds, members = self.run.plan.rounds, self._members()
        wait_for_sites(self.grid, members, rounds.min_sites, rounds.timeout_s)
        rejected: dict[str, str] = {}
        if embedded := self._fit_embeddings(round_index - 1, state.model):
            known = version(as_arrays(embedded[EMBEDDING]))
            self.records.add("embedded", round=round_index - 1, version=known)
        turns = self.strategy.turns(members, round_index)
        for number, turn in enumerate(turns, 1):
            updates = self._updates(round_index, state, turn, rejected)
            if number == len(turns):
                updates = self._with_quorum(updates, rejected, len(members))
            old, state = state, self.strategy.aggregate(state, updates, out)
            # The old model may still be on its way to the disk; the next turn writes over it.
            self.checkpoints.wait()
            out = old.model
        seconds = round(time.monotonic() - started, 4)
        n_sites = len(members) - len(rejected)
        self.records.add(
            "round_total", round=round_index, seconds=seconds, n_sites=n_sites, rejected=rejected
        )
        return state, out

    def _updates(
        self, round_index: int, state: ServerState, sites: Sequence[str], rejected: dict[str, str]
    ) -> Iterator[Update]:
        """Ask sites to train; yield the updates that may be averaged."""
        extra = {**self.strategy.broadcast(state), **self.harmonized, **self.embedded[1]}
        order = TrainOrder(round_index, self._shared(state.model), extra)
        if self.run.plan.secagg.is_on:
            return self._mean_alone(order, sites, rejected)
        # where sites have their turns one by one, the quorum is over all of these
        n_needed = self._n_needed() if len(sites) > 1 else 0
        content = content_of(order)
        answers = self.exchanges.ask(MessageType.TRAIN, content, sites, n_needed)
        return self._accepted(answers, order, state.layout, rejected)

    def _mean_alone(
        self, order: TrainOrder, sites: Sequence[str], rejected: dict[str, str]
    ) -> Iterator[Update]:
        """Yield the weighted mean of the sites' updates as if it were the update of one."""
        shared, plan = order.weights, self.run.plan
        entries = {name: value.numpy() for name, value in shared.items()}
        slots = update_slots(entries, plan.secagg.fraction_bits)

        def masked(masking: Masking, there: Sequence[str]) -> Iterator[tuple[str, Masked]]:
            content = content_of(replace(order, masking=masking))
            for answer in self.exchanges.ask(MessageType.TRAIN, content, there, self._n_needed()):
                read = self._read_masked(answer, order, slots, rejected)
                if read is not None:
                    yield answer.site, read

        total = self.secure.total(Wanted(order.round_index, slots, masked), sites, rejected)
        mean = {n: torch.from_numpy(v) for n, v in mean_update(total, entries).items()}
        update = Update("all sites", mean, 1, 1)
        max_norm = self._max_norm(shared)
        check_update(update, shared, Bounds(self.parameters, max_norm))
        yield update

    def _read_masked(
        self,
        answer: Answer,
        order: TrainOrder,
        slots: Mapping[str, Slot],
        rejected: dict[str, str],
    ) -> Masked | None:
        """Return a site's masked update; name and count what is none."""
        fields: dict[str, Any] = {"seconds": round(answer.seconds, 4)}
        code, masked = answer.code, None
        if answer.content is not None:
            try:
                update = read_answer(UPDATE, answer.site, answer.content)
                masked = masked_of(update.weights, slots)
                fields |= {"bytes_up": n_bytes(update.weights), "bytes_down": self._down(order)}
                fields |= dict(update.metrics)
            except FedmriError as error:
                log.warning("%s", error)
                code = error.code
        if masked is None:
            log.warning("site %s left out of round %d: %s", answer.site, order.round_index, code)
            rejected[answer.site] = code
        self.exchanges.attendance.tell(answer.site, order.round_index, code)
        self.records.add("round", round=order.round_index, site=answer.site, status=code, **fields)
        return masked

    def _bounds(self, site: str, max_norm: float, extra: ExtraForms) -> Bounds:
        n_examples, n_subjects = (
            said.get(site, 0) for said in (self.run.declared, self.run.declared_subjects)
        )
        return Bounds(self.parameters, max_norm, n_examples, extra, n_subjects)

    def _max_norm(self, shared: Weights) -> float:
        return self.run.plan.rounds.max_norm_ratio * max(1.0, norm(shared, self.parameters))

    def _down(self, order: TrainOrder) -> int:
        return n_bytes(order.weights) + sum(map(n_bytes, order.extra.values()))

    def _accepted(
        self,
        answers: Iterator[Answer],
        order: TrainOrder,
        entries: Layout,
        rejected: dict[str, str],
    ) -> Iterator[Update]:
        """Yield the updates that may be averaged; name and count the others."""
        shared, round_index = order.weights, order.round_index
        bytes_down, max_norm = self._down(order), self._max_norm(shared)
        extra = self.strategy.extra_forms(shared, entries)
        for answer in answers:
            fields: dict[str, Any] = {"seconds": round(answer.seconds, 4)}
            code, update = answer.code, None
            if answer.content is not None:
                try:
                    update = self._read(answer.site, answer.content, shared, fields)
                    check_update(update, shared, self._bounds(answer.site, max_norm, extra))
                except RoundError as error:
                    log.warning("%s", error)
                    code = error.code
            if code == "ok" and update is not None:
                counts = {"n_examples": update.n_examples, "n_subjects": update.n_subjects}
                fields |= counts | {"bytes_down": bytes_down} | dict(update.metrics)
                yield update
            else:
                log.warning("site %s left out of round %d: %s", answer.site, round_index, code)
                rejected[answer.site] = code
            self.exchanges.attendance.tell(answer.site, round_index, code)
            self.records.add("round", round=round_index, site=answer.site, status=code, **fields)
            del answer, update  # before the next is taken: one update is held at a time

    def _read(
        self, site: str, content: RecordDict, shared: Weights, fields: dict[str, Any]
    ) -> Update:
        encoded = read_answer(UPDATE, site, content)
        fields["bytes_up"] = n_bytes(encoded.weights) + sum(map(n_bytes, encoded.extra.values()))
        return decode(encoded, shared, self.run.plan.transport)

    def _with_quorum(
        self, updates: Iterator[Update], rejected: Mapping[str, str], n_members: int
    ) -> Iterator[Update]:
        """Pass the updates on; stop the run where too few sites gave one."""
        yield from updates
        n_needed = self.run.plan.rounds.n_needed(n_members)
        n_good = n_members - len(rejected)
        if n_good < n_needed:
            found = f"{n_good} of {n_members} usable updates; left out: {explained(rejected)}"
            fix = "put right what keeps them out, then resume; or lower rounds.quorum"
            raise RoundError("R01", "quorum", found=found, want=f"{n_needed} or more", fix=fix)

    def _score(self, round_index: int, state: ServerState, notes: dict[str, Any]) -> dict[str, Any]:
        """Score the validation patients where the plan says so; keep the best model's notes."""
        rounds = self.run.plan.rounds
        if not rounds.evaluate_every or round_index % rounds.evaluate_every:
            return notes
        shared = self._shared(state.model)
        extra = self._scored_by(round_index, state.model)
        order = EvaluateOrder(round_index, "val", shared, extra=extra)
        mean = self._evaluate("validation", order, self._members())
        best = notes.get("best")
        sign = 1 if self.run.plan.target.is_higher_better else -1
        is_best = best is None or sign * mean > sign * best
        if rounds.select == "best" and is_best and math.isfinite(mean):
            self.checkpoints.wait()
            save_weights(self._best_path, state.model, {"round": round_index})
            return {**notes, "best": mean, "best_round": round_index}
        return notes

    def _evaluate(self, kind: str, order: EvaluateOrder, names: Sequence[str]) -> float:
        """Record every site's scores; return the primary metric's mean over patients."""
        total, n_total = 0.0, 0
        content = content_of(order)
        for answer in self.exchanges.ask(MessageType.EVALUATE, content, names):
            code, scores = _scores_of(answer)
            if scores is None:
                log.warning("site %s gave no %s scores: %s", answer.site, kind, code)
                self.records.add(kind, round=order.round_index, site=answer.site, status=code)
                continue
            fields = {"metrics": dict(scores.metrics), "n_subjects": scores.n_subjects}
            self.records.add(kind, round=order.round_index, site=answer.site, status="ok", **fields)
            value = scores.metrics.get(self.run.plan.target.primary, math.nan)
            if scores.n_subjects and math.isfinite(value):
                total, n_total = total + scores.n_subjects * value, n_total + scores.n_subjects
        return total / n_total if n_total else math.nan

    def _finish(self, state: ServerState, notes: dict[str, Any]) -> str:
        plan = self.run.plan
        model, round_index = state.model, plan.rounds.n_rounds
        if plan.rounds.select == "best" and "best_round" in notes:
            model, round_index = load_weights_file(self._best_path)[0], notes["best_round"]
        shared, n_pictures = self._shared(model), self.run.n_pictures
        extra = self._scored_by(round_index, model)
        order = EvaluateOrder(round_index, "test", shared, n_pictures, extra)
        self._evaluate("test", order, self.run.tested or tuple(present(self.grid)))
        sha256 = digest(model)
        self.records.add("done", round=round_index, sha256=sha256)
        origin = Provenance(plan, self.run.arm, self._members(), round_index, sha256)
        # last, for its presence says that the run is complete
        write_final(self.run.folder, origin, self.layout, model, extra)
        return sha256

    def _write_checkpoint(self, checkpoint: Checkpoint) -> None:
        notes = {**checkpoint.notes, "n_bytes": self.records.n_bytes}
        self.checkpoints.write(replace(checkpoint, notes=notes))

    def _is_checkpointed(self, round_index: int) -> bool:
        rounds = self.run.plan.rounds
        return round_index % rounds.checkpoint_every == 0 or round_index == rounds.n_rounds

    def _members(self) -> tuple[str, ...]:
        """Return who trains in the next round."""
        fixed = self.run.members
        if fixed and not self.run.plan.rounds.is_late_join_allowed:
            return fixed
        return tuple(sorted({*fixed, *present(self.grid)}))

    def _shared(self, model: Weights) -> Weights:
        return {name: value for name, value in model.items() if name not in self.local}

    @property
    def _best_path(self) -> Path:
        return self.run.folder / "best.safetensors"


def _scores_of(answer: Answer) -> tuple[str, Scores | None]:
    """Return a site's scores, or the code of why there are none."""
    if answer.content is None:
        return answer.code, None
    try:
        return "ok", read_answer(SCORES, answer.site, answer.content)
    except RoundError as error:
        log.warning("%s", error)
        return error.code, None
