"""The stages of a plan in their order: those that are chosen, then those of its own sections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from fedmri.round import Form
from fedmri.stages.registry import STAGES
from fedmri.stages.sections.codec import Codec
from fedmri.stages.sections.filters import Filters
from fedmri.stages.sections.patient_noise import PatientNoise
from fedmri.stages.sections.site_noise import SiteNoise
from fedmri.stages.stage import Stage

if TYPE_CHECKING:
    import torch

    from fedmri.plan import Plan


def chain(plan: Plan) -> dict[str, Stage]:
    """Return the stages by name; a site runs them forwards, the server backwards."""
    return {STAGES.name_of(stage): stage for stage in _stages(plan)}


def update_forms(plan: Plan, shared: Mapping[str, torch.Tensor]) -> dict[str, Form]:
    """Return type and shape of each entry of an update once it has passed all stages.

    Args:
        plan: Its stages.
        shared: What the site was sent: the entries that an update has before them.
    """
    forms: Mapping[str, Form]
    forms = {name: Form(value.dtype, tuple(value.shape)) for name, value in shared.items()}
    for stage in chain(plan).values():
        forms = stage.forms(shared, forms)
    return dict(forms)


def _stages(plan: Plan) -> Iterator[Stage]:
    yield from plan.stages
    if plan.privacy.is_on:
        yield PatientNoise(plan.privacy)
    if plan.filters.is_on:
        yield Filters(plan.filters)
    if plan.privacy.site.is_on:
        yield SiteNoise(plan.privacy.site)
    yield Codec(plan.transport)
