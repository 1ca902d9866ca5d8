"""What a plan would cost a site before anybody there has approved it: bytes and epsilon."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fedmri.agreement.signed_plan import SignedPlan
from fedmri.assembly import assemble
from fedmri.clients.consent.leaving import key_bytes, update_bytes
from fedmri.clients.training.protection.private import Guard
from fedmri.plan import Plan
from fedmri.privacy.accounting import Steps, spent
from fedmri.privacy.dp_sgd import round_steps


@dataclass(frozen=True)
class PlanCost:
    """What a plan costs a site.

    Attributes:
        n_rounds: Rounds of training.
        bytes_a_round: Bytes of an update as it leaves, and of keys where sums are secure.
        epsilon: Privacy loss of one patient after all rounds; None without differential privacy, or
            where the number of training patients is not known.
        delta: That epsilon goes with; 0 where there is none.
        n_train: Training patients that it was computed with; 0 where they are not known.
    """

    n_rounds: int
    bytes_a_round: int
    epsilon: float | None
    delta: float
    n_train: int

    @property
    def bytes_in_all(self) -> int:
        """Bytes of all updates together."""
        return self.n_rounds * self.bytes_a_round


@lru_cache(maxsize=32)
def plan_cost(signed: SignedPlan, n_train: int, max_epsilon: float) -> PlanCost:
    """Return what a plan costs a site.

    Args:
        signed: The plan.
        n_train: Training patients of the site; 0 where nobody knows.
        max_epsilon: The site's own cap; 0 sets none.
    """
    plan = signed.plan
    made = assemble(plan)
    n_bytes = update_bytes(plan, made.shared(made.entries, made.last), made.extra_forms)
    n_bytes += key_bytes(len(signed.sites)) if plan.secagg.is_on else 0
    epsilon, delta = plan_epsilon(plan, n_train, max_epsilon)
    return PlanCost(plan.rounds.n_rounds, n_bytes, epsilon, delta, n_train)


def plan_epsilon(plan: Plan, n_train: int, max_epsilon: float) -> tuple[float | None, float]:
    """Return what one patient of so many has lost after all rounds, with delta; None is unknown."""
    if not (plan.privacy.is_on and n_train):
        return None, 0.0
    train, delta = plan.train, delta_of(plan, n_train, max_epsilon)
    each = round_steps(
        plan.privacy, n_train, local_epochs=train.local_epochs, local_steps=train.local_steps
    )
    steps = Steps(each.noise_multiplier, each.sample_rate, each.n_steps * plan.rounds.n_rounds)
    return spent([steps], delta).epsilon, delta


def delta_of(plan: Plan, n_train: int, max_epsilon: float) -> float:
    """Return the delta that a plan's epsilon goes with at a site, as its guard has it."""
    return Guard(b"", Path(), max_epsilon=max_epsilon).delta_of(plan.privacy, n_train)
