"""flwr's names that are not public but that an own task runner cannot do without, in one place."""

from __future__ import annotations

import logging
import sys
import zipfile
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from flwr.app import Context, Message
from flwr.common.constant import TIMESTAMP_HEADER, SubStatus
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.date import now
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.inflatable import inflatable_utils
from flwr.supercore.inflatable.inflatable_object import InflatableObject
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.runtime.run_clientapp import (
    pull_task_input,
    push_message,
    push_task_output,
)

from fedmri.swollen import COPIES, SLACK, refuse_swollen

# flwr writes to the terminal by itself: its log shall go where all logs go.
logging.getLogger("flwr").handlers.clear()
logging.getLogger("flwr").propagate = True

ACQUIRE = "/flwr.proto.Runtime/AcquireTask"
CLIENTAPP = "flwr-clientapp"
"""The only kind of task that a site takes; flwr has others that run what the server names."""

BUNDLE = frozenset({"pyproject.toml", ".info/CONTENT"})
"""Files of a bundle that holds no code."""


@dataclass
class SuperNodeTask:
    """A message that waits for its answer.

    Attributes:
        message: What the server sent.
        context: What Flower tells beside it.
        bundle: The app bundle that the server shipped.
    """

    message: Message
    context: Context
    bundle: bytes | None
    _client: RuntimeHttpClient
    is_answered: bool = False

    def answer(self, reply: Message) -> None:
        """Hand the answer to the SuperNode, which sends it."""
        push_message(self._client, reply, self.context)
        self.is_answered = True


class SuperNodeTasks:
    """The tasks of a SuperNode, one at a time.

    Args:
        port: Loopback port of its runtime interface.
        secret: What lets a process take tasks.
    """

    def __init__(self, port: int, secret: bytes) -> None:
        self._address = f"127.0.0.1:{port}"
        executor = SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods={ACQUIRE})
        version = RuntimeVersionHttpInterceptor(component_name="SuperExec")
        self._runtime = RuntimeHttpClient.from_server_address(
            self._address, insecure=True, root_certificates=None, interceptors=[version, executor]
        )

    @contextmanager
    def next(self) -> Iterator[SuperNodeTask | None]:
        """Yield the next task or None; it is over at the end, answered or failed."""
        request = AcquireTaskRequest(supported_task_types=[CLIENTAPP])
        token = self._runtime.AcquireTask(request).token
        if not token:
            yield None
            return
        version = RuntimeVersionHttpInterceptor(component_name=CLIENTAPP)
        client = RuntimeHttpClient.from_server_address(
            self._address,
            insecure=True,
            root_certificates=None,
            interceptors=[version, RuntimeTokenHttpInterceptor(token)],
        )
        heartbeat = HeartbeatSender(make_task_heartbeat_fn_http(client))
        heartbeat.start()
        task: SuperNodeTask | None = None
        try:
            message, context, _, fab = pull_task_input(client)
            task = SuperNodeTask(message, context, fab.content, client)
            yield task
        finally:
            is_done = task is not None and task.is_answered
            status = SubStatus.COMPLETED if is_done else SubStatus.FAILED
            context_now = task.context if task else None
            push_task_output(client=client, context=context_now, sub_status=status, details="")
            heartbeat.stop()
            client.close()


def identify_site() -> None:
    """Say who makes messages in this process, where no SuperNode does; flwr wants to know."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1


def bound_orders() -> None:
    """Refuse, from now on in this process, orders that come to far more than what arrived.

    Equal pieces travel once, and a strategy's first extras are zeros: so some growth is honest.
    """
    whole = inflatable_utils.inflate_object_from_contents

    def inflated(object_id: str, contents: dict[str, bytes], **named: Any) -> InflatableObject:
        if "objects" not in named:  # Flower calls this again for each part, with those it has
            arrived = sum(map(len, contents.values()))
            refuse_swollen(object_id, contents, SLACK + COPIES * arrived)
        return whole(object_id, contents, **named)

    vars(inflatable_utils)["inflate_object_from_contents"] = inflated


def signed_headers(key: EllipticCurvePrivateKey) -> dict[str, str]:
    """Return the headers by which a call is known to be this site's, as its SuperNode signs."""
    time = now().isoformat()
    parts = {
        FLEET_HTTP_PUBLIC_KEY_HEADER: public_key_to_bytes(key.public_key()),
        FLEET_HTTP_SIGNATURE_HEADER: sign_message(key, time.encode("ascii")),
    }
    encoded = {name: b64encode(value).decode("ascii") for name, value in parts.items()}
    return {**encoded, TIMESTAMP_HEADER: time}


def foreign_files(bundle: bytes) -> list[str]:
    """Return the files of a bundle beyond those that name the installed apps."""
    with zipfile.ZipFile(BytesIO(bundle)) as archive:
        return sorted(name for name in archive.namelist() if name not in BUNDLE)


def supernode_command(address: str, ca: Path, key: Path, port: int, secret: Path) -> list[str]:
    """Return the command of a SuperNode that leaves the running of apps to us.

    Args:
        address: Host and port of the server.
        ca: Certificate of the authority that signs the server's.
        key: The site's private key.
        port: Loopback port of its runtime interface.
        secret: File of what lets a process take tasks.
    """
    return [
        *(sys.executable, "-m", "fedmri.clients.process.supernode"),
        *("--superlink", address, "--root-certificates", str(ca)),
        *("--auth-supernode-private-key", str(key)),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--isolation", "process", "--superexec-auth-secret-file", str(secret)),
    ]
