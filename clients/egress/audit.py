"""An audit of the final model at a site: what its losses prove of the privacy that was promised."""

from __future__ import annotations

import copy
import math
from itertools import chain

import numpy as np
from torch import nn

from fedmri.data.batches.site_data import SiteData
from fedmri.leakage.epsilon import epsilon_at_least
from fedmri.leakage.membership import losses_of
from fedmri.leakage.sample import moved
from fedmri.tasks.task import Task

AT_LEAST = "epsilon_at_least"
"""Metric beside the test scores; a plan that has ``privacy.is_audited`` declares it."""


def audit(
    network: nn.Module, data: SiteData, task: Task, delta: float, seed: int
) -> dict[str, float]:
    """Return a lower bound on the epsilon of one patient, from the losses of a final model.

    Patients of the training split are compared with all others of the site; see
    ``leakage.epsilon``. Losses are without noise, so the number is not covered by the guarantee
    that it tests.

    Args:
        network: The final model, on its device; it is left as it is.
        data: The site's examples, as they were trained on.
        task: Its loss.
        delta: Of the guarantee.
        seed: Of the halves of patients.

    Returns:
        The bound as the metric ``AT_LEAST``, 0 where nothing is shown, NaN where a loss is none.
    """
    device = next(network.parameters()).device
    model, loss = copy.deepcopy(network).eval(), task.at_site(data.examples("train")).mean_loss
    train, *held_out = (data.eval_batches(s, batch_size=1) for s in ("train", "val", "test"))
    members = losses_of(model, loss, (moved(batch, device) for batch in train))
    others = losses_of(model, loss, (moved(batch, device) for batch in chain(*held_out)))
    if np.isnan(members).any() or np.isnan(others).any():
        return {AT_LEAST: math.nan}
    return {AT_LEAST: epsilon_at_least(-members, -others, delta, seed)}
