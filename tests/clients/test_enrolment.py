"""A site makes its own keys, and joins the consortium that was meant for them."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from fedmri.agreement.consortium import Consortium, key_fingerprint
from fedmri.clients.process.enrolment import join, make_home
from fedmri.clients.process.home import ClientHome, SiteConfig
from fedmri.clients.process.keys import public_half
from fedmri.clients.process.standing import STANDING, ask_standing, note
from fedmri.data.settings import SourceConfig
from fedmri.errors import DataError, NetworkError, UsageError
from fedmri.server.registry import enrolment as server_enrolment
from fedmri.server.registry.home import ServerHome

AWKWARD = 'scans: "of" #1 \\ ü'


@pytest.fixture
def site(tmp_path: Path) -> ClientHome:
    """Return a new site's folder, for data in a folder with an awkward name."""
    data = tmp_path / AWKWARD
    data.mkdir()
    return make_home(tmp_path / "site", SourceConfig(path=str(data), site_column="Klinik"), "cpu")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> list[ServerHome]:
    """Return the folders of two consortia."""
    folder = tmp_path_factory.mktemp("servers")
    return [server_enrolment.make_home(folder / n, ["s.example.org"], 9443) for n in "ab"]


@pytest.fixture
def write(site: ClientHome, servers: list[ServerHome], tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes what the first server would send, with some values changed."""
    values = {
        "site": "a",
        "address": "s.example.org:9443",
        "ca": servers[0].ca_cert.read_text(),
        "coordinator": servers[0].verify_key.read_text(),
        "public_key": public_half(site.key),
        "version": "0",
    }

    def write_file(**change: str) -> Path:
        path = tmp_path / "enrolment.json"
        path.write_text(Consortium(**(values | change)).to_json())
        return path

    return write_file


def test_a_new_site_has_settings_that_are_read(site: ClientHome, tmp_path: Path) -> None:
    """Whatever characters the folder's name has; what was not asked keeps its default."""
    config = site.config
    assert (config.data.path, config.data.site_column) == (str(tmp_path / AWKWARD), "Klinik")
    assert config.device == "cpu"
    assert config.data.patient_key not in ("", "fedmri")
    default = SiteConfig()
    assert (config.check, config.policy) == (default.check, default.policy)


def test_the_commented_settings_are_the_defaults(site: ClientHome) -> None:
    """With every comment in front of a setting removed, the file still says the same."""
    before, lines = site.config, site.settings_file.read_text().splitlines()
    known = {*vars(before.check), *vars(before.policy)}
    for i, line in enumerate(lines):
        name, separator, _ = line.strip().removeprefix("# ").partition(":")
        if separator and name in known:
            lines[i] = line.replace("# ", "", 1)
    assert lines != site.settings_file.read_text().splitlines()
    site.settings_file.write_text("\n".join(lines))
    assert ClientHome(site.folder).config == before


def test_every_limit_of_the_policy_is_in_the_file(site: ClientHome) -> None:
    """A hospital learns from its own file what it can forbid."""
    text = site.settings_file.read_text()
    assert [name for name in vars(site.config.policy) if f"# {name}:" not in text] == []


def test_a_new_site_keeps_its_secrets(site: ClientHome) -> None:
    """Folder, key and settings are its owner's alone."""
    paths = [site.folder, site.key.parent, site.key, site.settings_file]
    modes = [stat.S_IMODE(path.stat().st_mode) for path in paths]
    assert modes == [0o700, 0o700, 0o600, 0o600]


def test_a_site_in_use_is_left_alone(site: ClientHome, tmp_path: Path) -> None:
    """A second `init` would make the enrolled key useless."""
    with pytest.raises(UsageError, match="U20"):
        make_home(site.folder, SourceConfig(path=str(tmp_path)))


def test_a_missing_data_folder_is_said_before_anything_is_made(tmp_path: Path) -> None:
    """A mistyped path leaves no half a site behind."""
    with pytest.raises(DataError, match=r"--data.*D04"):
        make_home(tmp_path / "site", SourceConfig(path=str(tmp_path / "nowhere")))
    assert not (tmp_path / "site").exists()


def test_joining_stores_what_the_coordinator_sent(
    site: ClientHome, write: Callable[..., Path]
) -> None:
    """The site then knows where to dial and whom to trust."""
    assert join(site, write()).consortium == ClientHome(site.folder).consortium
    assert site.consortium.host == "s.example.org"


def test_the_file_of_another_site_is_refused(site: ClientHome, write: Callable[..., Path]) -> None:
    """Two hospitals whose files were swapped learn it at once."""
    with pytest.raises(NetworkError, match=r"one for another key.*N04"):
        join(site, write(public_key="ecdsa-sha2-nistp384 AAAA"))
    assert not site.consortium_file.exists()


def test_a_server_that_moved_is_followed(site: ClientHome, write: Callable[..., Path]) -> None:
    """A new address of the same consortium replaces the old."""
    join(site, write())
    assert join(site, write(address="[2001:db8::1]:1")).is_update
    consortium = ClientHome(site.folder).consortium
    assert (consortium.host, consortium.port) == ("2001:db8::1", 1)


def test_a_site_that_was_shut_out_is_told_so_wherever_the_server_is(
    site: ClientHome, write: Callable[..., Path]
) -> None:
    """The server moved meanwhile, and a site that was revoked gets no new address of it."""
    join(site, write(address="127.0.0.1:1"))
    joined = ClientHome(site.folder)
    assert ask_standing(joined) == "no answer"
    note(joined, STANDING, standing="revoked")
    assert ask_standing(joined) == "revoked"


@pytest.mark.parametrize("changed", ["ca", "coordinator", "site"])
def test_another_consortium_cannot_take_a_site_over(
    site: ClientHome, write: Callable[..., Path], servers: list[ServerHome], changed: str
) -> None:
    """Whoever sends a file with their own keys in it gets nowhere."""
    other = {
        "ca": servers[1].ca_cert.read_text(),
        "coordinator": servers[1].verify_key.read_text(),
        "site": "b",
    }
    joined = join(site, write()).consortium
    with pytest.raises(NetworkError, match=r"fedmri client init.*N04"):
        join(site, write(**{changed: other[changed]}))
    assert ClientHome(site.folder).consortium == joined


@pytest.mark.parametrize(
    "change",
    [
        {"site": "../a"},
        {"address": "nowhere"},
        {"address": ":1"},
        {"address": "a:x"},
        {"address": "a:70000"},
        {"ca": "torn"},
        {"coordinator": "torn"},
    ],
    ids=str,
)
def test_an_enrolment_that_cannot_be_is_refused(
    site: ClientHome, write: Callable[..., Path], change: dict[str, str]
) -> None:
    """A name that is a path, an address that cannot be dialled, keys that were cut short."""
    with pytest.raises(NetworkError, match="N04"):
        join(site, write(**change))
    assert not site.consortium_file.exists()


def test_a_fingerprint_is_the_one_that_openssh_shows() -> None:
    """SHA-256 of the key's bytes, base64 without padding: here of three zero bytes."""
    # sha256(000000) = 709e80c8 8487a241 1e1ee4df b9f22a86 1492d20c 4765150c 0c794abd 70f8147c
    expected = "SHA256:cJ6AyISHokEeHuTfufIqhhSS0gxHZRUMDHlKvXD4FHw"
    assert key_fingerprint("ecdsa-sha2-nistp384 AAAA comment") == expected
