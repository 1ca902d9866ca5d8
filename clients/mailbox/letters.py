"""A site's side of the mailbox: orders that are its own and new, and its answers to them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key, load_ssh_private_key
from flwr.app import Context, Message, RecordDict

from fedmri.agreement.sealed import ANSWERS, LETTER, ORDERS, address_of, put_aside, seal, unseal
from fedmri.clients.process.flower import identify_site
from fedmri.clients.process.home import ClientHome
from fedmri.clients.process.keys import public_half
from fedmri.clients.process.worker import noted_answer
from fedmri.errors import NetworkError
from fedmri.machine.files import append_line, whole_lines, write_whole
from fedmri.wire.letters import AnswerHead, OrderHead, as_letter, read_letter

log = logging.getLogger("fedmri.client")


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
    taken away, and so is a letter that the coordinator did not write.

    Raises:
        NetworkError: The site has not joined (N04), or its key cannot be used (N06).
    """
    public_half(home.key)
    identify_site()
    key = load_ssh_private_key(home.key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # checked above
    newest: dict[str, Mail] = {}
    for mail in sorted(_opened(home, mailbox, key), key=lambda mail: mail.head.number):
        if mail.head.run in newest:
            _take_away(newest[mail.head.run].file)
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
    receiver = load_pem_public_key(head.reply_key.encode())
    if not isinstance(receiver, ec.EllipticCurvePublicKey):
        raise _refused("a key of another kind for answers", "a P-384 key")
    letter = seal(content, receiver, lambda text: key.sign(text, ec.ECDSA(hashes.SHA384())))
    (mailbox / ANSWERS).mkdir(parents=True, exist_ok=True)  # others carry it: it is sealed
    write_whole(mailbox / ANSWERS / f"{head.id}{LETTER}", letter)
    append_line(home.letters, {"run": head.run, "number": head.number, "id": head.id})
    _take_away(mail.file)


def _take_away(file: Path) -> None:
    with suppress(OSError):  # in a folder of the server's it stays, and is known as answered
        file.unlink()


def _refused(found: str, want: str) -> NetworkError:
    fix = "nothing, if a letter was carried twice; else ask the coordinator"
    return NetworkError("N41", "letter of the mailbox", found=found, want=want, fix=fix)
