"""A hospital under attack: a coordinator with a valid key whose server sends what it likes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from flwr.app import Context, Message, RecordDict

from fedmri.agreement.signed_plan import SignedPlan
from fedmri.clients.process.flower import SuperNodeTask
from fedmri.clients.process.home import ClientHome
from fedmri.clients.process.worker import answer
from fedmri.server.transport.flower import thin_bundle
from fedmri.wire import bundle
from fedmri.wire.grid import SERVER_NODE, identify_task, sent
from tests.clients.conftest import coordinator, home, make_site, own_scans, plan, sign

__all__ = ["coordinator", "home", "make_site", "own_scans", "plan", "sign"]

Order = Callable[..., Message]
POLICY = "policy:\n  min_subjects_train: 1\n  min_subjects_reported: 2\n"


def with_policy(home: ClientHome, *lines: str) -> None:
    """Write a site's policy: a small hospital, whose floors are met."""
    with home.settings_file.open("a", encoding="utf-8") as file:
        file.write(POLICY + "".join(f"  {line}\n" for line in lines))


@pytest.fixture
def order(home: ClientHome) -> Order:
    """Return what hands the site's worker an order, as its SuperNode does."""
    identify_task()

    def ordered(signed: SignedPlan, content: RecordDict, kind: str, run: str = "run") -> Message:
        message = sent(Message(bundle(content), SERVER_NODE + 1, kind))
        context = Context(1, 2, {}, RecordDict(), {"run": run, "signed-plan": signed.to_json()})
        return answer(home.folder, SuperNodeTask(message, context, thin_bundle()[0], None))  # type: ignore[arg-type]  # no SuperNode is asked

    return ordered


def code_of(reply: Message) -> str:
    """Return the code of a refusal; "ok" for an answer."""
    return str(reply.error.reason).split()[-1] if reply.has_error() else "ok"


def own_file(folder: Path, name: str) -> Path:
    """Return the one file of a name under a folder."""
    [path] = folder.rglob(name)
    return path
