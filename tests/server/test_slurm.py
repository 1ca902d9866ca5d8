"""A hospital whose GPU nodes have no network: real Slurm jobs answer the letters of a run."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedmri.clients.mailbox.letters import answer_waiting
from tests.server.conftest import Trained
from tests.server.test_mailbox import Consortium, consortium, of_kind, served  # noqa: F401  # fixture

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning"),  # flwr's
]
ROOT = Path(__file__).parents[2]
SUBMIT = ROOT / "deploy/slurm/submit-when-waiting.sh"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=64000 Gres=gpu:1 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES State=UP
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Return the environment of a cluster of one node on this machine, with a GPU that is none."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("slurmd starts the jobs of others, and needs root")
    folder = tmp_path_factory.mktemp("slurm")
    host = socket.gethostname()
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o600)
    conf, ports = folder / "slurm.conf", (_free_port(), _free_port())
    conf.write_text(CONF.format(host=host, folder=folder, ports=ports))
    (folder / "gres.conf").write_text(f"NodeName={host} Name=gpu File=/dev/null\n")
    files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log"}
    named = [f"--{name}={folder}/munge.{end}" for name, end in files.items()]
    environment = {**os.environ, "SLURM_CONF": str(conf)}
    try:
        for command in (
            ["munged", "--force", f"--seed-file={folder}/munge.seed", *named],
            ["slurmctld", "-f", str(conf)],
            ["slurmd", "-f", str(conf)],
        ):
            subprocess.run(command, check=True, env=environment, capture_output=True)
        yield environment
    finally:
        for pid in folder.glob("*.pid"):
            os.kill(int(pid.read_text()), signal.SIGTERM)


def test_jobs_of_slurm_end_with_the_bits_of_a_simulation(
    slurm: dict[str, str],
    consortium: Consortium,  # noqa: F811  # the fixture
    trained: Trained,
    tmp_path: Path,
) -> None:
    """A job starts when an order waits, never two at once, and each answers and ends."""
    cluster, *others = consortium.sites
    program = tmp_path / "fedmri"
    program.write_text(
        f"#!/bin/sh\nexec {sys.executable} -c 'from fedmri.cli import main; main()' \"$@\"\n"
    )
    program.chmod(0o755)
    own = {"FEDMRI": program, "FEDMRI_CLIENT_DIR": cluster.folder, "PYTHONPATH": ROOT}
    own["FEDMRI_MAILBOX"] = consortium.mailbox
    environment = slurm | {name: str(value) for name, value in own.items()}
    deadline = time.monotonic() + 240
    with served(consortium) as wait:
        while not (consortium.run.path / "model.safetensors").exists():
            assert time.monotonic() < deadline, _logs(tmp_path)
            for site in others:
                answer_waiting(site, consortium.mailbox)
            subprocess.run([SUBMIT], check=True, env=environment, cwd=tmp_path, timeout=30)
            time.sleep(0.5)
        assert wait() == of_kind(trained.folder, "done")[0]["sha256"]
    told = [text for text in _logs(tmp_path) if "Orders answered: 1." in text]
    assert len(told) == 5  # two rounds, a validation after each, and the test


def _logs(folder: Path) -> list[str]:
    return [path.read_text() for path in sorted(folder.glob("fedmri-client-*.log"))]
