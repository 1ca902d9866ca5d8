"""What leaves a site in a round: its bytes and names, from the forms that answers really have."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from fedmri.clients.egress.border import declared_scores
from fedmri.clients.training.protection.masked import HIDDEN
from fedmri.clients.training.protection.secure import masked_form
from fedmri.plan import Plan
from fedmri.round import ExtraForms, Form, Weights
from fedmri.secagg.messages import N_ADVERT, N_BOX
from fedmri.secagg.shares import N_SHARE
from fedmri.secagg.updates import update_slots
from fedmri.stages.chain import update_forms
from fedmri.wire import TRAIN_METRICS


def update_bytes(plan: Plan, shared: Weights, extra: ExtraForms) -> int:
    """Return the bytes of an update: coded as the plan has it, or masked in the ring of 64 bits."""
    if plan.secagg.is_on:
        entries = {name: value.numpy() for name, value in shared.items()}
        return _n_bytes(masked_form(update_slots(entries, plan.secagg.fraction_bits)))
    beside = sum(_n_bytes(forms) for forms in extra.values())
    return _n_bytes(update_forms(plan, shared)) + beside


def key_bytes(n_sites: int) -> int:
    """Return the bytes of keys, boxes and shares that a site sends for one secure sum."""
    # of boxes and shares each site has its row, and a byte that says whether it is there
    return N_ADVERT + n_sites * (N_BOX + 1) + n_sites * (N_SHARE + 1)


def train_metrics(plan: Plan) -> list[str]:
    """Return the metrics that really leave beside an update; what is NaN by the plan is none."""
    names = set(TRAIN_METRICS)
    if plan.privacy.is_noised:
        names -= {"loss", "n_skipped"}  # they have no noise: they are held back
    if not plan.privacy.site.is_on:
        names -= {"site_epsilon"}
    if not plan.privacy.is_on:
        names -= {"epsilon", "delta"}
    return sorted(names - HIDDEN if plan.secagg.is_on else names)


def score_metrics(plan: Plan) -> list[str]:
    """Return the metrics that leave when a model is scored."""
    return sorted(declared_scores(plan).metrics)


def _n_bytes(forms: Mapping[str, Form]) -> int:
    return sum(torch.Size(form.shape).numel() * form.dtype.itemsize for form in forms.values())
