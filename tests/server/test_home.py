"""The coordinator's folder: settings and registry."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmri.errors import ConfigError, UsageError
from fedmri.server.registry.home import EnrolledSite, ServerConfig, ServerHome

SITE = EnrolledSite("a", "ecdsa-sha2-nistp384 AAAA", "2030-01-01", max_examples=7)


def test_the_registry_returns_what_was_written(tmp_path: Path) -> None:
    """All that was declared at enrolment is kept, and sites come in one order."""
    home = ServerHome(tmp_path)
    other = EnrolledSite("B", "ecdsa-sha2-nistp384 BBBB", "2030-01-02", is_revoked=True)
    home.write_sites([SITE, other])
    assert list(ServerHome(tmp_path).sites().items()) == [("B", other), ("a", SITE)]


def test_nobody_is_enrolled_before_the_first(tmp_path: Path) -> None:
    """A missing registry is an empty one."""
    assert ServerHome(tmp_path).sites() == {}


@pytest.mark.parametrize("text", ["", "[]x", '{"sites": [{"name": "a"}]}'])
def test_a_broken_registry_admits_nobody(tmp_path: Path, text: str) -> None:
    """Half a registry is an error, not a smaller one."""
    (tmp_path / "sites.json").write_text(text)
    with pytest.raises(UsageError, match="U24"):
        ServerHome(tmp_path).sites()


def test_another_folder_is_not_a_server(tmp_path: Path) -> None:
    """A command in the wrong folder says what it looked for and how to name the right one."""
    with pytest.raises(UsageError, match=r"no server.yaml.*fedmri server init.*U21"):
        _ = ServerHome(tmp_path).config


@pytest.mark.parametrize(
    ("names", "address"),
    [
        (("s.example.org", "192.0.2.1"), "s.example.org:9443"),
        (("192.0.2.1",), "192.0.2.1:9443"),
        (("2001:db8::1",), "[2001:db8::1]:9443"),
    ],
)
def test_sites_dial_the_first_name(names: tuple[str, ...], address: str) -> None:
    """An IPv6 address stands in brackets before its port."""
    assert ServerConfig(names).address == address


@pytest.mark.parametrize(
    "text", ["names: []", "names: [a]\nport: 0", "names: [a]\nmax_attempts: 0"]
)
def test_settings_that_no_server_can_have_are_refused(tmp_path: Path, text: str) -> None:
    """A mistake in server.yaml is named when the server starts, not when the first site calls."""
    (tmp_path / "server.yaml").write_text(text)
    with pytest.raises(ConfigError, match="C01"):
        _ = ServerHome(tmp_path).config
