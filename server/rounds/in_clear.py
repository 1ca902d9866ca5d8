"""Sites' values in clear: each is looked at, accepted or left out, and added up in order."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from flwr.app import MessageType, RecordDict

from fedmri.errors import HarmonizeError, RoundError
from fedmri.harmonize.sums import Arrays, add
from fedmri.round import ExtraForms, Update
from fedmri.server.rounds.accept import Bounds, check_update
from fedmri.server.rounds.exchange import Answer
from fedmri.server.rounds.run import Running, SumForm, bytes_down
from fedmri.wire import (
    SUMS,
    UPDATE,
    Sums,
    SumsOrder,
    TrainOrder,
    as_arrays,
    content_of,
    n_bytes,
    read_answer,
)

log = logging.getLogger("fedmri.server")


@dataclass(frozen=True)
class Expected:
    """What answers to an order must be like.

    Attributes:
        order: The order.
        max_norm: Largest norm of the parameters of an update.
        extra: What comes beside the model.
    """

    order: TrainOrder
    max_norm: float
    extra: ExtraForms


@dataclass(frozen=True)
class InClear:
    """The channel of a run without secure aggregation."""

    running: Running

    def total(
        self, order: SumsOrder, form: SumForm, sites: Sequence[str], left_out: dict[str, str]
    ) -> Arrays:
        """Return the sum of what each site sent."""
        n_needed = self.running.plan.rounds.n_needed(len(self.running.members()))
        content = content_of(order)
        answers = self.running.exchanges.ask(MessageType.QUERY, content, sites, n_needed)
        return added(answers, form, left_out)

    def updates(
        self, order: TrainOrder, sites: Sequence[str], rejected: dict[str, str]
    ) -> Iterator[Update]:
        """Yield the updates that may be averaged; name and count the others."""
        running = self.running
        # where sites have their turns one by one, the quorum is over all of these
        n_needed = running.plan.rounds.n_needed(len(running.members())) if len(sites) > 1 else 0
        content, expected = content_of(order), self.expected(order)
        for answer in running.exchanges.ask(MessageType.TRAIN, content, sites, n_needed):
            yield from self.accepted(answer, expected, order.round_index, rejected)
            del answer  # before the next is taken: one update is held at a time

    def expected(self, order: TrainOrder) -> Expected:
        """Return what answers to an order must be like."""
        running = self.running
        extra = running.plan.strategy.extra_forms(order.weights, running.made.layout)
        return Expected(order, running.max_norm(order.weights), extra)

    def accepted(
        self, answer: Answer, expected: Expected, round_index: int, rejected: dict[str, str]
    ) -> Iterator[Update]:
        """Yield the update of an answer where it may be averaged; write down what came of it."""
        fields: dict[str, Any] = {"seconds": round(answer.seconds, 4)}
        order, code, update = expected.order, answer.code, None
        if order.round_index != round_index:
            fields["trained"] = order.round_index
        if answer.content is not None:
            try:
                update = self.read(answer.site, answer.content, expected, fields)
            except RoundError as error:
                log.warning("%s", error)
                code = error.code
        if code == "ok" and update is not None:
            counts = {"n_examples": update.n_examples, "n_subjects": update.n_subjects}
            fields |= counts | {"bytes_down": bytes_down(order)} | dict(update.metrics)
            yield update
        self.running.tell(round_index, answer.site, code, rejected, **fields)

    def read(
        self, site: str, content: RecordDict, expected: Expected, fields: dict[str, Any]
    ) -> Update:
        """Return the update of an answer, decoded; its size goes into the fields.

        Raises:
            RoundError: It cannot be averaged, see ``check_update``.
        """
        update, shared = read_answer(UPDATE, site, content), expected.order.weights
        fields["bytes_up"] = n_bytes(update.weights) + sum(map(n_bytes, update.extra.values()))
        for stage in reversed(self.running.stages.values()):
            update = stage.incoming(update, shared)
        check_update(update, shared, self._bounds(site, expected.max_norm, expected.extra))
        return update

    def _bounds(self, site: str, max_norm: float, extra: ExtraForms) -> Bounds:
        run = self.running.run
        n_examples, n_subjects = (
            said.get(site, 0) for said in (run.declared, run.declared_subjects)
        )
        parameters = self.running.made.layout.parameters
        return Bounds(parameters, max_norm, n_examples, extra, n_subjects)


def added(answers: Iterator[Answer], form: SumForm, left_out: dict[str, str]) -> Arrays:
    """Return the sum of what sites sent for a step; name who sent nothing that can be used."""
    usable = _usable(answers, form, left_out)
    first = next(usable, None)
    # never a list: a grid may write the next answer over the memory of the last
    return {} if first is None else add(chain([first], usable))


def _usable(answers: Iterator[Answer], form: SumForm, left_out: dict[str, str]) -> Iterator[Arrays]:
    for answer in answers:
        try:
            if answer.content is None:
                left_out[answer.site] = answer.code
                log.warning("site %s left out of the sums: %s", answer.site, answer.code)
                continue
            found = _checked(read_answer(SUMS, answer.site, answer.content), form.shapes)
            form.refuse(found)
        except (RoundError, HarmonizeError) as error:
            log.warning("site %s left out of the sums: %s", answer.site, error)
            left_out[answer.site] = error.code
        else:
            yield found


def _checked(sums: Sums, forms: dict[str, tuple[int, ...]]) -> Arrays:
    found = {name: tuple(value.shape) for name, value in sums.arrays.items()}
    if found != forms or any(v.dtype != torch.float64 for v in sums.arrays.values()):
        odd = sorted(name for name in found | forms if found.get(name) != forms.get(name))
        fix = "run the same plan and version of fedmri at that site"
        text = f"{len(odd)} that differ, such as {odd[0]!r}" if odd else "another type"
        what, want = f"sums of site {sums.site}", "those of the plan's stages"
        raise RoundError("R03", what, found=text, want=want, fix=fix)
    if not all(bool(value.isfinite().all()) for value in sums.arrays.values()):
        fix = "look at that site's images"
        what = f"sums of site {sums.site}"
        raise RoundError("R04", what, found="NaN or infinity", want="finite numbers", fix=fix)
    return as_arrays(sums.arrays)
