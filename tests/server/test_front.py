"""The front of SuperLink: which calls are passed on, and what of them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping, MutableMapping
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import Message, Metadata, ObjectTree
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from fedmri.server.transport import front
from fedmri.server.transport.callers import OPEN, PUSH, Caller, caller_of, is_answer_of
from fedmri.server.transport.front import MAX_BODY, FleetOnly

PULL = "/v1/fleet/pull-messages"
ORDER_OF_P384 = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
    16,
)
KEY = ec.generate_private_key(ec.SECP384R1())
Headers = list[tuple[bytes, bytes]]


class State:
    """A registry with one node, 7."""

    def get_node_id_by_public_key(self, key: bytes) -> int | None:
        """Return its id."""
        return 7 if key == public_key_to_bytes(KEY.public_key()) else None


class Link:
    """A SuperLink that notes what reaches it."""

    def __init__(self) -> None:
        self.reached: list[tuple[str, Headers, bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Read the whole call and answer 200."""
        part = await receive()
        self.reached.append((scope["path"], scope["headers"], part["body"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def call(app: FleetOnly, path: str, headers: Headers, *parts: bytes, method: str = "POST") -> int:
    """Make a call and return its status."""
    scope = {"type": "http", "path": path, "method": method, "headers": headers}
    waiting = list(parts or [b""])
    statuses: list[int] = []

    async def receive() -> MutableMapping[str, Any]:
        body = waiting.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(waiting)}

    async def send(message: MutableMapping[str, Any]) -> None:
        statuses.extend([message["status"]] if "status" in message else [])

    asyncio.run(app(scope, receive, send))
    return statuses[0]


def signed(key: ec.EllipticCurvePrivateKey = KEY, time: bytes = b"2026-01-02T03:04:05") -> Headers:
    """Return the headers of a signed call without a body."""
    signature = key.sign(time, ec.ECDSA(hashes.SHA256()))
    return [
        (b"host", b"x"),
        (b"content-length", b"0"),
        (b"flwr-public-key", base64.b64encode(public_key_to_bytes(key.public_key()))),
        (b"flwr-timestamp", time),
        (b"flwr-signature", base64.b64encode(signature)),
    ]


def replaced(headers: Headers, **values: bytes) -> Headers:
    """Return headers with other values; ``_`` stands for ``-``."""
    new = {name.replace("_", "-").encode(): value for name, value in values.items()}
    return [(name, new.get(name, value)) for name, value in headers]


@pytest.fixture
def link() -> Link:
    """Return a SuperLink that notes what reaches it."""
    return Link()


@pytest.fixture
def app(link: Link) -> FleetOnly:
    """Return its front."""

    def who(headers: Mapping[bytes, bytes]) -> Caller | None:
        return caller_of(State(), headers)

    return FleetOnly(link, who)


def test_a_nodes_call_is_passed_on_without_its_host(app: FleetOnly, link: Link) -> None:
    """Older servers took part of the path from that header."""
    assert call(app, PULL, signed()) == 200
    [(path, headers, _)] = link.reached
    assert path == PULL
    assert b"host" not in dict(headers)


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/v1/fleet/register-node", "POST", 404),
        ("/v1/fleet/unregister-node", "POST", 404),
        ("/v1/control/start-run", "POST", 404),
        ("/v1/runtime/acquire-task", "POST", 404),
        (PULL + "/", "POST", 404),
        (PULL, "GET", 405),
    ],
)
def test_what_no_node_needs_is_not_there(
    path: str, method: str, status: int, app: FleetOnly, link: Link
) -> None:
    """A node's signature makes no other path appear."""
    assert call(app, path, signed(), method=method) == status
    assert not link.reached


@pytest.mark.parametrize("path", sorted(OPEN))
def test_nothing_is_read_from_a_stranger(path: str, app: FleetOnly, link: Link) -> None:
    """Without a registered key and its signature, no byte of the body is waited for."""
    stranger = signed(ec.generate_private_key(ec.SECP384R1()))
    other_time = replaced(signed(), flwr_timestamp=b"2027-01-02T03:04:05")
    for headers in ([(b"content-length", b"5")], stranger, other_time):
        assert call(app, path, headers, *[b"never read"] * 2) == 401
    assert not link.reached


@pytest.mark.parametrize(
    "length", [b"", b"-1", b"1e9", b"0x5", str(MAX_BODY + 1).encode(), b"9" * 5000]
)
def test_a_call_without_an_honest_length_is_refused(length: bytes, app: FleetOnly) -> None:
    """A body has an end that is known."""
    assert call(app, PULL, replaced(signed(), content_length=length)) == 413
    assert call(app, PULL, [*signed(), (b"transfer-encoding", b"chunked")]) == 413


def test_a_signature_counts_once(app: FleetOnly, link: Link) -> None:
    """Not again on another path, in other base64, nor as the twin that ECDSA allows."""
    headers = signed()
    assert call(app, PULL, headers) == 200
    r, s = decode_dss_signature(base64.b64decode(dict(headers)[b"flwr-signature"]))
    twin = base64.b64encode(encode_dss_signature(r, ORDER_OF_P384 - s))
    for again in (headers, replaced(headers, flwr_signature=twin)):
        assert caller_of(State(), dict(again)) is not None
        assert [call(app, path, again) for path in (PULL, "/v1/fleet/activate-node")] == [401, 401]
    assert call(app, PULL, signed()) == 200
    assert len(link.reached) == 2


def test_a_stranger_uses_up_nobodys_signature(app: FleetOnly, link: Link) -> None:
    """What is not signed is not remembered either: nobody fills the memory."""
    bad = replaced(signed(), flwr_timestamp=b"x")
    assert call(app, PULL, bad) == 401
    assert call(app, PULL, replaced(bad, flwr_timestamp=b"2026-01-02T03:04:05")) == 200


def test_signatures_are_forgotten_when_their_time_is_over(
    app: FleetOnly, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SuperLink refuses them by then; months of calls need no more memory than minutes."""
    headers = signed()
    assert call(app, PULL, headers) == 200
    monkeypatch.setattr(front, "REPLAY_S", 0.0)
    assert call(app, PULL, headers) == 200


def test_the_first_of_two_headers_counts(app: FleetOnly, link: Link) -> None:
    """SuperLink reads the first: the front must not look at another."""
    stranger = signed(ec.generate_private_key(ec.SECP384R1()))
    assert call(app, PULL, [*stranger, *signed()]) == 401
    assert not link.reached


def pushed(src: int = 7, to: str = "order", n: int = 1) -> bytes:
    """Return the body of a push."""
    message = Message(metadata=Metadata(src_node_id=src, reply_to_message_id=to))
    request = PushMessagesRequest(
        messages_list=[message] * n, message_object_trees=[ObjectTree(object_id="0")] * n
    )
    return bytes(request.SerializeToString())


@pytest.mark.parametrize(
    ("body", "is_own"),
    [
        (pushed(), True),
        (pushed(src=8), False),
        (pushed(src=1), False),
        (pushed(to=""), False),
        (pushed(n=2), False),
        (b"", False),
        (b"\xff", False),
    ],
    ids=["own", "another's", "the server's", "an order", "two", "nothing", "no message"],
)
def test_a_node_answers_in_its_own_name(
    body: bytes, is_own: bool, app: FleetOnly, link: Link
) -> None:
    """What it pushes is one answer, from itself; the body then arrives whole."""
    assert is_answer_of(7, body) == is_own
    half = len(body) // 2
    assert call(app, PUSH, signed(), body[:half], body[half:]) == (200 if is_own else 403)
    assert [reached[2] for reached in link.reached] == ([body] if is_own else [])


def test_a_path_in_the_log_is_one_line(app: FleetOnly, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody writes lines of their own into the coordinator's log."""
    call(app, "/x\n2026-01-01 fedmri.server INFO site a is enrolled" + "y" * 900, [])
    [record] = caplog.records
    assert "\n" not in record.getMessage()
    assert len(record.getMessage()) < 200
