"""A run by letters ends with the bits of every other run; forged and old letters are refused."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, Message, RecordDict

from fedmri.arm import Arm
from fedmri.clients.app import app
from fedmri.clients.egress.ledger import entries
from fedmri.clients.mailbox.letters import answer_waiting
from fedmri.clients.process.enrolment import join, make_home
from fedmri.clients.process.home import ClientHome
from fedmri.clients.process.standing import ORDER, noted
from fedmri.clients.training.protection.private import simulated_secret
from fedmri.config import load_resolved
from fedmri.data.settings import SourceConfig
from fedmri.errors import NetworkError
from fedmri.machine.files import hold, write_private
from fedmri.plan import Plan, to_json
from fedmri.server.mailbox.grid import MixedGrid
from fedmri.server.mailbox.letters import Letters
from fedmri.server.mailbox.serving import run_by_mailbox
from fedmri.server.registry.enrolment import enroll, sign_for
from fedmri.server.registry.enrolment import make_home as make_server
from fedmri.server.registry.home import ServerHome
from fedmri.server.rounds.loop import Rounds
from fedmri.server.rounds.run import Run
from fedmri.server.runs import Post, RunFolder, new_run
from fedmri.server.views.status import read_run
from fedmri.simulation.engines.flower import Node, SimulatedGrid, context_of
from fedmri.simulation.engines.in_process import run_client
from fedmri.wire import bundle, unbundle
from fedmri.wire.grid import identify_task, sent
from tests.server.conftest import Deploy, Trained
from tests.server.test_late import nodes_of

pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # flwr's
POLICY = (
    "policy:\n  is_approval_automatic: true\n  min_subjects_train: 1\n  min_subjects_reported: 1\n"
)
SECRET = (b"hospital", b"site0", b"plan", b"model", b"letters")


@dataclass(frozen=True)
class Consortium:
    """A coordinator with a run, its hospitals, and the folder between them."""

    server: ServerHome
    run: RunFolder
    sites: tuple[ClientHome, ...]
    mailbox: Path

    def letters(self, kind: str) -> list[Path]:
        """Return the files in the mailbox."""
        return sorted((self.mailbox / kind).rglob("*.letter"))


@pytest.fixture
def consortium(trained: Trained, hospitals: Path, tmp_path: Path) -> Consortium:
    """Return hospitals with the data, and the plan, of a run that a simulation trained."""
    return made(trained.plan, trained.sites, hospitals, tmp_path)


def made(plan: Plan, names: tuple[str, ...], hospitals: Path, folder: Path) -> Consortium:
    """Return a consortium whose hospitals approve by themselves, each with its own patients."""
    server = make_server(folder / "server", ["localhost"], 9443)
    sites = []
    for name in names:
        source = SourceConfig(path=str(hospitals), layout="bids")
        home = make_home(folder / name, source)
        enroll(server, name, home.public_key.read_text(), max_subjects=400)
        join(home, server.enrolments / f"{name}.json")
        text = home.settings_file.read_text().replace("policy:\n", POLICY, 1)
        home.settings_file.write_text(text.replace("data:\n", f"data:\n  sites: [{name}]\n", 1))
        sites.append(ClientHome(home.folder))
    signed, post = sign_for(server, plan, names), Post("by hand")
    run = new_run(server.runs, signed, "letters", names, post=post)
    return Consortium(server, run, tuple(sites), folder / "mailbox")


@pytest.fixture
def running(consortium: Consortium) -> Iterator[Callable[[], str]]:
    """Run the server beside; give what waits for its end and returns the SHA-256."""
    with served(consortium) as wait:
        yield wait


@contextmanager
def served(consortium: Consortium) -> Iterator[Callable[[], str]]:
    """Run the server of a consortium beside; yield what waits for its end."""
    ended: list[str | Exception] = []

    def run() -> None:
        try:
            ended.append(run_by_mailbox(consortium.server, consortium.run, consortium.mailbox))
        except Exception as error:  # noqa: BLE001  # it is raised where it is waited for
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def wait() -> str:
        thread.join(60)
        (found,) = ended
        if isinstance(found, Exception):
            raise found
        return found

    yield wait
    thread.join(60)


def until(is_true: Callable[[], object]) -> None:
    """Wait for something of the other thread."""
    deadline = time.monotonic() + 30
    while not is_true() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert is_true()


def answer_all(consortium: Consortium) -> None:
    """Let every hospital answer what comes, until the run has its model."""
    deadline = time.monotonic() + 120
    while not (consortium.run.path / "model.safetensors").exists():
        assert time.monotonic() < deadline
        for site in consortium.sites:
            answer_waiting(site, consortium.mailbox)
        time.sleep(0.1)


def of_kind(folder: Path, kind: str) -> list[dict[str, Any]]:
    """Return the records of a kind of a run."""
    records = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [record for record in records if record["kind"] == kind]


def settled(file: Path, content: bytes) -> None:
    """Write a file that is no longer on its way."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    os.utime(file, (0, 0))


def test_letters_end_with_the_bits_of_a_simulation(
    consortium: Consortium, running: Callable[[], str], trained: Trained
) -> None:
    """Letters that cannot be read, come twice or are forged on the way change nothing."""
    until(lambda: len(consortium.letters("orders")) == 3)
    kept = consortium.mailbox.with_name("carried twice")
    shutil.copytree(consortium.mailbox, kept)
    for letter in consortium.letters("orders"):
        assert not any(word in letter.read_bytes() for word in SECRET)
    forged = consortium.mailbox / "answers" / consortium.letters("orders")[0].name
    settled(forged, b"fedmri letter 1\n" + bytes(500))
    until(lambda: not forged.exists())
    assert forged.with_suffix(".refused").exists()
    assert [answer_waiting(site, consortium.mailbox) for site in consortium.sites] == [1, 1, 1]
    for order in kept.rglob("*.letter"):  # the same letters come again
        settled(consortium.mailbox / order.relative_to(kept), order.read_bytes())
        settled(consortium.mailbox / order.relative_to(kept).with_stem("new"), order.read_bytes())
    answer_all(consortium)
    assert running() == of_kind(trained.folder, "done")[0]["sha256"]
    assert consortium.run.note.status == "finished"
    assert len(list((consortium.mailbox / "orders").rglob("*.refused"))) == 6
    for site in consortium.sites:
        updates = [line["round"] for line in entries(site.ledger) if line["kind"] == "update"]
        assert updates == [1, 2]  # nothing was trained for a letter that came again
        assert noted(site, ORDER)["code"] == "ok"  # its people see it, though no SuperNode ran
    assert all(not one["rejected"] for one in of_kind(consortium.run.path, "round_total"))
    assert not consortium.letters("orders")


@pytest.mark.slow
def test_secure_sums_noise_and_landmarks_come_by_letters_too(
    hospitals: Path, run_tiny: Callable[..., Path], tmp_path: Path
) -> None:
    """All steps of a secure sum, patients' noise and Nyul's sums: the bits of a simulation."""
    settings = ["secagg.is_on=true", "harmonize=nyul", "simulation.arms=[federated]"]
    settings += ["privacy.noise_multiplier=1", "privacy.batch_subjects=2", "model.norm=group"]
    simulated = run_tiny("simulated", *settings, "rounds.n_rounds=2")
    plan = load_resolved(simulated / "config.yaml").plan
    names = tuple(sorted(json.loads((simulated / "prepared/sites.json").read_text())["sites"]))
    consortium = made(plan, names, hospitals, tmp_path)
    for site in consortium.sites:
        write_private(site.secret, simulated_secret(site.consortium.site))
    with served(consortium) as wait:
        answer_all(consortium)
        sha256 = wait()
    (arm,) = (simulated / "arms/federated").iterdir()
    assert sha256 == of_kind(arm, "done")[0]["sha256"]


class Dialled(SimulatedGrid):
    """Sites of a deployment that dial in: the real client answers at once, in bundles."""

    stream = None  # type: ignore[assignment]  # what tells a simulation from a deployment

    def __init__(self, nodes: list[Node], config: dict[str, str | int]) -> None:
        super().__init__(nodes, config)
        self._contexts = {i: context_of(i, node, config) for i, node in self.nodes.items()}

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Run the ClientApp; its reply waits."""
        ids = []
        for message in map(sent, messages):
            about = message.metadata
            order = Message(unbundle(message.content), about.dst_node_id, about.message_type)
            content = bundle(run_client(app, order, self._contexts).content)
            self._replies[about.message_id] = Message(content, reply_to=message)
            ids.append(about.message_id)
        return ids


def test_some_dial_in_and_others_get_letters(
    consortium: Consortium, trained: Trained, tmp_path: Path
) -> None:
    """The bits are those of any other run; a site of the mailbox is asked by letters alone."""
    by_letter = consortium.sites[0]
    name = by_letter.consortium.site
    letters = Letters(consortium.server, consortium.run, consortium.mailbox, frozenset({name}))
    live = Dialled(nodes_of(trained, tmp_path / "live"), {"plan": to_json(trained.plan)})
    live.nodes = {i + 10**6: node for i, node in live.nodes.items()}
    live._contexts = {i + 10**6: context for i, context in live._contexts.items()}
    grid = MixedGrid(live, letters)
    assert sorted(node.name for node in grid.get_nodes()) == sorted(trained.sites)
    run = Run(trained.plan, Arm("federated"), trained.sites, trained.sites, tmp_path / "run")
    run.folder.mkdir()
    sha256: list[str] = []
    rounds = Rounds(run, grid, lambda record: None)
    consortium.run.bound_answers(10**6)
    thread = threading.Thread(target=lambda: sha256.append(rounds.go()))
    thread.start()
    while thread.is_alive():
        answer_waiting(by_letter, consortium.mailbox)
        time.sleep(0.05)
    assert sha256 == [of_kind(trained.folder, "done")[0]["sha256"]]
    assert sum(line["kind"] == "update" for line in entries(by_letter.ledger)) == 2


def test_an_order_keeps_no_model_in_memory(consortium: Consortium) -> None:
    """A site that stays away for months leaves one letter, and of the others their ids."""
    name = consortium.sites[0].consortium.site
    letters = Letters(consortium.server, consortium.run, consortium.mailbox, frozenset({name}))
    identify_task()
    [node] = letters.nodes()
    for ttl in (1e-6, 60.0, 60.0):
        content = RecordDict({"model": ArrayRecord([np.zeros(9)])})
        letters.post(Message(content, node.node_id, "train", ttl=ttl))
    assert len(consortium.letters("orders")) == 1
    assert [dict(out.message.content) for out in letters._out.values()] == [{}, {}]


def test_a_run_has_one_process(consortium: Consortium) -> None:
    """A second command for the same run would read the first one's answers."""
    number = hold(consortium.run.path / "mailbox.lock")
    with pytest.raises(NetworkError, match=r"\[N21\]"):
        run_by_mailbox(consortium.server, consortium.run, consortium.mailbox)
    os.close(number)


def test_a_run_by_letters_needs_no_server(coordinator: ServerHome, deploy: Deploy) -> None:
    """It has a process of its own: where no server runs, only the others are interrupted."""
    deploy("dialled", 4)
    deploy("carried", 4, mailbox="/mnt/exchange")
    (coordinator.state / "sites-seen.json").unlink()
    status = {name: read_run(coordinator, name).status for name in ("dialled", "carried")}
    assert status == {"dialled": "interrupted", "carried": "running"}
