"""The command that takes part."""

from __future__ import annotations

import typer

from fedmri.commands.apps import HERE, ClientDir, client_app
from fedmri.commands.logs import log_to
from fedmri.commands.server.runs import stop_event


@client_app.callback(invoke_without_command=True)
def client(context: typer.Context, folder: ClientDir = HERE) -> None:
    """Take part with a hospital's own data, which never leave it; without a command, start."""
    if context.invoked_subcommand is None:
        start(folder)


@client_app.command()
def start(folder: ClientDir = HERE) -> None:
    """Take part until Ctrl-C or SIGTERM. The client waits while the server is away."""
    from fedmri.clients.egress.ledger import verify
    from fedmri.clients.process.home import ClientHome
    from fedmri.clients.process.node import SiteNode, lock

    home = ClientHome(folder)
    site, address = home.consortium.site, home.consortium.address
    _ = home.config  # a wrong setting is said now, not in a log
    lock(home)
    verify(home.ledger)  # nothing leaves before what has left is known to be whole
    log_to(home.logs / "node.log")
    stop = stop_event()
    print(f"Site {site} takes part at {address}. Ctrl-C ends it.", flush=True)
    SiteNode(home).run(stop)
