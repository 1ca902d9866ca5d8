"""When a site last looked into its mailbox, and what waits there: for its own people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from fedmri.agreement.sealed import LETTER, ORDERS, address_of
from fedmri.clients.process.home import ClientHome
from fedmri.clients.process.standing import MAIL, note, noted
from fedmri.machine.files import whole_lines


@dataclass(frozen=True)
class Looks:
    """What is known of a site that takes its orders from a mailbox.

    Attributes:
        mailbox: The shared folder.
        is_once: Whether single jobs answer them: no client runs between two of these.
        looked: When somebody looked last, UTC.
        n_answered: Orders that were answered then.
        n_waiting: Orders that wait there now; None where the folder cannot be read.
    """

    mailbox: str
    is_once: bool
    looked: str
    n_answered: int
    n_waiting: int | None


def note_look(home: ClientHome, mailbox: Path, n_answered: int, *, is_once: bool) -> None:
    """Write down that somebody looked into the mailbox."""
    folder = str(mailbox.absolute())
    note(home, MAIL, mailbox=folder, is_once=is_once, n_answered=n_answered)


def looks(home: ClientHome) -> Looks | None:
    """Return how a site stands with its mailbox; None where it dials in."""
    found = noted(home, MAIL)
    if not found:
        return None
    mailbox = str(found.get("mailbox", ""))
    return Looks(
        mailbox,
        bool(found.get("is_once")),
        str(found.get("time", "")),
        int(found.get("n_answered", 0)),
        n_waiting(home, Path(mailbox)),
    )


def client_text(looks: Looks | None, *, is_running: bool) -> str:
    """Return whether the client of a site runs, and whether it should, in sentences."""
    if looks is None:
        return "Its client runs." if is_running else "Its client does not run."
    box = f"Orders that wait in mailbox {looks.mailbox}: {looks.n_waiting}."
    if looks.n_waiting is None:
        box = f"Mailbox {looks.mailbox} cannot be read: is it mounted?"
    if is_running:
        return f"Its client runs. {box}"
    if not looks.is_once:
        return f"Its client does not run. {box}"
    last = f"The last job looked there {looks.looked} and answered {looks.n_answered}"
    return f"Single jobs answer its orders. {last}. {box}"


def n_waiting(home: ClientHome, mailbox: Path) -> int | None:
    """Return how many orders wait in a mailbox; None where it cannot be read."""
    try:
        key = load_ssh_public_key(home.public_key.read_bytes())
        assert isinstance(key, ec.EllipticCurvePublicKey)  # as the site made it
        if not mailbox.is_dir():
            return None
        answered = {line.get("id") for line in whole_lines(home.letters)}
        found = (mailbox / ORDERS / address_of(key)).glob(f"*{LETTER}")
        return sum(file.stem not in answered for file in found)
    except (OSError, ValueError):
        return None
