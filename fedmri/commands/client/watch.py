"""The commands by which a hospital sees what runs, and rehearses a plan."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from fedmri.commands.apps import HERE, AsJson, ClientDir, client_app


@client_app.command("watch")
def watch(
    folder: ClientDir = HERE,
    web: Annotated[
        bool, typer.Option("--web", help="Serve a page for a browser of this machine instead.")
    ] = False,
    port: Annotated[int, typer.Option(help="Port of the page; 0 takes a free one.")] = 0,
    once: Annotated[bool, typer.Option("--once", help="Print it once and end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what runs here, who takes part, what left, and which plans wait. Ends with Ctrl-C.

    The page is on loopback and needs the printed token. It changes nothing but by its buttons:
    approve, refuse and withdraw.
    """
    from rich.console import Console

    from fedmri.clients.views.page import Watch, serve
    from fedmri.clients.views.state import as_json as json_of
    from fedmri.clients.views.terminal import as_text, watch_terminal

    seen = Watch(folder)
    if as_json:
        print(json.dumps(json_of(seen.state())))
    elif once:
        Console(soft_wrap=True).print(as_text(seen.state()))
    else:
        try:
            if web:
                serve(folder, port)
            else:
                watch_terminal(seen.state, Console())
        except KeyboardInterrupt:
            print()
