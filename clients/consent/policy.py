"""What a site allows, whatever a plan asks for: its own limits always win."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fedmri.errors import require
from fedmri.models.registry import MODELS
from fedmri.plan import Plan
from fedmri.stages.stage import When
from fedmri.tasks.registry import TASKS

MOST_DIGITS = 6
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class SitePolicy:
    """Limits of a site, from its own settings; 0 and empty set no limit unless said otherwise.

    Attributes:
        min_subjects_train: Patients that must be behind an update; 1 is the least.
        min_subjects_reported: Patients that must be behind a reported metric; 1 is the least.
        tasks: Kinds of task that may be trained; empty allows all.
        models: Networks that may be trained, by name; empty allows all.
        max_rounds: Most rounds of one plan.
        max_epsilon: Most privacy loss of a patient over all plans together. It counts at the plan's
            delta, or at one tenth over the site's training patients if that is less. A plan without
            differential privacy has no finite loss, so any limit refuses it.
        max_site_epsilon: Most privacy loss of this site as a whole over all plans together. It
            counts noise for a whole hospital, at a delta of 0.001 at most. A plan without such
            noise has no finite loss, so any limit refuses it.
        max_clip_grad_norm: A plan must clip the gradient of each step, at this L2 norm or below.
        is_secagg_required: Whether a plan must hide this site's updates from the server.
        max_update_norm: Largest L2 norm of an update's change of all parameters.
        max_leakage: Highest score of the leakage meter, 0 to 1, that an update may have. 0 does not
            measure; 1 measures and lets every update leave.
        leakage_every: One of so many updates is measured, drawn by the site. Round 1 is always
            measured.
        leakage_steps: Steps of each of its two searches for an image: the cost of a measurement.
        max_scorings: Most scorings of one run. A scoring is one model on validation or test
            patients. Codes of errors that the data decide count too.
        score_digits: Significant digits of a score or a loss that leaves, 1 to 6.
        approval_days: Days that an approval lasts; 0 for ever.
        is_approval_automatic: Whether a plan of the coordinator within the limits runs although no
            person has looked at it.
        approved: Content hashes of plans that are approved by this file.
        is_reason_told: Whether the coordinator may read why this site refuses a run.
    """

    min_subjects_train: int = 5
    min_subjects_reported: int = 5
    tasks: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    max_rounds: int = 0
    max_epsilon: float = 0.0
    max_site_epsilon: float = 0.0
    max_clip_grad_norm: float = 0.0
    is_secagg_required: bool = False
    max_update_norm: float = 0.0
    max_leakage: float = 0.0
    leakage_every: int = 1
    leakage_steps: int = 100
    max_scorings: int = 200
    score_digits: int = 3
    approval_days: int = 365
    is_approval_automatic: bool = False
    approved: tuple[str, ...] = ()
    is_reason_told: bool = False

    def __post_init__(self) -> None:
        for name in (
            "min_subjects_train",
            "min_subjects_reported",
            "leakage_every",
            "leakage_steps",
            "max_scorings",
        ):
            value = getattr(self, name)
            require(value >= 1, f"policy.{name}", value, "1 or more")
        for name in (
            "max_rounds",
            "approval_days",
            "max_epsilon",
            "max_site_epsilon",
            "max_clip_grad_norm",
            "max_update_norm",
        ):
            value = getattr(self, name)
            require(value >= 0, f"policy.{name}", value, "0 or more")
        digits = self.score_digits
        require(1 <= digits <= MOST_DIGITS, "policy.score_digits", digits, f"1 to {MOST_DIGITS}")
        require(0 <= self.max_leakage <= 1, "policy.max_leakage", self.max_leakage, "0 to 1")
        kinds = TASKS.names
        are_kinds = set(self.tasks) <= set(kinds)
        require(are_kinds, "policy.tasks", self.tasks, f"some of {', '.join(kinds)}")
        require(all(self.models), "policy.models", self.models, "names of networks")
        are_hashes = all(SHA256.fullmatch(text) for text in self.approved)
        want = "content hashes of plans, 64 digits of 0-9 and a-f each"
        require(are_hashes, "policy.approved", self.approved, want)


def violations(policy: SitePolicy, plan: Plan, n_subjects: int | None = None) -> list[str]:
    """Return in what a plan goes beyond a site's limits, a sentence each; empty where it keeps.

    Args:
        policy: The site's limits.
        plan: What is to be trained.
        n_subjects: Patients that the site would train on; None where that is not yet known.
    """
    return [
        *_of_plan(policy, plan),
        *_of_privacy(policy, plan),
        *_of_data(policy, n_subjects),
    ]


def _of_plan(policy: SitePolicy, plan: Plan) -> Iterator[str]:
    kind, n_rounds = TASKS.name_of(plan.target), plan.rounds.n_rounds
    model = MODELS.name_of(plan.model)
    if policy.tasks and kind not in policy.tasks:
        yield f"task {kind} is not one of {', '.join(policy.tasks)} (policy.tasks)"
    if policy.models and model not in policy.models:
        yield f"network {model} is not one of {', '.join(policy.models)} (policy.models)"
    if policy.max_rounds and n_rounds > policy.max_rounds:
        yield f"{n_rounds} rounds are more than {policy.max_rounds} (policy.max_rounds)"
    if plan.rounds.n_scorings > policy.max_scorings:
        found = f"{plan.rounds.n_scorings} scorings are more than {policy.max_scorings}"
        yield f"{found} (policy.max_scorings); a larger rounds.evaluate_every has fewer"
    if policy.is_secagg_required and not plan.secagg.is_on:
        yield "updates would be sent in clear (policy.is_secagg_required)"
    limit, norm = policy.max_clip_grad_norm, plan.train.clip_grad_norm
    if limit and not 0 < norm <= limit:
        found = f"clipped at {norm:g}" if norm else "not clipped"
        yield f"gradients are {found}, must be at {limit:g} or below (policy.max_clip_grad_norm)"


def _of_privacy(policy: SitePolicy, plan: Plan) -> Iterator[str]:
    if policy.max_epsilon and not plan.is_patient_hidden:
        allowed = f"epsilon {policy.max_epsilon:g} (policy.max_epsilon)"
        yield f"without differential privacy the privacy loss has no bound; allowed is {allowed}"
    if policy.max_epsilon and _has_bare_sums(plan):
        allowed = f"epsilon {policy.max_epsilon:g} (policy.max_epsilon)"
        yield f"sums for harmonization have no noise for a patient; allowed is {allowed}"
    if policy.max_site_epsilon and not plan.privacy.site.is_on:
        allowed = f"epsilon {policy.max_site_epsilon:g} (policy.max_site_epsilon)"
        yield f"without noise for the whole site its loss has no bound; allowed is {allowed}"


def _of_data(policy: SitePolicy, n_subjects: int | None) -> Iterator[str]:
    n_least = policy.min_subjects_train
    if n_subjects is not None and n_subjects < n_least:
        # A site without a training patient sends no update of its own making, so hides nobody.
        yield f"{n_subjects} patients train, fewer than {n_least} (policy.min_subjects_train)"


def _has_bare_sums(plan: Plan) -> bool:
    """Tell whether sums leave that no noise for one patient is on."""
    fitted = (stage for stage in plan.stages if stage.when is not When.NEVER)
    return any("patient" not in stage.noise for stage in fitted)
