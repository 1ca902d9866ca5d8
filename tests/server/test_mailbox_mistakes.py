"""Mistakes with a mailbox: each is one clear sentence, and nothing of a run is lost."""

from __future__ import annotations

import os
import shutil
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from flwr.app import Message, RecordDict

from fedmri.clients.egress.ledger import entries
from fedmri.clients.mailbox.letters import answer_waiting
from fedmri.errors import UsageError
from fedmri.machine.files import hold
from fedmri.server.mailbox.letters import Letters
from fedmri.server.mailbox.serving import run_by_mailbox
from fedmri.server.registry.attendance import read_standings
from fedmri.server.registry.home import ServerHome
from fedmri.server.runs import LOCK
from fedmri.server.views.notices import notices
from fedmri.server.views.status import read_run
from fedmri.wire.grid import identify_task
from tests.conftest import program
from tests.server.conftest import Deploy, Trained
from tests.server.test_mailbox import Consortium, answer_all, made, of_kind, served, until

pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # flwr's
NOW = "2026-01-01T00:00:00Z"


@pytest.fixture
def consortium(trained: Trained, hospitals: Path, tmp_path: Path) -> Consortium:
    """Return hospitals with the data, and the plan, of a run that a simulation trained."""
    return made(trained.plan, trained.sites, hospitals, tmp_path)


def test_a_share_that_is_away_is_tried_again(consortium: Consortium, trained: Trained) -> None:
    """Letters cannot be written: the coordinator reads so, and the run goes on when they can."""
    consortium.mailbox.write_text("no folder")
    with served(consortium) as wait:
        until(lambda: read_standings(consortium.run.path)[1])
        said = notices(read_run(consortium.server, consortium.run.name), NOW)
        name = consortium.sites[0].consortium.site
        assert any(f"{name} gets no letters: the mailbox cannot be written" in one for one in said)
        consortium.mailbox.unlink()
        answer_all(consortium)
        assert wait() == of_kind(trained.folder, "done")[0]["sha256"]


def test_nothing_is_trained_for_an_answer_that_cannot_be_written(consortium: Consortium) -> None:
    """The folder of answers is found out before the work, and the order stays."""
    with served(consortium) as wait:
        until(lambda: len(consortium.letters("orders")) == 3)
        (consortium.mailbox / "answers").rmdir()
        (consortium.mailbox / "answers").write_text("no folder")
        one = consortium.sites[0]
        with pytest.raises(FileExistsError):
            answer_waiting(one, consortium.mailbox)
        assert not list(entries(one.ledger))
        assert len(consortium.letters("orders")) == 3
        (consortium.mailbox / "answers").unlink()
        answer_all(consortium)
        wait()


def test_parties_have_users_of_their_own(consortium: Consortium) -> None:
    """Whatever their umask, each reads the other's letters, and any site can leave its answer."""
    before = os.umask(0o077)
    try:
        with served(consortium) as wait:
            until(lambda: len(consortium.letters("orders")) == 3)
            found = {one.name: one.stat().st_mode for one in consortium.mailbox.rglob("*")}
            assert stat.filemode(found.pop("answers")) == "drwxrwxrwt"
            modes = {stat.filemode(mode) for mode in found.values()}
            assert modes == {"drwxr-xr-x", "-rw-r--r--"}
            answer_waiting(consortium.sites[0], consortium.mailbox)
            [answer] = [one.stat().st_mode for one in (consortium.mailbox / "answers").iterdir()]
            assert stat.filemode(answer) == "-rw-r--r--"
            answer_all(consortium)
            wait()
    finally:
        os.umask(before)


def test_what_a_killed_site_began_to_write_is_taken_away(consortium: Consortium) -> None:
    """A mailbox of months keeps no halves of letters."""
    with served(consortium) as wait:
        until(lambda: len(consortium.letters("orders")) == 3)
        [order, *_] = consortium.letters("orders")
        half = consortium.mailbox / "answers" / f".{order.name}.1-2.part"
        half.write_bytes(b"fedmri")
        answer_all(consortium)
        wait()
    assert not half.exists()


def test_a_run_by_letters_is_stopped_and_goes_on(consortium: Consortium, trained: Trained) -> None:
    """`server stop` ends its own process; a killed one goes on too, and a finished one does not."""
    server, run = consortium.server, consortium.run
    ended: list[BaseException] = []

    def train() -> None:
        try:
            run_by_mailbox(server, run, consortium.mailbox)
        except KeyboardInterrupt as error:
            ended.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    until(lambda: len(consortium.letters("orders")) == 3)
    words = ["server", "stop", run.name, "--dir", str(server.folder)]
    done = CliRunner().invoke(program(), words)
    thread.join(30)
    assert f"fedmri server run --resume {run.name}" in done.stdout
    assert (len(ended), run.note.status, consortium.letters("orders")) == (1, "stopped", [])
    run.change(status="running")  # as a process that was killed leaves it
    assert read_run(server, run.name).status == "interrupted"
    with served(consortium) as wait:
        answer_all(consortium)
        assert wait() == of_kind(trained.folder, "done")[0]["sha256"]
    with pytest.raises(UsageError, match=r"\[U50\]"):
        run_by_mailbox(server, run, consortium.mailbox)


def test_a_process_that_was_killed_is_not_taken_for_one_that_runs(
    coordinator: ServerHome, deploy: Deploy
) -> None:
    """Only who holds the run's lock works on it; the view says how it goes on."""
    run = deploy("carried", 4, mailbox="/mnt/exchange")
    number = hold(run.path / LOCK)
    assert read_run(coordinator, "carried").status == "running"
    os.close(number)
    found = read_run(coordinator, "carried")
    assert found.status == "interrupted"
    assert "fedmri server run --resume carried" in found.message


def test_a_client_that_dials_in_where_letters_are_due_is_named(
    coordinator: ServerHome, deploy: Deploy, trained: Trained
) -> None:
    """Its people started it without --mailbox, and would wait for ever."""
    one = trained.sites[0]
    deploy("mixed", 4, mailbox="/mnt/exchange", mailed=[one])
    said = notices(read_run(coordinator, "mixed"), NOW)
    assert f"{one} dials in, but this run asks it by letters: have it use --mailbox." in said


@pytest.fixture
def submit(consortium: Consortium, tmp_path: Path) -> Callable[..., BaseException | None]:
    """Return a function that submits a plan by the command, and gives its mistake."""
    plan = tmp_path / "plan.yaml"
    plan.write_text("name: mistaken\n")

    def run(*words: str) -> BaseException | None:
        words = ("server", "run", str(plan), *words, "--dir", str(consortium.server.folder))
        return CliRunner().invoke(program(), words).exception

    return run


def test_a_mailbox_that_is_no_folder_is_refused_before_anything_is_signed(
    consortium: Consortium, submit: Callable[..., BaseException | None], tmp_path: Path
) -> None:
    """A mistyped folder would be made, and nobody would ever look into it."""
    before = set(consortium.server.runs.iterdir())
    for words in (["--sites", "site01"], ["--sites", "site01,site02", "--mailed", "site01"]):
        error = submit(*words, "--mailbox", str(tmp_path / "exhange"))
        assert isinstance(error, UsageError)
        assert (error.code, "mount it" in str(error)) == ("U01", True)
    assert not (tmp_path / "exhange").exists()
    assert set(consortium.server.runs.iterdir()) == before


def test_a_site_that_is_named_twice_is_one_site(
    consortium: Consortium, submit: Callable[..., BaseException | None]
) -> None:
    """It is asked once."""
    assert submit("--sites", "site01,site02,site01", "--name", "twice") is None
    (run,) = [path for path in consortium.server.runs.iterdir() if path.name == "twice"]
    assert read_run(consortium.server, run.name).sites[0].site == "site01"
    assert len(read_run(consortium.server, run.name).sites) == 2


def test_letters_that_are_cut_or_doubled_change_nothing(
    consortium: Consortium, trained: Trained
) -> None:
    """A letter that is cut waits for the rest of it; the whole one is answered when it comes."""
    with served(consortium) as wait:
        until(lambda: len(consortium.letters("orders")) == 3)
        letter = consortium.letters("orders")[0]
        whole = letter.read_bytes()
        letter.write_bytes(whole[: len(whole) // 2])
        answered = [answer_waiting(site, consortium.mailbox) for site in consortium.sites]
        assert sorted(answered) == [0, 1, 1]
        assert letter.exists()
        letter.write_bytes(whole)
        shutil.copyfile(letter, letter.with_name("copy.letter"))
        answer_all(consortium)
        assert wait() == of_kind(trained.folder, "done")[0]["sha256"]


def test_a_clock_that_was_set_back_makes_no_order_look_old(consortium: Consortium) -> None:
    """A coordinator's new machine has another time: its letters are newer all the same."""
    one = consortium.sites[0]
    name = one.consortium.site
    identify_task()
    for day in (4_000_000_000, 1_000_000_000):  # seconds: the year 2096, then 2001
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "time_ns", lambda day=day: day * 10**9)
            own = Letters(consortium.server, consortium.run, consortium.mailbox, frozenset({name}))
            [node] = own.nodes()
            own.post(Message(RecordDict(), node.node_id, "train", ttl=60.0))
        assert answer_waiting(one, consortium.mailbox) == 1
