"""A login is told to its own archive alone, over TLS, and to no reader."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedmri.archive.login import Login, login_for
from fedmri.errors import NetworkError

URL = "https://pacs.example:8043/dicom-web"
SECRET = "canary-secret"


def file(folder: Path, mode: int = 0o600, **values: object) -> Path:
    """Write the file of a login."""
    path = folder / "login.yaml"
    path.write_text(json.dumps({"url": URL, "user": "me", "password": SECRET} | values))
    path.chmod(mode)
    return path


def test_a_login_is_for_the_archive_of_its_address_alone(tmp_path: Path) -> None:
    """Another port or scheme is another archive, and gets no password."""
    path = file(tmp_path)
    assert login_for(f"{URL}/studies", [path], {}).password == SECRET
    for other in ("https://pacs.example/dicom-web", "https://other.example:8043/dicom-web"):
        assert login_for(other, [path], {}) == Login(other)


def test_the_environment_is_a_login_too() -> None:
    """A token needs no file; a file for the same archive comes first."""
    named = {"FEDMRI_DICOMWEB_URL": URL, "FEDMRI_DICOMWEB_TOKEN": SECRET}
    assert login_for(URL, [], named).token == SECRET


def test_a_login_does_not_show_itself(tmp_path: Path) -> None:
    """Neither a traceback nor a log prints user, password or token."""
    shown = repr(login_for(URL, [file(tmp_path, user="someone")], {}))
    assert SECRET not in shown
    assert "someone" not in shown


@pytest.mark.parametrize(
    ("values", "mode", "found"),
    [
        ({}, 0o644, "others can read.*chmod 600"),
        ({"password": 12345}, 0o600, "else than names with texts"),
        ({"pasword": SECRET}, 0o600, "an unknown name pasword"),
        ({"url": ""}, 0o600, "no url"),
        ({"token": SECRET}, 0o600, "a token beside a user"),
        ({"ca": "/no/such/file"}, 0o600, "no file at ca"),
    ],
)
def test_a_file_that_cannot_be_a_login_is_refused_unseen(
    values: dict[str, object], mode: int, found: str, tmp_path: Path
) -> None:
    """The message names what is wrong and shows no value."""
    with pytest.raises(NetworkError, match=rf"{found}.*\[N31\]") as error:
        login_for(URL, [file(tmp_path, mode, **values)], {})
    assert SECRET not in str(error.value)
    assert "12345" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://pacs.example/dicom-web",
        f"https://me:{SECRET}@pacs.example/dicom-web",
        "ftp://127.0.0.1/x",
        "https://127.0.0.1.example@pacs.example/",
        "https:///dicom-web",
        "https://pacs.example:port/",
    ],
)
def test_an_address_without_tls_or_with_a_secret_is_refused(url: str) -> None:
    """Patients' images go over TLS, or stay on this machine."""
    with pytest.raises(NetworkError, match=r"\[N30\]") as error:
        login_for(url, [], {})
    assert SECRET not in str(error.value)


def test_this_machine_needs_no_tls() -> None:
    """A tunnel to the archive often ends here."""
    assert login_for("http://127.0.0.1:8042/dicom-web", [], {}).url.startswith("http://127")
