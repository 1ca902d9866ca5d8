"""The live page shows, changes nothing, and answers nobody without its token."""

from __future__ import annotations

import contextlib
import http.client
import io
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from rich.console import Console

from fedmri.errors import UsageError
from fedmri.server.registry.home import ServerHome
from fedmri.server.views.details import DETAILS, LOG_BYTES
from fedmri.server.views.status import read_run
from fedmri.server.views.terminal import ago, run_view, watch_terminal
from fedmri.server.views.watch import Detail, View, page_view, web_app
from tests.serve.browser import serving as in_thread
from tests.server.conftest import Deploy

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TOKEN = "a-token-of-32-characters-in-base"
FEDMRI = [sys.executable, "-c", "from fedmri.cli import main; main()"]
NO_PROXY = {**os.environ, "NO_PROXY": "*", "no_proxy": "*"}


PATHS = ("/", "/status.json", "/model", "/log.txt", "/other", "/../../etc/passwd")
RIGHT = f"?token={TOKEN}"


@dataclass(frozen=True)
class Answer:
    """What the page's server answered."""

    status: int
    headers: Mapping[str, str]
    text: str


@pytest.fixture
def ask(coordinator: ServerHome) -> Iterator[Callable[..., Answer]]:
    """Return a function that sends a target as it is, without the tidying of a browser."""
    with serving(
        lambda name: page_view(coordinator, name),
        lambda what, name: DETAILS[what](coordinator, name),
    ) as address:
        host = urlsplit(address).netloc

        def send(target: str, method: str = "GET") -> Answer:
            connection = http.client.HTTPConnection(host, timeout=10)
            connection.putrequest(method, target, skip_accept_encoding=True)
            connection.putheader("Connection", "close")
            connection.endheaders()
            answer = connection.getresponse()
            text = answer.read().decode()
            connection.close()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, text)

        yield send


def test_nothing_is_shown_without_the_token(ask: Callable[..., Answer]) -> None:
    """No page, no status and no word on what addresses there are."""
    wrong = ("", "?token=", f"?token={TOKEN[:-1]}", f"?token={TOKEN}x", "?token=%C3%A9%FF")
    for path, query in itertools.product(PATHS, wrong):
        answer = ask(path + query)
        assert (answer.status, answer.text) == (403, "token missing or wrong")


def test_the_page_can_only_be_read(ask: Callable[..., Answer]) -> None:
    """Every method but GET is refused, with the token too."""
    methods = ("POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")
    for path, method in itertools.product(PATHS[:2], methods):
        assert ask(path + RIGHT, method).status == 405


def test_no_file_can_be_asked_for(ask: Callable[..., Answer]) -> None:
    """There are two addresses, and neither is a folder."""
    files = ("/../server.yaml", "/%2e%2e/server.yaml", "/coordinator.key", "/status.json/..")
    for path in (*files, "//server.yaml", "/..%2fserver.yaml", "/live.html.jinja"):
        answer = ask(path + RIGHT)
        assert answer.status == 404
        assert "localhost" not in answer.text


def test_a_run_that_is_not_listed_is_not_found(ask: Callable[..., Answer], deploy: Deploy) -> None:
    """A name from the address is looked up and never made into a path."""
    deploy("tiny", 3)
    for name in ("../tiny", "..%2f..", "%00", "none"):
        assert ask(f"/status.json{RIGHT}&run={name}").status == 404
    assert ask(f"/status.json{RIGHT}&run=tiny").status == 200


def test_a_run_is_looked_at_closer(ask: Callable[..., Answer], deploy: Deploy) -> None:
    """Curves of each site, the end of the log, and the report; a model once there is one."""
    run = deploy("tiny")
    lines = "".join(f"line {n}\n" for n in range(20_000))
    (run.path / "log.txt").write_text(lines)
    of_run = f"{RIGHT}&run=tiny"
    found = json.loads(ask(f"/curves.json{of_run}").text)
    assert list(found["sites"]) == ["site01", "site02", "site03"]
    for curves in found["sites"].values():
        assert [point[0] for point in curves["loss"]] == [1, 2]
        assert [point[0] for point in curves["metric"]] == [1, 2]
    log = ask(f"/log.txt{of_run}").text
    assert len(log) <= LOG_BYTES
    assert lines.endswith(log)
    assert log.startswith("line ")
    report = ask(f"/report{of_run}")
    assert "attachment" in report.headers["content-disposition"]
    assert "<title>" in report.text
    (run.path / "model.safetensors").unlink()
    assert ask(f"/model{of_run}").status == 404
    for name in ("..%2ftiny", "none"):
        assert ask(f"/log.txt{RIGHT}&run={name}").status == 404


def test_answers_are_private_and_load_nothing(ask: Callable[..., Answer]) -> None:
    """Scripts and styles need the page's nonce, which is another in every answer."""
    policies = set()
    for _ in range(2):
        answer = ask(f"/{RIGHT}")
        policy = answer.headers["content-security-policy"]
        policies.add(policy)
        nonce = re.search(r"script-src 'nonce-([\w-]+)'", policy)
        assert nonce is not None
        assert policy.startswith("default-src 'none'")
        assert set(re.findall(r'nonce="([\w-]+)"', answer.text)) == {nonce[1]}
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert not re.search(r'(src|href)="(?!data:)|https?://(?!www\.w3\.org)', answer.text)
    assert len(policies) == 2


def test_the_endpoint_tells_what_status_tells(ask: Callable[..., Answer], deploy: Deploy) -> None:
    """Round, sites and who is waited for, as JSON."""
    deploy("tiny", 9)
    run = json.loads(ask(f"/status.json{RIGHT}").text)["run"]
    assert (run["round_index"], run["n_rounds"], run["waiting_for"]) == (1, 2, ["site03"])
    assert [site["site"] for site in run["sites"]] == ["site01", "site02", "site03"]


def test_markup_in_a_message_cannot_leave_the_data(
    ask: Callable[..., Answer], deploy: Deploy
) -> None:
    """A message that closes the script element stays inside the JSON."""
    deploy("tiny", 3, message="</script><script>alert(1)</script>")
    assert "<script>alert" not in ask(f"/{RIGHT}").text


@pytest.fixture
def served(
    coordinator: ServerHome, deploy: Deploy
) -> Iterator[tuple[subprocess.Popen[str], str, ServerHome]]:
    """Return the command that serves the page of a run under way, and the page's address."""
    deploy("tiny", 9)
    command = [*FEDMRI, "server", "watch", "--web", "--dir", str(coordinator.folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=NO_PROXY)
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip(), coordinator
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt install chromium")
def test_a_browser_shows_the_run(
    served: tuple[subprocess.Popen[str], str, ServerHome], tmp_path: Path
) -> None:
    """The page draws round, sites and curves under its own policy; its console stays empty."""
    _, address, _ = served
    done = chromium(tmp_path, address)
    assert "round 2 of 2" in done.stdout
    assert "Waiting for site03." in done.stdout
    assert len(re.findall("<polyline", done.stdout)) == 2
    assert re.search(r'href="log.txt\?[^"]*run=tiny', done.stdout)
    assert "Server running, 3 of 3 sites online." in done.stdout
    assert "CONSOLE" not in done.stderr


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt install chromium")
def test_a_browser_follows_the_run(coordinator: ServerHome, deploy: Deploy, tmp_path: Path) -> None:
    """What happens after the page was opened comes to it by itself."""
    deploy("tiny", 9)
    asked: list[str] = []

    def read(name: str) -> View:
        asked.append(name)
        if len(asked) == 2:  # the page was drawn, and asks again
            shutil.rmtree(coordinator.runs / "tiny")
            deploy("tiny")
        return page_view(coordinator, name)

    with serving(read) as address:
        done = chromium(tmp_path, address)
    assert len(asked) >= 2
    assert "finished: all 2 rounds done" in done.stdout
    assert "CONSOLE" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_page_ends_when_asked_to(
    number: signal.Signals, served: tuple[subprocess.Popen[str], str, ServerHome]
) -> None:
    """SIGTERM and Ctrl-C end the command at once, without a traceback."""
    process, address, _ = served
    assert address.startswith("http://127.0.0.1:")
    process.send_signal(number)
    assert process.wait(timeout=10) == 0


def test_a_port_that_is_taken_is_named(coordinator: ServerHome) -> None:
    """The message says what to do instead of a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [*FEDMRI, "server", "watch", "--web", "--port", port]
        done = subprocess.run(
            [*command, "--dir", str(coordinator.folder)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == UsageError.exit_code
    assert "[U45]" in done.stderr


def test_the_terminal_shows_the_run_once_in_a_pipe(coordinator: ServerHome, deploy: Deploy) -> None:
    """Sites, round, progress, last seen and metrics stand in the table."""
    deploy("tiny", 9)
    file = io.StringIO()
    watch_terminal(coordinator, "", Console(file=file, width=140))
    text = file.getvalue()
    for wanted in ("tiny", "running", "round 2 of 2", "Waiting for site03", "online", "s ago"):
        assert wanted in text


def test_a_named_run_that_is_over_ends_the_watch(coordinator: ServerHome, deploy: Deploy) -> None:
    """In a terminal too, the last state is drawn and the command returns."""
    deploy("tiny")
    console = Console(file=io.StringIO(), force_terminal=True, width=140)
    watch_terminal(coordinator, "tiny", console)
    with pytest.raises(UsageError, match=r"\[U52\]"):
        watch_terminal(coordinator, "none", console)


def test_control_characters_do_not_reach_the_terminal(
    coordinator: ServerHome, deploy: Deploy
) -> None:
    """A message cannot clear the screen or colour what follows it."""
    deploy("tiny", 3, message="\x1b[2J[bold]x[/bold]")
    file = io.StringIO()
    Console(file=file, width=140).print(run_view(read_run(coordinator, "tiny"), "2026-01-01"))
    assert "\x1b" not in file.getvalue()
    assert "[bold]x[/bold]" in file.getvalue()


@pytest.mark.parametrize(
    ("seen", "text"),
    [
        ("2026-01-01T00:00:58Z", "2.0 s ago"),
        ("2026-01-01T00:01:05+00:00", "0.0 s ago"),  # a clock that is ahead
        ("2025-12-31T22:01:00Z", "2 h 0 min ago"),
        (None, "never"),
        ("soon", "\N{EN DASH}"),
    ],
)
def test_last_seen_is_told_in_words(seen: str | None, text: str) -> None:
    """Seconds, minutes or hours before the time at which the server was read."""
    assert ago(seen, "2026-01-01T00:01:00+00:00") == text


def chromium(profile: Path, address: str) -> subprocess.CompletedProcess[str]:
    """Open an address in a real browser without a window; return what it made of the page."""
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--no-proxy-server", f"--user-data-dir={profile / 'profile'}", "--enable-logging=stderr",
        "--virtual-time-budget=5000", "--dump-dom", address,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@contextlib.contextmanager
def serving(read: Callable[[str], View], detail: Detail | None = None) -> Iterator[str]:
    """Serve the page in a thread and yield its address."""
    with in_thread(web_app(read, TOKEN, detail)) as address:
        yield f"{address}?token={TOKEN}"
