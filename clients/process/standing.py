"""How a site stands with its server: what it is told of itself, on its own disk for its people."""

from __future__ import annotations

import datetime as dt
import http.client
import json
import logging
import ssl
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from fedmri.clients.consent.approval import seen_plans
from fedmri.clients.egress.ledger import entries
from fedmri.clients.process.flower import signed_headers
from fedmri.clients.process.home import ClientHome
from fedmri.clients.process.messages import tell_of_end, tell_of_left_out
from fedmri.clients.process.reach import SOON_DAYS, connect, proxy_for, server_certificate
from fedmri.errors import CODES, FedmriError, PrivacyError
from fedmri.machine.clock import utc
from fedmri.machine.files import is_held, write_whole
from fedmri.strategies.stale import staleness_weight

log = logging.getLogger("fedmri.client")

PATH = "/fedmri/standing"
STANDING, ORDER, TOLD, MAIL = "standing.json", "order.json", "told.json", "mail.json"
LATE = "R45"
"""Code of an update that joined a later round."""
LOCK = "lock"
"""Of the client that runs in a folder, with its process number."""

Standing = Literal["enrolled", "revoked", "not known", "no answer", "by letters"]
SAID: Mapping[Standing, str] = {
    "enrolled": "The server answers and knows this site.",
    "revoked": "REVOKED: the coordinator has shut this site out. Call them [P12].",
    "not known": "The server does not know this site's key: call the coordinator.",
    "no answer": "The server does not answer: see `fedmri client doctor`.",
    "by letters": "It dials nobody: orders and answers travel by letters.",
}
"""What each standing means to the site's people."""
TOLD_DAYS: Mapping[str, tuple[int, ...]] = {"authority": (180, 30), "server": (SOON_DAYS, 7)}
"""Days before the end of a certificate at which its end is told, by whose it is."""
ANSWERS: Mapping[int, Standing] = {204: "enrolled", 410: "revoked", 401: "not known"}


def ask_standing(home: ClientHome) -> Standing:
    """Ask the server how this site stands; its key signs the question.

    A site that was shut out stays so, wherever the server has moved to since. One that takes its
    orders from a mailbox may not dial out, and asks nobody.
    """
    if noted(home, MAIL):
        return "by letters"
    found = _ask(home)
    was = noted(home, STANDING).get("standing")
    return "revoked" if (found, was) == ("no answer", "revoked") else found


def _ask(home: ClientHome) -> Standing:
    key = load_ssh_private_key(home.key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # checked when the client started
    consortium = home.consortium
    context = ssl.create_default_context(cadata=consortium.ca)
    signed = signed_headers(key)
    try:
        connection = connect(consortium, proxy_for(consortium.host), context)
        try:
            connection.request("POST", PATH, headers={**signed, "content-length": "0"})
            return ANSWERS.get(connection.getresponse().status, "no answer")
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):
        return "no answer"


def tell_of_ends(home: ClientHome, *, is_dialled: bool) -> None:
    """Tell this site's people in good time that a certificate of the consortium ends.

    Args:
        home: The site's folder.
        is_dialled: Whether the server is asked for its own; the authority's lies here.
    """
    found: dict[str, x509.Certificate] = {}
    # a damaged file, or a server that is away, is said elsewhere
    with suppress(ValueError, OSError, http.client.HTTPException):
        found["authority"] = x509.load_pem_x509_certificate(home.consortium.ca.encode())
        if is_dialled:
            found["server"] = server_certificate(home.consortium)
    for whose, certificate in found.items():
        end = certificate.not_valid_after_utc
        n_left = (end - dt.datetime.now(dt.UTC)).days
        due = [n_days for n_days in TOLD_DAYS[whose] if n_left < n_days]
        if due:
            tell_of_end(home, whose, end, min(due))


def note(home: ClientHome, name: str, **fields: Any) -> None:
    """Write what the site's people may ask for; the time goes with it."""
    text = json.dumps({**fields, "time": utc()})
    try:
        _folder(home).mkdir(exist_ok=True)  # a site without a SuperNode has none yet
        write_whole(_folder(home) / name, text)
    except OSError as error:  # news, not a record: a full disk is said elsewhere
        log.warning("%s cannot be written: %s", name, error)


def noted(home: ClientHome, name: str) -> dict[str, Any]:
    """Return what was noted; nothing where it was not, or is broken."""
    try:
        found = json.loads((_folder(home) / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def forget_mailbox(home: ClientHome) -> None:
    """Note that this site dials in from now on."""
    (_folder(home) / MAIL).unlink(missing_ok=True)


def heed(home: ClientHome, run: str, told: tuple[int, str] | None) -> None:
    """Note what the server says of this site's last update of a run: left out, late, or nothing."""
    before = noted(home, TOLD)
    if told is None:
        if before.get("run") == run:
            (_folder(home) / TOLD).unlink(missing_ok=True)
        return
    round_index, code = told
    if (before.get("run"), before.get("round"), before.get("code")) == (run, round_index, code):
        return
    if code == LATE:
        note(home, TOLD, run=run, round=round_index, code=code, **_counted(home, run, round_index))
        log.info("%s", of_update(noted(home, TOLD)))
    else:
        log.warning(
            "the server left this site's update of round %d of run %s out: %s [%s]",
            *(round_index, run, CODES[code], code),
        )
        note(home, TOLD, run=run, round=round_index, code=code)
        if (before.get("run"), before.get("code")) != (run, code):  # once, however many rounds
            tell_of_left_out(home, run, round_index, code)


def outcome(code: str, *, is_running: bool) -> str:
    """Return what came of the last order, in words; ``code`` is empty before its answer."""
    if code:
        return f"answered with {code}"
    return "being worked on" if is_running else "begun, and cut before its end"


def of_update(told: Mapping[str, Any]) -> str:
    """Return what the server said of this site's last update, as a sentence; empty for nothing."""
    if not told:
        return ""
    code, joined = str(told.get("code")), f"round {told.get('round')} of run {told.get('run')}"
    if code != LATE:
        why = CODES.get(code, "not listed")
        return f"LEFT OUT: the update of {joined} was refused: {why} [{code}]."
    weight = told.get("weight")
    shown = f" with weight {weight:.2g}" if isinstance(weight, float) else ""
    trained = f"round {told['trained']}" if "trained" in told else "an earlier round"
    return f"The update of {trained} came late and counted in {joined}{shown} [{code}]."


def _counted(home: ClientHome, run: str, joined: int) -> dict[str, Any]:
    """Return the round of an update that joined a later one, and its weight where it is known.

    Both come from the site's own ledger and plan.
    """
    sent = [e for e in entries(home.ledger) if (e["kind"], e.get("run")) == ("update", run)]
    before = [one for one in sent if one["round"] < joined]
    if not before:
        return {}
    trained, plan = before[-1]["round"], before[-1]["plan"]
    rounds = next((one.plan.rounds for one in seen_plans(home) if one.sha256 == plan), None)
    if rounds is None:
        return {"trained": trained}
    weight = staleness_weight(joined - trained, rounds.staleness_power)
    return {"trained": trained, "weight": weight}


def revoked(home: ClientHome) -> FedmriError:
    """Return the error of a site that its coordinator shut out (P12)."""
    what, want = f"site {home.consortium.site}", "a site of the consortium"
    fix = "call the coordinator; to come back, this site needs a new folder, name and key"
    return PrivacyError("P12", what, found="revoked by the coordinator", want=want, fix=fix)


def client_pid(home: ClientHome) -> int | None:
    """Return the process of the client that runs in a folder, or None where none does."""
    path = home.folder / LOCK
    try:
        if not is_held(path):
            return None
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else 0


def _folder(home: ClientHome) -> Path:
    return home.folder / "state"
