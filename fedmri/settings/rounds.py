"""How many rounds a run has, when one ends, and what becomes of updates that come late."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from fedmri.errors import require


@dataclass(frozen=True)
class RoundsConfig:
    """How many rounds, and what makes one count.

    Attributes:
        n_rounds: Rounds of training.
        quorum: Share of the sites that must return a usable update; below it the run stops.
        evaluate_every: Rounds between scores on the validation patients; 0 scores never.
        checkpoint_every: Rounds between checkpoints; the last round always has one.
        timeout_s: Longest time from an order to its last answer; no answer extends it. A silent
            site costs this time once. Until it shows that it is there, enough other sites do not
            wait for it.
        min_sites: Sites that must be online before a round begins.
        is_late_join_allowed: Whether a site that was absent at the start may take part from the
            round in which it comes.
        max_norm_ratio: Norm of a site's parameters over the norm of the parameters that it
            received. An update above it is left out.
        select: Final model: from the last round, or from the round with the best mean validation
            score. The best round is known only at the end, so sites then keep the state of every
            round.
        close_at: Share of the sites whose usable updates close a round at once; 1 waits for all,
            until the deadline.
        late: What becomes of an update that comes after its round. ``dropped`` forgets it.
            ``added`` adds its change to the round in which it comes, times
            ``(rounds late + 1) ** -staleness_power``. Until then the site gets no other order.
        staleness_power: How fast a late update loses weight; 0 counts it in full.
        max_staleness: Rounds that an added update may be late. A site that is later gets the order
            of the new round, and its old update is dropped.
    """

    n_rounds: int = 20
    quorum: float = 0.5
    evaluate_every: int = 1
    checkpoint_every: int = 1
    timeout_s: float = 3600.0
    min_sites: int = 1
    is_late_join_allowed: bool = False
    max_norm_ratio: float = 30.0
    select: Literal["last", "best"] = "last"
    close_at: float = 1.0
    late: Literal["dropped", "added"] = "dropped"
    staleness_power: float = 0.5
    max_staleness: int = 10

    def __post_init__(self) -> None:
        require(self.n_rounds >= 0, "rounds.n_rounds", self.n_rounds, "0 or more")
        require(0 < self.quorum <= 1, "rounds.quorum", self.quorum, "above 0, up to 1")
        require(self.evaluate_every >= 0, "rounds.evaluate_every", self.evaluate_every, "0 or more")
        every = self.checkpoint_every
        require(every >= 1, "rounds.checkpoint_every", every, "1 or more")
        require(self.timeout_s > 0, "rounds.timeout_s", self.timeout_s, "a positive number")
        require(self.min_sites >= 1, "rounds.min_sites", self.min_sites, "1 or more")
        ratio = self.max_norm_ratio
        require(ratio > 1, "rounds.max_norm_ratio", ratio, "a number above 1")
        is_scored = self.select == "last" or self.evaluate_every > 0
        require(is_scored, "rounds.select", self.select, "last where evaluate_every is 0")
        want = "from rounds.quorum up to 1"
        require(self.quorum <= self.close_at <= 1, "rounds.close_at", self.close_at, want)
        power, most = self.staleness_power, self.max_staleness
        require(0 <= power < math.inf, "rounds.staleness_power", power, "0 or more")
        require(1 <= most <= 1000, "rounds.max_staleness", most, "1 to 1000")

    @property
    def n_scorings(self) -> int:
        """Models that a site is asked to score: on validation patients, and the final one."""
        every = self.evaluate_every
        return (self.n_rounds // every if every else 0) + 1

    @property
    def n_states(self) -> int:
        """States of a site that may still be asked for, one a round, counted from the newest.

        The server goes on from its last checkpoint, or from the one before where that is damaged.
        """
        n_late = self.max_staleness if self.late == "added" else 0
        return (
            self.n_rounds + 1 if self.select == "best" else 2 * self.checkpoint_every + 1 + n_late
        )

    @property
    def is_late_possible(self) -> bool:
        """Whether a round may end before all have answered, or take updates of earlier rounds."""
        return self.close_at < 1 or self.late == "added"

    def n_needed(self, n_members: int) -> int:
        """Return how many of the sites must give a usable answer: the quorum, and one at least."""
        return max(1, math.ceil(self.quorum * n_members))

    def n_enough(self, n_members: int) -> int:
        """Return how many usable answers close a round at once."""
        return max(1, math.ceil(self.close_at * n_members))
