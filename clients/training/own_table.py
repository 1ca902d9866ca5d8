"""A site's half of a plan for tables: sums over its rows, and its own table written at the end."""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path

import torch

from fedmri.clients.egress.floor import rows_of
from fedmri.clients.training.private import Guard
from fedmri.clients.training.secure import SecureSite, sum_forms
from fedmri.errors import RoundError
from fedmri.harmonize.combat.own_table import OwnTable, read_own, table_stage, write_harmonized
from fedmri.harmonize.combat.site_table import SiteTable
from fedmri.harmonize.sums import Arrays
from fedmri.plan import from_json
from fedmri.round import Form, Weights
from fedmri.secagg.wide import wide_slots
from fedmri.wire import SecureAnswer, SecureStep, Sums, SumsOrder

log = logging.getLogger("fedmri.client")


class TableSite:
    """One institution in a run over tables; it answers orders for sums and no others.

    Args:
        name: Name of the site.
        plan_json: The plan, as it travels.
        path: The site's table.
        folder: The site's own folder for this run.
        guard: What a plan with secure sums needs of the site.
    """

    def __init__(self, name: str, plan_json: str, path: Path, folder: Path, guard: Guard) -> None:
        self.name, self.folder = name, folder
        self._secure = SecureSite(name, folder, guard.membership)
        self.plan = from_json(plan_json)
        self._path = path
        self._n_least = guard.n_least
        self._stage = table_stage(self.plan.harmonize)

    @cached_property
    def _own(self) -> OwnTable:
        return read_own(self._path, self.name, self.plan.harmonize)

    @cached_property
    def _rows(self) -> SiteTable:
        """What is summed: nothing that too few patients have."""
        return rows_of(self._own, self._n_least) if self._n_least else self._own.rows

    def sums(self, order: SumsOrder) -> Sums:
        """Return this site's part of a step; after the last, write the table and return nothing.

        Raises:
            RoundError: The plan has no such step (R11).
            HarmonizeError: The table cannot be harmonized.
        """
        shared = {name: value.numpy().copy() for name, value in order.shared.items()}
        weights: Weights = {}
        if order.step == self._stage.n_steps:
            for told in write_harmonized(self._own, self.plan.harmonize, shared, self.folder):
                log.warning("table: %s [%s]", told.text, told.code)
        elif order.step not in range(self._stage.n_steps):
            fix = "run the same version of fedmri as the server"
            found, want = f"step {order.step}", "a step of the plan's harmonization"
            raise RoundError("R11", "order for sums", found=found, want=want, fix=fix)
        elif self.plan.secagg.is_on:
            shapes = self._shapes(order)
            weights = self._secure.sums(order, shapes, lambda: self._own_sums(order.step, shared))
        else:
            own = self._own_sums(order.step, shared)
            weights = {name: torch.from_numpy(values) for name, values in own.items()}
        return Sums(self.name, weights, self._own.n_subjects, len(self._own.source.frame))

    def sum_forms(self, order: SumsOrder) -> dict[str, Form]:
        """Return the arrays that an answer to an order for sums has."""
        if order.step not in range(self._stage.n_steps):
            return {}
        return sum_forms(self._shapes(order), is_masked=self.plan.secagg.is_on)

    def secure_step(self, order: SecureStep) -> SecureAnswer:
        """Return this site's answer to a step of a secure sum besides the values."""
        slots = wide_slots(self._shapes(order.sums or SumsOrder(0, {})))
        arrays = self._secure.answer(order, slots)
        return SecureAnswer(self.name, arrays, self._own.n_subjects, len(self._own.source.frame))

    def secure_forms(self, order: SecureStep) -> dict[str, Form]:
        """Return the arrays that an answer to a step of a secure sum has."""
        return self._secure.forms(order)

    def _own_sums(self, step: int, shared: Arrays) -> Arrays:
        return self._stage.site_sums(step, self._rows, shared)

    def _shapes(self, order: SumsOrder) -> dict[str, tuple[int, ...]]:
        shared = {name: value.numpy() for name, value in order.shared.items()}
        zeros = self._stage.nothing(order.step, shared)
        return {name: values.shape for name, values in zeros.items()}
