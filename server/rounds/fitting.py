"""What stages fit by sums over sites, before the first round or before each."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from flwr.app import MessageType

from fedmri.errors import FedmriError, RoundError, explained
from fedmri.harmonize.sums import Arrays, Doubting, SumStage, version
from fedmri.round import Weights
from fedmri.server.rounds.run import Channel, Running, SumForm, Total
from fedmri.stages.registry import STAGES
from fedmri.stages.stage import Made, Stage, When, fitted_stages
from fedmri.wire import FITTED, SumsOrder, as_arrays, content_of

log = logging.getLogger("fedmri.server")

NOTED = "fitted"
"""Note of a checkpoint: what was fitted before the rounds, by stage."""


class Fitting:
    """What the stages of a run are fitted to, so far."""

    def __init__(self, running: Running, channel: Channel) -> None:
        self._running, self._channel = running, channel
        self._once: dict[str, Weights] = {}
        self._each: tuple[int, dict[str, Weights]] = (-1, {})
        self._at_end: dict[str, Weights] = {}

    def before_rounds(self, notes: dict[str, Any]) -> dict[str, Any]:
        """Fit the stages that are fitted once, or take them from the notes of a checkpoint."""
        found: dict[str, Any] = dict(notes.get(NOTED, {}))
        for number, stage in fitted_stages(self._running.plan.stages, When.BEFORE_ROUNDS):
            name = STAGES.name_of(stage)
            if name not in found:
                members = self._running.members()
                self._running.wait(members)
                first = SumsOrder(0, {}, stage=number, extra=self._once)
                fitted = self._fitted(stage, first, members, Made(self._running.plan))
                self._running.records.add("harmonized", stage=name, version=version(fitted))
                found[name] = _noted(fitted)
            kept = _of_notes(found[name])
            self._once = {**self._once, f"{FITTED}{name}": as_weights(kept)}
        return {**notes, NOTED: found} if found else notes

    def before_round(self, after_round: int, model: Weights) -> dict[str, Weights]:
        """Fit the stages that are fitted before each round, under the model after the last.

        The same model and sites give the same bits, so no checkpoint holds what is fitted.
        """
        if self._each[0] != after_round:
            made = Made(self._running.plan, model, self._running.made.layout)
            each = fitted_stages(self._running.plan.stages, When.BEFORE_EACH_ROUND)
            found = {}
            for number, stage in each:
                fitted = self._under(model, number, stage, after_round, made)
                found[f"{FITTED}{STAGES.name_of(stage)}"] = as_weights(fitted)
            self._each = after_round, found
        return self._each[1]

    def after_rounds(self, after_round: int, model: Weights) -> Weights:
        """Return the model with what the stages make of it that are fitted once it is trained."""
        for number, stage in fitted_stages(self._running.plan.stages, When.AFTER_ROUNDS):
            made = Made(self._running.plan, model, self._running.made.layout)
            fitted = self._under(model, number, stage, after_round, made)
            name = STAGES.name_of(stage)
            self._running.records.add("finished", stage=name, version=version(fitted))
            if stage.is_scored_with:
                self._at_end[f"{FITTED}{name}"] = as_weights(fitted)
            model = {**model, **stage.finished(made, fitted)}
        return model

    def after_test(self, after_round: int) -> None:
        """Record what stages make of sums over test patients; the run ends all the same without."""
        running = self._running
        tested = running.run.tested
        members = [site for site in running.members() if not tested or site in tested]
        if not members:  # such as the pool, which is tested at the sites that it is made of
            return
        made = Made(running.plan, {}, running.made.layout)
        for number, stage in fitted_stages(running.plan.stages, When.AFTER_TEST):
            name, start = STAGES.name_of(stage), as_weights(stage.first(members))
            order = SumsOrder(0, start, {}, after_round, stage=number)
            status, found = "ok", dict[str, Any]()
            try:
                fitted, left_out = self._summed(stage, order, members, made)
                found = {**stage.recorded(made, fitted), "left_out": left_out}
            except FedmriError as error:
                log.warning("nothing was found by stage %s: %s", name, error)
                status = error.code
            running.records.add(
                "found", round=after_round, stage=name, status=status, sites=members, **found
            )

    def beside_training(self) -> dict[str, Weights]:
        """Return what goes with an order to train."""
        return {**self._once, **self._each[1]}

    def beside_scoring(self, after_round: int, model: Weights) -> dict[str, Weights]:
        """Return what a model is scored with: the stages that are fitted for it, and no others."""
        each = fitted_stages(self._running.plan.stages, When.BEFORE_EACH_ROUND)
        scored = [STAGES.name_of(stage) for _, stage in each if stage.is_scored_with]
        once = {**self._once, **self._at_end}
        if not scored:
            return once
        found = self.before_round(after_round, model)
        return {**once, **{f"{FITTED}{n}": found[f"{FITTED}{n}"] for n in scored}}

    def hand_out(self) -> Weights:
        """Give sites what was fitted where the run ends with it; return it as it is written."""
        running = self._running
        for number, stage in enumerate(running.plan.stages):
            if not stage.is_handed_out:
                continue
            fitted = self._once[f"{FITTED}{STAGES.name_of(stage)}"]
            made = Made(running.plan)
            sums = stage.fit(made)
            assert sums is not None, "what is handed out was fitted"
            content = content_of(SumsOrder(sums.n_steps, fitted, stage=number))
            members = running.members()
            for answer in running.exchanges.ask(MessageType.QUERY, content, members):
                if answer.content is None:
                    log.warning("site %s did not use what was fitted: %s", answer.site, answer.code)
                running.records.add("table", round=0, site=answer.site, status=answer.code)
            stage.write_fitted(made, as_arrays(fitted), running.run.folder)
            return {name: value for name, value in fitted.items() if value.numel()}
        return {}

    def _under(
        self, model: Weights, number: int, stage: Stage, after_round: int, made: Made
    ) -> Arrays:
        """Fit one stage under a model."""
        members = self._running.members()
        shared = self._running.made.shared(model, after_round)
        start = as_weights(stage.first(members))
        extra = {**self._once, **self._running.first.beside(members)}
        first = SumsOrder(0, start, shared, after_round, extra, stage=number)
        return self._fitted(stage, first, members, made)

    def _fitted(self, stage: Stage, first: SumsOrder, members: Sequence[str], made: Made) -> Arrays:
        return self._summed(stage, first, members, made)[0]

    def _summed(
        self, stage: Stage, first: SumsOrder, members: Sequence[str], made: Made
    ) -> tuple[Arrays, dict[str, str]]:
        """Return what is fitted, and the code of each site that was left out."""
        sums = stage.fit(made)
        assert sums is not None, "a stage that is fitted has sums"
        n_needed = self._running.plan.rounds.n_needed(len(members))
        return fit(sums, self._channel.total, members, n_needed, first)


def fit(
    stage: SumStage[Any],
    total_of: Total,
    members: Sequence[str],
    n_least: int,
    first: SumsOrder | None = None,
) -> tuple[Arrays, dict[str, str]]:
    """Return the parameters of a stage, fitted by sums over sites, and whom it left out by code.

    A site that gives nothing usable in one step is not asked in the next.

    Args:
        stage: What is fitted.
        total_of: Asks sites, in clear or by a secure sum.
        members: Sites.
        n_least: Sites that must answer each step.
        first: What the first step sends, and every step beside what came of the one before.

    Raises:
        RoundError: Too few did (R01).
        HarmonizeError: The stage refuses the total.
    """
    first = first or SumsOrder(0, {})
    shared: Arrays = as_arrays(first.shared)
    left_out: dict[str, str] = {}
    for step in range(stage.n_steps):
        order = replace(first, step=step, shared=as_weights(shared))
        total = total_of(order, _form(stage, step, shared), members, left_out)
        members = [site for site in members if site not in left_out]
        if len(members) < n_least:
            raise _too_few(members, left_out, n_least)
        shared = stage.combine(step, total, shared)
    return shared, left_out


def _form(stage: SumStage[Any], step: int, shared: Arrays) -> SumForm:
    empty = stage.site_sums(step, (), shared)
    shapes = {name: values.shape for name, values in empty.items()}
    if isinstance(stage, Doubting):
        return SumForm(shapes, partial(stage.refuse_odd, step))
    return SumForm(shapes)


def as_weights(arrays: Arrays) -> Weights:
    """Return arrays as tensors, to be sent."""
    return {name: torch.from_numpy(np.array(values)) for name, values in arrays.items()}


def _too_few(members: Sequence[str], left_out: dict[str, str], n_least: int) -> RoundError:
    found = f"{len(members)} usable answers; left out: {explained(left_out)}"
    fix = "put right what keeps them out, then resume; or lower rounds.quorum"
    return RoundError("R01", "quorum of sums", found=found, want=f"{n_least} or more", fix=fix)


def _noted(arrays: Arrays) -> dict[str, Any]:
    """Return arrays as they stand in the notes of a checkpoint: every float is written exactly."""
    return {name: [list(v.shape), v.ravel().tolist()] for name, v in arrays.items()}


def _of_notes(noted: Mapping[str, Any]) -> Arrays:
    return {
        name: np.array(values, dtype=np.float64).reshape(shape)
        for name, (shape, values) in noted.items()
    }
