"""Strangers at the door: idle, half-sent and too many connections, and lines in logs."""

from __future__ import annotations

import logging
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from flwr.proto.fleet_pb2 import PullMessagesRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE

from fedmri.server.transport import doors, thinned
from fedmri.server.transport.thinned import Thinned
from tests.e2e.front import FLEET, Front, signed
from tests.e2e.test_intrusion import front, order

__all__ = ["front", "order"]
pytestmark = [  # of what flwr calls
    pytest.mark.filterwarnings("ignore:No path_separator found:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning"),
]
Dial = Callable[[bytes], ssl.SSLSocket]


@pytest.fixture
def dial(front: Front, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dial]:
    """Return what opens a connection to the front over TLS and sends a few bytes."""
    monkeypatch.setattr(doors, "HEAD_S", 1.0)
    monkeypatch.setattr(doors, "BODY_S", 1.0)
    context = ssl.create_default_context(cafile=str(front.home.ca_cert))
    with ExitStack() as stack:

        def dialled(data: bytes) -> ssl.SSLSocket:
            plain = socket.create_connection(("127.0.0.1", front.home.config.port), 5)
            wrapped = stack.enter_context(context.wrap_socket(plain, server_hostname="127.0.0.1"))
            wrapped.sendall(data)
            return wrapped

        yield dialled


def is_closed(connection: ssl.SSLSocket, within_s: float) -> bool:
    """Tell whether the server closes a connection, and says nothing before."""
    connection.settimeout(within_s)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


@pytest.mark.parametrize(
    "data",
    [b"", b"POST /", b"POST / HTTP/1.1\r\nhost: x\r\nx-long: " + b"a" * 1000],
    ids=["idle", "a line half sent", "headers half sent"],
)
def test_a_connection_without_a_request_is_closed(dial: Dial, data: bytes) -> None:
    """All of forty, within the deadline; they used to be kept for ever."""
    connections = [dial(data) for _ in range(40)]
    began = time.monotonic()
    assert all(is_closed(one, 5.0) for one in connections)
    assert time.monotonic() - began < 5


def test_sites_get_in_while_strangers_hang_on(dial: Dial, front: Front) -> None:
    """A site's call is answered though sixty others say nothing."""
    _ = [dial(b"POST /") for _ in range(60)]
    assert front.pull("a", signed(front.keys["a"])).status_code == 200


def test_an_address_has_so_many_connections(
    dial: Dial, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more is closed at once, before it has said anything."""
    monkeypatch.setattr(doors, "HEAD_S", 60.0)
    monkeypatch.setattr(doors, "MOST_OF_ONE", 10)
    kept = [dial(b"") for _ in range(30)]
    n_closed = 0
    for one in kept:
        with suppress(OSError):
            n_closed += is_closed(one, 0.05)
    assert n_closed >= 19


def test_a_handshake_that_does_not_end_is_ended(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bare connection that never speaks TLS holds a descriptor for seconds and not a minute."""
    assert doors.HANDSHAKE_S <= 10
    plain = socket.create_connection(("127.0.0.1", front.home.config.port), 5)
    plain.settimeout(doors.HANDSHAKE_S + 5)
    with plain:
        assert plain.recv(1) == b""


@pytest.mark.parametrize(("pauses_s", "is_answered"), [((0.6, 0.6, 0.6), True), ((3.0,), False)])
def test_a_slow_body_is_waited_for_and_a_silent_one_is_not(
    dial: Dial, front: Front, pauses_s: tuple[float, ...], *, is_answered: bool
) -> None:
    """A site on a thin line sends in pieces; one that stops in the middle is let go."""
    body = PullMessagesRequest(node=Node(node_id=front.ids["a"])).SerializeToString()
    lines = [
        f"POST {FLEET}pull-messages HTTP/1.1",
        "host: x",
        f"content-type: {PROTOBUF_MEDIA_TYPE}",
        f"content-length: {len(body)}",
        *(f"{name}: {value}" for name, value in signed(front.keys["a"]).items()),
    ]
    connection = dial("\r\n".join([*lines, "", ""]).encode())
    with suppress(OSError):
        for number, pause_s in enumerate(pauses_s):
            connection.sendall(body[number : number + 1])
            time.sleep(pause_s)
        connection.sendall(body[len(pauses_s) :])
    connection.settimeout(5)
    answer = b""
    with suppress(OSError):
        answer = connection.recv(15)
    assert (answer == b"HTTP/1.1 200 OK") == is_answered


def test_strangers_do_not_fill_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many lines a minute, and then how many more there were."""
    now = [1000.0]
    monkeypatch.setattr("fedmri.server.transport.thinned.time.monotonic", lambda: now[0])
    noted = Thinned(logging.getLogger("fedmri.server"), logging.WARNING)
    with caplog.at_level(logging.WARNING, "fedmri.server"):
        for number in range(1000):
            noted.note("refused %d", number)
        now[0] += 61
        noted.note("refused %d", 1000)
    assert len(caplog.messages) == thinned.MOST + 2
    assert caplog.messages[-2:] == ["and 970 more such lines", "refused 1000"]


def test_a_log_is_changed_by_its_size(tmp_path: Path) -> None:
    """Whatever strangers do, logs take so much of the disk and no more."""
    from fedmri.commands import logs

    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        logs.log_to(tmp_path / "server.log")
        [handler] = [h for h in root.handlers if h not in before]
        assert vars(handler)["maxBytes"] * (vars(handler)["backupCount"] + 1) < 1e9
    finally:
        logging.captureWarnings(capture=False)
        for one in set(root.handlers) - set(before):
            one.close()
        root.handlers[:], root.level = before, level
