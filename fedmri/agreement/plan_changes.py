"""What two plans differ in, with the meaning of each setting: for who approved the one before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fedmri.models.registry import MODELS
from fedmri.parts import Registry
from fedmri.plan import Plan, to_dict
from fedmri.settings.words import own_section, sections, shown, summary_of
from fedmri.stages.registry import STAGES, by_name
from fedmri.strategies.registry import STRATEGIES
from fedmri.tasks.registry import TASKS

PARTS: Mapping[str, Registry[Any]] = {"target": TASKS, "model": MODELS, "strategy": STRATEGIES}
ABSENT = "-"
"""What stands for a setting that one of the plans does not have."""


@dataclass(frozen=True)
class Change:
    """A setting that two plans differ in: its key, both values, and what it means."""

    key: str
    before: str
    after: str
    meaning: str


def plan_changes(old: Plan, new: Plan) -> list[Change]:
    """Return the settings that two plans differ in, in the order of their keys."""
    before, after = settings_of(old), settings_of(new)
    said = {**meanings(old), **meanings(new)}
    return [
        Change(key, before.get(key, ABSENT), after.get(key, ABSENT), said.get(key, ""))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def settings_of(plan: Plan) -> dict[str, str]:
    """Return every setting of a plan as text, by its dotted key; stages by their names."""
    values = {**to_dict(plan), STAGES.kind: by_name(plan.stages)}
    return dict(_flat(values, ""))


def meanings(plan: Plan) -> dict[str, str]:
    """Return what each setting of a plan means, those of its parts among them, by dotted key."""
    found = {one.key: one.meaning for section in sections(Plan) for one in section.settings}
    for name, registry in PARTS.items():
        part = getattr(plan, name)
        found |= _of_part(f"{name}.", type(part))
        found[f"{name}.{registry.key}"] = summary_of(type(part)).partition("\n\n")[0]
    for stage in plan.stages:
        found |= _of_part(f"{STAGES.kind}.{STAGES.name_of(stage)}.", type(stage))
    return found


def _of_part(prefix: str, kind: type[Any]) -> dict[str, str]:
    return {one.key: one.meaning for one in own_section(kind, prefix).settings}


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        elif value != {}:
            yield f"{prefix}{name}", shown(value)
