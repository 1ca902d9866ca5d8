"""Every setting with its meaning, what it takes and its default: the words of the reference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache

from fedmri.agreement.plan_changes import PARTS
from fedmri.config import ROOT, Experiment, groups, setting_names
from fedmri.settings.keys import unknown_setting
from fedmri.settings.words import Section, own_section, sections, summary_of
from fedmri.stages.registry import STAGES


def explain_settings(key: str = "") -> list[Section]:
    """Return the settings that a key names: one, those of a section, or those of a part.

    Args:
        key: Such as ``train.lr``, ``train``, ``strategy`` or ``strategy=fedprox``; empty takes all.

    Raises:
        ConfigError: There is none (C02, with the nearest that is).
    """
    every = _every()
    if not key:
        return list(every)
    section, _, name = key.partition("=")
    if key in (named := {f"{kind}.{parts.key}": kind for kind, parts in PARTS.items()}):
        found = [_chosen(every, named[key])]
    elif name:
        found = [one for one in every if one.key == f"{section} {name}"]
    else:
        found = [narrowed for one in every if (narrowed := _narrowed(one, key)).settings]
        found += [one for one in every if one.key.startswith(f"{key} ") and one not in found]
    if not found:
        known = [*setting_names(), *(f"{g}={c}" for g, names in groups().items() for c in names)]
        raise unknown_setting(key, known, "; fedmri plan explain lists all")
    return found


def _narrowed(section: Section, key: str) -> Section:
    """Return a section with the settings alone that a key names, or lies above."""
    own = tuple(one for one in section.settings if one.key == key or one.key.startswith(f"{key}."))
    return Section(section.key, section.summary, own)


@cache
def _every() -> tuple[Section, ...]:
    """Return all sections; reading all docstrings takes a while."""
    return (*sections(Experiment, root=ROOT), *_parts())


def _chosen(every: Iterable[Section], kind: str) -> Section:
    """Return the setting that names a part, with the names that it takes."""
    parts = PARTS[kind]
    for section in every:
        for one in section.settings:
            if one.key == kind:
                own = replace(one, key=f"{kind}.{parts.key}", values=tuple(parts.names))
                return Section(section.key, section.summary, (own,))
    raise AssertionError(kind)  # a part is a field of the plan


def _parts() -> Iterator[Section]:
    """Yield the settings of each part, under the names of its section and its own."""
    for section, registry in (*PARTS.items(), (STAGES.kind, STAGES)):
        for name in registry.own:
            kind = registry.load(name)
            prefix = f"{section}.{name}." if registry.is_list else f"{section}."
            own = own_section(kind, prefix)
            yield Section(f"{section} {name}", summary_of(kind).partition("\n\n")[0], own.settings)
