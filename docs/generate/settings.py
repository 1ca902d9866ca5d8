"""The page of all settings: key, default and meaning, from the dataclasses and their docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any, get_args, get_type_hints

from fedmri.clients.process.home import SiteConfig
from fedmri.config import CONFIGS, ROOT, Experiment
from fedmri.server.registry.home import ServerConfig

REQUIRED = "required"
HEAD = """# Settings

This page is made from the source code: each setting, its default and its meaning.

Settings of an experiment are written as `key=value` after a command, or in a YAML file for
`--config`. `fedmri simulate --dry-run` prints all of them with the values that would be used.
"""


@dataclass(frozen=True)
class Setting:
    """One setting: what it is called, what it is without a value, and what it means."""

    key: str
    default: str
    meaning: str
    values: tuple[str, ...] = ()


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


def sections(kind: type[Any], prefix: str = "") -> Iterator[Section]:
    """Yield the settings of a dataclass and of those within it, by their dotted keys."""
    hints, meanings = get_type_hints(kind), attributes_of(kind)
    inner = {f.name: hints[f.name] for f in fields(kind) if _is_section(hints[f.name])}
    own = tuple(
        Setting(f"{prefix}{f.name}", _default(f), meanings.get(f.name, ""), _values(hints[f.name]))
        for f in fields(kind)
        if f.name not in inner
    )
    if own:
        summary = inspect.cleandoc(kind.__doc__ or "").partition("\n\nAttributes:")[0]
        yield Section(prefix.rstrip("."), summary, own)
    for name, below in inner.items():
        is_root = kind is Experiment and name == ROOT
        yield from sections(below, prefix if is_root else f"{prefix}{name}.")


def settings_page() -> str:
    """Return the page of all settings, in Markdown."""
    parts = [HEAD, "## An experiment\n", _groups()]
    parts += [_as_markdown(section, "the experiment") for section in sections(Experiment)]
    parts.append("## A site: `site.yaml`\n")
    parts += [_as_markdown(section, "the site") for section in sections(SiteConfig)]
    parts.append("## The server: `server.yaml`\n")
    parts += [_as_markdown(section, "the server") for section in sections(ServerConfig)]
    return "\n".join(parts)


def _is_section(hint: object) -> bool:
    return isinstance(hint, type) and is_dataclass(hint)


def _default(field: Field[Any]) -> str:
    if field.default is not MISSING:
        return _shown(field.default)
    if field.default_factory is not MISSING:
        return _shown(field.default_factory())
    return REQUIRED


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(str(item) for item in value)}]"
    return str(value) if value != "" else '""'


def _values(hint: object) -> tuple[str, ...]:
    return tuple(text for text in get_args(hint) if isinstance(text, str))


def _groups() -> str:
    lines = ["Each of these names chooses a file of settings, as in `strategy=fedprox`:", ""]
    for folder in sorted(path for path in CONFIGS.iterdir() if any(path.glob("*.yaml"))):
        names = ", ".join(f"`{file.stem}`" for file in sorted(folder.glob("*.yaml")))
        lines.append(f"- `{folder.name}`: {names}")
    return "\n".join([*lines, ""])


def _as_markdown(section: Section, whole: str) -> str:
    title = f"`{section.key}`" if section.key else f"Settings of {whole} itself"
    rows = [f"### {title}", "", _plain(section.summary), "", "| setting | default | meaning |"]
    rows.append("| --- | --- | --- |")
    for setting in section.settings:
        default = setting.default if setting.default == REQUIRED else f"`{setting.default}`"
        meaning = _plain(setting.meaning).replace("|", "\\|")
        if setting.values:
            meaning += f" One of {', '.join(f'`{value}`' for value in setting.values)}."
        rows.append(f"| `{setting.key}` | {default} | {meaning} |")
    return "\n".join([*rows, ""])


def _plain(text: str) -> str:
    """Return a docstring as Markdown: code is marked by one backtick there."""
    return text.replace("``", "`")
