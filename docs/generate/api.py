"""Pages of the Python interface: mkdocstrings fills them from docstrings when the site is built."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Iterator
from pathlib import Path

import fedmri

INNER = {"fedmri.commands", "fedmri.configs"}
"""Packages without an interface: the command line, and files of settings."""


def api_pages(root: Path) -> dict[str, str]:
    """Return the pages of the Python interface by their place in the site.

    Args:
        root: The repository.
    """
    rooms = {room: list(modules(root, room)) for room in _rooms(root)}
    lines = ["# Python interface", "", *_front()]
    lines += ["## All modules", "", "| package | what it holds |", "| --- | --- |"]
    pages = {}
    for room, names in rooms.items():
        place = f"{room.replace('.', '-')}.md"
        lines.append(f"| [`{room}`]({place}) | {_first_line(root, room)} |")
        blocks = [f"::: {name}\n    options:\n      heading_level: 2\n" for name in names]
        pages[f"reference/api/{place}"] = "\n".join([f"# `{room}`", "", *blocks])
    return {"reference/api/index.md": "\n".join([*lines, ""]), **pages}


def modules(root: Path, room: str) -> Iterator[str]:
    """Yield the modules of a package, without those of packages below it."""
    for file in sorted(_folder(root, room).glob("*.py")):
        if not file.stem.startswith("_"):
            yield f"{room}.{file.stem}"


def _front() -> list[str]:
    """Return what ``import fedmri`` offers by name, and where it is described."""
    lines = ["## `import fedmri`", "", "| name | what it is |", "| --- | --- |"]
    for name in fedmri.__all__:
        value = getattr(fedmri, name)
        room = value.__module__.rpartition(".")[0]
        place = f"{room.replace('.', '-')}.md#{value.__module__}.{value.__qualname__}"
        lines.append(
            f"| [`fedmri.{name}`]({place}) | {inspect.getdoc(value).partition(chr(10))[0]} |"
        )
    return [*lines, ""]


def _rooms(root: Path) -> list[str]:
    listed = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    return [str(room) for room in listed if room not in INNER]


def _folder(root: Path, room: str) -> Path:
    return root.joinpath(*room.split("."))  # links lead to the rooms at the top


def _first_line(root: Path, room: str) -> str:
    text = (_folder(root, room) / "__init__.py").read_text(encoding="utf-8").strip()
    return text.strip('"').partition("\n")[0].strip('" ')
