"""A run by letters ends with the bits of every other run; forged and old letters are refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo

from fedmri.assembly import assemble
from fedmri.clients.consent.approval import approve_as_person, seen_plan
from fedmri.clients.consent.refusal import refuse_run
from fedmri.clients.egress.ledger import entries
from fedmri.clients.mailbox.letters import MailedTask, answer_waiting
from fedmri.clients.mailbox.looks import note_look
from fedmri.clients.process.enrolment import join, make_home
from fedmri.clients.process.home import ClientHome
from fedmri.clients.process.standing import ORDER, forget_mailbox, note, noted
from fedmri.clients.process.worker import noted_answer
from fedmri.clients.training.protection.private import simulated_secret
from fedmri.clients.views.page import Watch
from fedmri.clients.views.terminal import lines_of
from fedmri.config import load, load_resolved
from fedmri.data.settings import SourceConfig
from fedmri.errors import NetworkError
from fedmri.machine.files import hold, write_private
from fedmri.plan import Plan
from fedmri.server.deployed import note_record, run_of
from fedmri.server.mailbox.grid import MixedGrid
from fedmri.server.mailbox.letters import Letters
from fedmri.server.mailbox.serving import run_by_mailbox
from fedmri.server.registry.enrolment import enroll, sign_for
from fedmri.server.registry.enrolment import make_home as make_server
from fedmri.server.registry.home import ServerHome
from fedmri.server.rounds.loop import Rounds
from fedmri.server.runs import LOCK, Post, RunFolder, new_run
from fedmri.server.transport.inflating import bound_answers
from fedmri.server.views.status import read_run
from fedmri.wire.grid import OwnGrid, identify_task, sent
from tests.conftest import TINY
from tests.server.conftest import Deploy, Trained

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


def test_people_of_a_site_with_single_jobs_read_what_waits(
    consortium: Consortium, running: Callable[[], str]
) -> None:
    """No client runs between two jobs, and none should: the view says when one ran, and what came.

    The server is not asked: a site of the mailbox may not dial out.
    """
    one, *others = consortium.sites

    def told() -> str:
        return "\n".join(lines_of(Watch(one.folder).state()))

    until(lambda: len(consortium.letters("orders")) == 3)
    assert "Its client does not run." in told()
    note_look(one, consortium.mailbox, answer_waiting(one, consortium.mailbox), is_once=True)
    assert "Its client" not in told()
    assert re.search(r"Single jobs .* The last job looked there 20\S+ and answered 1\.", told())
    assert "It dials nobody" in told()
    assert told().count(f"Orders that wait in mailbox {consortium.mailbox}: 0.") == 1
    for site in others:
        answer_waiting(site, consortium.mailbox)
    until(lambda: f"Orders that wait in mailbox {consortium.mailbox}: 1." in told())
    answer_all(consortium)
    running()
    note(one, ORDER, kind="train", run="letters", round=2, code="")
    assert "begun, and cut before its end" in told()
    consortium.mailbox.rename(consortium.mailbox.with_name("away"))
    assert f"Mailbox {consortium.mailbox} cannot be read: is it mounted?" in told()
    forget_mailbox(one)
    assert "Its client does not run." in told()


def test_a_refusal_that_is_taken_back_by_letter_is_asked_in_the_next_round(
    hospitals: Path, tmp_path: Path
) -> None:
    """Nobody sees a client of the mailbox start: its letter says so, and no restart is needed."""
    rounds = ("n_rounds=4", "evaluate_every=0", "min_sites=2", "quorum=0.6")
    plan = load([*TINY, *(f"rounds.{one}" for one in rounds)]).plan
    consortium = made(plan, ("site01", "site02", "site03"), hospitals, tmp_path)
    one, *others = consortium.sites
    name = consortium.run.name

    def all_asked(n: int) -> None:
        until(lambda: len(consortium.letters("orders")) == n)

    with served(consortium) as wait:
        for round_index in (1, 2):
            all_asked(3)
            if round_index == 2:
                refuse_run(one, name, "our ethics board meets in June")
            for site in consortium.sites:
                answer_waiting(site, consortium.mailbox)
        all_asked(2)  # round 3 leaves it in peace
        approve_as_person(one, seen_plan(one, consortium.run.signed.sha256))
        assert answer_waiting(one, consortium.mailbox) == 0
        for site in others:
            answer_waiting(site, consortium.mailbox)
        all_asked(3)
        answer_all(consortium)
        wait()
    totals = of_kind(consortium.run.path, "round_total")
    assert [total["rejected"] for total in totals] == [{}, *[{"site01": "P18"}] * 2, {}]
    kinds = [line["kind"] for line in entries(one.ledger)]
    assert kinds == ["update", "error", "letter", "update", "scores"]
    assert not consortium.letters("answers")


TRAINING = threading.Lock()
"""Two sites of one process never train at once: the seeds of torch are the process's."""


class Dialled(OwnGrid):
    """Sites that dial in, without a network: the worker of each answers an order at once."""

    def __init__(self, consortium: Consortium, by_letter: frozenset[str]) -> None:
        super().__init__()
        live = [home for home in consortium.sites if home.consortium.site not in by_letter]
        self._homes = {10**6 + n: home for n, home in enumerate(live)}
        self._sent = {"run": consortium.run.name, "signed-plan": consortium.run.signed.to_json()}
        self._replies: dict[str, Message] = {}

    def get_nodes(self) -> list[NodeInfo]:
        """Return all of them."""
        return [NodeInfo(node_id=i, name=h.consortium.site) for i, h in self._homes.items()]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Have orders answered; the answers wait."""
        orders = [sent(message) for message in messages]
        for order in orders:
            context = Context(1, 1, {}, RecordDict(), dict(self._sent))
            home = self._homes[order.metadata.dst_node_id]
            with TRAINING:
                reply = noted_answer(home, MailedTask(order, context))
            self._replies[order.metadata.message_id] = reply
        return [order.metadata.message_id for order in orders]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the answers that are there, once."""
        return [self._replies.pop(i) for i in message_ids if i in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Send messages and return the replies."""
        return self.pull_messages(self.push_messages(messages))


def ended(consortium: Consortium, by_letter: Collection[str]) -> str:
    """Train a run some of whose sites are asked by letters; return the SHA-256 at its end."""
    home, folder, mailed = consortium.server, consortium.run, frozenset(by_letter)
    letters = Letters(home, folder, consortium.mailbox, mailed)
    grid = MixedGrid(Dialled(consortium, mailed), letters)
    run = run_of(grid, folder, home)
    real = assemble(run.plan)
    folder.bound_answers(bound_answers(run.plan, real.entries, real.layout))
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(Rounds(run, grid, note_record).go()))
    thread.start()
    while thread.is_alive():
        for site in consortium.sites:
            if site.consortium.site in mailed:
                with TRAINING:
                    answer_waiting(site, consortium.mailbox)
        time.sleep(0.05)
    [sha256] = found
    return sha256


PRIVATE = ("privacy.noise_multiplier=1", "privacy.batch_subjects=2", "model.norm=group")


@pytest.mark.parametrize(
    "settings",
    [
        (),
        pytest.param(("harmonize=nyul",), marks=pytest.mark.slow),
        pytest.param(PRIVATE, marks=pytest.mark.slow),
        ("secagg.is_on=true",),
    ],
    ids=["plain", "nyul", "noise", "secure"],
)
def test_all_live_all_by_letters_and_both_end_alike(
    settings: tuple[str, ...], hospitals: Path, tmp_path: Path
) -> None:
    """One plan has one SHA-256, whichever way its orders and answers take."""
    plan = load([*TINY, "rounds.n_rounds=1", "rounds.evaluate_every=0", *settings]).plan
    names = ("site01", "site02", "site03")
    found = {}
    for mailed in ((), names[:1], names):
        consortium = made(plan, names, hospitals, tmp_path / f"{len(mailed)} by letter")
        for site in consortium.sites:
            write_private(site.secret, simulated_secret(site.consortium.site))
        found[mailed] = ended(consortium, mailed)
        for site in consortium.sites:
            assert site.letters.exists() == (site.consortium.site in mailed)
    assert len(set(found.values())) == 1


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
    number = hold(consortium.run.path / LOCK)
    with pytest.raises(NetworkError, match=r"\[N21\]"):
        run_by_mailbox(consortium.server, consortium.run, consortium.mailbox)
    os.close(number)


def test_a_run_by_letters_needs_no_server(coordinator: ServerHome, deploy: Deploy) -> None:
    """It has a process of its own: where no server runs, only the others are interrupted."""
    deploy("dialled", 4)
    number = hold(deploy("carried", 4, mailbox="/mnt/exchange").path / LOCK)
    (coordinator.state / "sites-seen.json").unlink()
    status = {name: read_run(coordinator, name).status for name in ("dialled", "carried")}
    os.close(number)
    assert status == {"dialled": "interrupted", "carried": "running"}
