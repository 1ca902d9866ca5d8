"""The rounds of a run: broadcast, train, aggregate, score, checkpoint, and so on after a crash."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from flwr.serverapp import Grid

from fedmri.assembly import Assembly, assemble
from fedmri.errors import RoundError, explained
from fedmri.harmonize.sums import version
from fedmri.models.pretrained import begin
from fedmri.round import ServerState, Update, Weights
from fedmri.server.late.as_they_come import AsTheyCome
from fedmri.server.rounds.checkpoint import Checkpoint, Checkpoints, digest, save_weights
from fedmri.server.rounds.final_model import write_final
from fedmri.server.rounds.fitting import Fitting
from fedmri.server.rounds.in_clear import InClear
from fedmri.server.rounds.records import Observer, Records
from fedmri.server.rounds.run import Channel, Run, Running
from fedmri.server.rounds.scoring import Scoring
from fedmri.server.rounds.secure import UnderMasks
from fedmri.trained.file.card import Provenance
from fedmri.trained.file.names import MODEL
from fedmri.wire import FITTED, TrainOrder, as_arrays

log = logging.getLogger("fedmri.server")


def _channel(running: Running) -> Channel:
    """Return how updates reach the server, as the plan has it."""
    if running.plan.secagg.is_on:
        return UnderMasks(running)
    return AsTheyCome(running) if running.plan.rounds.is_late_possible else InClear(running)


class Rounds:
    """The server's half of a run over a grid."""

    def __init__(self, run: Run, grid: Grid, observe: Observer) -> None:
        made = assemble(run.plan).checked()
        fixed = {"arm": run.arm.label, "seed": run.plan.seed}
        records = Records(run.folder / "metrics.jsonl", fixed, observe)
        self.running = Running(run, made, grid, records)
        self.plan, self.records, self.strategy = run.plan, records, run.plan.strategy
        self.checkpoints = Checkpoints(run.folder / "checkpoints", run.plan.fingerprint)
        self.channel = _channel(self.running)
        self.fitting = Fitting(self.running, self.channel)
        self.scoring = Scoring(self.running, self.fitting)

    def go(self) -> str:
        """Train what is left to train, test, write the model; return its SHA-256."""
        checkpoint = self._start_or_resume()
        state, notes = checkpoint.state, self.fitting.before_rounds(checkpoint.notes)
        if self.plan.is_ended_by_sums:
            return self._hand_out()
        out = {name: torch.empty_like(value) for name, value in state.model.items()}
        for round_index in range(checkpoint.round_index + 1, self.plan.rounds.n_rounds + 1):
            state, out = self._round(round_index, state, out)
            notes = self._score(round_index, state, notes)
            if self._is_checkpointed(round_index):
                self._write_checkpoint(Checkpoint(round_index, state, notes))
        self.checkpoints.wait()
        return self._finish(state, notes)

    def _start_or_resume(self) -> Checkpoint:
        made, found = self.running.made, self.checkpoints.latest()
        self.records.rewind(0 if found is None else found.notes["n_bytes"])
        self._begin(made, is_new=found is None)
        if found is None:
            return Checkpoint(0, self.strategy.start(made.entries, made.layout), {})
        log.info("%s goes on after round %d", self.running.run.arm.label, found.round_index)
        return replace(found, state=replace(found.state, layout=made.layout))

    def _begin(self, made: Assembly, *, is_new: bool) -> None:
        """Let the network start from the plan's file of weights, and record what was taken.

        A run that goes on needs the file for the entries that no checkpoint's round brings.
        """
        sha256, file = self.plan.start.sha256, self.running.run.weights
        if is_new or made.untold:
            fit = begin(made.network, sha256, file, self.plan.n_channels, self.plan.kind)
            if fit is not None and is_new:
                self.records.add("start", sha256=sha256, **fit.as_dict())
        _ = self.running.first  # before training overwrites the network

    def _round(
        self, round_index: int, state: ServerState, out: Weights
    ) -> tuple[ServerState, Weights]:
        """Return the state after a round, and buffers for the next model."""
        started = time.monotonic()
        members = self.running.members()
        self.running.wait(members)
        rejected: dict[str, str] = {}
        for name, fitted in self.fitting.before_round(round_index - 1, state.model).items():
            stage, known = name.removeprefix(FITTED), version(as_arrays(fitted))
            self.records.add("embedded", round=round_index - 1, stage=stage, version=known)
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
        made, first = self.running.made, self.running.first
        extra = {**self.strategy.broadcast(state), **self.fitting.beside_training()}
        extra |= first.beside(sites)
        order = TrainOrder(round_index, made.shared(state.model, round_index), extra)
        return self.channel.updates(order, sites, rejected)

    def _with_quorum(
        self, updates: Iterator[Update], rejected: Mapping[str, str], n_members: int
    ) -> Iterator[Update]:
        """Pass the updates on; stop the run where too few sites gave one."""
        yield from updates
        n_needed = self.plan.rounds.n_needed(n_members)
        n_good = n_members - len(rejected)
        if n_good < n_needed:
            found = f"{n_good} of {n_members} usable updates; left out: {explained(rejected)}"
            fix = "put right what keeps them out, then resume; or lower rounds.quorum"
            raise RoundError("R01", "quorum", found=found, want=f"{n_needed} or more", fix=fix)

    def _score(self, round_index: int, state: ServerState, notes: dict[str, Any]) -> dict[str, Any]:
        """Score the validation patients where the plan says so; keep the best model's notes."""
        if not self.scoring.is_due(round_index):
            return notes
        mean = self.scoring.validate(round_index, state.model)
        if not self.scoring.is_best(mean, notes):
            return notes
        self.checkpoints.wait()
        self.scoring.keep(round_index, state.model)
        return {**notes, "best": mean, "best_round": round_index}

    def _finish(self, state: ServerState, notes: dict[str, Any]) -> str:
        """Test the final model and write its file; return its SHA-256."""
        self.running.release()
        trained, round_index = self.scoring.selected(state.model, notes)
        model = self.fitting.after_rounds(round_index, trained)
        extra = self.fitting.beside_scoring(round_index, model)
        self.scoring.test(round_index, model, extra)
        self.fitting.after_test(round_index)
        model = self.running.made.finished(model)
        sha256 = digest(model)
        self.records.add("done", round=round_index, sha256=sha256)
        run, members = self.running.run, self.running.members()
        origin = Provenance(self.plan, run.arm, members, round_index, sha256)
        fitted = {name.removeprefix(FITTED): values for name, values in extra.items()}
        # last, for its presence says that the run is complete
        write_final(run.folder, origin, self.running.made.written, model, fitted)
        return sha256

    def _hand_out(self) -> str:
        """Give sites what was fitted, and write it; return its SHA-256."""
        fitted = self.fitting.hand_out()
        sha256 = digest(fitted)
        self.records.add("done", round=0, sha256=sha256)
        # last, for its presence says that the run is complete
        save_weights(self.running.run.folder / MODEL, fitted, {"sha256": sha256})
        return sha256

    def _write_checkpoint(self, checkpoint: Checkpoint) -> None:
        notes = {**checkpoint.notes, "n_bytes": self.records.n_bytes}
        self.checkpoints.write(replace(checkpoint, notes=notes))

    def _is_checkpointed(self, round_index: int) -> bool:
        rounds = self.plan.rounds
        return round_index % rounds.checkpoint_every == 0 or round_index == rounds.n_rounds
