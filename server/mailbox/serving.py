"""A run over a mailbox, in the foreground: no port is opened, and no site has to be online."""

from __future__ import annotations

import os
from pathlib import Path

from fedmri.assembly import assemble
from fedmri.errors import FedmriError, NetworkError
from fedmri.machine.files import hold
from fedmri.server.deployed import log_of_run, note_record, run_of
from fedmri.server.mailbox.grid import MailboxGrid
from fedmri.server.mailbox.letters import Letters
from fedmri.server.memory import return_large_blocks
from fedmri.server.registry.home import ServerHome
from fedmri.server.rounds.loop import Rounds
from fedmri.server.runs import LOCK, RunFolder
from fedmri.server.transport.inflating import bound_answers


def run_by_mailbox(home: ServerHome, folder: RunFolder, mailbox: Path) -> str:
    """Train what is left of a run by letters; return the SHA-256 of the final weights.

    Ctrl-C ends it, and so does ``fedmri server stop``; it can go on later.

    Args:
        home: The coordinator's folder.
        folder: The run; its members are named.
        mailbox: The shared folder.

    Raises:
        RoundError: Too few sites answered in time (R01), among others of a round.
        NetworkError: Another process works on the run (N21).
        UsageError: It is finished (U50).
    """
    return_large_blocks()
    number = _hold(folder)
    try:
        if folder.note.status == "running":
            folder.change(status="interrupted", message="its process ended")
        if folder.note.status != "queued":
            folder.queue_again()
        return _run(home, folder, mailbox)
    finally:
        os.close(number)


def _run(home: ServerHome, folder: RunFolder, mailbox: Path) -> str:
    log_of_run(folder.path / "log.txt")
    letters = Letters(home, folder, mailbox, frozenset(folder.note.members))
    grid = MailboxGrid(letters)
    folder.change(status="running", message="")
    try:
        run = run_of(grid, folder, home)
        made = assemble(run.plan)
        folder.bound_answers(bound_answers(run.plan, made.entries, made.layout))
        sha256 = Rounds(run, grid, note_record).go()
    except (FedmriError, OSError) as error:
        folder.change(status="failed", message=str(error))
        raise
    except KeyboardInterrupt:
        folder.change(status="stopped", message="stopped by the coordinator")
        raise
    finally:
        letters.close()
    folder.change(status="finished")
    return sha256


def _hold(folder: RunFolder) -> int:
    try:
        return hold(folder.path / LOCK)
    except BlockingIOError as error:
        want, fix = "one process for a run", "end the other one first"
        what = f"run {folder.name}"
        raise NetworkError("N21", what, found="another process", want=want, fix=fix) from error
