"""The command that takes part."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedmri.commands.apps import HERE, ClientDir, client_app
from fedmri.commands.logs import log_to
from fedmri.commands.server.runs import stop_event
from fedmri.errors import UsageError

if TYPE_CHECKING:
    from fedmri.clients.process.home import ClientHome

log = logging.getLogger("fedmri.client")

Mailbox = Annotated[
    Path | None,
    typer.Option(help="Shared folder of sealed letters: take orders from it, and dial nobody."),
]
LOOK_S = 2.0
"""Time between two looks into a mailbox."""


@client_app.callback(invoke_without_command=True)
def client(context: typer.Context, folder: ClientDir = HERE, mailbox: Mailbox = None) -> None:
    """Take part with a hospital's own data, which never leave it; without a command, start."""
    if context.invoked_subcommand is None:
        start(folder, mailbox)


@client_app.command()
def once(
    mailbox: Annotated[
        Path, typer.Option(help="Shared folder of sealed letters.", show_default=False)
    ],
    folder: ClientDir = HERE,
) -> None:
    """Answer the orders that lie in a mailbox, and end: for a job without a network."""
    from fedmri.clients.mailbox.letters import answer_waiting
    from fedmri.clients.mailbox.looks import note_look

    _refuse_no_folder(mailbox)
    home = _ready(folder)
    log_to(home.logs / "client.log")
    note_look(home, mailbox, 0, is_once=True)  # a job that is cut has looked, too
    n_answered = answer_waiting(home, mailbox)
    note_look(home, mailbox, n_answered, is_once=True)
    print(f"Orders answered: {n_answered}.")
    if n_answered == 0:
        print(f"No order for {home.site} lay in {mailbox}. Is it the coordinator's folder?")


@client_app.command()
def start(folder: ClientDir = HERE, mailbox: Mailbox = None) -> None:
    """Take part until Ctrl-C or SIGTERM. The client waits while the server is away."""
    if mailbox is not None:
        _refuse_no_folder(mailbox)
        _start_by_mailbox(_ready(folder), mailbox)
        return
    from fedmri.clients.process.node import SiteNode
    from fedmri.clients.process.standing import forget_mailbox

    home = _ready(folder)
    forget_mailbox(home)
    log_to(home.logs / "node.log")
    stop = stop_event()
    address = home.consortium.address
    print(f"Site {home.site} takes part at {address}. Ctrl-C ends it.", flush=True)
    SiteNode(home).run(stop)


def _refuse_no_folder(mailbox: Path) -> None:
    if not mailbox.is_dir():
        what, fix = f"mailbox {mailbox}", "mount it, or name another folder"
        raise UsageError("U01", what, found="no folder", want="a folder", fix=fix)


def _ready(folder: Path) -> ClientHome:
    """Return a site's folder that this process alone works in, with a ledger that is whole."""
    from fedmri.clients.egress.ledger import verify
    from fedmri.clients.process.home import ClientHome
    from fedmri.clients.process.node import lock
    from fedmri.clients.process.standing import tell_of_ends

    home = ClientHome(folder)
    _ = home.consortium, home.config  # a wrong setting is said now, not in a log
    lock(home)
    verify(home.ledger)  # nothing leaves before what has left is known to be whole
    tell_of_ends(home, is_dialled=False)
    return home


def _start_by_mailbox(home: ClientHome, mailbox: Path) -> None:
    from fedmri.clients.mailbox.letters import answer_waiting
    from fedmri.clients.mailbox.looks import note_look

    stop = stop_event()
    log_to(home.logs / "client.log")
    note_look(home, mailbox, 0, is_once=False)
    fault = ""
    print(f"Site {home.site} takes part by {mailbox}. Ctrl-C ends it.", flush=True)
    while not stop.wait(LOOK_S):
        try:
            n_answered = answer_waiting(home, mailbox)
            if n_answered:
                note_look(home, mailbox, n_answered, is_once=False)
            fault = ""
        except OSError as error:  # a share that went away comes back
            if fault != (fault := str(error)):  # once, and not at every look
                log.warning("mailbox %s: %s", mailbox, error)
