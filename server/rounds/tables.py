"""A run over tables: ComBat fitted by sums over sites, then handed out; each site keeps its own."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from flwr.app import MessageType
from flwr.serverapp import Grid

from fedmri.harmonize.combat.own_table import saved_as, table_stage
from fedmri.harmonize.sums import Arrays, SumStage, version
from fedmri.server.registry.attendance import Attendance
from fedmri.server.rounds.checkpoint import digest, save_weights
from fedmri.server.rounds.exchange import Answer, Exchanges
from fedmri.server.rounds.harmonizing import (
    Ask,
    as_weights,
    fit,
    total_by_secure_sum,
    total_in_clear,
)
from fedmri.server.rounds.loop import Run
from fedmri.server.rounds.records import Observer, Records
from fedmri.server.rounds.secure import SecureSums
from fedmri.server.transport.asking import present, wait_for_sites
from fedmri.wire import SumsOrder, content_of

log = logging.getLogger("fedmri.server")


class Tables:
    """The server's half of a run over tables, over a grid."""

    def __init__(self, run: Run, grid: Grid, observe: Observer) -> None:
        self.run = run
        self.grid = grid
        fixed = {"arm": run.arm.label, "seed": run.plan.seed}
        self.records = Records(run.folder / "metrics.jsonl", fixed, observe)
        self.exchanges = Exchanges(grid, run.plan.rounds.timeout_s, Attendance(run.folder))

    def go(self) -> str:
        """Fit, hand out, write the parameters; return their SHA-256.

        It is short, and the same tables give the same bits: a run that was stopped begins anew.
        """
        plan = self.run.plan
        self.records.rewind(0)
        members = self.run.members or tuple(present(self.grid))
        wait_for_sites(self.grid, members, plan.rounds.min_sites, plan.rounds.timeout_s)
        stage = table_stage(plan.harmonize)
        n_needed = plan.rounds.n_needed(len(members))
        ask = self._ask_for_sums(n_needed)
        total = total_in_clear(ask)
        if plan.secagg.is_on:
            secure = SecureSums(self.run.roll, self.run.folder, self.exchanges.ask)
            ask = self._ask_for_sums(secure.n_needed)
            total = total_by_secure_sum(secure, ask)
        fitted = fit(stage, total, members, n_needed)
        self.records.add("harmonized", version=version(fitted))
        self._hand_out(stage, fitted, members)
        weights = {name: value for name, value in as_weights(fitted).items() if value.numel()}
        sha256 = digest(weights)
        self.records.add("done", round=0, sha256=sha256)
        # for hospitals that join later; no site's own effect is known here
        saved_as(plan.harmonize, fitted, {}).write(self.run.folder / "parameters.npz")
        # last, for its presence says that the run is complete
        save_weights(self.run.folder / "model.safetensors", weights, {"sha256": sha256})
        return sha256

    def _hand_out(self, stage: SumStage[Any], fitted: Arrays, members: Sequence[str]) -> None:
        order = SumsOrder(stage.n_steps, as_weights(fitted))
        for answer in self._ask_for_sums(0)(order, members):
            if answer.content is None:
                log.warning("site %s did not harmonize its table: %s", answer.site, answer.code)
            self.records.add("table", round=0, site=answer.site, status=answer.code)

    def _ask_for_sums(self, n_needed: int) -> Ask:
        def ask(order: SumsOrder, sites: Sequence[str]) -> Iterator[Answer]:
            content = content_of(order)
            return self.exchanges.ask(MessageType.QUERY, content, sites, n_needed)

        return ask
