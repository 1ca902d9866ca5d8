"""The two groups of commands, and the option that all commands of a group have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedmri.commands.argument_help import ArgumentHelp

server_app = typer.Typer(
    cls=ArgumentHelp,
    help="Coordinate a consortium of hospitals.",
    pretty_exceptions_enable=False,
)
client_app = typer.Typer(
    cls=ArgumentHelp,
    help="Take part in a consortium with a hospital's own data, which never leave it.",
    pretty_exceptions_enable=False,
)

ServerDir = Annotated[
    Path,
    typer.Option(
        "--dir", envvar="FEDMRI_SERVER_DIR", help="Folder that `fedmri server init` made."
    ),
]
ClientDir = Annotated[
    Path,
    typer.Option(
        "--dir", envvar="FEDMRI_CLIENT_DIR", help="Folder that `fedmri client init` made."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for machines.")]
HERE = Path()
"""Default of ``--dir``: the folder that the command was started in."""
