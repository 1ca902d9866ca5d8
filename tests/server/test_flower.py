"""What the server needs of Flower beyond its public names: an update that changes it fails here."""

from __future__ import annotations

import asyncio
import datetime as dt
import io
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.constant import NOOP_FEDERATION_ID
from flwr.supercore.corestate import sql_corestate
from flwr.supercore.inflatable.inflatable_object import get_object_tree
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from flwr.supercore.protobuf.translation import (
    PROTOBUF_REQUEST_TYPES,
    ProtobufTranslationMiddleware,
)
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.main import _get_middleware
from starlette.middleware.base import BaseHTTPMiddleware

from fedmri.server.transport import flower
from fedmri.server.transport.callers import FLEET, OPEN
from fedmri.server.transport.flower import (
    EXPIRED_S,
    LAYERS,
    RUN_KEYS,
    Control,
    Secrets,
    key_bytes,
    superlink_app,
    thin_bundle,
)
from fedmri.server.transport.superlink import _Listener, free_port

pytestmark = [  # of what flwr calls
    pytest.mark.filterwarnings("ignore:No path_separator found:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning"),
]


def ssh(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> str:
    """Return the public half of a key in OpenSSH form."""
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


@pytest.fixture(scope="module")
def link(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Control]]:
    """Run a SuperLink on loopback; return its app and its control."""
    port, known = free_port(), Secrets.fresh()
    app = superlink_app(tmp_path_factory.mktemp("link") / "state.db", port, known)
    listener = _Listener(app, host="127.0.0.1", port=port)
    assert listener.start()
    control = Control(port, known)
    yield app, control
    control.close()
    listener.ask_to_stop()
    listener.wait()
    app.state.linkstate_factory.state()._engine.dispose()


def test_many_sites_wait_for_the_database(link: tuple[Any, Control]) -> None:
    """Two hundred at once wait longer than Flower has it, rather than being turned away."""
    with link[0].state.linkstate_factory.state()._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 60_000


def test_the_calls_of_a_node_are_all_that_flower_has() -> None:
    """A call that a new version of Flower makes is decided about before it is let through."""
    there = {path for _, path in PROTOBUF_REQUEST_TYPES if path.startswith(FLEET)}
    assert there - OPEN == {FLEET + "register-node", FLEET + "unregister-node"}
    assert there >= OPEN


def test_the_layers_of_flower_are_known() -> None:
    """A layer that a new version of Flower adds sees all calls until it is decided about."""
    every: set[Any] = {layer.cls for layer in _get_middleware()}
    assert every - LAYERS.keys() == {BaseHTTPMiddleware, ProtobufTranslationMiddleware}
    assert every >= LAYERS.keys()


def test_calls_that_pass_layers_by_are_answered_as_before(
    link: tuple[Any, Control], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call that Flower has is answered alike with all layers: here each lacks its secret."""
    monkeypatch.setattr(flower, "LAYERS", {})
    whole = superlink_app(tmp_path / "state.db", free_port(), Secrets.fresh())
    paths = [*PROTOBUF_REQUEST_TYPES, ("POST", "/v1/control/no-such-call"), ("GET", "/docs")]
    answers = [asyncio.run(_answers(app, paths)) for app in (link[0], whole)]
    whole.state.linkstate_factory.state()._engine.dispose()
    assert answers[0] == answers[1]
    codes = {status for status, _, _ in answers[0]}
    assert {200, 401} <= codes


async def _answers(
    app: Any, paths: list[tuple[str, str]]
) -> list[tuple[int, list[tuple[str, str]], bytes]]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    headers = {"content-type": PROTOBUF_MEDIA_TYPE}
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        found = [await client.request(*path, headers=headers) for path in paths]
    return [(one.status_code, sorted(one.headers.items()), one.content) for one in found]


def test_the_bundle_holds_no_code_and_never_changes() -> None:
    """It names the apps; the same version makes the same bytes."""
    content, digest = thin_bundle()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert sorted(archive.namelist()) == [".info/CONTENT", "pyproject.toml"]
        text = archive.read("pyproject.toml").decode()
    assert all(f'{key} = ""' in text for key in RUN_KEYS)
    thin_bundle.cache_clear()
    assert thin_bundle() == (content, digest)


def test_a_key_is_known_as_the_node_will_say_it() -> None:
    """Enrolled in OpenSSH form, called with in PEM: the same bytes at SuperLink."""
    key = ec.generate_private_key(ec.SECP384R1())
    assert key_bytes(ssh(key)) == public_key_to_bytes(key.public_key())
    with pytest.raises(TypeError, match="elliptic curve"):
        key_bytes(ssh(ed25519.Ed25519PrivateKey.generate()))


def test_a_node_is_known_from_its_registration_to_its_end(link: tuple[Any, Control]) -> None:
    """By name and key; afterwards its key opens nothing, and never will again."""
    app, control = link
    key = ssh(ec.generate_private_key(ec.SECP384R1()))
    control.register("north", key)
    [node] = control.nodes()
    assert (node.name, node.public_key, node.is_online) == ("north", key_bytes(key), False)
    state = app.state.linkstate_factory.state()
    assert state.get_node_id_by_public_key(key_bytes(key)) == node.node_id
    control.unregister(node.node_id)
    assert state.get_node_id_by_public_key(key_bytes(key)) is None
    assert control.nodes() == []
    with pytest.raises(httpx.HTTPStatusError, match="412"):
        control.register("north", key)


def test_a_node_that_was_killed_comes_back_at_once(link: tuple[Any, Control]) -> None:
    """Without what is added here, Flower keeps it out until its last sign of life ran out."""
    app, control = link
    control.register("south", ssh(ec.generate_private_key(ec.SECP384R1())))
    [node] = control.nodes()
    state = app.state.linkstate_factory.state()
    assert state.activate_node(node.node_id, 60.0)
    assert state.activate_node(node.node_id, 60.0)
    [node] = control.nodes()
    assert node.is_online
    control.unregister(node.node_id)


def test_a_task_whose_heart_stopped_loses_its_token(
    link: tuple[Any, Control], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Expired tokens are looked for once a second, and none opens anything after that."""
    app, control = link
    state = app.state.linkstate_factory.state()
    number = control.start_run({"run": "brain", "signed-plan": "{}"})
    task = control.acquire_serverapp()
    assert task is not None
    assert state.get_task_by_token(task[0]) is not None
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
    monkeypatch.setattr(sql_corestate, "now", lambda: later)
    time.sleep(EXPIRED_S)
    assert state.get_task_by_token(task[0]) is None
    control.stop_run(number)


def test_a_run_waits_for_its_app_once(link: tuple[Any, Control]) -> None:
    """What was started is acquired by number, one time, and can be stopped."""
    _, control = link
    number = control.start_run({"run": "brain", "signed-plan": "{}"})
    task = control.acquire_serverapp()
    assert task is not None
    assert task[1] == number
    assert control.acquire_serverapp() is None
    control.stop_run(number)


def test_control_without_its_token_is_refused(link: tuple[Any, Control]) -> None:
    """Flower's own open-source plugin lets everybody in."""
    _, control = link
    port = int(control._control._base_url.rsplit(":", 1)[1])
    other = Control(port, Secrets.fresh())
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        other.nodes()
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        other.acquire_serverapp()
    other.close()


def test_flower_believes_whom_a_message_is_from(
    link: tuple[Any, Control], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stores an order to one node from anybody who says it is the server: so the front looks."""
    app, control = link
    state = app.state.linkstate_factory.state()
    run = state.create_run(*("f/f", "1", "0" * 64, {}, NOOP_FEDERATION_ID, None, None, "x"))
    for name, value in (("_run_id", run), ("_node_id", 1), ("_task_id", 1)):
        monkeypatch.setattr(TaskIdentity, name, value)
    control.register("east", ssh(ec.generate_private_key(ec.SECP384R1())))
    [node] = control.nodes()
    assert state.activate_node(node.node_id, 60.0)
    content = RecordDict({"order": ConfigRecord({"json": "{}"})})
    order = Message(content, node.node_id, "train", ttl=60.0)
    vars(order.metadata)["_message_id"] = order.object_id
    stored, _ = state.store_message_and_object_tree(
        order, get_object_tree(order), state.start_session(run)
    )
    assert stored
    control.unregister(node.node_id)
