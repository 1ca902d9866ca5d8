"""A run by letters ends with the bits of every other run; forged and old letters are refused."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fedmri.clients.egress.ledger import entries
from fedmri.clients.mailbox.letters import answer_waiting
from fedmri.clients.process.enrolment import join, make_home
from fedmri.clients.process.home import ClientHome
from fedmri.data.settings import SourceConfig
from fedmri.errors import NetworkError
from fedmri.files import hold
from fedmri.server.mailbox.serving import run_by_mailbox
from fedmri.server.registry.enrolment import enroll, sign_for
from fedmri.server.registry.enrolment import make_home as make_server
from fedmri.server.registry.home import ServerHome
from fedmri.server.runs import RunFolder, new_run
from tests.server.conftest import Trained

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
def consortium(trained: Trained, hospitals: Path, cache: Path, tmp_path: Path) -> Consortium:
    """Return hospitals with the data, and the plan, of a run that a simulation trained."""
    server = make_server(tmp_path / "server", ["localhost"], 9443)
    sites = []
    for name in trained.sites:
        source = SourceConfig(path=str(hospitals), layout="bids")
        home = make_home(tmp_path / name, source, "cpu")
        enroll(server, name, home.public_key.read_text(), max_subjects=400)
        join(home, server.enrolments / f"{name}.json")
        text = home.settings_file.read_text().replace("policy:\n", POLICY, 1)
        text = text.replace("data:\n", f"data:\n  sites: [{name}]\n", 1)
        home.settings_file.write_text(text)
        sites.append(ClientHome(home.folder))
    signed = sign_for(server, trained.plan, trained.sites)
    run = new_run(server.runs, signed, "letters", trained.sites, mailbox="by hand")
    return Consortium(server, run, tuple(sites), tmp_path / "mailbox")


@pytest.fixture
def running(consortium: Consortium) -> Iterator[Callable[[], str]]:
    """Run the server beside; give what waits for its end and returns the SHA-256."""
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


def test_letters_end_with_the_bits_of_a_simulation(
    consortium: Consortium, running: Callable[[], str], trained: Trained
) -> None:
    """Nothing is readable on the way, and what is carried twice is not trained twice."""
    until(lambda: len(consortium.letters("orders")) == 3)
    kept = consortium.mailbox.with_name("carried twice")
    shutil.copytree(consortium.mailbox, kept)
    for letter in consortium.letters("orders"):
        assert not any(word in letter.read_bytes() for word in SECRET)
    assert [answer_waiting(site, consortium.mailbox) for site in consortium.sites] == [1, 1, 1]
    for order in kept.rglob("*.letter"):  # the same letters come again
        shutil.copy(order, consortium.mailbox / order.relative_to(kept))
    while not (consortium.run.path / "model.safetensors").exists():
        for site in consortium.sites:
            answer_waiting(site, consortium.mailbox)
        time.sleep(0.1)
    sha256 = running()
    records = map(json.loads, (trained.folder / "metrics.jsonl").read_text().splitlines())
    assert sha256 == next(one["sha256"] for one in records if one["kind"] == "done")
    assert consortium.run.note.status == "finished"
    refused = sorted(path.stem for path in consortium.mailbox.rglob("*.refused"))
    assert refused == sorted(path.stem for path in kept.rglob("*.letter"))
    for site in consortium.sites:
        updates = [line["round"] for line in entries(site.ledger) if line["kind"] == "update"]
        assert updates == [1, 2]  # nothing was trained for a letter that came again
    assert not consortium.letters("orders")


def test_a_forged_answer_is_put_aside(consortium: Consortium, running: Callable[[], str]) -> None:
    """Another site's answer, renamed, and a changed one are none; the real one still counts."""
    until(lambda: len(consortium.letters("orders")) == 3)
    first, second, _ = consortium.sites
    orders = {path.parent.name: path.stem for path in consortium.letters("orders")}
    answer_waiting(first, consortium.mailbox)
    until(lambda: not consortium.letters("answers"))  # it was read
    answer_waiting(second, consortium.mailbox)
    own = {path.stem for path in consortium.letters("orders")}
    (third,) = own & set(orders.values())
    forged = consortium.mailbox / "answers" / f"{third}.letter"
    forged.write_bytes(b"fedmri letter 1\n" + bytes(500))
    until(lambda: not forged.exists())
    assert forged.with_suffix(".refused").exists()
    while not (consortium.run.path / "model.safetensors").exists():
        for site in consortium.sites:
            answer_waiting(site, consortium.mailbox)
        time.sleep(0.1)
    assert running()
    rounds = [
        json.loads(x) for x in (consortium.run.path / "metrics.jsonl").read_text().splitlines()
    ]
    assert all(not one["rejected"] for one in rounds if one["kind"] == "round_total")


def test_a_run_has_one_process(consortium: Consortium) -> None:
    """A second command for the same run would read the first one's answers."""
    number = hold(consortium.run.path / "mailbox.lock")
    with pytest.raises(NetworkError, match=r"\[N21\]"):
        run_by_mailbox(consortium.server, consortium.run, consortium.mailbox)
    os.close(number)
