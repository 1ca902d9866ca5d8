"""What a site needs of Flower beyond its public names: an update that changes it fails here."""

from __future__ import annotations

import inspect
import io
import sys
import zipfile
from pathlib import Path

import pytest
from flwr.app import Context, Error, Message, RecordDict
from flwr.common.constant import SubStatus
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode import fleet_http_connection, start_client_internal
from flwr.supernode.cli.flower_supernode import _parse_args_run_supernode
from flwr.supernode.runtime import run_clientapp

from fedmri.clients.process import flower, supernode
from fedmri.clients.process.flower import (
    CLIENTAPP,
    SuperNodeTask,
    SuperNodeTasks,
    foreign_files,
    supernode_command,
)
from fedmri.wire.grid import sent


def zipped(*names: str) -> bytes:
    """Return an archive of empty files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("names", "foreign"),
    [
        (["pyproject.toml", ".info/CONTENT"], []),
        (["pyproject.toml", "flwr/__init__.py"], ["flwr/__init__.py"]),
        (["pyproject.toml", "./pyproject.toml"], ["./pyproject.toml"]),
        (["../pyproject.toml"], ["../pyproject.toml"]),
        (["PYPROJECT.TOML", "x/"], ["PYPROJECT.TOML", "x/"]),
    ],
)
def test_a_bundle_holds_two_files_and_no_other(names: list[str], foreign: list[str]) -> None:
    """Whatever else is in it is named, folders and odd spellings among it."""
    assert foreign_files(zipped(*names)) == foreign


def test_the_command_is_one_that_flower_takes() -> None:
    """Its parser knows each option, and authentication and TLS are among them."""
    command = supernode_command("host:9443", Path("ca.pem"), Path("key"), 4000, Path("secret"))
    assert command[:3] == [sys.executable, "-m", "fedmri.clients.process.supernode"]
    given = _parse_args_run_supernode().parse_args(command[3:])
    assert (given.superlink, given.root_certificates) == ("host:9443", "ca.pem")
    assert (given.auth_supernode_private_key, given.isolation) == ("key", "process")
    assert (given.host, given.port) == ("127.0.0.1", 4000)
    assert not getattr(given, "insecure", False)


def test_the_calls_of_a_task_take_what_we_give() -> None:
    """Names and order of what Flower's own runner hands them."""
    inspect.signature(run_clientapp.pull_task_input).bind("client")
    inspect.signature(run_clientapp.push_message).bind("client", "reply", "context")
    inspect.signature(run_clientapp.push_task_output).bind(
        client="client", context=None, sub_status=SubStatus.FAILED, details=""
    )


def test_what_the_supernode_replaces_is_there() -> None:
    """Replacing a name that Flower no longer calls would mend nothing."""
    assert callable(vars(fleet_http_connection)[supernode.MAKE_INVOKER])
    pull = vars(start_client_internal)[supernode.PULL]
    assert set(inspect.signature(pull).parameters) >= set(supernode.CALLS)


class Runtime:
    """A SuperNode that has one task or none, and notes what it is told."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.told: list[object] = []

    def AcquireTask(self, request: object) -> Runtime:  # noqa: N802  # Flower's name
        """Hand the task out."""
        self.told.append(list(request.supported_task_types))  # type: ignore[attr-defined]
        return self


@pytest.mark.parametrize("is_answered", [True, False])
def test_a_task_ends_as_answered_or_failed(
    is_answered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a failed one SuperNode hears that it failed, and not a word of why."""
    ends: list[dict[str, object]] = []
    context = Context(1, 2, {}, RecordDict(), {})
    for name, value in (("_run_id", 1), ("_node_id", 1), ("_task_id", 1)):
        monkeypatch.setattr(TaskIdentity, name, value)
    message = sent(Message(RecordDict(), 2, "train"))

    class Fab:
        """A bundle."""

        content = b"bundle"

    monkeypatch.setattr(flower, "pull_task_input", lambda _: (message, context, None, Fab))
    monkeypatch.setattr(flower, "push_message", lambda *_: None)
    monkeypatch.setattr(flower, "push_task_output", lambda **given: ends.append(given))
    tasks = SuperNodeTasks(1, b"secret")
    runtime = Runtime("token")
    vars(tasks)["_runtime"] = runtime

    def take() -> None:
        with tasks.next() as task:
            assert isinstance(task, SuperNodeTask)
            assert task.bundle == b"bundle"
            if not is_answered:
                raise ValueError("Mrs Zweistein")
            task.answer(Message(Error(1, "x"), reply_to=message))

    if is_answered:
        take()
    else:
        with pytest.raises(ValueError, match="Zweistein"):
            take()
    assert runtime.told == [[CLIENTAPP]]
    [end] = ends
    assert end["sub_status"] == (SubStatus.COMPLETED if is_answered else SubStatus.FAILED)
    assert end["details"] == ""


def test_no_task_is_none() -> None:
    """Where nothing waits, nothing is pulled."""
    tasks = SuperNodeTasks(1, b"secret")
    vars(tasks)["_runtime"] = Runtime("")
    with tasks.next() as task:
        assert task is None
