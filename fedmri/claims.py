"""What a part may claim of itself, and what it may need of a plan.

A claim opens a door: without it the part is refused wherever the door matters. A need closes one:
the plan must fulfil it. ``fedmri.compatibility`` holds the doors.
"""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias


class Claim(Enum):
    """Something that a part promises; its value is what is feared of a part without the promise."""

    SUM_IS_ENOUGH = "whose server may need each site's update"
    """A strategy or stage: its server needs the sum over sites, and nothing of a single one."""
    MODEL_ALONE = "whose sites may send or count on more than their model"
    """A strategy: a site sends its model and nothing else; the rule reads nothing else."""
    BLIND_TO_PATIENTS = "which may look at patients outside the loss of the task"
    """A strategy or stage: what it adds to training never depends on an image or answer."""
    ONE_MODEL = "which may score models of the sites' own"
    """A strategy: all sites are scored with one network body."""
    UPDATE_UNTOUCHED = "which may change an update on its way, or tell of a site beside it"
    """A stage: an update passes it as it is; what it tells beside it are sums over patients."""
    PATIENTS_APART = "which may mix the patients of a step"
    """A model: what it makes of an image depends on no other image of the batch. A task: the loss
    of a patient depends on no other patient of the site, nor on counts of them."""
    LATE_IS_FINE = "whose server and sites may lose step where an update is late or dropped"
    """A strategy: all sites train side by side, and nothing that a round decides goes beside the
    model. An update of an earlier round may join a later one, or none."""
    READS_COVARIATES = "which looks at images alone"
    """A model: it is built for covariates, and called with them beside the image."""


class Need(Enum):
    """Something that a part needs of the plan; its value says what that is."""

    PLAIN_SGD = "plain SGD: train.optimizer=sgd, momentum 0, no clipped gradients"
    EMBEDDING = "one embedding an image"
    COVARIATES = "columns of the table beside the image: data.source.covariates"
    VISITS = "several visits of a patient: data.source.visits of 2 or more"
    KEPT_ADAM = "an Adam that is kept: train.optimizer=adamw or adam, train.is_optimizer_kept=true"
    KEPT_OPTIMIZER = "sites that keep their optimizer's state: train.is_optimizer_kept=true"
    """Advice alone: without it every round begins anew."""
    COUNTED_STEPS = "steps that can be counted: those of SGD, or the same number at all sites"
    """Advice alone: under other optimizers steps count as if they were those of SGD."""


Claims: TypeAlias = "frozenset[Claim]"
Needs: TypeAlias = "frozenset[Need]"


def claims_of(part: object) -> Claims:
    """Return what a part claims in its own class.

    Claims are not inherited: a subclass may have changed the very thing that its base promised. A
    class that keeps the promises says so, as in ``claims = FedAvg.claims``.
    """
    own = vars(type(part)).get("claims", frozenset())
    found: Claims = own.__get__(part) if isinstance(own, property) else own
    return found


def needs_of(part: object) -> Needs:
    """Return what a part needs of its plan; needs are inherited."""
    found: Needs = getattr(part, "needs", frozenset())
    return found
