"""What a site takes in a round, counted from its prepared scans before anything is trained."""

from __future__ import annotations

from pathlib import Path

from fedmri.data.batches.examples import open_site
from fedmri.plan import Plan
from fedmri.privacy.dp_sgd import round_steps
from fedmri.training.budget import Budget, round_budget


def site_budget(plan: Plan, path: Path) -> Budget:
    """Return what a site takes in a round, from its prepared scans.

    Raises:
        DataError: The prepared site is damaged (D43).
    """
    train, data = plan.train, open_site([path], plan.target, plan.data)
    n_subjects = len({example.subject for example in data.examples("train")})
    if not plan.privacy.is_on or not n_subjects:
        return round_budget(train, data.batch_sizes(train.batch_size))
    steps = round_steps(
        plan.privacy, n_subjects, local_epochs=train.local_epochs, local_steps=train.local_steps
    )
    return Budget(steps.n_steps, steps.n_steps * steps.sample_rate * n_subjects)
