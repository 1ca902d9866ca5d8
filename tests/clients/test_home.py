"""A site's folder and key pair."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from fedmri.clients.process.home import ClientHome, SiteConfig
from fedmri.clients.process.keys import make_key_pair, public_half
from fedmri.errors import NetworkError, UsageError


def test_a_key_pair_is_the_kind_that_the_network_takes(tmp_path: Path) -> None:
    """EC P-384 in OpenSSH form, the private half readable by its owner alone."""
    home = ClientHome(tmp_path)
    public = make_key_pair(home.key, home.public_key)
    key = serialization.load_ssh_public_key(home.public_key.read_bytes())
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP384R1)
    assert stat.S_IMODE(home.key.stat().st_mode) == 0o600
    assert home.public_key.read_text() == f"{public}\n"
    assert public_half(home.key) == public


def test_a_key_is_never_written_over(tmp_path: Path) -> None:
    """The enrolled key stays, whatever is run twice."""
    home = ClientHome(tmp_path)
    public = make_key_pair(home.key, home.public_key)
    with pytest.raises(FileExistsError):
        make_key_pair(home.key, home.public_key)
    assert public_half(home.key) == public


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """Whoever can read the key can pose as the site."""
    home = ClientHome(tmp_path)
    make_key_pair(home.key, home.public_key)
    home.key.chmod(0o640)
    with pytest.raises(NetworkError, match=r"others can read.*chmod 600.*N06"):
        public_half(home.key)


def test_another_kind_of_key_is_refused(tmp_path: Path) -> None:
    """A key that somebody made for ssh is named as such before the server refuses it."""
    path = tmp_path / "key"
    path.write_bytes(
        ed25519.Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
    )
    with pytest.raises(NetworkError, match=r"Ed25519PrivateKey.*N06"):
        public_half(path)


def test_a_relative_data_path_counts_from_the_folder(tmp_path: Path) -> None:
    """The service may be started anywhere; an absolute path is kept."""
    (tmp_path / "site.yaml").write_text("data:\n  path: scans\n")
    assert ClientHome(tmp_path).config.data.path == str(tmp_path / "scans")
    (tmp_path / "site.yaml").write_text("data:\n  path: /srv/scans\n")
    assert ClientHome(tmp_path).config.data.path == "/srv/scans"


def test_a_file_of_comments_is_the_default(tmp_path: Path) -> None:
    """A site that decided nothing has the default limits."""
    (tmp_path / "site.yaml").write_text("# nothing yet\n")
    assert ClientHome(tmp_path).config == SiteConfig()


def test_another_folder_is_not_a_site(tmp_path: Path) -> None:
    """A command in the wrong folder says what it looked for and how to name the right one."""
    with pytest.raises(UsageError, match=r"no site.yaml.*fedmri client init.*U21"):
        _ = ClientHome(tmp_path).config


def test_a_site_that_was_not_enrolled_has_no_consortium(tmp_path: Path) -> None:
    """The message says what to ask the coordinator for."""
    with pytest.raises(NetworkError, match=r"fedmri client join.*N04"):
        _ = ClientHome(tmp_path).consortium
