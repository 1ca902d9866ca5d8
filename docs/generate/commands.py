"""The page of all commands, as ``--help`` has them."""

from __future__ import annotations

from collections.abc import Iterator

import click
from typer.main import get_command

from fedmri.cli import app

HEAD = """# Commands

This page is made from the source code: what `--help` says of each command.

A mistake of the user is one line on standard error. The exit status tells its kind:
see [errors](../errors.md).
"""


def commands_page() -> str:
    """Return the page of all commands, in Markdown."""
    root = click.Context(get_command(app), info_name="fedmri")
    return "\n".join([HEAD, *(_as_markdown(context) for context in contexts(root))])


def contexts(context: click.Context) -> Iterator[click.Context]:
    """Yield the context of a command, and of every command below it."""
    yield context
    group = context.command
    if isinstance(group, click.Group):
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            if command is not None and not command.hidden:
                yield from contexts(click.Context(command, parent=context, info_name=name))


def _as_markdown(context: click.Context) -> str:
    command = context.command
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [f"## `{context.command_path}`", "", command.help or "", ""]
    lines += ["```text", f"{context.command_path} {usage}", "```", ""]
    if command.epilog:
        lines += ["```text", command.epilog.removeprefix("Example: "), "```", ""]
    rows = [row for param in command.params if (row := _row(param, context))]
    if rows:
        lines += ["| argument or option | default | meaning |", "| --- | --- | --- |", *rows, ""]
    if isinstance(command, click.Group):
        below = (command.get_command(context, name) for name in command.list_commands(context))
        lines += [f"- `{one.name}`: {one.get_short_help_str(200)}" for one in below if one]
    return "\n".join([*lines, ""])


def _row(param: click.Parameter, context: click.Context) -> str:
    if getattr(param, "hidden", False):
        return ""
    if isinstance(param, click.Option):
        names = ", ".join(param.opts)
        name = names if param.is_flag else f"{names} {param.make_metavar(context)}"
    else:
        name = param.make_metavar(context)
    default = "required" if param.required else _default(param)
    meaning = str(getattr(param, "help", "") or "").replace("|", "\\|")
    if variable := getattr(param, "envvar", None):
        meaning += f" The environment variable `{variable}` sets it too."
    return f"| `{name.replace('|', '/')}` | {default} | {meaning} |"


def _default(param: click.Parameter) -> str:
    value = param.to_info_dict()["default"]
    is_told = (
        value is not None and value not in ("", False) and getattr(param, "show_default", True)
    )
    return f"`{value}`" if is_told else ""
