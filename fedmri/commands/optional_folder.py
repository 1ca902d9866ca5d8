"""A command whose option ``--pictures`` may be given with a folder or alone."""

from __future__ import annotations

import click
from typer.core import TyperCommand

OPTION, FOLDER = "--pictures", "pictures"


class OptionalFolder(TyperCommand):
    """Reads ``--pictures`` without a folder as ``--pictures pictures``.

    No folder follows where the next word is an option, is ``KEY=VALUE``, or does not follow at all.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse arguments, with the folder filled in."""
        if OPTION in args:
            place = args.index(OPTION) + 1
            follows = args[place : place + 1]
            if not follows or follows[0].startswith("-") or "=" in follows[0]:
                args = [*args[:place], FOLDER, *args[place:]]
        return super().parse_args(ctx, args)
