"""What a site's people are told: kept on their disk, and handed to a command of their own."""

from __future__ import annotations

import datetime as dt
import logging
import shlex
import subprocess
from dataclasses import asdict, dataclass

from fedmri.clients.process.home import ClientHome
from fedmri.errors import CODES
from fedmri.machine.clock import utc
from fedmri.machine.files import append_line, whole_lines

log = logging.getLogger("fedmri.client")

LONGEST_S = 20.0
"""Time that the command may take: the client does not wait longer for it."""


@dataclass(frozen=True)
class Told:
    """One message.

    Attributes:
        about: What it is about; the same is told once.
        text: A sentence without names of patients, files or values.
        time: When, UTC.
    """

    about: str
    text: str
    time: str


def messages(home: ClientHome) -> list[Told]:
    """Return what the site's people were told, the oldest first."""
    return [Told(**line) for line in whole_lines(home.messages)]


def tell_of_plan(home: ClientHome, plan: str) -> None:
    """Tell that a plan waits for approval, once."""
    text = f"Plan {plan[:12]} waits for approval. See: fedmri client approve {plan[:12]}"
    _tell(home, f"plan {plan}", text)


def tell_of_left_out(home: ClientHome, run: str, round_index: int, code: str) -> None:
    """Tell that the server left an update of this site out, and why."""
    why = CODES.get(code, "not listed")
    text = f"The server left round {round_index} of run {run} from here out: {why} [{code}]."
    _tell(home, f"left out {run} {round_index} {code}", text)


def tell_of_revoked(home: ClientHome) -> None:
    """Tell that the coordinator shut this site out, once."""
    _tell(home, "revoked", "The coordinator has revoked this site. Call them [P12].")


def tell_of_withdrawal(home: ClientHome, version: str) -> None:
    """Tell that a patient withdrew; ``version`` is of the list of those who did."""
    text = "A patient withdrew consent. No later plan or round of this site has their data."
    _tell(home, f"withdrawn {version}", text)


def tell_of_end(home: ClientHome, whose: str, end: dt.datetime, n_days: int) -> None:
    """Tell that a certificate ends within some days, once for each number of days."""
    date = f"{end:%Y-%m-%d}"
    fix = "The coordinator can renew it" if whose == "server" else "A new consortium is needed"
    text = f"The certificate of the consortium's {whose} ends on {date}. {fix}: call them."
    _tell(home, f"end {whose} {date} {n_days}", text)


def _tell(home: ClientHome, about: str, text: str) -> None:
    """Keep a message that is new, and hand it to the command of ``notify``."""
    if any(told.about == about for told in messages(home)):
        return
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    try:
        append_line(home.messages, asdict(Told(about, shown, utc())))
        _hand_on(home.config.notify, shown)
    except (OSError, subprocess.SubprocessError) as error:  # news never ends a site
        log.warning("a message did not reach its reader: %s", type(error).__name__)


def _hand_on(command: str, text: str) -> None:
    if command:
        words = [*shlex.split(command), text]
        subprocess.run(words, stdin=subprocess.DEVNULL, timeout=LONGEST_S, check=True)
