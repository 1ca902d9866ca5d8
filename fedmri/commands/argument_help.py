"""A group of commands whose help shows the sentence of each argument, and an example."""

from __future__ import annotations

import click
from typer.core import TyperArgument, TyperGroup
from typer.utils import get_params_from_function

from fedmri.commands.examples import shown


class ArgumentHelp(TyperGroup):
    """Gives arguments the sentence back that click 8.5 takes from them.

    typer 0.20 sets ``help`` before it calls click's own ``__init__``. Since 8.5 that one knows help
    of arguments too and sets it to None. typer 0.21 is beyond the range that flwr allows.
    """

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command of the group, with the sentences of its arguments."""
        command = super().get_command(ctx, cmd_name)
        if command is not None and command.callback is not None:
            declared = get_params_from_function(command.callback)
            for param in command.params:
                if isinstance(param, TyperArgument) and param.name in declared:
                    param.help = param.help or declared[param.name].default.help
        if command is not None:
            command.epilog = command.epilog or shown(_words(ctx, cmd_name))
        return command


def _words(ctx: click.Context, name: str) -> str:
    """Return the words after ``fedmri`` that call a command."""
    above = ctx.command_path.split()[1:]
    return " ".join([*above, name])
