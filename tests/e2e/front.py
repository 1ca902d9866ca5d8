"""SuperLink as the network sees it, and callers of every kind."""

from __future__ import annotations

import base64
import datetime as dt
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.app import Message
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    PullMessagesRequest,
    PullMessagesResponse,
    PushMessagesRequest,
)
from flwr.proto.message_pb2 import (
    ObjectTree,
)
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import PullTaskInputRequest, SendTaskHeartbeatRequest
from flwr.supercore.inflatable.inflatable_object import get_object_tree
from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from flwr.supercore.run import Run
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.superlink.grid.http_grid import HttpGrid

from fedmri.server.registry.attendance import Attendance
from fedmri.server.registry.home import ServerHome
from fedmri.server.transport.asking import Asking, Taken, Terms
from fedmri.server.transport.superlink import SuperLink

FLEET = "/v1/fleet/"
BEAT_S = 10.0
Key = ec.EllipticCurvePrivateKey


def new_key() -> Key:
    """Return a key as sites have them."""
    return ec.generate_private_key(ec.SECP384R1())


def ssh(key: Key) -> str:
    """Return the public half as a site sends it to the coordinator."""
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def signed(key: Key, ahead_s: float = 0.0) -> dict[str, str]:
    """Return the headers with which the holder of a key signs a call."""
    time = (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=ahead_s)).isoformat()
    signature = key.sign(time.encode(), ec.ECDSA(hashes.SHA256()))
    return {
        "flwr-public-key": base64.b64encode(public_key_to_bytes(key.public_key())).decode(),
        "flwr-timestamp": time,
        "flwr-signature": base64.b64encode(signature).decode(),
    }


@dataclass
class Front:
    """A running SuperLink as the network sees it, with two sites, ``a`` and ``b``."""

    home: ServerHome
    link: SuperLink
    keys: dict[str, Key]
    client: httpx.Client
    ids: dict[str, int] = field(default_factory=dict)
    run: int = 0
    token: str = ""

    def call(self, path: str, request: Any, headers: Mapping[str, str]) -> httpx.Response:
        """Make a call as flwr does."""
        media = {"content-type": PROTOBUF_MEDIA_TYPE}
        return self.client.post(
            path, content=request.SerializeToString(), headers={**media, **headers}
        )

    def activate(self, key: Key, headers: Mapping[str, str]) -> httpx.Response:
        """Come online."""
        public = public_key_to_bytes(key.public_key())
        request = ActivateNodeRequest(public_key=public, heartbeat_interval=30)
        return self.call(FLEET + "activate-node", request, headers)

    def pull(self, site: str, headers: Mapping[str, str]) -> httpx.Response:
        """Ask for a site's order."""
        request = PullMessagesRequest(node=Node(node_id=self.ids[site]))
        return self.call(FLEET + "pull-messages", request, headers)

    def push(self, site: str, message: Message, tree: ObjectTree | None = None) -> httpx.Response:
        """Hand a message over, as a site."""
        request = PushMessagesRequest(
            node=Node(node_id=self.ids[site]),
            messages_list=[message_to_proto(message)],
            message_object_trees=[tree or get_object_tree(message)],
        )
        return self.call(FLEET + "push-messages", request, signed(self.keys[site]))

    def asked(
        self, order: Message, answer: Callable[[Message], None], timeout_s: float
    ) -> list[Taken]:
        """Have the server's half ask site b, and b answer; return what the server took for it."""
        grid = HttpGrid(f"127.0.0.1:{self.link.port}", insecure=True, token=self.token)
        grid.set_run(Run.create_empty(self.run))
        asking = Asking(
            grid,
            lambda _, node: Message(order.content, node, "train", ttl=60.0),
            ["b"],
            Terms("train", timeout_s),
            Attendance(),
        )
        answers: list[Taken] = []
        thread = threading.Thread(target=lambda: answers.extend(asking.replies()))
        thread.start()
        found = None
        while not found:
            response = self.pull("b", signed(self.keys["b"]))
            found = PullMessagesResponse.FromString(response.content).messages_list
        answer(message_from_proto(found[0]))
        thread.join(2 * timeout_s + 60)  # on a busy machine; it must not outlive its grid
        assert not thread.is_alive()
        grid.close()
        return answers

    def raw(self, data: bytes) -> bytes:
        """Send bytes over TLS and return what comes back."""
        context = ssl.create_default_context(cafile=str(self.home.ca_cert))
        port = self.home.config.port
        with (
            socket.create_connection(("127.0.0.1", port), 5) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as end,
        ):
            with suppress(OSError):  # it may answer and close before it has all
                end.sendall(data)
            return end.recv(4096)


def started_run(link: SuperLink) -> tuple[int, str]:
    """Start a run as the service and its ServerApp do; return its number and the app's token.

    Flower ends a run of which it has heard nothing for a minute, and then its client ends this
    process.
    """
    number = link.control.start_run({"run": "brain", "signed-plan": "{}"})
    task = link.control.acquire_serverapp()
    assert task is not None
    version = RuntimeVersionHttpInterceptor(component_name="flwr-serverapp")
    runtime = RuntimeHttpClient.from_server_address(
        f"127.0.0.1:{link.port}",
        insecure=True,
        root_certificates=None,
        interceptors=[version, RuntimeTokenHttpInterceptor(task[0])],
    )
    runtime.PullTaskInput(PullTaskInputRequest())
    threading.Thread(target=_beat, args=[runtime], daemon=True).start()
    return number, task[0]


def _beat(runtime: RuntimeHttpClient) -> None:
    """Say that the ServerApp lives until SuperLink is gone: it ends a run that says nothing."""
    with suppress(httpx.HTTPError):
        while True:
            runtime.SendTaskHeartbeat(SendTaskHeartbeatRequest())
            time.sleep(BEAT_S)


def with_id(message: Message) -> Message:
    """Return a message with the id that its content gives it."""
    vars(message.metadata)["_message_id"] = message.object_id
    return message
