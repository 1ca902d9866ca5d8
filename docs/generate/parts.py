"""The pages of the parts: what each is, its settings, its source, and what it goes with."""

from __future__ import annotations

import json
from dataclasses import MISSING, Field, fields
from typing import Any

from fedmri.claims import claims_of, needs_of
from fedmri.compatibility import DOORS
from fedmri.data.reader import READERS
from fedmri.models.registry import MODELS
from fedmri.parts import Registry
from fedmri.settings.words import meanings_of, summary_of
from fedmri.simulation.protocol import PROTOCOLS
from fedmri.stages.registry import STAGES
from fedmri.strategies.registry import STRATEGIES
from fedmri.tasks.registry import TASKS

PAGES: dict[str, tuple[str, Registry[Any], str]] = {
    "strategies": ("Strategies", STRATEGIES, "strategy"),
    "stages": ("Stages", STAGES, "stages"),
    "models": ("Models", MODELS, "model"),
    "tasks": ("Tasks", TASKS, "target"),
    "readers": ("Readers of data", READERS, ""),
    "protocols": ("Protocols of a study", PROTOCOLS, ""),
}
"""By file name: title, the parts, and the section of the settings that doors ask of."""


def part_pages() -> dict[str, str]:
    """Return the page of each kind of part, in Markdown, by its place in the site."""
    return {f"reference/parts/{name}.md": page(*of) for name, of in PAGES.items()}


def page(title: str, registry: Registry[Any], section: str) -> str:
    """Return the page of one kind of part."""
    lines = [f"# {title}", "", "This page is made from the source code, a file for each part.", ""]
    lines += _goes_with(registry, section) if section else []
    for name in registry.own:
        lines += _part(name, registry.load(name))
    return "\n".join(lines) + "\n"


def _goes_with(registry: Registry[Any], section: str) -> list[str]:
    doors = [door for door in DOORS if door.section == section]
    lines = ["## What goes with what", ""]
    lines += ["A part is refused where the table says no. It does not claim what is asked.", ""]
    heads = " | ".join(door.mechanism for door in doors)
    lines += [f"| Name | {heads} |", f"| --- |{' --- |' * len(doors)}"]
    for name in registry.own:
        claimed = claims_of(_one(registry, name))
        cells = " | ".join("yes" if door.claim in claimed else "no" for door in doors)
        lines.append(f"| `{name}` | {cells} |")
    return [*lines, ""]


def _one(registry: Registry[Any], name: str) -> Any:
    """Return a part with its defaults; a task is about something."""
    about = getattr(registry.load(name), "example", {})
    return registry.made({registry.key: name, **about})


def _part(name: str, kind: type[Any]) -> list[str]:
    lines = [f"## {name}", "", summary_of(kind), ""]
    said = getattr(kind, "consent", "")
    if isinstance(said, str) and said:
        lines += [f"A hospital reads before it approves: {said}.", ""]
    lines += [f"It needs {need.value}." for need in sorted(needs_of(kind), key=str)]
    if about := getattr(kind, "example", {}):
        lines += ["Such as:", "", "```yaml", "target:", f"  kind: {name}"]
        lines += [f"  {key}: {json.dumps(value)}" for key, value in about.items()]
        lines += ["```", ""]
    if source := getattr(kind, "source", ""):
        lines += ["", f"Source: {source}.", ""]
    meanings = meanings_of(kind)
    own = [field for field in fields(kind) if field.init]
    if own:
        lines += ["| Setting | Default | Meaning |", "| --- | --- | --- |"]
        lines += [f"| `{f.name}` | `{_default(f)}` | {meanings.get(f.name, '')} |" for f in own]
    return [*lines, ""]


def _default(field: Field[Any]) -> object:
    return "required" if field.default is MISSING else field.default
