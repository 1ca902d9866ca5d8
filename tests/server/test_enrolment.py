"""Who is let into the consortium, and whom its sites trust."""

from __future__ import annotations

import ssl
import stat
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from fedmri.agreement.consortium import read_consortium
from fedmri.agreement.signed_plan import sign_plan
from fedmri.errors import ConfigError, NetworkError, UsageError
from fedmri.plan import Plan
from fedmri.server.registry import authority
from fedmri.server.registry.authority import days_left, renew
from fedmri.server.registry.enrolment import enroll, make_home, revoke
from fedmri.server.registry.home import ServerHome
from fedmri.tasks.kinds.regression import Regression

Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
OPENSSH = serialization.Encoding.OpenSSH


def public(key: Key) -> str:
    """Return the public half as a site sends it."""
    return key.public_key().public_bytes(OPENSSH, serialization.PublicFormat.OpenSSH).decode()


def new_key() -> str:
    """Return the public half of a new key of the right kind."""
    return public(ec.generate_private_key(ec.SECP384R1()))


@pytest.fixture
def home(tmp_path: Path) -> ServerHome:
    """Return a new server's folder."""
    return make_home(tmp_path / "server", ["localhost", "127.0.0.1"], 9443)


def certificate(path: Path) -> x509.Certificate:
    """Return the certificate of a file."""
    return x509.load_pem_x509_certificate(path.read_bytes())


def handshake(home: ServerHome, name: str, trusted: Path) -> None:
    """Let a client that trusts one authority shake hands with the server, in memory."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(home.tls_cert, home.tls_key)
    client = ssl.create_default_context(cafile=trusted)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(down, up, server_hostname=name),
        server.wrap_bio(up, down, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue


def test_a_folder_is_private_and_has_all_that_a_server_needs(home: ServerHome) -> None:
    """Four secrets or settings that are read, and no secret that others can read."""
    assert ServerHome(home.folder).config.names == ("localhost", "127.0.0.1")
    secrets = [home.ca_key, home.tls_key, home.signing_key]
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets} == {0o600}
    assert stat.S_IMODE(home.folder.stat().st_mode) == 0o700
    sign_plan(Plan(Regression("age")), home.signing_key.read_bytes()).verify(
        home.verify_key.read_text()
    )


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_a_site_that_trusts_the_authority_accepts_the_server(home: ServerHome, name: str) -> None:
    """By each of its names, under the strict rules of RFC 5280."""
    handshake(home, name, home.ca_cert)


def test_another_name_or_authority_is_not_the_server(home: ServerHome, tmp_path: Path) -> None:
    """A certificate for another name, and one that another consortium signed, end the handshake."""
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(home, "example.org", home.ca_cert)
    other = make_home(tmp_path / "other", ["localhost"], 9443)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"local issuer|signature"):
        handshake(home, "localhost", other.ca_cert)


def test_a_certificate_cannot_sign_others(home: ServerHome) -> None:
    """Whoever steals the server's key cannot make certificates that sites would trust."""
    basic = certificate(home.tls_cert).extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca) == (True, False)


def test_certificates_last_one_and_ten_years(home: ServerHome) -> None:
    """Within a day of rounding."""
    left = days_left(home)
    assert (left.server, left.authority) == (364, 3651)


def test_a_renewal_is_noticed_by_no_site(home: ServerHome, monkeypatch: pytest.MonkeyPatch) -> None:
    """An expired certificate is renewed under the same key, and then accepted again."""
    monkeypatch.setattr(authority, "LEAF_LIFE", timedelta(hours=-1))
    renew(home, ["localhost"])
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        handshake(home, "localhost", home.ca_cert)
    monkeypatch.undo()
    key = home.tls_key.read_bytes()
    renew(home, ["localhost"])
    handshake(home, "localhost", home.ca_cert)
    assert home.tls_key.read_bytes() == key


def test_a_renewal_may_change_key_and_names(home: ServerHome) -> None:
    """After a server's key was stolen, the next certificate has another and fits it."""
    key = home.tls_key.read_bytes()
    renew(home, ["::1"], is_key_new=True)
    handshake(home, "::1", home.ca_cert)
    assert home.tls_key.read_bytes() != key
    assert stat.S_IMODE(home.tls_key.stat().st_mode) == 0o600


def test_a_damaged_authority_is_named(home: ServerHome) -> None:
    """A renewal without the authority's key says which file to restore."""
    home.ca_key.write_text("torn")
    with pytest.raises(NetworkError, match=r"ca\.key.*backup.*N05"):
        renew(home, ["localhost"])


def test_a_folder_in_use_is_left_alone(home: ServerHome) -> None:
    """A second `init` would make every site a stranger."""
    before = home.ca_key.read_bytes()
    with pytest.raises(UsageError, match="U20"):
        make_home(home.folder, ["localhost"], 9443)
    assert home.ca_key.read_bytes() == before


@pytest.mark.parametrize("name", ["https://a.org", "a.org:9443", "", "a b", "ü.org"])
def test_what_cannot_be_dialled_is_no_name(tmp_path: Path, name: str) -> None:
    """A mistake in a name is found before there is a folder with it."""
    with pytest.raises(ConfigError, match="C01"):
        make_home(tmp_path / "server", [name], 9443)
    assert not (tmp_path / "server").exists()


def test_an_enrolled_site_gets_a_file_that_names_the_server(home: ServerHome) -> None:
    """Address, authority and coordinator's key; its own key; and nothing secret."""
    key = new_key()
    consortium = enroll(home, "a", f"{key} radiology@pc\n", max_examples=40)
    assert read_consortium(home.enrolments / "a.json") == consortium
    assert (consortium.host, consortium.port) == ("localhost", 9443)
    assert consortium.ca == home.ca_cert.read_text()
    site = home.sites()["a"]
    assert (site.public_key, site.max_examples, consortium.public_key) == (key, 40, key)
    assert "PRIVATE" not in (home.enrolments / "a.json").read_text()


def test_a_private_key_is_refused_and_its_fate_told(home: ServerHome) -> None:
    """Whoever sends the wrong file has given the secret away."""
    secret = ec.generate_private_key(ec.SECP384R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    with pytest.raises(UsageError, match=r"secret no more.*new folder.*U22"):
        enroll(home, "a", secret.decode())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "ecdsa-sha2-nistp384 AAAA",
        public(ed25519.Ed25519PrivateKey.generate()),
        public(ec.generate_private_key(ec.SECP256R1())),
    ],
    ids=["empty", "words", "cut", "ed25519", "p256"],
)
def test_another_kind_of_key_is_refused(home: ServerHome, text: str) -> None:
    """The network takes one kind; nothing is written for another."""
    with pytest.raises(UsageError, match="U22"):
        enroll(home, "a", text)
    assert (home.sites(), list(home.enrolments.iterdir())) == ({}, [])


def test_a_key_belongs_to_one_site(home: ServerHome) -> None:
    """A copied folder is not a second hospital, whatever the comment behind its key."""
    key = new_key()
    enroll(home, "a", key)
    with pytest.raises(UsageError, match=r"that of site a,.*U22"):
        enroll(home, "b", f"{key} another comment")


@pytest.mark.parametrize("name", ["", ".", "../a", "a/b", "-a", "a b", "ä", "a" * 64])
def test_a_name_is_a_name_of_a_folder(home: ServerHome, name: str) -> None:
    """Names become folders on several machines."""
    with pytest.raises(UsageError, match="U23"):
        enroll(home, name, new_key())


@pytest.mark.parametrize("name", ["a", "A"])
def test_a_name_belongs_to_one_site(home: ServerHome, name: str) -> None:
    """Two names that some disks take for one are one."""
    enroll(home, "a", new_key())
    with pytest.raises(UsageError, match=r"enrolled site.*U23"):
        enroll(home, name, new_key())


def test_a_revoked_site_stays_out(home: ServerHome) -> None:
    """Neither its name nor its key is given again, and its enrolment file is gone."""
    key = new_key()
    enroll(home, "a", key)
    revoke(home, "a")
    assert home.sites()["a"].is_revoked
    assert list(home.enrolments.iterdir()) == []
    with pytest.raises(UsageError, match=r"revoked.*U23"):
        enroll(home, "a", new_key())
    with pytest.raises(UsageError, match=r"site a, revoked.*U22"):
        enroll(home, "b", key)


def test_a_stranger_cannot_be_revoked(home: ServerHome) -> None:
    """A mistyped name must not look as if somebody had been shut out."""
    enroll(home, "a", new_key())
    with pytest.raises(UsageError, match=r"one of a\..*U23"):
        revoke(home, "aa")


def test_enrolments_at_once_are_all_kept(home: ServerHome) -> None:
    """Two coordinators in two terminals do not undo each other."""
    keys = [(f"s{i}", new_key()) for i in range(8)]
    threads = [threading.Thread(target=enroll, args=(home, *key)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(home.sites()) == sorted(name for name, _ in keys)
    assert len(list(home.enrolments.iterdir())) == 8
