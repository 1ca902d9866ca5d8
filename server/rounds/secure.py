"""The server's half of the secure sums of a run: it learns totals, and no site's own values.

A sum takes four exchanges: keys, shares of secrets in boxes, the masked values, and the shares that
take the masks off. A site that does not answer one is left out of the next; the sum is lost only
where fewer than the threshold are left.
"""

from __future__ import annotations

import logging
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from flwr.app import MessageType, RecordDict
from numpy.typing import NDArray

from fedmri.errors import FedmriError
from fedmri.harmonize.sums import Arrays
from fedmri.machine.files import write_whole
from fedmri.round import Update
from fedmri.secagg.messages import Advert, Boxes, Masked, Reveal, Roster, Sealed
from fedmri.secagg.ring import Slot, n_words
from fedmri.secagg.secure_sum import Roll
from fedmri.secagg.server_half import Running, ServerHalf
from fedmri.secagg.updates import (
    empty_beside,
    mean_update,
    taken_apart,
    update_slots,
    with_beside,
)
from fedmri.secagg.wide import from_limbs, wide_slots
from fedmri.server.rounds import run as of_run
from fedmri.server.rounds.accept import Bounds, check_update
from fedmri.server.rounds.exchange import Answer
from fedmri.server.rounds.run import SumForm, bytes_down
from fedmri.wire import (
    KEYS,
    SUMS,
    UPDATE,
    Masking,
    MessageKind,
    SecureStep,
    SumsOrder,
    TrainOrder,
    as_arrays,
    as_tensors,
    content_of,
    n_bytes,
    read_answer,
)

log = logging.getLogger("fedmri.server")

Numpy = Mapping[str, NDArray[Any]]
M = TypeVar("M")

Ask = Callable[[str, RecordDict, Sequence[str], int], Iterator[Answer]]
"""Sends an order of a kind to sites, of which so many must answer; see ``Exchanges.ask``."""


@dataclass(frozen=True)
class Wanted:
    """What is summed.

    Attributes:
        round_index: Round whose updates are summed; 0 before the rounds.
        slots: Its arrays.
        ask: Asks sites for their masked values; yields those that could be read.
        sums: Step of the harmonization whose sums are hidden; None for updates.
    """

    round_index: int
    slots: Mapping[str, Slot]
    ask: Callable[[Masking, Sequence[str]], Iterator[tuple[str, Masked]]]
    sums: SumsOrder | None = None


class SecureSums:
    """The secure sums of a run.

    Args:
        roll: Who takes part.
        folder: The run's folder: the number of a sum is on its disk before it is used.
        ask: Asks sites.
    """

    def __init__(self, roll: Roll, folder: Path, ask: Ask) -> None:
        self._roll = roll
        self._path = folder / "secure-sums.txt"
        self._ask = ask

    def total(
        self, wanted: Wanted, sites: Sequence[str], left_out: dict[str, str]
    ) -> dict[str, NDArray[Any]]:
        """Return the sums over the sites that stayed.

        Args:
            wanted: What is summed.
            sites: Who is asked.
            left_out: Is given the code of each site that is not in the sum.

        Raises:
            PrivacyError: Too few sites stayed (P51, which names the others and why); or see
                ``ServerHalf``.
        """
        number = self._next_number()
        unrevealed: dict[str, str] = {}
        why = ChainMap(unrevealed, left_out)
        half = ServerHalf(self._roll.sum(number, wanted.slots), why)
        steps = _SumExchanges(half, number, wanted, self._ask, left_out)
        roster = half.roster(steps.adverts(sites))
        sealed = steps.sealed(roster)
        running = half.start(half.inboxes(roster, sealed))
        boxes = as_tensors(Boxes(sealed).to_arrays(half.sum.sites))
        for site, masked in wanted.ask(Masking(number, boxes), sorted(sealed)):
            running = half.add(running, site, masked)
            del masked  # before the next is taken: one vector is held at a time
        return half.unmask(running, roster, steps.reveals(running, unrevealed))

    @property
    def n_needed(self) -> int:
        """Sites without which no sum comes about; 0 where the run has none."""
        return self._roll.n_needed

    def _next_number(self) -> int:
        last = int(self._path.read_text()) if self._path.exists() else 0
        write_whole(self._path, f"{last + 1}\n")
        return last + 1


@dataclass(frozen=True)
class _SumExchanges:
    """The exchanges of one sum besides the values."""

    half: ServerHalf
    number: int
    wanted: Wanted
    ask: Ask
    left_out: dict[str, str]

    def adverts(self, sites: Sequence[str]) -> dict[str, Advert]:
        """Return the keys of the sites that answer."""

        def read(site: str, arrays: Numpy) -> Advert:
            advert = Advert.from_arrays(arrays)
            self.half.sum.refuse_forged(site, advert)
            return advert

        return dict(self._each("advertise", {}, sites, read, self.left_out))

    def sealed(self, roster: Roster) -> dict[str, Sealed]:
        """Return the boxes of the sites that answer."""

        def read(site: str, arrays: Numpy) -> Sealed:
            message = Sealed.from_arrays(arrays, self.half.sum.sites)
            self.half.refuse_sealed(roster, site, message)
            return message

        arrays = roster.to_arrays(self.half.sum.sites)
        return dict(self._each("share", arrays, sorted(roster.adverts), read, self.left_out))

    def reveals(self, running: Running, unrevealed: dict[str, str]) -> dict[str, Reveal]:
        """Return the shares of the sites that answer; who does not is in the sum all the same.

        Args:
            running: Whom the sum is over.
            unrevealed: Is given the code of each site that does not answer.
        """
        survivors = self.half.survivors(running)

        def read(site: str, arrays: Numpy) -> Reveal:
            reveal = Reveal.from_arrays(arrays, self.half.sum.sites)
            self.half.refuse_reveal(running, site, reveal)
            return reveal

        arrays = survivors.to_arrays(self.half.sum.sites)
        return dict(self._each("reveal", arrays, sorted(survivors.sites), read, unrevealed))

    def _each(
        self,
        stage: str,
        arrays: Numpy,
        sites: Sequence[str],
        read: Callable[[str, Numpy], M],
        left_out: dict[str, str],
    ) -> Iterator[tuple[str, M]]:
        wanted = self.wanted
        order = SecureStep(wanted.round_index, self.number, stage, as_tensors(arrays), wanted.sums)
        content, n_needed = content_of(order), self.half.sum.n_needed
        for answer in self.ask(MessageType.QUERY, content, sites, n_needed):
            code = answer.code
            try:
                if answer.content is not None:
                    said = read_answer(KEYS, answer.site, answer.content)
                    yield answer.site, read(answer.site, as_arrays(said.arrays))
                    continue
            except FedmriError as error:
                log.warning("site %s: %s", answer.site, error)
                code = error.code
            log.warning("site %s left out at %s: %s", answer.site, stage, code)
            left_out[answer.site] = code


def masked_of(arrays: Mapping[str, torch.Tensor], slots: Mapping[str, Slot]) -> Masked:
    """Return masked values as they travelled; raise PrivacyError P56 where they are none."""
    return Masked.from_arrays(as_arrays(arrays), n_words(slots))


class UnderMasks:
    """The channel of a run with secure aggregation: totals alone are learned."""

    def __init__(self, running: of_run.Running) -> None:
        self._running = running
        self._sums = SecureSums(running.run.roll, running.run.folder, running.exchanges.ask)

    def total(
        self, order: SumsOrder, form: SumForm, sites: Sequence[str], left_out: dict[str, str]
    ) -> Arrays:
        """Return the sum over the sites that stayed; no site's own part can be looked at."""
        slots = wide_slots(form.shapes)

        def masked(masking: Masking, there: Sequence[str]) -> Iterator[tuple[str, Masked]]:
            content = content_of(replace(order, masking=masking))
            for answer in self._asked(MessageType.QUERY, content, there):
                code, values = _read_masked(answer, SUMS, slots)
                if values is None:
                    left_out[answer.site] = code
                else:
                    yield answer.site, values.arrays

        wanted = Wanted(order.round_index, slots, masked, order)
        return from_limbs(self._sums.total(wanted, sites, left_out))

    def updates(
        self, order: TrainOrder, sites: Sequence[str], rejected: dict[str, str]
    ) -> Iterator[Update]:
        """Yield the weighted mean of the sites' updates as if it were the update of one."""
        shared, running = order.weights, self._running
        forms = running.plan.strategy.extra_forms(shared, running.made.layout)
        entries = with_beside(as_arrays(shared), empty_beside(forms))
        slots = update_slots(entries, running.plan.secagg.fraction_bits)

        def masked(masking: Masking, there: Sequence[str]) -> Iterator[tuple[str, Masked]]:
            content = content_of(replace(order, masking=masking))
            for answer in self._asked(MessageType.TRAIN, content, there):
                fields: dict[str, Any] = {"seconds": round(answer.seconds, 4)}
                code, read = _read_masked(answer, UPDATE, slots)
                if read is not None:
                    fields |= {"bytes_up": read.n_bytes, "bytes_down": bytes_down(order)}
                    fields |= dict(read.metrics)
                running.tell(order.round_index, answer.site, code, rejected, **fields)
                if read is not None:
                    yield answer.site, read.arrays
                    del read  # before the next is taken: one vector is held at a time

        total = self._sums.total(Wanted(order.round_index, slots, masked), sites, rejected)
        mean, beside = taken_apart(mean_update(total, entries))
        extra = {record: as_tensors(of) for record, of in beside.items()}
        update = Update("all sites", as_tensors(mean), 1, 1, extra=extra)
        bounds = Bounds(running.made.layout.parameters, running.max_norm(shared), extra=forms)
        check_update(update, shared, bounds)
        yield update

    def _asked(self, kind: str, content: RecordDict, sites: Sequence[str]) -> Iterator[Answer]:
        return self._running.exchanges.ask(kind, content, sites, self._sums.n_needed)


@dataclass(frozen=True)
class _Read:
    """A site's masked values, and what it told in clear beside them."""

    arrays: Masked
    n_bytes: int
    metrics: Mapping[str, float]


def _read_masked(
    answer: Answer, kind: MessageKind[Any], slots: Mapping[str, Slot]
) -> tuple[str, _Read | None]:
    """Return a site's masked values, or the code of why there are none."""
    if answer.content is None:
        log.warning("site %s: %s", answer.site, answer.code)
        return answer.code, None
    try:
        said = read_answer(kind, answer.site, answer.content)
        arrays = said.weights if isinstance(said, Update) else said.arrays
        metrics = said.metrics if isinstance(said, Update) else {}
        return "ok", _Read(masked_of(arrays, slots), n_bytes(arrays), metrics)
    except FedmriError as error:
        log.warning("site %s: %s", answer.site, error)
        return error.code, None
