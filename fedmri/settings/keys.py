"""What a setting is called and what it takes: the advice for a wrong name or a wrong value."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from fedmri.errors import ConfigError

ValueT = TypeVar("ValueT")
_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}

NEAR, NEAR_IN_ALL = 0.75, 0.85
"""Likeness of a last word, or of a whole name, from which on it is taken for a slip."""

WANTED: Mapping[str, str] = {
    "bool": "true or false",
    "dataclass": "a section of settings",
    "dict": "a section of settings",
    "float": "a number",
    "int": "a whole number",
    "list": "a list, such as [a,b]",
    "missing": "a value",
    "model": "a section of settings",
    "string": "text",
    "too": "as many values as the default has",
    "tuple": "a list, such as [a,b]",
}
"""What is wanted, by the first word of pydantic's type of error."""


def checked_as(kind: type[ValueT]) -> TypeAdapter[ValueT]:
    """Return what reads and checks values of a type; making it takes longer than using it."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def known_keys(kind: type[Any], prefix: str = "", root: str = "") -> Iterator[str]:
    """Yield every setting by its dotted key, inner nodes among them.

    Args:
        kind: A dataclass of settings.
        prefix: What stands before its keys.
        root: Field whose own fields stand without its name.
    """
    for name, inner in get_type_hints(kind).items():
        is_root = not prefix and name == root
        if not is_root:
            yield f"{prefix}{name}"
        if isinstance(inner, type) and is_dataclass(inner):
            yield from known_keys(inner, "" if is_root else f"{prefix}{name}.")


def unknown_setting(key: str, known: Sequence[str], more: str = "") -> ConfigError:
    """Return the error of a name that no setting has (C02), with the nearest that one has.

    Args:
        key: What was written.
        known: All names that can be.
        more: Further help, such as where all settings are printed.
    """
    nearest = _nearest(key, known)
    if nearest:
        want, fix = f"a known one; the nearest is {nearest}", f"write {nearest}{more}"
    else:
        section = key.rpartition(".")[0]
        beside = _leaves(section, known) or _leaves("", known)
        want = f"a known one{f' of {section}' if section else ''}: {', '.join(beside)}"
        fix = f"choose one of them{more}"
    return ConfigError("C02", f"setting {key}", found="an unknown name", want=want, fix=fix)


def _nearest(key: str, known: Sequence[str]) -> str:
    """Return the name that was meant, or nothing: a wrong guess sends its reader astray."""
    leaf, section = _leaf(key), key.rpartition(".")[0]
    beside = [name for name in known if name.rpartition(".")[0] == section]
    below = [name for name in known if name.startswith(f"{section}.")]
    if exact := [name for name in (below if section else known) if _leaf(name) == leaf]:
        return exact[0]
    for names in (beside, below if section and beside else known):
        by_leaf = {_leaf(name): name for name in reversed(names)}
        slips = difflib.get_close_matches(leaf, list(by_leaf), 1, NEAR)
        found = [name for name in names if _is_same_leaf(leaf, _leaf(name))]
        found += difflib.get_close_matches(key, names, 1, NEAR_IN_ALL)
        found += [by_leaf[name] for name in slips]
        found += [name for name in names if _is_short_for(leaf, _leaf(name))]
        found += [name for name in names if _is_part_of(leaf, _leaf(name))]
        if found:
            return found[0]
    return ""


def _leaf(key: str) -> str:
    return key.rpartition(".")[2]


def _leaves(section: str, known: Sequence[str]) -> list[str]:
    return [_leaf(name) for name in known if name.rpartition(".")[0] == section]


def _is_same_leaf(typed: str, name: str) -> bool:
    return typed.replace("_", "").lower() == name.replace("_", "").lower()


def _is_short_for(typed: str, name: str) -> bool:
    """Tell whether one is the other's initials, as lr is of learning_rate."""
    return name == _initials(typed) or typed == _initials(name)


def _initials(name: str) -> str:
    words = [word for word in name.split("_") if word]
    return "".join(word[0] for word in words) if len(words) > 1 else ""


def _is_part_of(typed: str, name: str) -> bool:
    """Tell whether each word typed begins one of the name's, as epochs in local_epochs."""
    words = name.split("_")
    typed_words = [word for word in typed.split("_") if len(word) >= 3]
    return bool(typed_words) and all(
        any(word.startswith(part) for word in words) for part in typed_words
    )


def refused_value(
    error: ValidationError, where: str, more: str, root: str = "", prefix: str = ""
) -> ConfigError:
    """Return the error of a setting whose value has the wrong type or is no choice (C01).

    Args:
        error: What pydantic says of it.
        where: What follows the setting's name, such as `` of site.yaml``.
        more: Further help after the fix.
        root: Part of pydantic's path that is no part of the name.
        prefix: What stands before the name.
    """
    first = error.errors()[0]
    key = prefix + ".".join(str(part) for part in first["loc"] if part != root)
    found, want = _shown(first["input"]), wanted(first)
    fix = f"set {key} to {want}{more}"
    return ConfigError("C01", f"setting {key}{where}", found=found, want=want, fix=fix)


def wanted(error: Mapping[str, Any]) -> str:
    """Return what pydantic wanted in our words."""
    if error["type"] == "literal_error":
        return f"one of {error['ctx']['expected'].replace(' or ', ', ')}".replace("'", "")
    plain = WANTED.get(error["type"].partition("_")[0])
    return plain or str(error["msg"]).removeprefix("Input should be ").removeprefix("Value error, ")


def _shown(value: object) -> str:
    """Return a value as its writer would write it: a section by its names."""
    if isinstance(value, Mapping):
        return f"a section with {', '.join(map(str, value)) or 'nothing in it'}"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}: [{', '.join(map(str, value))}]"
    return repr(value)
