"""One training at the server: what it is, and what all parts of its rounds need."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from flwr.serverapp import Grid

from fedmri.arm import Arm
from fedmri.assembly import Assembly
from fedmri.harmonize.sums import Arrays
from fedmri.models.weights import norm
from fedmri.plan import Plan
from fedmri.round import Update, Weights
from fedmri.secagg.secure_sum import Roll
from fedmri.server.registry.attendance import Attendance
from fedmri.server.registry.nodes import present, wait_for_sites
from fedmri.server.rounds.exchange import Exchanges
from fedmri.server.rounds.first_values import FirstValues
from fedmri.server.rounds.records import Records
from fedmri.stages.chain import chain
from fedmri.stages.stage import Stage
from fedmri.wire import SumsOrder, TrainOrder, n_bytes

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
        roll: Who takes part in secure sums, where the plan has them.
        weights: File that the plan starts from, where it names one by its hash.
        slow: Rounds that sites of a simulation take for an answer; all others take one.
        revoked: Gives the sites that the coordinator has shut out by now.
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
    slow: Mapping[str, int] = field(default_factory=dict)
    revoked: Callable[[], frozenset[str]] = frozenset


LATE = "R45"
"""Code of a site whose update joins a later round."""


@dataclass(frozen=True)
class SumForm:
    """What one site's sums of a step must be like.

    Attributes:
        shapes: Of its arrays.
        refuse: Raises HarmonizeError for sums that cannot be true. Under masks nobody sees them.
    """

    shapes: dict[str, tuple[int, ...]]
    refuse: Callable[[Arrays], None] = lambda sums: None


Total = Callable[[SumsOrder, SumForm, Sequence[str], dict[str, str]], Arrays]
"""Returns the sums over sites of a step; it names whom it left out."""


class Channel(Protocol):
    """How values of sites reach the server: each in clear, or their sum alone."""

    def total(
        self, order: SumsOrder, form: SumForm, sites: Sequence[str], left_out: dict[str, str]
    ) -> Arrays:
        """Return the sums over sites of a step of a stage; see ``Total``."""
        ...

    def updates(
        self, order: TrainOrder, sites: Sequence[str], rejected: dict[str, str]
    ) -> Iterator[Update]:
        """Ask sites to train; yield what may be averaged, in ascending order of site."""
        ...


@dataclass(frozen=True)
class Running:
    """A run that goes on over a grid.

    Attributes:
        run: What is trained.
        made: Its plan, made real.
        grid: Flower's grid.
        records: What is written down of it.
        busy: Sites with an order of an earlier round, by that round: nothing else is asked of them.
    """

    run: Run
    made: Assembly
    grid: Grid
    records: Records
    busy: dict[str, int] = field(default_factory=dict)

    @property
    def plan(self) -> Plan:
        """What is learned."""
        return self.run.plan

    @cached_property
    def stages(self) -> dict[str, Stage]:
        """The stages of the plan by name; the server runs them backwards."""
        return chain(self.plan)

    @cached_property
    def first(self) -> FirstValues:
        """Entries that sites keep of the first model; the network has them when this is asked."""
        made, entries = self.made, self.made.entries
        names = made.untold if self.plan.start.sha256 else frozenset()
        return FirstValues({name: entries[name].clone() for name in sorted(names)})

    @cached_property
    def exchanges(self) -> Exchanges:
        """Orders out, answers in."""
        attendance = Attendance(self.run.folder, revoked=self.run.revoked)
        return Exchanges(self.grid, self.plan.rounds.timeout_s, attendance, self.first)

    def members(self) -> tuple[str, ...]:
        """Return who takes part in the next exchange."""
        fixed = self.run.members
        if fixed and not self.plan.rounds.is_late_join_allowed:
            return fixed
        return tuple(sorted({*fixed, *present(self.grid)}))

    def wait(self, sites: Sequence[str]) -> None:
        """Wait until enough sites are online."""
        rounds = self.plan.rounds
        wait_for_sites(self.grid, sites, rounds.min_sites, rounds.timeout_s)

    def max_norm(self, shared: Weights) -> float:
        """Return the largest norm of a trained model's parameters that is accepted."""
        parameters = self.made.layout.parameters
        return self.plan.rounds.max_norm_ratio * max(1.0, norm(shared, parameters))

    def tell(
        self, round_index: int, site: str, code: str, rejected: dict[str, str], **fields: Any
    ) -> None:
        """Write down what came of a site in a round of training."""
        if code not in ("ok", LATE):
            log.warning("site %s left out of round %d: %s", site, round_index, code)
        if code != "ok":
            rejected[site] = code
        if code != LATE:  # nothing of it is lost
            is_late = code == "ok" and fields.get("trained", round_index) < round_index
            self.exchanges.attendance.tell(site, round_index, LATE if is_late else code)
        self.records.add("round", round=round_index, site=site, status=code, **fields)

    def free(self) -> tuple[str, ...]:
        """Return the members that are not busy with an order of an earlier round."""
        return tuple(site for site in self.members() if site not in self.busy)

    def release(self) -> None:
        """Let go of orders that sites are busy with: no round comes that could use the answers."""
        for site in self.busy:
            self.exchanges.attendance.missed.pop(site, None)
        self.busy.clear()


def bytes_down(order: TrainOrder) -> int:
    """Return the size of what a site is sent to train."""
    return n_bytes(order.weights) + sum(map(n_bytes, order.extra.values()))
