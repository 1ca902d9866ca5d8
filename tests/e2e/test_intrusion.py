"""Whoever is not a registered node, or says more than a node may, gets nowhere; others go on."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.proto.fleet_pb2 import (
    PullMessagesRequest,
    PullMessagesResponse,
    PushMessagesResponse,
)
from flwr.proto.message_pb2 import (
    ObjectTree,
    PullObjectRequest,
    PullObjectResponse,
    PushObjectRequest,
)
from flwr.proto.node_pb2 import Node
from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_TYPES
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.fleet_http_client import FleetHttpClient

from fedmri.clients.process.supernode import is_broken_off
from fedmri.server.registry import authority
from fedmri.server.registry.authority import renew
from fedmri.server.registry.enrolment import enroll, make_home
from fedmri.server.registry.home import ServerHome
from fedmri.server.transport.callers import OPEN
from fedmri.server.transport.superlink import SuperLink, free_port
from tests.e2e.front import FLEET, Front, new_key, signed, ssh, started_run, with_id

pytestmark = [  # of what flwr calls
    pytest.mark.filterwarnings("ignore:No path_separator found:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning"),
]

ALL_PATHS = sorted(path for _, path in PROTOBUF_REQUEST_TYPES)
LOGIN = {f"/v1/control/{call}" for call in ("get-login-details", "get-auth-tokens")}
"""What flwr answers to anybody: that there is no logging in."""
SERVER_NODE = 1


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """Run a SuperLink over TLS, two of whose nodes are online, with a run under way."""
    folder = tmp_path_factory.mktemp("front") / "server"
    make_home(folder, ["127.0.0.1"], free_port())
    home, keys = ServerHome(folder), {site: new_key() for site in "ab"}
    for site, key in keys.items():
        enroll(home, site, ssh(key))
    context = ssl.create_default_context(cafile=str(home.ca_cert))
    address = f"https://127.0.0.1:{home.config.port}"
    with SuperLink(home) as link, httpx.Client(base_url=address, verify=context) as client:
        for one in home.sites().values():
            link.control.register(one.name, one.public_key)
        link.open()
        front = Front(home, link, keys, client)
        for key in keys.values():
            assert front.activate(key, signed(key)).status_code == 200
        front.ids = {node.name: node.node_id for node in link.control.nodes()}
        front.run, front.token = started_run(link)
        yield front


@pytest.fixture
def order(front: Front, monkeypatch: pytest.MonkeyPatch) -> Message:
    """Return an order to site b as the server makes it; this process plays the server."""
    monkeypatch.setattr(TaskIdentity, "_run_id", front.run)
    monkeypatch.setattr(TaskIdentity, "_node_id", SERVER_NODE)
    monkeypatch.setattr(TaskIdentity, "_task_id", 1)
    content = RecordDict({"order": ConfigRecord({"json": "{}"})})
    return with_id(Message(content, front.ids["b"], "train", ttl=600.0))


@pytest.mark.parametrize("who", ["anonymous", "stranger", "site"])
def test_nobody_reaches_more_than_a_node_needs(front: Front, who: str) -> None:
    """Control, runtime and registry paths are not there; the others want a node's signature."""
    keys = {"anonymous": None, "stranger": new_key(), "site": front.keys["a"]}
    for path in ALL_PATHS:
        key = keys[who]
        response = front.call(
            path, PROTOBUF_REQUEST_TYPES["POST", path](), signed(key) if key else {}
        )
        # a site's own calls are in nobody's name here
        wanted = (401, 403) if who == "site" else (401,)
        assert response.status_code in (wanted if path in OPEN else (404,)), path


def test_loopback_wants_secrets_too(front: Front) -> None:
    """Another user of the coordinator's machine starts no run and takes no task."""
    address = f"http://127.0.0.1:{front.link.port}"
    for path in [path for path in ALL_PATHS if "/fleet/" not in path]:
        request = PROTOBUF_REQUEST_TYPES["POST", path]()
        for headers in ({}, signed(front.keys["a"]), {"authorization": "Bearer x"}):
            status = front.call(f"{address}{path}", request, headers).status_code
            assert status == 401 or path in LOGIN, path


TRICKS = {
    "the page of an API": b"GET /docs HTTP/1.1",
    "its description": b"GET /openapi.json HTTP/1.1",
    "health": b"GET /health HTTP/1.1",
    "nothing": b"GET / HTTP/1.1",
    "an unknown call": b"POST /v1/fleet/list-nodes HTTP/1.1",
    "dots": b"POST /v1/fleet/../control/list-nodes HTTP/1.1",
    "dots in disguise": b"POST /v1/fleet/%2e%2e/control/list-nodes HTTP/1.1",
    "dots in double disguise": b"POST /v1/fleet/%252e%252e/control/list-nodes HTTP/1.1",
    "a double slash": b"POST //v1/control/list-nodes HTTP/1.1",
    "a slash at the end": b"POST /v1/fleet/pull-messages/ HTTP/1.1",
    "capitals": b"POST /V1/FLEET/pull-messages HTTP/1.1",
    "an encoded letter": b"POST /v1/control/list-node%73 HTTP/1.1",
    "a query in disguise": b"POST /v1/fleet/pull-messages%3F HTTP/1.1",
    "a tab": b"POST /v1/fleet/pull%09-messages HTTP/1.1",
    "a whole address": b"POST https://x/v1/control/list-nodes HTTP/1.1",
    "another method": b"GET /v1/fleet/pull-messages HTTP/1.1",
    "an older protocol": b"POST /v1/control/list-nodes HTTP/1.0",
    "a tunnel": b"CONNECT 127.0.0.1:22 HTTP/1.1",
    "no protocol": b"\x00\x16\x03",
}
SIZES = {
    "no length": b"",
    "no length, older": b"",
    "pieces": b"transfer-encoding: chunked\r\n",
    "pieces and a length": b"content-length: 1\r\ntransfer-encoding: chunked\r\n",
    "two lengths": b"content-length: 1\r\ncontent-length: 2\r\n",
    "a negative length": b"content-length: -1\r\n",
    "far too long": b"content-length: 67108865\r\n",
    "a length too long to be read": b"content-length: 9" + b"9" * 30 + b"\r\n",
    "headers without an end": b"x: " + b"x" * 200_000 + b"\r\ncontent-length: 1\r\n",
}


@pytest.mark.parametrize("name", TRICKS)
def test_no_spelling_of_a_path_gets_around_the_front(front: Front, name: str) -> None:
    """However a path is written: refused at the front, and SuperLink never sees it."""
    answer = front.raw(TRICKS[name] + b"\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
    assert answer.split(b" ")[1] in (b"400", b"404", b"405")
    assert b"detail" not in answer


@pytest.mark.parametrize("name", SIZES)
def test_a_call_says_how_long_it_is(front: Front, name: str) -> None:
    """What has no end, or another than it says, is refused before it is taken in."""
    version = b"1.0" if "older" in name else b"1.1"
    head = b"POST /v1/fleet/pull-messages HTTP/" + version + b"\r\nhost: x\r\n" + SIZES[name]
    answer = front.raw(head + b"\r\n")
    assert answer.split(b" ")[1] in (b"400", b"413")


def test_no_other_protocol_is_spoken(front: Front) -> None:
    """A connection becomes no WebSocket, and without TLS there is none."""
    key = base64.b64encode(b"0" * 16)
    upgrade = b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    head = b"GET /v1/fleet/pull-messages HTTP/1.1\r\nhost: x\r\n" + upgrade
    assert b" 405 " in front.raw(head + b"sec-websocket-key: " + key + b"\r\n\r\n").splitlines()[0]
    with pytest.raises(httpx.RemoteProtocolError, match="disconnected"):
        httpx.post(f"http://127.0.0.1:{front.home.config.port}{FLEET}pull-messages")


def test_a_host_header_is_not_part_of_a_path(front: Front) -> None:
    """A call whose host names a path that needs no node is still the call that it is."""
    headers = signed(new_key()) | {"host": "x/v1/runtime/push-object?"}
    response = front.call(FLEET + "push-object", PullObjectRequest(), headers)
    assert response.status_code == 401


@pytest.mark.parametrize("ahead_s", [-400.0, 60.0])
def test_a_time_that_is_not_now_is_refused(front: Front, ahead_s: float) -> None:
    """A signature counts for minutes and not ahead of time."""
    assert front.pull("a", signed(front.keys["a"], ahead_s)).status_code == 401
    assert front.pull("a", signed(front.keys["a"])).status_code == 200


def test_a_recorded_call_lets_nobody_in(front: Front) -> None:
    """The same signature, however it is written down and whatever it is put to, counts once."""
    key = front.keys["a"]
    headers = signed(key)
    assert front.activate(key, headers).status_code == 200
    r, s = decode_dss_signature(base64.b64decode(headers["flwr-signature"]))
    order_of_curve = int(
        "ffffffffffffffffffffffffffffffffffffffffffffffff"
        "c7634d81f4372ddf581a0db248b0a77aecec196accc52973",
        16,
    )
    twin = encode_dss_signature(r, order_of_curve - s)
    for again in (headers, headers | {"flwr-signature": base64.b64encode(twin).decode()}):
        assert front.activate(key, again).status_code == 401
        assert front.pull("a", again).status_code == 401


def test_a_site_speaks_for_itself_alone(front: Front, order: Message) -> None:
    """A site takes no other's order, sends none, and answers none in the other's name."""
    key = front.keys["a"]
    assert front.pull("b", signed(key)).status_code == 401
    assert front.push("a", order).status_code == 403  # says that it is the server
    answer = with_id(Message(RecordDict(), reply_to=order))
    vars(answer.metadata)["_src_node_id"] = front.ids["b"]
    assert front.push("a", answer).status_code == 403
    found = PullMessagesResponse.FromString(front.pull("b", signed(front.keys["b"])).content)
    assert not found.messages_list


def test_a_site_gets_no_objects_that_it_was_not_sent(front: Front) -> None:
    """An object is had by the SHA-256 of its content alone: whoever lacks it gets nothing."""
    for run in (front.run, front.run + 1, 0):
        node = Node(node_id=front.ids["a"])
        request = PullObjectRequest(node=node, run_id=run, object_id="0" * 64)
        response = front.call(FLEET + "pull-object", request, signed(front.keys["a"]))
        is_taken = response.status_code == 200
        assert not is_taken or not PullObjectResponse.FromString(response.content).object_content


def test_a_revoked_site_is_out_at_once(front: Front) -> None:
    """Its key opens nothing any more, over a connection that was open as well."""
    key = new_key()
    front.link.control.register("c", ssh(key))
    assert front.activate(key, signed(key)).status_code == 200
    [node] = [node for node in front.link.control.nodes() if node.name == "c"]
    front.ids["c"] = node.node_id
    assert front.pull("c", signed(key)).status_code == 200
    front.link.control.unregister(node.node_id)
    assert front.pull("c", signed(key)).status_code == 401
    assert front.activate(key, signed(key)).status_code == 401


GARBAGE = {
    "a record instead of a message": RecordDict({"x": ConfigRecord({"y": 1})}).deflate(),
    "a message without an inside": b"Message  4\x00\xff\xff\xff\xff",
    "an array of nothing": b"Array  3\x00{}}",
}


@pytest.mark.parametrize("name", GARBAGE)
def test_an_answer_that_is_none_ends_no_run(front: Front, order: Message, name: str) -> None:
    """What a site pushes may be anything: the server notes that it failed, and asks the next."""
    answers = front.asked(order, lambda asked: answer_with(GARBAGE[name], front, asked), 8.0)
    assert [taken.content for taken in answers] == [None]


def answer_with(content: bytes, front: Front, order: Message) -> None:
    """Answer as site b, with an object that is no answer."""
    reply = Message(RecordDict(), reply_to=order)
    digest = hashlib.sha256(content).hexdigest()
    vars(reply.metadata).update(_message_id=digest, _src_node_id=front.ids["b"])
    response = front.push("b", reply, ObjectTree(object_id=digest))
    pushed = PushMessagesResponse.FromString(response.content)
    assert pushed.objects_to_push == [digest]
    part = PushObjectRequest(
        node=Node(node_id=front.ids["b"]),
        run_id=front.run,
        object_id=digest,
        object_content=content,
        session_id=pushed.session_id,
    )
    front.call(FLEET + "push-object", part, signed(front.keys["b"]))


@pytest.fixture
def posing(tmp_path: Path) -> Iterator[Callable[[Path, Path], int]]:
    """Return a function that serves TLS with a certificate and its key; it returns the port."""
    servers: list[tuple[socket.socket, threading.Thread]] = []

    def serve(certificate: Path, key: Path) -> int:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        listener = socket.create_server(("127.0.0.1", 0))

        def handshake() -> None:
            with suppress(OSError), listener.accept()[0] as plain:
                context.wrap_socket(plain, server_side=True).close()

        thread = threading.Thread(target=handshake)
        thread.start()
        servers.append((listener, thread))
        port: int = listener.getsockname()[1]
        return port

    yield serve
    for listener, thread in servers:
        listener.close()
        thread.join()


CERTIFICATES = {
    "good": "SSL: RECORD|disconnected|EOF|reset",
    "expired": "certificate has expired",
    "of another consortium": "self.signed|unable to get local issuer|signature failure",
    "of another name": "IP address mismatch",
}


@pytest.mark.parametrize("name", CERTIFICATES)
def test_a_site_talks_to_the_server_of_its_consortium_alone(
    name: str, tmp_path: Path, posing: Callable[[Path, Path], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate that ended, or of another authority or machine, ends the handshake."""
    homes = {which: ServerHome(tmp_path / which) for which in ("own", "other")}
    for home in homes.values():
        make_home(home.folder, ["127.0.0.1"], free_port())
    own = homes["own"]
    if name == "expired":
        monkeypatch.setattr(authority, "LEAF_LIFE", dt.timedelta(hours=-1))
        renew(own, ["127.0.0.1"])
    if name == "of another name":
        renew(own, ["192.0.2.1"])
    served = homes["other"] if name == "of another consortium" else own
    address = f"127.0.0.1:{posing(served.tls_cert, served.tls_key)}"
    site = FleetHttpClient.from_server_address(
        address, insecure=False, root_certificates=own.ca_cert.read_bytes(), interceptors=[]
    )
    with site, pytest.raises(httpx.TransportError, match=CERTIFICATES[name]) as caught:
        site.PullMessages(PullMessagesRequest())
    assert is_broken_off(caught.value) == (name == "good")  # else the SuperNode gives up
