"""A site's side of the mailbox: orders that are its own and new, and its answers to them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key, load_ssh_private_key
from flwr.app import Context, Message, RecordDict

from fedmri.agreement.sealed import (
    ANSWERS,
    LETTER,
    ORDERS,
    address_of,
    put_aside,
    put_letter,
    require_writable,
    seal,
    take_away,
    unseal,
)
from fedmri.agreement.signed_plan import SignedPlan
from fedmri.clients.consent.refusal import refusals
from fedmri.clients.egress.ledger import Egress, Ledger
from fedmri.clients.process.flower import identify_site
from fedmri.clients.process.home import ClientHome
from fedmri.clients.process.keys import public_half
from fedmri.clients.process.worker import noted_answer
from fedmri.errors import NetworkError
from fedmri.machine.files import append_line, whole_lines
from fedmri.wire import code_said
from fedmri.wire.letters import TAKEN_BACK, AnswerHead, OrderHead, as_letter, read_letter

log = logging.getLogger("fedmri.client")

REFUSED = "P18"
"""Code of the answer to a run that people here refuse."""
REPLY_KEY = "reply_key"


@dataclass
class MailedTask:
    """An order that came by letter, as the worker takes one; nothing but the order came with it."""

    message: Message
    context: Context
    bundle: bytes | None = None


@dataclass(frozen=True)
class Mail:
    """A letter that was opened."""

    file: Path
    head: OrderHead
    content: RecordDict


def answer_waiting(home: ClientHome, mailbox: Path) -> int:
    """Answer the orders that lie in the mailbox; return how many were answered.

    Of each run the newest order counts. One that was answered before, or is older, is refused and
    taken away, and so is a letter that the coordinator did not write. Before it, the server is told
    of each run whose refusal was taken back here: it then asks again.

    Raises:
        NetworkError: The site has not joined (N04), or its key cannot be used (N06).
        OSError: The mailbox cannot be written: nothing was trained in vain.
    """
    public_half(home.key)
    identify_site()
    key = load_ssh_private_key(home.key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # checked above
    require_writable(mailbox)
    for line in _taken_back(home):
        _tell_taken_back(home, mailbox, key, line)
    newest: dict[str, Mail] = {}
    for mail in sorted(_opened(home, mailbox, key), key=lambda mail: mail.head.number):
        if mail.head.run in newest:
            take_away(newest[mail.head.run].file)
        newest[mail.head.run] = mail
    for mail in newest.values():
        _answer(home, mailbox, key, mail)
    return len(newest)


def _opened(home: ClientHome, mailbox: Path, key: ec.EllipticCurvePrivateKey) -> Iterator[Mail]:
    box = mailbox / ORDERS / address_of(key.public_key())
    answered = {line["id"] for line in whole_lines(home.letters)}
    for file in sorted(box.glob(f"*{LETTER}")):
        if file.stem in answered:  # it could not be taken away, or came again
            put_aside(file)
            continue
        try:
            yield _own_new(home, file, key)
        except NetworkError as error:
            if put_aside(file):
                log.warning("letter %s: %s", file.name, error)


def _own_new(home: ClientHome, file: Path, key: ec.EllipticCurvePrivateKey) -> Mail:
    """Return a letter of the coordinator's for this site, of a new order (N40, N41)."""
    coordinator = load_pem_public_key(home.consortium.coordinator.encode())
    assert isinstance(coordinator, Ed25519PublicKey)  # checked when the site joined
    head, content = read_letter(unseal(file.read_bytes(), key, coordinator.verify), OrderHead)
    if head.site != home.consortium.site:
        raise _refused(f"an order for {head.site!r}", f"one for {home.consortium.site}")
    last = max((x["number"] for x in whole_lines(home.letters) if x["run"] == head.run), default=0)
    if head.number <= last:
        raise _refused("an order that came before", "one newer than all of its run")
    return Mail(file, head, content)


def _answer(home: ClientHome, mailbox: Path, key: ec.EllipticCurvePrivateKey, mail: Mail) -> None:
    """Answer an order; it counts as answered once its answer is in the mailbox."""
    head = mail.head
    message = Message(mail.content, 1, head.kind)
    vars(message.metadata)["_message_id"] = head.id
    config = {"run": head.run, "signed-plan": head.plan}
    context = Context(1, 1, {}, RecordDict(), dict(config))
    reply = noted_answer(home, MailedTask(message, context))
    told = AnswerHead(head.id)
    if reply.has_error():
        told = AnswerHead(head.id, reply.error.code, str(reply.error.reason))
    content = as_letter(told, reply.content if reply.has_content() else None)
    _put(mailbox, head.id, content, head.reply_key, key)
    line = {"run": head.run, "number": head.number, "id": head.id}
    if code_said(told.reason) == REFUSED:
        plan = SignedPlan.from_json(head.plan).sha256
        line |= {"plan": plan, REPLY_KEY: head.reply_key}  # to tell when it is taken back
    append_line(home.letters, line)
    take_away(mail.file)  # in a folder of the server's it stays, and is known as answered


def _put(
    mailbox: Path, number: str, content: bytes, reply_key: str, key: ec.EllipticCurvePrivateKey
) -> None:
    """Put an answer into the mailbox, for the server alone."""
    receiver = load_pem_public_key(reply_key.encode())
    if not isinstance(receiver, ec.EllipticCurvePublicKey):
        raise _refused("a key of another kind for answers", "a P-384 key")
    letter = seal(content, receiver, lambda text: key.sign(text, ec.ECDSA(hashes.SHA384())))
    put_letter(mailbox / ANSWERS / f"{number}{LETTER}", letter)


def _taken_back(home: ClientHome) -> Iterator[dict[str, Any]]:
    """Yield the last order of each run that was refused, where the refusal no longer holds."""
    last = {line["run"]: line for line in whole_lines(home.letters)}
    held = refusals(home)
    for run, line in last.items():
        if REPLY_KEY in line and (line["plan"], run) not in held:
            yield line


def _tell_taken_back(
    home: ClientHome, mailbox: Path, key: ec.EllipticCurvePrivateKey, line: Mapping[str, Any]
) -> None:
    """Tell the server that a refusal was taken back; it is in the ledger before it leaves."""
    content = as_letter(AnswerHead(line["id"], TAKEN_BACK), None)
    digest, what = hashlib.sha256(content).hexdigest(), ("a refusal was taken back",)
    entry = Egress(line["plan"], line["run"], None, "letter", len(content), digest, what)
    Ledger(home.ledger).append(entry)
    _put(mailbox, line["id"], content, line[REPLY_KEY], key)
    append_line(home.letters, {name: line[name] for name in ("run", "number", "id")})


def _refused(found: str, want: str) -> NetworkError:
    fix = "nothing, if a letter was carried twice; else ask the coordinator"
    return NetworkError("N41", "letter of the mailbox", found=found, want=want, fix=fix)
