"""From nothing to an enrolled site, as coordinator and hospital type it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import typer
from click.testing import CliRunner, Result

from fedmri.agreement.consortium import key_fingerprint
from fedmri.clients.process.home import ClientHome
from fedmri.commands.apps import client_app, server_app
from fedmri.errors import ConfigError, NetworkError, UsageError
from fedmri.server.registry.home import ServerHome
from tests.conftest import program

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs a command in an empty folder; its mistakes are raised."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans").mkdir()

    def run_command(*arguments: str, typed: str | None = None) -> Result:
        return CliRunner().invoke(program(), arguments, input=typed, catch_exceptions=False)

    return run_command


def enrolled(run: Run) -> None:
    """Make server and site and let the site in and join."""
    run("server", "init", "server", "--name", "s.example.org", "--name", "192.0.2.1")
    run("client", "init", "site", "--data", "scans")
    key = "site/keys/site.pub"
    run("server", "enroll", "a", key, "--dir", "server", "--max-examples", "40")
    run("client", "join", "server/enrolments/a.json", "--dir", "site")


def test_a_site_joins_with_four_commands(run: Run) -> None:
    """What each side then holds fits the other; no private key was copied."""
    enrolled(run)
    site, server = ClientHome(Path("site")), ServerHome(Path("server"))
    assert site.consortium.address == "s.example.org:9443"
    assert server.sites()["a"].public_key == site.public_key.read_text().strip()
    assert server.sites()["a"].max_examples == 40
    secret = site.key.read_text()
    assert [path for path in Path("server").rglob("*.*") if path.read_text() == secret] == []


def test_both_sides_are_told_what_to_compare_by_telephone(run: Run) -> None:
    """The key's fingerprint and the consortium's are printed at both ends."""
    run("server", "init", "server", "--name", "s.example.org")
    made = run("client", "init", "site", "--data", "scans").stdout
    given = ("site/keys/site.pub", "--max-patients", "40", "--dir", "server")
    let_in = run("server", "enroll", "a", *given).stdout
    joined = run("client", "join", "server/enrolments/a.json", "--dir", "site").stdout
    consortium = ClientHome(Path("site")).consortium
    key = key_fingerprint(consortium.public_key)
    assert (key in made, key in let_in) == (True, True)
    assert (consortium.fingerprint in let_in, consortium.fingerprint in joined) == (True, True)


def test_names_that_were_not_given_are_asked(run: Run) -> None:
    """A coordinator who knows no option is led through."""
    done = run("server", "init", "server", typed="s.example.org, 192.0.2.1\n")
    assert done.exit_code == 0
    assert ServerHome(Path("server")).config.names == ("s.example.org", "192.0.2.1")


def test_a_revoked_site_is_listed_as_such(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder may come from the environment; machines get JSON."""
    enrolled(run)
    monkeypatch.setenv("FEDMRI_SERVER_DIR", "server")
    run("server", "revoke", "a")
    (site,) = json.loads(run("server", "sites", "--json").stdout)
    assert (site["name"], site["is_revoked"]) == ("a", True)
    assert "revoked" in run("server", "sites").stdout


def test_a_renewal_says_how_long_it_lasts(run: Run) -> None:
    """With --check nothing is changed; with other names the sites' files follow."""
    enrolled(run)
    home = ServerHome(Path("server"))
    before = home.tls_cert.read_bytes()
    assert "364 days left" in run("server", "renew", "--check", "--dir", "server").stdout
    assert home.tls_cert.read_bytes() == before
    text = home.settings_file.read_text()
    home.settings_file.write_text(text.replace("s.example.org", "t.example.org"))
    run("server", "renew", "--dir", "server")
    assert home.tls_cert.read_bytes() != before
    run("client", "join", "server/enrolments/a.json", "--dir", "site")
    assert ClientHome(Path("site")).consortium.host == "t.example.org"


def test_the_doctor_ends_with_the_status_of_the_network(run: Run) -> None:
    """Machines get every line as JSON, and the exit status 6 of a NetworkError."""
    run("client", "init", "site", "--data", "scans")
    done = CliRunner().invoke(program(), ["client", "doctor", "--dir", "site", "--json"])
    assert isinstance(done.exception, NetworkError)
    assert (done.exception.code, done.exception.exit_code) == ("N07", 6)
    lines = {line["name"]: line for line in json.loads(done.stdout)}
    assert (lines["enrolment"]["level"], lines["data"]["level"]) == ("fail", "fail")


@pytest.mark.parametrize(
    "command", ["revoke a", "sites", "renew", "enroll a key.pub --max-patients 9"]
)
def test_a_command_in_another_folder_touches_nothing(run: Run, command: str) -> None:
    """Without --dir the folder is the one that the command was started in."""
    Path("key.pub").write_text("any")
    before = sorted(Path().rglob("*"))
    with pytest.raises(UsageError, match=r"U2[12]"):
        run("server", *command.split())
    assert sorted(Path().rglob("*")) == before


def test_a_site_is_not_let_in_without_a_bound_on_its_weight(run: Run) -> None:
    """A claim of two thousand million examples would own the mean; 0 says that this is accepted."""
    Path("key.pub").write_text("any")
    with pytest.raises(UsageError, match=r"no number of patients.*--max-patients N.*\[U01\]"):
        run("server", "enroll", "a", "key.pub")
    with pytest.raises(UsageError, match=r"U2[12]"):  # no server's folder: it got further
        run("server", "enroll", "a", "key.pub", "--max-patients", "0")
    run("server", "init", "server", "--name", "127.0.0.1")
    with pytest.raises(ConfigError, match=r"\[C01\]"):  # none less than none
        run("server", "enroll", "a", "key.pub", "--max-patients", "-1", "--dir", "server")


def test_every_command_and_option_explains_itself() -> None:
    """Whoever has never heard of a federation finds a sentence on each."""
    unexplained = []
    for group in (typer.main.get_command(server_app), typer.main.get_command(client_app)):
        assert isinstance(group, click.Group)
        for name, command in group.commands.items():
            options = [each for each in command.params if isinstance(each, click.Option)]
            unexplained += [f"{name} {each.name}" for each in options if not each.help]
            unexplained += [] if command.help else [name]
    assert unexplained == []
