"""Sums over sites, before the first round or between two: the server's half of a harmonization."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import torch

from fedmri.errors import FedmriError, RoundError, explained
from fedmri.harmonize.sums import Arrays, SumStage, add
from fedmri.round import Weights
from fedmri.secagg.messages import Masked
from fedmri.secagg.ring import Slot
from fedmri.secagg.wide import from_limbs, wide_slots
from fedmri.server.rounds.exchange import Answer
from fedmri.server.rounds.secure import SecureSums, Wanted, masked_of
from fedmri.wire import SUMS, Masking, Sums, SumsOrder, as_arrays, read_answer

log = logging.getLogger("fedmri.server")

Forms = dict[str, tuple[int, ...]]
Total = Callable[[SumsOrder, Forms, Sequence[str], dict[str, str]], Arrays]
"""Returns the sums over sites of a step, given the arrays' shapes; it names whom it left out."""

Ask = Callable[[SumsOrder, Sequence[str]], Iterator[Answer]]
"""Sends an order for sums to sites; yields their answers in ascending order of site."""


def fit(
    stage: SumStage[Any],
    total_of: Total,
    members: Sequence[str],
    n_least: int,
    first: SumsOrder | None = None,
) -> Arrays:
    """Return the parameters of a harmonization, fitted by sums over sites.

    A site that does not answer one step is not asked in the next.

    Args:
        stage: The harmonization.
        total_of: Asks sites, in clear (``total_in_clear``) or by a secure sum.
        members: Sites.
        n_least: Sites that must answer each step.
        first: What the first step sends, and every step beside what came of the one before.

    Raises:
        RoundError: Too few did (R01).
        HarmonizeError: The stage refuses the total.
    """
    first = first or SumsOrder(0, {})
    shared: Arrays = as_arrays(first.shared)
    for step in range(stage.n_steps):
        left_out: dict[str, str] = {}
        order = replace(first, step=step, shared=as_weights(shared))
        forms = {name: values.shape for name, values in stage.site_sums(step, (), shared).items()}
        total = total_of(order, forms, members, left_out)
        members = [site for site in members if site not in left_out]
        if len(members) < n_least:
            raise _too_few(members, left_out, n_least)
        shared = stage.combine(step, total, shared)
    return shared


def total_in_clear(ask: Ask) -> Total:
    """Return what adds up the sums that each site sends."""

    def total(
        order: SumsOrder, forms: Forms, sites: Sequence[str], left_out: dict[str, str]
    ) -> Arrays:
        usable = _usable(ask(order, sites), forms, left_out)
        first = next(usable, None)
        # never a list: a grid may write the next answer over the memory of the last
        return {} if first is None else add(chain([first], usable))

    return total


def total_by_secure_sum(sums: SecureSums, ask: Ask) -> Total:
    """Return what learns the total alone."""

    def total(
        order: SumsOrder, forms: Forms, sites: Sequence[str], left_out: dict[str, str]
    ) -> Arrays:
        slots = wide_slots(forms)

        def masked(masking: Masking, there: Sequence[str]) -> Iterator[tuple[str, Masked]]:
            for answer in ask(replace(order, masking=masking), there):
                read = _masked(answer, slots, left_out)
                if read is not None:
                    yield answer.site, read

        return from_limbs(
            sums.total(Wanted(order.round_index, slots, masked, order), sites, left_out)
        )

    return total


def _masked(answer: Answer, slots: Mapping[str, Slot], left_out: dict[str, str]) -> Masked | None:
    code = answer.code
    if answer.content is not None:
        try:
            return masked_of(read_answer(SUMS, answer.site, answer.content).arrays, slots)
        except FedmriError as error:
            log.warning("site %s: %s", answer.site, error)
            code = error.code
    left_out[answer.site] = code
    return None


def _usable(answers: Iterator[Answer], forms: Forms, left_out: dict[str, str]) -> Iterator[Arrays]:
    for answer in answers:
        try:
            if answer.content is None:
                left_out[answer.site] = answer.code
                log.warning("site %s left out of the sums: %s", answer.site, answer.code)
                continue
            yield _checked(read_answer(SUMS, answer.site, answer.content), forms)
        except RoundError as error:
            log.warning("%s", error)
            left_out[answer.site] = error.code


def _checked(sums: Sums, forms: Forms) -> Arrays:
    found = {name: tuple(value.shape) for name, value in sums.arrays.items()}
    if found != forms or any(v.dtype != torch.float64 for v in sums.arrays.values()):
        odd = sorted(name for name in found | forms if found.get(name) != forms.get(name))
        fix = "run the same plan and version of fedmri at that site"
        text = f"{len(odd)} that differ, such as {odd[0]!r}" if odd else "another type"
        what, want = f"sums of site {sums.site}", "those of the plan's harmonization"
        raise RoundError("R03", what, found=text, want=want, fix=fix)
    if not all(bool(value.isfinite().all()) for value in sums.arrays.values()):
        fix = "look at that site's images"
        what = f"sums of site {sums.site}"
        raise RoundError("R04", what, found="NaN or infinity", want="finite numbers", fix=fix)
    return as_arrays(sums.arrays)


def as_weights(arrays: Arrays) -> Weights:
    """Return arrays as tensors, to be sent."""
    return {name: torch.from_numpy(np.array(values)) for name, values in arrays.items()}


def _too_few(members: Sequence[str], left_out: dict[str, str], n_least: int) -> RoundError:
    found = f"{len(members)} usable answers; left out: {explained(left_out)}"
    fix = "put right what keeps them out, then resume; or lower rounds.quorum"
    return RoundError("R01", "quorum of sums", found=found, want=f"{n_least} or more", fix=fix)
