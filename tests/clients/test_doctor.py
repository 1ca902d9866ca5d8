"""The doctor, before real TLS servers on loopback: each illness is named, with its remedy."""

from __future__ import annotations

import http.server
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from typing import ClassVar

import pytest

from fedmri.agreement.consortium import Consortium
from fedmri.clients.process.doctor import examine, refuse_failed
from fedmri.clients.process.enrolment import join, make_home
from fedmri.clients.process.home import ClientHome
from fedmri.clients.process.messages import messages
from fedmri.clients.process.reach import DoctorFinding, examine_network
from fedmri.clients.process.standing import tell_of_ends
from fedmri.data.settings import SourceConfig
from fedmri.errors import NetworkError
from fedmri.server.registry import authority
from fedmri.server.registry import enrolment as server_enrolment
from fedmri.server.registry.authority import renew
from fedmri.server.registry.home import ServerHome

Listen = Callable[..., Consortium]


class Quiet(http.server.BaseHTTPRequestHandler):
    """Answers 404 as the server's listener does, with a clock that may be wrong."""

    skew_s: ClassVar[float] = 0.0

    def do_GET(self) -> None:
        """Know no page."""
        self.send_error(HTTPStatus.NOT_FOUND)

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Return the server's own idea of the time."""
        return formatdate((timestamp or time.time()) + self.skew_s, usegmt=True)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


class Proxy(Quiet):
    """Lets CONNECT through."""

    def do_CONNECT(self) -> None:
        """Pass bytes both ways until one side closes."""
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port))) as far:
            self.send_response(HTTPStatus.OK)
            self.end_headers()
            back = threading.Thread(target=self.pump, args=(far, self.connection))
            back.start()
            self.pump(self.connection, far)
            back.join()

    @staticmethod
    def pump(source: socket.socket, sink: socket.socket) -> None:
        """Copy until the source ends, then end the sink."""
        try:
            while block := source.recv(65536):
                sink.sendall(block)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return


class Tls(http.server.ThreadingHTTPServer):
    """Speaks TLS, and does not mind callers who end the handshake."""

    context: ssl.SSLContext

    def finish_request(self, request: object, client_address: object) -> None:
        """Shake hands, then answer."""
        assert isinstance(request, socket.socket)
        try:
            with self.context.wrap_socket(request, server_side=True) as wrapped:
                super().finish_request(wrapped, client_address)
        except OSError:
            return


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what the machine that runs the tests has in its environment."""
    for name in ("HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def serving() -> Iterator[Callable[[http.server.ThreadingHTTPServer], int]]:
    """Return a function that lets a server answer until the test ends, and tells its port."""
    started: list[http.server.ThreadingHTTPServer] = []

    def serve(server: http.server.ThreadingHTTPServer) -> int:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        started.append(server)
        return int(server.server_address[1])

    yield serve
    for server in started:
        server.shutdown()
        server.server_close()


@pytest.fixture
def server_home(tmp_path: Path) -> ServerHome:
    """Return the folder of a server at 127.0.0.1."""
    return server_enrolment.make_home(tmp_path / "server", ["127.0.0.1"], 9443)


@pytest.fixture
def site(tmp_path: Path, hospitals: Path) -> ClientHome:
    """Return the folder of a site that has joined nothing yet."""
    return make_home(tmp_path / "site", SourceConfig(path=str(hospitals)), "cpu")


@pytest.fixture
def listen(
    server_home: ServerHome,
    site: ClientHome,
    serving: Callable[[http.server.ThreadingHTTPServer], int],
) -> Listen:
    """Return a function that starts the server and enrols the site."""

    def start(skew_s: float = 0.0) -> Consortium:
        kind = type("Skewed", (Quiet,), {"skew_s": skew_s})
        server = Tls(("127.0.0.1", 0), kind)
        server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.context.load_cert_chain(server_home.tls_cert, server_home.tls_key)
        consortium = server_enrolment.enroll(server_home, "a", site.public_key.read_text())
        return replace(consortium, address=f"127.0.0.1:{serving(server)}")

    return start


def levels(findings: list[DoctorFinding]) -> dict[str, str]:
    """Return how each line came out."""
    return {finding.name: finding.level for finding in findings}


def only_failures(findings: list[DoctorFinding]) -> dict[str, DoctorFinding]:
    """Return the lines that fail, by name; each has a remedy."""
    failed = {finding.name: finding for finding in findings if finding.level == "fail"}
    assert all(finding.fix for finding in failed.values())
    return failed


def test_a_healthy_site_is_green_on_every_line(
    listen: Listen, site: ClientHome, tmp_path: Path
) -> None:
    """With the server up, the site enrolled and its data there, nothing is left to do."""
    file = tmp_path / "a.json"
    file.write_text(listen().to_json())
    join(site, file)
    findings = examine(site)
    names = ["enrolment", "name", "proxy", "port", "authority", "certificate", "expiry", "TLS"]
    assert [finding.name for finding in findings] == [
        *names,
        *("clock", "version", "disk", "device", "precision", "data"),
    ]
    assert set(levels(findings).values()) <= {"ok", "warn"}
    assert {n for n, level in levels(findings).items() if level == "warn"} <= {"disk"}
    refuse_failed(findings)


def test_another_authority_is_refused(listen: Listen, tmp_path: Path) -> None:
    """A server, or a proxy that opens TLS, with a certificate of somebody else's."""
    other = server_enrolment.make_home(tmp_path / "other", ["127.0.0.1"], 9443)
    consortium = replace(listen(), ca=other.ca_cert.read_text())
    failed = only_failures(list(examine_network(consortium)))
    assert set(failed) == {"authority", "TLS"}
    assert "call the coordinator" in failed["authority"].fix


def test_an_expired_certificate_is_dated(
    listen: Listen, server_home: ServerHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The date and the coordinator's command are named; the authority is still the right one."""
    monkeypatch.setattr(authority, "LEAF_LIFE", timedelta(hours=-1))
    renew(server_home, ["127.0.0.1"])
    failed = only_failures(list(examine_network(listen())))
    assert set(failed) == {"expiry", "TLS"}
    assert "fedmri server renew" in failed["expiry"].fix


def test_a_certificate_near_its_end_is_a_warning(
    listen: Listen, server_home: ServerHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty days before, there is still time to ask."""
    monkeypatch.setattr(authority, "LEAF_LIFE", timedelta(days=20))
    renew(server_home, ["127.0.0.1"])
    assert levels(list(examine_network(listen())))["expiry"] == "warn"


def test_a_certificate_from_the_future_points_to_the_clock(
    listen: Listen, server_home: ServerHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine whose clock is days late sees certificates that have not begun."""
    monkeypatch.setattr(authority, "BACKDATED", timedelta(days=-1))
    renew(server_home, ["127.0.0.1"])
    failed = only_failures(list(examine_network(listen())))
    assert set(failed) == {"expiry", "TLS"}
    assert "NTP" in failed["expiry"].fix


def test_a_certificate_for_another_name_says_which(listen: Listen, server_home: ServerHome) -> None:
    """The name that the site dials is missing in server.yaml."""
    renew(server_home, ["server.example.org"])
    failed = only_failures(list(examine_network(listen())))
    assert set(failed) == {"certificate", "TLS"}
    assert "is for server.example.org, not for 127.0.0.1" in failed["certificate"].found


def test_a_closed_port_ends_the_network_lines(listen: Listen) -> None:
    """Nothing is said about certificates of a server that does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    findings = list(examine_network(replace(listen(), address=f"127.0.0.1:{port}")))
    assert levels(findings) == {"name": "ok", "proxy": "ok", "port": "fail"}
    assert "refused" in findings[-1].found
    assert "firewall" in findings[-1].fix


def test_a_name_without_an_address_ends_the_network_lines(listen: Listen) -> None:
    """RFC 2606 keeps .invalid from ever having an address."""
    findings = list(examine_network(replace(listen(), address="server.invalid:9443")))
    assert levels(findings) == {"name": "fail"}


def test_what_speaks_no_tls_is_no_server(
    listen: Listen, serving: Callable[[http.server.ThreadingHTTPServer], int]
) -> None:
    """A plain web server on the same port is told from a wrong certificate."""
    port = serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet))
    failed = only_failures(list(examine_network(replace(listen(), address=f"127.0.0.1:{port}"))))
    assert set(failed) == {"TLS"}
    assert "not a fedmri server" in failed["TLS"].fix


@pytest.mark.parametrize(
    ("server_is_off_s", "level", "said"),
    [
        (-6, "fail", "ahead of"),  # the Date header tells whole seconds: read as 5 to 6
        (0, "ok", ""),
        (30, "ok", "behind"),
        (100, "warn", "behind"),  # the server allows 305 s
        (310, "fail", "behind"),
    ],
)
def test_the_clock_is_measured_against_the_server(
    listen: Listen, server_is_off_s: float, level: str, said: str
) -> None:
    """The server refuses clocks more than 5 s ahead or 305 s behind its own."""
    finding = next(f for f in examine_network(listen(server_is_off_s)) if f.name == "clock")
    assert (finding.level, said in finding.found) == (level, True)
    assert bool(finding.fix) == (finding.level != "ok")


def test_a_proxy_is_gone_through_and_named(
    listen: Listen,
    serving: Callable[[http.server.ThreadingHTTPServer], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The client obeys HTTPS_PROXY, so the doctor does; its password is not shown."""
    consortium = listen()
    port = serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy))
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:secret@127.0.0.1:{port}")
    findings = list(examine_network(consortium))
    lines = ("proxy", "port", "authority", "certificate", "expiry", "TLS", "clock")
    assert list(levels(findings)) == list(lines)
    assert {n for n, level in levels(findings).items() if level != "ok"} == {"proxy"}
    assert "secret" not in str(findings)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert levels(list(examine_network(consortium)))["proxy"] == "ok"


def test_a_proxy_that_is_down_is_named(listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forgotten variable looks like a dead server until somebody says so."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
    findings = list(examine_network(listen()))
    assert levels(findings) == {"proxy": "warn", "port": "fail"}
    assert "through the proxy" in findings[-1].found


def test_everything_is_examined_before_joining(site: ClientHome) -> None:
    """A site that waits for its enrolment can put its disk, GPU and data in order meanwhile."""
    findings = examine(site)
    assert set(only_failures(findings)) == {"enrolment"}
    assert {"version", "disk", "device", "data"} <= set(levels(findings))
    with pytest.raises(NetworkError, match=r"a failure of enrolment.*N07"):
        refuse_failed(findings)


def test_what_is_wrong_at_the_site_is_named(site: ClientHome) -> None:
    """A missing data folder and a device that is not there: each on its line, with its code."""
    text = site.settings_file.read_text().replace('device: "cpu"', 'device: "cuda:99"')
    site.settings_file.write_text(text.replace('path: "', 'path: "/nowhere'))
    failed = only_failures(examine(ClientHome(site.folder)))
    assert set(failed) == {"enrolment", "device", "data"}
    assert ("C23" in failed["device"].fix, "D04" in failed["data"].fix) == (True, True)


def test_a_lost_or_shared_key_is_named(listen: Listen, site: ClientHome, tmp_path: Path) -> None:
    """Whoever copied the folder carelessly learns it here and not from a refused message."""
    file = tmp_path / "a.json"
    file.write_text(listen().to_json())
    join(site, file)
    site.key.chmod(0o644)
    finding = only_failures(examine(site))["enrolment"]
    assert f"chmod 600 {site.key}" in finding.fix


def test_people_are_told_before_a_certificate_ends(
    listen: Listen,
    site: ClientHome,
    server_home: ServerHome,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once for each step; a certificate that lasts for years is no news."""
    monkeypatch.setattr(authority, "LEAF_LIFE", timedelta(days=20))
    renew(server_home, ["127.0.0.1"])
    file = tmp_path / "a.json"
    file.write_text(listen().to_json())
    join(site, file)
    tell_of_ends(site, is_dialled=False)
    assert messages(site) == []
    for _ in range(2):
        tell_of_ends(site, is_dialled=True)
    assert [one.text.split(" ends on ")[0] for one in messages(site)] == [
        "The certificate of the consortium's server"
    ]


def test_a_site_of_a_mailbox_is_green_without_a_network(
    server_home: ServerHome, site: ClientHome, tmp_path: Path
) -> None:
    """The folder is looked at instead; one that is none, or cannot be written, has its remedy."""
    server_enrolment.enroll(server_home, "a", site.public_key.read_text())
    join(site, server_home.enrolments / "a.json")
    mailbox = tmp_path / "mailbox"
    assert only_failures(examine(site, mailbox)).keys() == {"mailbox"}
    mailbox.mkdir()
    findings = examine(site, mailbox)
    assert not only_failures(findings)
    assert [one.name for one in findings][:3] == ["enrolment", "mailbox", "version"]
    (mailbox / "answers").rmdir()
    (mailbox / "answers").write_text("no folder")
    assert "cannot be written" in only_failures(examine(site, mailbox))["mailbox"].found
