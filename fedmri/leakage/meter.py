"""The meter: both attacks on one update, and a score that a site's policy can bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedmri.leakage.epsilon import epsilon_at_least
from fedmri.leakage.inversion import InversionConfig, InversionScore, inversion
from fedmri.leakage.membership import MembershipScore, Values, losses_of, membership
from fedmri.leakage.release import Release, unmeasured
from fedmri.round import Batch


@dataclass(frozen=True)
class LeakageReport:
    """What the attacks made of an update. It stays at the site, but for what its policy lets out.

    Attributes:
        inversion: How like a training image the best reconstruction is.
        membership: How well losses tell patients who were trained on.
        epsilon_low: Lower bound on the patient-level epsilon from the losses, at ``delta``.
        delta: What it is for.
    """

    inversion: InversionScore
    membership: MembershipScore
    epsilon_low: float
    delta: float

    @property
    def score(self) -> float:
        """The worse of both attacks, 0 (they failed) to 1 (an image, or every patient)."""
        return float(np.maximum(self.inversion.excess, self.membership.advantage))

    def is_above(self, threshold: float) -> bool:
        """Tell whether the update leaks more than a policy allows; a score of NaN does."""
        return not self.score <= threshold


@dataclass(frozen=True)
class Evidence:
    """What an update is attacked with.

    Attributes:
        sought: Training images, of which the first are to be rebuilt.
        controls: Images of the same shape that were not trained on.
        members: Losses of patients who were trained on, shape ``(n,)``.
        others: Losses of patients who were not, shape ``(m,)``.
    """

    sought: Batch
    controls: Batch
    members: Values
    others: Values


def attack(
    release: Release, evidence: Evidence, config: InversionConfig, delta: float
) -> LeakageReport:
    """Attack an update with what a site gathered; see ``measure``."""
    members, others = evidence.members, evidence.others
    return LeakageReport(
        inversion(release, evidence.sought, evidence.controls, config),
        membership(members, others),
        epsilon_at_least(-members, -others, delta, config.seed),
        delta,
    )


def measure(
    release: Release,
    trained: Sequence[Batch],
    held_out: Sequence[Batch],
    config: InversionConfig,
    delta: float = 1e-5,
) -> LeakageReport:
    """Attack an update before it leaves.

    Nothing is written and nothing is drawn but from the seed: the same update gives the same score.

    Args:
        release: The update as it would leave.
        trained: Examples behind it; the first batch holds the images that are sought.
        held_out: Examples of patients of this site who were never trained on.
        config: How hard the attacker tries.
        delta: Of the lower bound on epsilon.

    Raises:
        PrivacyError: There are no examples of either sort, a patient is on both sides, or the
            update changes nothing (P61).
    """
    members = {subject for batch in trained for subject in batch.subjects}
    others = {subject for batch in held_out for subject in batch.subjects}
    if not members or not others or members & others:
        found = f"{len(members)} and {len(others)} patients, {len(members & others)} in both"
        raise unmeasured(found, "patients who were trained on, and others")
    after = release.network(release.before | release.after)
    losses = [losses_of(after, release.loss, batches) for batches in (trained, held_out)]
    return attack(release, Evidence(trained[0], held_out[0], *losses), config, delta)
