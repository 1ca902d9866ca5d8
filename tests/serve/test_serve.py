"""A model behind an address: a scan goes in, the same mask as from `fedmri predict` comes back."""

from __future__ import annotations

import asyncio
import errno
import gzip
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest

from fedmri.errors import DataError, UsageError
from fedmri.serve.answer import answer_of
from fedmri.serve.limits import Limits
from fedmri.serve.serving import SHOWN, serve
from fedmri.serve.upload import safe_name, unpacked
from fedmri.serve.web import Service, web_app
from fedmri.serve.worker import Answer, Worker
from fedmri.trained.describe import describe
from fedmri.trained.model import TrainedModel
from tests.archive.conftest import oblique
from tests.data.worlds import save, volume
from tests.serve.browser import ABSENT, CHROMIUM, opened, serving
from tests.trained.conftest import images, labels
from tests.untrained import finding, untrained, written

WAIT_S = 240.0


TOKEN = "token-of-these-tests"


@dataclass(frozen=True)
class Served:
    """A service that runs.

    Attributes:
        page: Address of its page, without the token.
        model: What it serves.
        worker: Its process.
        folder: All that it may write to.
    """

    page: str
    model: TrainedModel
    worker: Worker
    folder: Path

    def send(self, path: Path, name: str = "", **headers: str) -> httpx.Response:
        """Upload a file."""
        headers = {"authorization": f"Bearer {TOKEN}", **headers}
        return sent(self.page, path, name or path.name, headers)

    def left(self) -> list[Path]:
        """Return what of uploads and answers lies on the disk."""
        return list(self.folder.iterdir())


def sent(page: str, path: Path, name: str, headers: dict[str, str]) -> httpx.Response:
    """Upload a file to a service."""
    with httpx.Client(trust_env=False, timeout=WAIT_S) as client:
        content = path.read_bytes()
        return client.post(
            f"{page}predict", params={"name": name}, content=content, headers=headers
        )


@pytest.fixture(scope="module")
def scan(hospitals: Path) -> Path:
    """Return a scan that the model was not made with."""
    return images(hospitals, "FLAIR")[0]


@pytest.fixture(scope="module")
def served(scan: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Return a model that is served with a limit of one megabyte."""
    place = tmp_path_factory.mktemp("serve")
    model = finding(untrained("mask"), scan)
    worker = Worker(written(model, place / "model.safetensors"))
    facts = {name: describe(model.card)[name] for name in SHOWN}
    before = tempfile.tempdir
    (place / "tmp").mkdir()
    tempfile.tempdir = str(place / "tmp")
    try:
        with serving(web_app(Service(worker, Limits(upload_mb=1), facts), TOKEN)) as page:
            yield Served(page, model, worker, place / "tmp")
    finally:
        worker.end()
        tempfile.tempdir = before


def test_a_mask_comes_back_and_nothing_stays(served: Served, scan: Path, tmp_path: Path) -> None:
    """The file is that of `fedmri predict`, and no byte of the scan is left on the disk."""
    found = served.send(scan, accept="application/gzip")
    assert found.status_code == 200, found.text
    [own] = served.model.predict(scan, out=tmp_path / "out").files
    assert gzip.decompress(found.content) == gzip.decompress(own.read_bytes())
    assert 0 < np.asarray(labels(own).dataobj).mean() < 1
    assert served.left() == []
    assert found.headers["cache-control"] == "no-store"


def test_a_zip_of_a_dicom_series_is_answered_with_volumes(served: Served, tmp_path: Path) -> None:
    """JSON has the scan's volume, its mask, and what the model is for."""
    path = tmp_path / "series.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in oblique(tmp_path / "A/p1").iterdir():
            archive.write(file, f"p1/{file.name}")
    found = served.send(path).json()
    [one] = found["scans"]
    assert found["intended_use"].startswith("Research use only")
    assert one["file"].endswith("_dseg.nii.gz")
    assert float(one["values"]["volume_ml_lesion"]) >= 0
    assert found["left_out"] == []


def test_what_is_no_scan_is_told_and_nothing_stays(served: Served, tmp_path: Path) -> None:
    """A damaged file has a code, another kind of file too, and the next request is answered."""
    (tmp_path / "bad.nii.gz").write_bytes(b"no image")
    found = served.send(tmp_path / "bad.nii.gz")
    assert found.status_code == 422
    assert found.json()["left_out"][0]["code"] == "D07"
    (tmp_path / "x.exe").write_bytes(b"MZ")
    found = served.send(tmp_path / "x.exe")
    assert (found.status_code, found.json()["code"]) == (422, "D84")
    assert served.left() == []


def test_an_upload_above_the_limit_is_refused(served: Served, tmp_path: Path) -> None:
    """More than a megabyte is not taken."""
    (tmp_path / "large.nii").write_bytes(bytes(1_000_001))
    found = served.send(tmp_path / "large.nii")
    assert (found.status_code, found.json()["code"]) == (413, "D88")
    assert served.left() == []


@pytest.mark.parametrize("token", ["", "Bearer", "Bearer wrong", "Basic x"])
def test_no_request_goes_without_the_token(token: str, served: Served, scan: Path) -> None:
    """Page and door say the same to a stranger, and an address alone does not predict."""
    page = served.page
    with httpx.Client(trust_env=False) as client:
        for url in (page, f"{page}?token=wrong", f"{page}nothing"):
            assert client.get(url, headers={"authorization": token}).status_code == 403
    assert served.send(scan, authorization=token).status_code == 403


def waited_for(folder: Path, pattern: str) -> list[Path]:
    """Return the files of a folder, once the browser has written them."""
    end = time.monotonic() + 30
    while not (found := list(folder.glob(pattern))) and time.monotonic() < end:
        time.sleep(0.05)
    return found


@pytest.mark.skipif(CHROMIUM is None, reason=ABSENT)
def test_a_person_tries_it_in_a_browser(served: Served, scan: Path, tmp_path: Path) -> None:
    """A file is chosen, its volume is shown, the mask can be saved; each control has a name."""
    with opened(f"{served.page}?token={TOKEN}", tmp_path / "profile") as page:
        assert page.value("document.body.innerText.includes('Research use only')")
        assert page.value("location.search") == ""  # no token stays in the history
        page.choose("#scan", scan)
        page.value("document.getElementById('send').click()")
        page.until("document.getElementById('status').textContent === 'Done.'", WAIT_S)
        own = served.model.predict(scan)
        [volume_ml] = next(iter(own)).volumes_ml
        cells = page.value("[...document.querySelectorAll('td')].map(cell => cell.textContent)")
        assert [float(cell) for cell in cells] == [pytest.approx(volume_ml, rel=1e-5)]
        link = "document.querySelector('a[download]')"
        assert page.value(f"{link}.download").endswith("_dseg.nii.gz")
        page.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
        page.value(f"{link}.click()")
        wanted = served.send(scan, accept="application/gzip").content
        [mask] = waited_for(tmp_path, "*_dseg.nii.gz")
        assert mask.read_bytes() == wanted
        assert page.value("document.activeElement.id") == "heading"
        tree = page.call("Accessibility.getFullAXTree")["nodes"]
        roles = ("button", "link", "heading", "main", "status", "table")
        found = {
            n["role"]["value"]: n.get("name", {}).get("value", "") for n in tree if "role" in n
        }
        assert set(roles) <= set(found)
        controls = [n for n in tree if n.get("role", {}).get("value") in ("button", "link")]
        assert all(node["name"]["value"].strip() for node in controls)
        assert page.value("document.documentElement.lang") == "en"


def test_a_prediction_that_takes_too_long_is_ended(
    served: Served, scan: Path, tmp_path: Path
) -> None:
    """The process is killed in the middle, and the next scan has a new one."""
    for name in ("1", "2", "own"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=r"no end after 0\.001 s.*\[D89\]"):
        served.worker.answer(scan, tmp_path / "1", 0.001)
    found = served.worker.answer(scan, tmp_path / "2", WAIT_S)
    assert found == answer_of(served.model, scan, tmp_path / "own")


def test_values_are_answered_without_a_mask(tmp_path: Path) -> None:
    """A class has the probability of each class beside it."""
    save(tmp_path / "a.nii.gz", volume(1), np.diag([8.0, 8.0, 8.0, 1.0]))
    [one] = answer_of(untrained("kind"), tmp_path / "a.nii.gz", tmp_path)["scans"]
    shares = [float(v) for name, v in one["values"].items() if name.startswith("probability_")]
    assert sum(shares) == pytest.approx(1)
    assert "mask" not in one


@dataclass
class Slow:
    """Answers once it is told to."""

    may_end: threading.Event

    def answer(self, path: Path, folder: Path, time_s: float) -> Answer:
        """Wait, and return a scan without a mask."""
        assert path.is_relative_to(folder)
        assert self.may_end.wait(time_s)
        return {"scans": [{"name": "a", "values": {}, "remarks": ""}], "left_out": []}


def test_who_comes_while_enough_wait_is_sent_away() -> None:
    """A queue has an end; those in it are answered."""
    may_end = threading.Event()
    service = Service(Slow(may_end), Limits(n_waiting=1), {})
    transport = httpx.ASGITransport(web_app(service, "t"))
    headers = {"authorization": "Bearer t"}

    async def asked() -> list[int]:
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            query = {"name": "a.nii"}
            calls = [
                asyncio.ensure_future(client.post("/predict", params=query, headers=headers))
                for _ in range(3)
            ]
            done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            may_end.set()
            codes = [(await call).status_code for call in calls]
            assert [call.result().status_code for call in done] == [503]
            return codes

    assert sorted(asyncio.run(asked())) == [200, 200, 503]


HOSTILE = {"../a.nii": "D84", "/a.nii": "D84", "b/../../a.nii": "D84"}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_zip_file_writes_nowhere_else(name: str, tmp_path: Path) -> None:
    """A member that names a place outside is refused."""
    path = tmp_path / "in" / "x.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"x")
    with pytest.raises(DataError, match=r"outside of the zip file.*\[D84\]"):
        unpacked(path, tmp_path / "in" / "unpacked", Limits())
    assert not (tmp_path / "a.nii").exists()


def test_a_zip_file_that_swells_is_stopped(tmp_path: Path) -> None:
    """A thousandth of its content is enough to be refused, whatever its header claims."""
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.nii", bytes(5_000_000))
    assert path.stat().st_size < 10_000
    with pytest.raises(DataError, match=r"\[D88\]"):
        unpacked(path, tmp_path / "unpacked", Limits(upload_mb=1))


def test_a_damaged_zip_file_is_no_fault_of_the_service(tmp_path: Path) -> None:
    """Bits that were flipped on the way are told, as a file that is cut off is."""
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.nii", b"abc" * 5000)
    content = bytearray(path.read_bytes())
    content[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read.*\[D84\]"):
        unpacked(path, tmp_path / "unpacked", Limits())


@dataclass
class Answers:
    """Answers with the mask of a picture, or fails as a full disk does."""

    error: OSError | None = None

    def answer(self, path: Path, folder: Path, time_s: float) -> Answer:
        """Return a mask of a picture, or raise."""
        if self.error:
            raise self.error
        one = {"name": "a", "values": {}, "remarks": "", "file": "a.png", "mask": "iVBORw0KGgo="}
        return {"scans": [one], "left_out": []}


def answered(service: Service, name: str, **headers: str) -> httpx.Response:
    """Return what a service answers to an upload, without a socket."""
    transport = httpx.ASGITransport(web_app(service, "t"), raise_app_exceptions=False)
    headers = {"authorization": "Bearer t", **headers}

    async def asked() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.post("/predict", params={"name": name}, headers=headers)

    return asyncio.run(asked())


def test_the_mask_of_a_picture_is_not_called_gzip() -> None:
    """A program that unpacks what it is told to be gzip would fail."""
    answer = answered(Service(Answers(), Limits(), {}), "a.png", accept="application/gzip")
    assert answer.headers["content-type"] == "image/png"
    assert answer.content.startswith(b"\x89PNG")


def test_a_full_disk_is_told_as_such() -> None:
    """No upload is to blame, and no path of the machine is told."""
    error = OSError(errno.ENOSPC, "No space left on device", "/secret/place")
    answer = answered(Service(Answers(error), Limits(), {}), "a.png")
    assert (answer.status_code, answer.json()) == (
        507,
        {"reason": "the service: No space left on device"},
    )


def test_a_name_that_no_disk_takes_is_refused() -> None:
    """It is told as an upload that cannot be taken, and not as a fault of the service."""
    answer = answered(Service(Answers(), Limits(), {}), f"{'n' * 300}.nii.gz")
    assert (answer.status_code, answer.json()["code"]) == (422, "D84")


def test_names_of_uploads_are_made_harmless() -> None:
    """Folders and odd characters are gone; what is no scan is refused."""
    assert safe_name("../../etc/sub-1 FLAIR.nii.gz") == "sub-1_FLAIR.nii.gz"
    assert safe_name("C:\\scans\\a.zip") == "a.zip"
    for name in ("", ".nii", "passwd", "a.nii.gz.exe"):
        with pytest.raises(DataError, match=r"\[D84\]"):
            safe_name(name)


def test_a_port_that_is_taken_ends_the_command(served: Served, tmp_path: Path) -> None:
    """One line, and no page."""
    path = written(untrained("kind"), tmp_path / "model.safetensors")
    port = int(served.page.partition("127.0.0.1:")[2].partition("/")[0])
    with pytest.raises(UsageError, match=r"already in use.*\[U45\]"):
        serve(path, port, Limits(), pytest.fail)


@pytest.mark.slow
def test_the_command_serves_until_it_is_asked_to_end(scan: Path, tmp_path: Path) -> None:
    """It prints the page with its token, answers, and leaves without a traceback."""
    path = written(untrained("mask"), tmp_path / "model.safetensors")
    command = [sys.executable, "-c", "from fedmri.cli import main; main()", "serve", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        page, _, token = process.stdout.readline().strip().partition("?token=")
        headers = {"authorization": f"Bearer {token}"}
        assert sent(page, scan, scan.name, headers).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.communicate()
