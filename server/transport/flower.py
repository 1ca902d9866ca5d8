"""flwr's names that are not public but that an own SuperLink cannot do without, in one place."""

from __future__ import annotations

import hashlib
import logging
import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from fastapi import FastAPI
from flwr.cli.build import build_fab_from_files
from flwr.common.constant import ACCESS_TOKEN_KEY, NOOP_ACCOUNT_NAME, NOOP_FLWR_AID
from flwr.common.serde import user_config_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.proto.fab_pb2 import Fab
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore import sql_mixin
from flwr.supercore.auth.typing import AccountInfo
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.interceptors import (
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.interceptors.http.utils import add_headers
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext
from flwr.supercore.routers.runtime.tracing import RuntimeTracingMiddleware
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.superlink.auth_plugin import NoOpControlAuthnPlugin
from flwr.superlink.cli.flower_superlink import SuperLinkLifespan
from flwr.superlink.config_loader import SuperLinkLifespanConfig
from flwr.superlink.main import create_app
from flwr.superlink.routers.control.middlewares import (
    ControlAuthenticationMiddleware,
    ControlEventLogMiddleware,
    ControlLicenseMiddleware,
    ControlSensitiveResponseMiddleware,
)
from flwr.superlink.routers.fleet.middlewares import FleetEventLogMiddleware
from flwr.superlink.routers.fleet.node_auth import NodeAuthMiddleware
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

# flwr writes to the terminal by itself: its log shall go where all logs go.
logging.getLogger("flwr").handlers.clear()
logging.getLogger("flwr").propagate = True

# with 200 sites at once, some waited longer than flwr's 5 s for the database, and were turned away
_own = vars(sql_mixin)
_own["SQLITE_PRAGMAS"] = (*_own["SQLITE_PRAGMAS"], ("busy_timeout", "60000"))

ACQUIRE = "/flwr.proto.Runtime/AcquireTask"
SERVERAPP = "flwr-serverapp"
RUN_KEYS = ("run", "signed-plan")
EXPIRED_S = 1.0
"""Between two looks for tokens that expired."""

LAYERS: dict[Any, str] = {
    ControlSensitiveResponseMiddleware: "/v1/control/",
    ControlAuthenticationMiddleware: "/v1/control/",
    ControlLicenseMiddleware: "/v1/control/",
    ControlEventLogMiddleware: "/v1/control/",
    RuntimeTracingMiddleware: "/v1/runtime/",
    NodeAuthMiddleware: "/v1/fleet/",
    FleetEventLogMiddleware: "/v1/fleet/",
}
"""Layers of SuperLink, and the calls that each looks at."""


class _Past:
    """A layer of SuperLink that calls pass by if it would only hand them on.

    Flower leads each call through all layers, in tasks of their own. All sites share one
    interpreter.
    """

    def __init__(self, app: ASGIApp, layer: Callable[[ASGIApp], ASGIApp], calls: str) -> None:
        self._past, self._through, self._calls = app, layer(app), calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_looked_at = scope["type"] != "http" or scope["path"].startswith(self._calls)
        await (self._through if is_looked_at else self._past)(scope, receive, send)


def _passed(layer: Middleware) -> Middleware:
    calls = LAYERS.get(layer.cls)
    return layer if calls is None else Middleware(_Past, layer=layer.cls, calls=calls)


class _TokenAuthn(NoOpControlAuthnPlugin):
    """Control calls need the token of this process; flwr's own open-source plugin needs nothing."""

    def __init__(self, token: str) -> None:
        self._token = token

    def validate_tokens_in_metadata(
        self, metadata: Sequence[tuple[str, str | bytes]]
    ) -> tuple[bool, AccountInfo | None]:
        """Accept the one token."""
        given = [str(value) for key, value in metadata if key == ACCESS_TOKEN_KEY]
        if any(secrets.compare_digest(value, self._token) for value in given):
            return True, AccountInfo(flwr_aid=NOOP_FLWR_AID, account_name=NOOP_ACCOUNT_NAME)
        return False, None


@dataclass(frozen=True)
class Secrets:
    """What callers on loopback must know; made anew by each process and never written."""

    control: str
    executor: bytes

    @classmethod
    def fresh(cls) -> Secrets:
        """Return new secrets."""
        return cls(secrets.token_urlsafe(32), secrets.token_bytes(32))


def superlink_app(database: Path, port: int, known: Secrets) -> FastAPI:
    """Return SuperLink as an ASGI app: nodes must sign, control and runtime need secrets.

    Args:
        database: SQLite file of its state.
        port: Loopback port that it is served on.
        known: What callers on loopback must know.
    """
    config = SuperLinkLifespanConfig(
        control_address="127.0.0.1:0",
        health_server_address=None,
        host="127.0.0.1",
        port=port,
        insecure=True,
        certificates=None,
        superexec_auth_secret=known.executor,
        authn_plugin=_TokenAuthn(known.control),
        event_log_plugin=None,
        fleet_event_log_plugin=None,
        enable_event_log=False,
        artifact_provider=None,
        enable_supernode_auth=True,
        fleet_api_type="grpc-rere",
        fleet_api_address=None,
        simulation=False,
        ssl_ca_certfile=None,
        ssl_certfile=None,
        ssl_keyfile=None,
        database=str(database),
        isolation="process",
        runtime_dependency_install=False,
    )
    app = create_app(config, SuperLinkLifespan)
    app.user_middleware[:] = map(_passed, app.user_middleware)
    state = app.state.linkstate_factory.state()
    _let_back_in(state)
    _spare_the_database(state)
    return app


def _let_back_in(state: Any) -> None:
    """Let a node that was killed return at once; flwr refuses it until its heartbeat ran out.

    Only the holder of the node's private key gets this far.
    """
    activate: Callable[[int, float], bool] = state.activate_node

    def again(node_id: int, heartbeat_interval: float) -> bool:
        state.deactivate_node(node_id)
        return activate(node_id, heartbeat_interval)

    state.activate_node = again


def _spare_the_database(state: Any) -> None:
    """Look for expired tokens of tasks at times, not at each call; count nobody's bytes.

    A task lives as long as its heartbeat, which is far longer than a second. Flower's counts of
    bytes are read by nobody: a site's ledger has what left it.
    """
    expire: Callable[[], None] = state._cleanup_expired_task_tokens
    looked = -math.inf

    def expire_at_times() -> None:
        nonlocal looked
        if time.monotonic() - looked >= EXPIRED_S:
            looked = time.monotonic()
            expire()

    state._cleanup_expired_task_tokens = expire_at_times
    state.store_traffic = lambda *_, **__: None


@dataclass(frozen=True)
class Node:
    """A registered site as SuperLink knows it."""

    node_id: int
    name: str
    is_online: bool
    public_key: bytes


class Control:
    """What the server's process asks of its own SuperLink, over loopback."""

    def __init__(self, port: int, known: Secrets) -> None:
        address = f"127.0.0.1:{port}"
        caller = RuntimeVersionHttpInterceptor(component_name="fedmri")
        self._control = ControlHttpClient.from_server_address(
            address,
            insecure=True,
            root_certificates=None,
            interceptors=[caller, _Bearer(known.control)],
        )
        executor = SuperExecAuthHttpInterceptor(
            master_secret=known.executor, protected_methods={ACQUIRE}
        )
        self._runtime = RuntimeHttpClient.from_server_address(
            address,
            insecure=True,
            root_certificates=None,
            interceptors=[RuntimeVersionHttpInterceptor("SuperExec"), executor],
        )

    def nodes(self) -> list[Node]:
        """Return all nodes that are registered."""
        found = self._control.ListNodes(ListNodesRequest()).nodes_info
        return [
            Node(info.node_id, info.name, info.status == "online", bytes(info.public_key))
            for info in found
            if info.status != "unregistered"
        ]

    def register(self, name: str, public_key: str) -> None:
        """Let the holder of a key in, under a name."""
        request = RegisterNodeRequest(public_key=key_bytes(public_key), name=name)
        self._control.RegisterNode(request)

    def unregister(self, node_id: int) -> None:
        """Let a node in no more."""
        self._control.UnregisterNode(UnregisterNodeRequest(node_id=node_id))

    def start_run(self, config: Mapping[str, str]) -> int:
        """Start a run of the thin bundle and return its number."""
        content, digest = thin_bundle()
        fab = Fab(hash_str=digest, content=content)
        override = user_config_to_proto(dict(config))
        response = self._control.StartRun(StartRunRequest(fab=fab, override_config=override))
        return int(response.run_id)

    def stop_run(self, run_id: int) -> None:
        """Stop a run; one that has ended stays as it is."""
        self._control.StopRun(StopRunRequest(run_id=run_id))

    def acquire_serverapp(self) -> tuple[str, int] | None:
        """Return the token and the run of a ServerApp that waits to be started, if one does."""
        response = self._runtime.AcquireTask(AcquireTaskRequest(supported_task_types=[SERVERAPP]))
        return (response.token, int(response.task.run_id)) if response.token else None

    def close(self) -> None:
        """Close the connections."""
        self._control.close()
        self._runtime.close()


class _Bearer:
    """Attach the control token to each call."""

    def __init__(self, token: str) -> None:
        self._token = token

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        """Add the header."""
        add_headers(context.request, {"Authorization": f"Bearer {self._token}"})
        return call_next(context)


def key_bytes(public_key: str) -> bytes:
    """Return an OpenSSH public key as flwr stores and compares it."""
    key = load_ssh_public_key(public_key.encode())
    if not isinstance(key, EllipticCurvePublicKey):
        raise TypeError(f"a key on an elliptic curve is needed, not {type(key).__name__}")
    return public_key_to_bytes(key)


@lru_cache(maxsize=1)
def thin_bundle() -> tuple[bytes, str]:
    """Return the bundle that Flower ships to the sites, and its SHA-256.

    It holds no code: it names the apps of the installed package, so that a site runs what it
    installed.
    """
    text = f"""[project]
name = "fedmri"
version = "{version("fedmri")}"
description = "Names the apps of the installed package; holds no code"
license = "Apache-2.0"
dependencies = []
[tool.flwr.app]
publisher = "fedmri"
[tool.flwr.app.components]
serverapp = "fedmri.server.deployed:app"
clientapp = "fedmri.clients.app:app"
[tool.flwr.app.config]
"""
    text += "".join(f'{key} = ""\n' for key in RUN_KEYS)
    content = build_fab_from_files({"pyproject.toml": text.encode()})[0]
    return content, hashlib.sha256(content).hexdigest()
