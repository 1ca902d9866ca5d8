"""The stages of a plan in their order: those that are chosen, then those of its own sections."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fedmri.stages.registry import STAGES
from fedmri.stages.sections.codec import Codec
from fedmri.stages.sections.filters import Filters
from fedmri.stages.sections.patient_noise import PatientNoise
from fedmri.stages.sections.site_noise import SiteNoise
from fedmri.stages.stage import Stage

if TYPE_CHECKING:
    from fedmri.plan import Plan


def chain(plan: Plan) -> dict[str, Stage]:
    """Return the stages by name; a site runs them forwards, the server backwards."""
    return {STAGES.name_of(stage): stage for stage in _stages(plan)}


def _stages(plan: Plan) -> Iterator[Stage]:
    yield from plan.stages
    if plan.privacy.is_on:
        yield PatientNoise(plan.privacy)
    if plan.filters.is_on:
        yield Filters(plan.filters)
    if plan.privacy.site.is_on:
        yield SiteNoise(plan.privacy.site)
    yield Codec(plan.transport)
