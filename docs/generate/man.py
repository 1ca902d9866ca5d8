"""Manual pages of all commands, in roff: ``python -m docs.generate.man FOLDER`` writes them."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from typer.main import get_command

from docs.generate.commands import contexts
from fedmri.cli import app


def man_pages() -> dict[str, str]:
    """Return the page of each command in roff, by its file name."""
    root = click.Context(get_command(app), info_name="fedmri")
    return {f"{_name(one)}.1": _page(one) for one in contexts(root)}


def _name(context: click.Context) -> str:
    return context.command_path.replace(" ", "-")


def _page(context: click.Context) -> str:
    command = context.command
    help_text = command.help or command.get_short_help_str()
    summary = " ".join(help_text.split("\n\n")[0].split())
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [
        f'.TH "{_name(context).upper()}" 1',
        *(".SH NAME", _plain(f"{_name(context)} - {summary}")),
        *(".SH SYNOPSIS", f".B {_plain(context.command_path)}", _plain(usage)),
        *(".SH DESCRIPTION", _plain(help_text)),
    ]
    rows = [row for param in command.params if (row := param.get_help_record(context))]
    lines += [".SH OPTIONS"] if rows else []
    for names, meaning in rows:
        lines += [".TP", f".B {_plain(names)}", _plain(meaning)]
    if isinstance(command, click.Group):
        lines.append(".SH COMMANDS")
        below = (command.get_command(context, name) for name in command.list_commands(context))
        for one in (one for one in below if one is not None and not one.hidden):
            lines += [".TP", f".B {_plain(str(one.name))}", _plain(one.get_short_help_str(200))]
    if command.epilog:
        lines += [".SH EXAMPLE", ".nf", _plain(command.epilog.removeprefix("Example: ")), ".fi"]
    return "\n".join([*lines, ""])


def _plain(text: str) -> str:
    """Return text that roff takes literally; an empty line begins a paragraph."""
    lines = text.replace("\\[", "[").replace("\\", "\\e").replace("-", "\\-").strip().split("\n")
    return "\n".join(".PP" if not line.strip() else f"\\&{line.strip()}" for line in lines)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in man_pages().items():
        (folder / file).write_text(text, encoding="utf-8")
