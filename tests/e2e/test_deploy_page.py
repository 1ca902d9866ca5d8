"""The page of a deployment, followed word by word on one machine, up to a first approved plan."""

from __future__ import annotations

import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from fedmri.data.synthetic.data_set import SyntheticConfig, generate
from fedmri.server.transport.superlink import free_port
from fedmri.simulation import demo
from tests.e2e.test_standing import until
from tests.test_docs import ROOT, commands

pytestmark = pytest.mark.slow  # a server and three clients, minutes

PAGE = ROOT / "docs/deploy.md"
SERVER, CLIENT = "--dir /var/lib/fedmri-server", "--dir /var/lib/fedmri-client"
HOSPITALS = {"hospital-a": "site01", "hospital-b": "site02", "hospital-c": "site03"}
OF_THE_COORDINATOR = (
    "fedmri server init /var/lib/fedmri-server --name fl.example.org --name 203.0.113.10",
    f"fedmri server start {SERVER}",
    f"fedmri server enroll hospital-a hospital-a.pub --max-patients 400 {SERVER}",
    "fedmri plan init plan.yaml --data rehearsal/scans/site01",
    f"fedmri plan check plan.yaml {SERVER}",
    f"fedmri server run plan.yaml --name first --sites hospital-a,hospital-b,hospital-c {SERVER}",
)
OF_A_HOSPITAL = (
    "fedmri client init /var/lib/fedmri-client --data /srv/mri/bids",
    f"fedmri client join hospital-a.json {CLIENT}",
    f"fedmri client doctor {CLIENT}",
    f"fedmri client start {CLIENT}",
    f"fedmri client plans {CLIENT}",
    f"fedmri client approve 35534a2e58f7 {CLIENT}",
)
"""What must be typed; the third line of the coordinator is typed once a hospital."""


class Desk:
    """Both parties' shells, in one folder: what they type is what the page has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.n_typed = 0
        self._port = free_port()  # several may run these tests on one machine
        self._open: list[subprocess.Popen[bytes]] = []

    def run(self, line: str, hospital: str = "hospital-a", typed: str = "") -> str:
        """Run a line of the page for a hospital; return what it prints."""
        done = subprocess.run(
            self._words(line, hospital),
            cwd=self.folder,
            input=typed,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        return done.stdout

    def begin(self, line: str, hospital: str = "hospital-a") -> None:
        """Leave a line of the page running, as in a shell of its own."""
        words = self._words(line, hospital)
        self._open.append(subprocess.Popen(words, cwd=self.folder, stdout=subprocess.DEVNULL))

    def is_answered(self) -> bool:
        """Tell whether the server listens."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
            return True
        return False

    def end(self) -> None:
        """End what runs."""
        for process in self._open:
            process.terminate()
        for process in self._open:
            process.wait()

    def _words(self, line: str, hospital: str) -> list[str]:
        """Return a line as it is typed on one machine: folders, name and hospital are its own."""
        assert line in commands(PAGE), line
        self.n_typed += 1
        own = {
            "--name fl.example.org --name 203.0.113.10": f"--name 127.0.0.1 --port {self._port}",
            "/var/lib/fedmri-server": "server",
            "/var/lib/fedmri-client": hospital,
            "/srv/mri/bids": f"rehearsal/scans/{HOSPITALS[hospital]}",
            "35534a2e58f7": self.digits(),
        }
        if "--sites" not in line:
            own["hospital-a"] = hospital
        for shown, typed in own.items():
            line = line.replace(shown, typed)
        return [str(Path(sys.executable).with_name("fedmri")), *shlex.split(line)[1:]]

    def digits(self) -> str:
        """Return the digits that `client plans` of the first hospital prints."""
        plans = sorted((self.folder / "hospital-a/plans").glob("*.json"))
        return plans[0].stem[:12] if plans else ""


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Return an empty folder with the scans that `fedmri demo --folder rehearsal` leaves."""
    rehearsal = tmp_path / "rehearsal"
    generate(rehearsal / "data", SyntheticConfig(n_sites=3, n_subjects=12, spacing_mm=8), 0)
    demo.own_folders(rehearsal / "data", rehearsal / "scans")
    found = Desk(tmp_path)
    yield found
    found.end()


def test_the_page_leads_to_an_approved_plan(desk: Desk) -> None:
    """Nothing is typed that the page does not have, and every line does what it says."""
    init, start, enroll, begin, check, run = OF_THE_COORDINATOR
    desk.run(init)
    desk.begin(start)
    until(desk.is_answered, "the server listens, as it says")
    make, join, doctor, take_part, plans, approve = OF_A_HOSPITAL
    for hospital in HOSPITALS:
        desk.run(make, hospital)
        shutil.copy(desk.folder / hospital / "keys/site.pub", desk.folder / f"{hospital}.pub")
        desk.run(enroll, hospital)
        shutil.copy(desk.folder / f"server/enrolments/{hospital}.json", desk.folder)
        desk.run(join, hospital)
        said = desk.run(doctor, hospital)
        assert "fail" not in said, said
        desk.begin(take_part, hospital)
    desk.run(begin)
    assert "nothing in it contradicts" in desk.run(check)
    printed = desk.run(run)
    for hospital in HOSPITALS:
        seen = desk.folder / hospital / "plans"
        until(lambda seen=seen: bool(list(seen.glob("*.json"))), "the first order brings the plan")  # type: ignore[misc]
        assert "waits for approval" in desk.run(plans, hospital)
        assert desk.digits() in printed
        desk.run(approve, hospital, typed="y\n")
        assert "approved 20" in desk.run(plans, hospital)
    n_typed = desk.n_typed - len(HOSPITALS)  # they looked twice
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert f"{n_typed} commands from empty folders to a first approved plan" in text
