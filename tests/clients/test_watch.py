"""A hospital sees what runs here, what left and what waits, in a terminal and on a page."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import fedmri.commands.client.watch  # noqa: F401  # it registers the commands
from fedmri.clients.consent.approval import consent, keep_seen
from fedmri.clients.egress.ledger import head_file
from fedmri.clients.process.home import ClientHome
from fedmri.clients.process.messages import messages
from fedmri.clients.process.standing import ORDER, heed, note
from fedmri.clients.training.network import network_of
from fedmri.clients.views.page import Watch, web_app
from fedmri.clients.views.state import SiteState, as_json, read_state
from fedmri.clients.views.terminal import lines_of
from fedmri.models.weights import weights
from fedmri.plan import Plan, to_json
from fedmri.privacy.settings import PrivacyConfig
from fedmri.wire import EvaluateOrder, bundle, content_of
from tests.clients.conftest import Sign
from tests.clients.test_commands import client
from tests.clients.test_worker import Ask, ask, content, of_order, signed  # noqa: F401  # fixtures
from tests.serve.browser import serving as in_thread

pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # flwr's
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TOKEN = "a-token-of-32-characters-in-base"
NEXT = "lesion-of-next-year"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the folder of the hospital is kept, once one test has made it."""
    return tmp_path_factory.mktemp("lived") / "home"


@pytest.fixture
def lived(
    ask: Ask,  # noqa: F811  # the fixture
    home: ClientHome,
    plan: Plan,
    sign: Sign,
    kept: Path,
) -> ClientHome:
    """Return a hospital that trained and scored a round, and to which another plan has come."""
    if not kept.exists():
        live(ask, home, plan)
        train, rounds = replace(plan.train, lr=0.25), replace(plan.rounds, n_rounds=7)
        noised = PrivacyConfig(noise_multiplier=1.5, batch_subjects=2)
        other = replace(plan, name=NEXT, train=train, privacy=noised, rounds=rounds)
        keep_seen(home, sign(other))
        shutil.copytree(home.folder, kept)
    shutil.rmtree(home.folder)
    shutil.copytree(kept, home.folder)
    return ClientHome(home.folder)


def live(ask: Ask, home: ClientHome, plan: Plan) -> None:  # noqa: F811  # the fixture
    """Answer an order to train and one to score; then ask people again before a plan runs."""
    assert ask().has_content()
    order = bundle(content_of(EvaluateOrder(1, "val", weights(network_of(to_json(plan)).module))))
    assert ask(records=dict(order), kind="evaluate").has_content()
    (home.folder / "state").mkdir()
    note(home, ORDER, kind="evaluate", run="brain", round=1, code="ok")
    manual = home.settings_file.read_text().replace("is_approval_automatic: true", "tasks: []")
    home.settings_file.write_text(manual)


def state_of(home: ClientHome) -> SiteState:
    """Return where a hospital stands whose server does not answer."""
    return read_state(ClientHome(home.folder), "no answer")


def test_a_hospital_sees_its_part(lived: ClientHome, plan: Plan) -> None:
    """Round, patients, what left, scores beside its own loss, and what the next plan costs."""
    state = state_of(lived)
    assert state.work is not None
    assert (state.work.run, state.work.round, state.work.code) == ("brain", 1, "ok")
    assert state.patients is not None
    assert state.patients.used["train"] > 0
    assert set(state.leaving.today) == {"scores", "update"} == set(state.leaving.in_all)
    (score,) = state.scores
    assert (score.round, score.split, score.metric) == (1, "val", plan.target.primary)
    assert score.own_loss is not None
    waiting, trained = state.plans
    assert (waiting.name, waiting.is_waiting, trained.is_waiting) == (NEXT, True, False)
    assert waiting.cost is not None
    assert waiting.cost.n_rounds == 7
    assert waiting.cost.bytes_in_all == 7 * waiting.cost.bytes_a_round
    assert waiting.cost.epsilon is not None
    assert waiting.cost.epsilon > 0
    changed = {change.key: (change.before, change.after) for change in waiting.changes}
    assert changed["train.lr"][1] == "0.25"
    assert changed["rounds.n_rounds"] == (str(plan.rounds.n_rounds), "7")
    assert "Learning rate" in next(c.meaning for c in waiting.changes if c.key == "train.lr")


def test_the_terminal_and_json_tell_the_same(lived: ClientHome) -> None:
    """No patient, path or value of a scan is on the screen but who is left out and why."""
    state = state_of(lived)
    said = "\n".join(lines_of(state))
    for wanted in ("Run brain: round 1 of", "Patients used:", "Left this site today: 1 scores"):
        assert wanted in said
    assert f"({NEXT})" in said
    assert "train.lr: " in said
    assert "To decide: fedmri client approve " in said
    assert json.loads(json.dumps(as_json(state)))["plans"][0]["cost"]["n_rounds"] == 7


def test_scores_and_own_losses_stand_in_the_order_of_rounds(lived: ClientHome) -> None:
    """A round that was scored stands among those that were not."""
    [first] = [one for one in state_of(lived).scores if one.split]
    [file] = lived.runs.glob("*/scorings/*.jsonl")
    later = file.read_text().replace(f'"round_index": {first.round}', '"round_index": 9')
    assert '"round_index": 9' in later
    file.write_text(later)
    assert [one.round for one in state_of(lived).scores] == [first.round, 9]


def test_a_broken_privacy_ledger_does_not_hide_the_rest(lived: ClientHome) -> None:
    """The error stands where the epsilon would."""
    head_file(lived.privacy_ledger).write_text('{"n": 5, "sha256": "0"}')
    state = state_of(lived)
    assert "[P06]" in state.broken[0]
    assert state.work is not None


@contextlib.contextmanager
def serving(home: ClientHome) -> Iterator[str]:
    """Serve a hospital's page in a thread and yield its address."""
    watch = Watch(home.folder)
    watch._asked = float("inf")  # its server is nowhere
    with in_thread(web_app(watch, TOKEN)) as address:
        yield f"{address}?token={TOKEN}"


def post(address: str, asked: object, token: str = TOKEN) -> tuple[int, str]:
    """Send a decision to a page; return the answer."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=10)
    headers = {"authorization": f"Bearer {token}"}
    with contextlib.closing(connection):
        connection.request("POST", "/decision", json.dumps(asked), headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def test_decisions_need_the_token_and_are_what_the_commands_do(lived: ClientHome) -> None:
    """Approve, withdraw, refuse; a plan beyond the limits or an unknown word does nothing."""
    waiting = state_of(lived).plans[0].sha256
    with serving(lived) as address:
        yes = {"decision": "approve", "plan": waiting}
        assert post(address, yes, "wrong")[0] == 403
        assert post(f"{address}&x", yes, "")[0] == 403
        assert not consent(lived, waiting).given
        assert post(address, yes)[0] == 200
        assert consent(lived, waiting).given
        assert post(address, {"decision": "withdraw", "plan": waiting})[0] == 200
        assert consent(lived, waiting).is_withdrawn
        assert post(address, {"decision": "refuse", "run": "brain", "reason": "no"})[0] == 200
        assert "refused by people here" in state_of(lived).plans[1].status
        unknown = {"decision": "refuse", "run": "x", "reason": "y"}
        odd: list[object] = [{"decision": "forget"}, [], unknown]
        assert [post(address, one)[0] for one in odd] == [409] * 3
        lived.settings_file.write_text(f"{lived.settings_file.read_text()}  max_rounds: 1\n")
        status, said = post(address, yes)
        assert (status, "[P10]" in said) == (409, True)


def chromium(folder: Path, address: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Open an address in a real browser without a window; return what it made of the page."""
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--no-proxy-server", f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr",
        "--virtual-time-budget=3000", *more, address,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt install chromium")
def test_a_browser_shows_the_hospital_its_story(lived: ClientHome, tmp_path: Path) -> None:
    """Texts, buttons with names, a silent console, and a picture on a telephone."""
    picture = tmp_path / "page.png"
    with serving(lived) as address:
        done = chromium(tmp_path, address, "--window-size=1280,1600", "--dump-dom")
        chromium(tmp_path, address, "--window-size=390,1600", f"--screenshot={picture}")
    page = done.stdout
    for wanted in (
        "Run brain: round 1 of",
        f"Approve plan {NEXT}",
        "Refuse run brain",
        "I have read what leaves this hospital.",
        "Epsilon of one patient after all rounds",
        "Changed since plan",
        "Loss of own training",
    ):
        assert wanted in page, wanted
    assert all("aria-label" in tag for tag in re.findall(r"<button[^>]*>", page))
    labels = set(re.findall(r'<label for="([^"]+)"', page))
    assert set(re.findall(r'<input[^>]*id="([^"]+)"', page)) == labels
    assert "CONSOLE" not in done.stderr
    assert picture.stat().st_size > 10_000


def test_the_command_prints_it_once(lived: ClientHome, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --json a machine reads it; a refusal of the command line shows in it."""
    monkeypatch.setattr("fedmri.clients.views.page.ask_standing", lambda _: "enrolled")
    said = client(lived, "watch", "--once")
    assert said.exit_code == 0, said.output
    assert "The server answers and knows this site." in said.output
    assert client(lived, "refuse", "brain", "--reason", "no").exit_code == 0
    found = json.loads(client(lived, "watch", "--json").output)
    assert "refused by people here: run brain" in found["plans"][1]["status"]


def test_a_hospital_sees_with_which_weight_its_late_update_counted(lived: ClientHome) -> None:
    """Trained for round 1, joined round 4: half, by the power of the plan; gone when in time."""
    heed(lived, "brain", (4, "R45"))
    said = "The update of round 1 came late and counted in round 4 of run brain with weight 0.5"
    said += " [R45]."
    assert said in lines_of(state_of(lived))
    assert not messages(lived)
    heed(lived, "brain", None)
    assert said not in lines_of(state_of(lived))
