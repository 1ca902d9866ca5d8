"""The stages that can be chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedmri.errors import ConfigError
from fedmri.parts import NAME, Registry
from fedmri.stages.stage import Place, Stage

STAGES: Registry[Stage] = Registry(
    "stages",
    "fedmri.stages",
    ("tables", "images", "embeddings", "answers"),
    "fedmri.stages",
    is_list=True,
)

_ORDER = tuple(Place)


def made_stages(values: object) -> tuple[Stage, ...]:
    """Return the stages of a list of names or parts, or of settings by name, in their order.

    Raises:
        ConfigError: A name, a setting or a value cannot be taken (C01, C02), or a distribution is
            not the one that is named (C41).
    """
    return tuple(sorted(map(STAGES.made, _listed(values)), key=lambda one: _rank(one.place)))


def refuse_same_place(stages: Sequence[Stage]) -> None:
    """Refuse stages of which one would silently undo another.

    Raises:
        ConfigError: A stage that must be alone in its place is not, or a stage is there twice
            (C03).
    """
    names = [STAGES.name_of(one) for one in stages]
    for place in Place:
        found = [n for n, one in zip(names, stages, strict=True) if one.place is place]
        is_alone = any(one.is_alone for one in stages if one.place is place)
        if len(found) > 1 and (is_alone or len(set(found)) < len(found)):
            fix = f"choose one of {', '.join(found)}"
            what, want = "the list stages", f"one for {place.value} at most"
            raise ConfigError("C03", what, found=", ".join(found), want=want, fix=fix)


def as_list(stages: Iterable[Stage]) -> list[dict[str, Any]]:
    """Return stages as plain values that ``made_stages`` takes."""
    return [STAGES.as_dict(one) for one in stages]


def by_name(stages: Iterable[Stage]) -> dict[str, dict[str, Any]]:
    """Return stages as people write them: the settings of each by its name."""
    found = {}
    for settings in as_list(stages):
        found[settings.pop(NAME)] = settings
    return found


def _listed(values: object) -> list[object]:
    if isinstance(values, Mapping):
        return [{**(settings or {}), NAME: name} for name, settings in values.items()]
    if isinstance(values, list | tuple):
        return list(values)
    want = "a list of names, or settings by name"
    fix = f"choose of {', '.join(STAGES.names)}, as in stages=[nyul]"
    raise ConfigError("C01", "setting stages", found=repr(values), want=want, fix=fix)


def _rank(place: Place) -> int:
    return _ORDER.index(place)
