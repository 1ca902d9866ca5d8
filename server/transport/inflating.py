"""Answers are looked at before Flower's grid puts them together; see ``fedmri.swollen``."""

from __future__ import annotations

from typing import Any

from flwr.supercore.inflatable.inflatable_object import InflatableObject
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.superlink.grid import http_grid

from fedmri.plan import Plan
from fedmri.round import Layout, Weights
from fedmri.stages.stage import Made
from fedmri.swollen import COPIES, SLACK, refuse_swollen


def bound_answers(plan: Plan, model: Weights, entries: Layout | None = None) -> int:
    """Refuse, from now on in this process, answers of more bytes than the plan's can have.

    Flower's own grid is changed for it: there is no other door before its copies are made.

    Returns:
        The most bytes that an answer may have.
    """
    model_bytes = sum(value.numel() * value.element_size() for value in model.values())
    made = Made(plan, model, entries or Layout())
    sums = max((stage.most_numbers(made) for stage in plan.stages), default=0)
    most = SLACK + COPIES * model_bytes + 4 * 8 * sums  # in limbs

    def inflated(object_id: str, contents: dict[str, bytes], **named: Any) -> InflatableObject:
        refuse_swollen(object_id, contents, most)
        return inflate_object_from_contents(object_id, contents, **named)

    vars(http_grid)["inflate_object_from_contents"] = inflated
    return most
