"""What each setting means, what it takes and its default: from dataclasses and docstrings.

The pages of the documents and ``fedmri plan explain`` are made of the same words.
"""

from __future__ import annotations

import inspect
import re
import sys
import types
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

REQUIRED = "required"
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True)
class Setting:
    """One setting: its key, its default, its meaning, its values by name, and what it takes."""

    key: str
    default: str
    meaning: str
    values: tuple[str, ...] = ()
    kind: str = ""


@dataclass(frozen=True)
class Section:
    """The settings of one dataclass."""

    key: str
    summary: str
    settings: tuple[Setting, ...]


def attributes_of(kind: type[Any]) -> dict[str, str]:
    """Return the meaning of each attribute, from the part ``Attributes:`` of a docstring."""
    text = inspect.cleandoc(kind.__doc__ or "")
    _, _, listed = text.partition("\nAttributes:\n")
    meanings: dict[str, str] = {}
    name = ""
    for line in listed.splitlines():
        if line and not line.startswith("    "):
            break
        if start := re.match(r" {4}(\w+): (.*)", line):
            name = start[1]
            meanings[name] = start[2]
        elif name and line.strip():
            meanings[name] += f" {line.strip()}"
    return meanings


def meanings_of(kind: type[Any]) -> dict[str, str]:
    """Return the meaning of each attribute of a class and of those that it inherits from."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        found |= attributes_of(one)
    return found


def summary_of(kind: type[Any]) -> str:
    """Return what a docstring says before its attributes."""
    return inspect.cleandoc(kind.__doc__ or "").partition("\n\nAttributes:")[0]


def own_section(kind: type[Any], prefix: str = "") -> Section:
    """Return the settings of a dataclass itself, by their dotted keys."""
    hints, meanings = _hints(kind), meanings_of(kind)
    own = tuple(
        Setting(
            f"{prefix}{f.name}",
            _default(f),
            meanings.get(f.name, ""),
            _values(hints[f.name]),
            _kind(hints[f.name]),
        )
        for f in fields(kind)
        if f.init and not is_section(hints[f.name])
    )
    return Section(prefix.rstrip("."), summary_of(kind), own)


def sections(kind: type[Any], prefix: str = "", root: str = "") -> Iterator[Section]:
    """Yield the settings of a dataclass and of those within it, by their dotted keys.

    Args:
        kind: The dataclass.
        prefix: What stands before its keys.
        root: Field whose own settings stand without its name.
    """
    own = own_section(kind, prefix)
    if own.settings:
        yield own
    hints = _hints(kind)
    for name in (f.name for f in fields(kind) if is_section(hints[f.name])):
        yield from sections(hints[name], prefix if name == root else f"{prefix}{name}.")


def is_section(hint: object) -> bool:
    """Tell whether a field holds settings of its own."""
    return isinstance(hint, type) and is_dataclass(hint)


def shown(value: object) -> str:
    """Return a value as it is written in YAML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(str(item) for item in value)}]"
    return str(value) if value != "" else '""'


def _hints(kind: type[Any]) -> dict[str, Any]:
    """Return the type of each field; what is no field may name what no module imports."""
    names, found = {field.name for field in fields(kind)}, dict[str, Any]()
    for one in reversed(kind.__mro__):
        own = {n: t for n, t in vars(one).get("__annotations__", {}).items() if n in names}
        stub = type(one.__name__, (), {"__annotations__": own})
        found |= get_type_hints(stub, vars(sys.modules[one.__module__]), include_extras=True)
    return found


def _default(field: Field[Any]) -> str:
    if field.default is not MISSING:
        return shown(field.default)
    if field.default_factory is not MISSING:
        return shown(field.default_factory())
    return REQUIRED


def _values(hint: object) -> tuple[str, ...]:
    literal = next((part for part in _each(hint) if get_origin(part) is Literal), None)
    return tuple(text for text in get_args(literal) if isinstance(text, str))


def _kind(hint: object) -> str:
    """Return what a setting takes, in words."""
    found = [_word(part) for part in _each(hint)]
    return " or ".join(dict.fromkeys(found))


def _word(hint: object) -> str:
    if get_origin(hint) is Literal:
        return "one of its values"
    if get_origin(hint) in {tuple, list} or hint in {tuple, list}:
        return "a list"
    return KINDS.get(hint, "a part by its name")  # type: ignore[call-overload, no-any-return]  # any hint


def _each(hint: object) -> Iterator[object]:
    """Yield the types of a union; what annotates a type is no type."""
    if get_origin(hint) is Annotated:
        yield from _each(get_args(hint)[0])
    elif get_origin(hint) in {Union, types.UnionType}:
        for part in get_args(hint):
            yield from _each(part)
    else:
        yield hint
