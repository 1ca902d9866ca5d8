"""Orders that go out as sealed files in a shared folder, and answers that come in as such."""

from __future__ import annotations

import logging
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_public_key
from flwr.app import Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.proto.node_pb2 import NodeInfo

from fedmri.agreement.sealed import (
    ALL_WRITE,
    ANSWERS,
    LETTER,
    ORDERS,
    Sign,
    Verify,
    address_of,
    make_box,
    put_aside,
    put_letter,
    seal,
    take_away,
    unseal,
)
from fedmri.errors import NetworkError
from fedmri.machine.clock import utc
from fedmri.machine.files import write_private, write_whole
from fedmri.server.registry.attendance import REFUSED
from fedmri.server.registry.home import ServerHome
from fedmri.server.runs import RunFolder
from fedmri.server.transport.refusals import code_of
from fedmri.server.transport.thinned import Thinned
from fedmri.swollen import SLACK
from fedmri.wire.grid import FIRST_NODE
from fedmri.wire.letters import TAKEN_BACK, AnswerHead, OrderHead, as_letter, read_letter

log = logging.getLogger("fedmri.server")

NUMBER = "mailbox.number"
"""In the folder of a run: the number of its last letter."""
ID = "letter-"
"""First letters of an order's id: those of Flower's are hexadecimal."""


@dataclass(frozen=True)
class _Out:
    """An order that is out: its message without content, its site, its file."""

    message: Message
    site: str
    file: Path


@dataclass
class Letters:
    """The letters of a run to sites that nobody sees: all of them count as there.

    A site that refused the run is there anew once its letter says that the refusal was taken back.

    Args:
        home: The coordinator's folder: its key signs orders, its registry knows the sites' keys.
        folder: The run.
        mailbox: The shared folder.
        sites: Who gets letters.
    """

    home: ServerHome
    folder: RunFolder
    mailbox: Path
    sites: frozenset[str]
    _out: dict[str, _Out] = field(default_factory=dict)
    _refusing: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # a run that is resumed asks anew those who refused
        self._since = dict.fromkeys(self.sites, utc())
        self._nodes = {FIRST_NODE + n: site for n, site in enumerate(sorted(self.sites))}
        self._plan = self.folder.signed.to_json()
        self._own = _reply_key(self.folder)
        self._number = self._last_number()
        self._faults = Thinned(log, logging.WARNING)

    def nodes(self) -> list[NodeInfo]:
        """Return the sites that were not revoked: nobody knows who looks into the folder."""
        known = self.home.sites()
        for site, number in list(self._refusing.items()):
            self._look_for_new_mind(site, number)
        return [
            NodeInfo(node_id=i, name=site, last_activated_at=self._since[site])
            for i, site in self._nodes.items()
            if site in known and not known[site].is_revoked
        ]

    def is_for(self, message: Message) -> bool:
        """Tell whether an order goes by letter."""
        return message.metadata.dst_node_id in self._nodes

    def post(self, message: Message) -> str:
        """Write an order, and return its id; an older one that lies there yet is taken away.

        The id is empty where the mailbox cannot be written now: a share that went away comes back.
        """
        site, number = self._nodes[message.metadata.dst_node_id], f"{ID}{uuid.uuid4().hex}"
        vars(message.metadata)["_message_id"] = number
        key = _site_key(self.home, site)
        file = self.mailbox / ORDERS / address_of(key) / f"{number}{LETTER}"
        self._take_away(site)
        self._number = self._next_number()
        head = OrderHead(
            *(site, self.folder.name, self._plan, self._number, number),
            *(message.metadata.message_type, _as_pem(self._own.public_key())),
        )
        letter = seal(as_letter(head, message.content), key, _signer(self.home))
        try:
            make_box(self.mailbox / ANSWERS, ALL_WRITE)  # made by a site, it would be that site's
            make_box(file.parent)
            put_letter(file, letter)
        except OSError as error:
            self._faults.note("mailbox: %s", error)
            return ""
        message.content = RecordDict()  # who never answers leaves an order, and no model, here
        self._out[number] = _Out(message, site, file)
        return number

    def _next_number(self) -> int:
        """Return a number above all earlier ones: a site refuses an order that is older.

        It grows over restarts, and where the clock was set back or a machine with another one took
        over. After an older backup came back, the time alone has to do.
        """
        number = max(self._number + 1, time.time_ns())
        write_whole(self.folder.path / NUMBER, f"{number}\n")
        return number

    def _last_number(self) -> int:
        try:
            return int((self.folder.path / NUMBER).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return 0

    def _take_away(self, site: str) -> None:
        """Take a site's older orders away; one that it is at may be answered till its time ends.

        An answer that nobody took goes with its order: a mailbox of months keeps no models.
        """
        for number, old in list(self._out.items()):
            sent = old.message.metadata
            if old.site == site:
                take_away(old.file)
            if sent.created_at + sent.ttl < time.time():
                take_away(self._answer_file(number))
                del self._out[number]

    def answer_to(self, number: str) -> Message | None:
        """Return the answer to an order if it is there, once; one that is none is put aside."""
        out = self._out.get(number)
        opened = self._opened(out.site, number) if out is not None else None
        if out is None or opened is None:
            return None
        del self._out[number]
        head, content = opened
        if not head.code:
            return Message(content, reply_to=out.message)
        # one that was refused and is not any more is asked again, as one that was lost
        code = ErrorCode.MESSAGE_UNAVAILABLE if head.code == TAKEN_BACK else head.code
        reply = Message(Error(code, head.reason), reply_to=out.message)
        if code_of(reply) == REFUSED:
            self._refusing[out.site] = number
        return reply

    def _opened(self, site: str, number: str) -> tuple[AnswerHead, RecordDict] | None:
        """Return the letter that answers an order, and take it away; None where none is there."""
        file = self._answer_file(number)
        if not file.exists():
            return None
        try:
            if file.stat().st_size > SLACK + 2 * self.folder.answer_bytes:
                raise _refused("a letter that is far too large")
            verify = _verifier(_site_key(self.home, site))
            head, content = read_letter(unseal(file.read_bytes(), self._own, verify), AnswerHead)
            if head.id != number:
                raise _refused("the answer to another order")
        except NetworkError as error:
            if put_aside(file):
                log.warning("answer of site %s: %s", site, error)
            return None
        except OSError as error:  # of a share that went away: it is there when that is back
            self._faults.note("mailbox: %s", error)
            return None
        take_away(file)  # in a folder of the site's it stays, and is not read again
        return head, content

    def _look_for_new_mind(self, site: str, number: str) -> None:
        """Let a site be there anew whose letter takes its refusal back."""
        opened = self._opened(site, number)
        if opened is not None and opened[0].code == TAKEN_BACK:
            del self._refusing[site]
            self._since[site] = f"{utc()} {number}"
            log.info("site %s takes its refusal back", site)

    def _answer_file(self, number: str) -> Path:
        return self.mailbox / ANSWERS / f"{number}{LETTER}"

    def close(self) -> None:
        """Take the orders away that nobody will answer any more, and answers that nobody took."""
        for number, out in self._out.items():
            take_away(out.file)
            take_away(self._answer_file(number))


def _reply_key(folder: RunFolder) -> ec.EllipticCurvePrivateKey:
    """Return the key that answers of a run are sealed for; it is made with the run."""
    file = folder.path / "mailbox.key"
    if not file.exists():
        made = ec.generate_private_key(ec.SECP384R1())
        form = serialization.PrivateFormat.PKCS8
        plain = serialization.NoEncryption()
        write_private(file, made.private_bytes(serialization.Encoding.PEM, form, plain))
    key = load_pem_private_key(file.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # as it was made
    return key


def _site_key(home: ServerHome, site: str) -> ec.EllipticCurvePublicKey:
    key = load_ssh_public_key(home.sites()[site].public_key.encode())
    assert isinstance(key, ec.EllipticCurvePublicKey)  # checked at its enrolment
    return key


def _signer(home: ServerHome) -> Sign:
    key = load_pem_private_key(home.signing_key.read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)  # checked when the plan was signed
    return key.sign


def _verifier(key: ec.EllipticCurvePublicKey) -> Verify:
    return lambda signature, text: key.verify(signature, text, ec.ECDSA(hashes.SHA384()))


def _as_pem(key: ec.EllipticCurvePublicKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, form).decode()


def _refused(found: str) -> NetworkError:
    want, fix = "the answer of the site that was asked", "ask that site whether it sent it"
    return NetworkError("N41", "letter of the mailbox", found=found, want=want, fix=fix)
