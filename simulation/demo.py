"""A whole consortium on one machine: real processes, keys and TLS, as a rehearsal."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from fedmri.clients.process.enrolment import join
from fedmri.clients.process.enrolment import make_home as make_site
from fedmri.clients.process.home import ClientHome
from fedmri.clients.training.protection.private import simulated_secret
from fedmri.data.settings import SourceConfig
from fedmri.data.synthetic.data_set import SyntheticConfig, generate
from fedmri.errors import RoundError
from fedmri.machine.files import write_private, write_whole
from fedmri.plan import Plan
from fedmri.server.registry.enrolment import enroll, sign_for
from fedmri.server.registry.enrolment import make_home as make_server
from fedmri.server.registry.home import ServerHome
from fedmri.server.rounds.checkpoint import digest, load_weights_file
from fedmri.server.runs import NO_POST, OVER, Post, RunFolder, new_run
from fedmri.server.transport.superlink import free_port
from fedmri.simulation.arms.arm_runs import ArmSites
from fedmri.simulation.arms.running import arm_runs, run_arm
from fedmri.simulation.partition import PartitionConfig
from fedmri.simulation.settings import SimulationConfig
from fedmri.simulation.sites import SiteSource, prepare_sites
from fedmri.trained.file.names import MODEL

POLL_S = 0.3
END_S = 10.0
TIMEOUT_S = 900.0
"""Longest wait for a rehearsal."""
POLICY = """policy:
  # A rehearsal: plans of this coordinator run unseen, and a hospital may be small.
  is_approval_automatic: true
  min_subjects_train: 1
  min_subjects_reported: 1
"""


@dataclass(frozen=True)
class Rehearsed:
    """What came of a rehearsal.

    Attributes:
        consortium: The coordinator and its sites.
        run: The run.
        deployed: SHA-256 of the weights that the processes ended with.
        simulated: That of the same plan, simulated.
        seconds: Time that the consortium took.
    """

    consortium: Consortium
    run: RunFolder
    deployed: str
    simulated: str
    seconds: float


def rehearse(plan: Plan, folder: Path, n_subjects: int, say: Callable[[str], None]) -> Rehearsed:
    """Train a plan on made data with real processes, and simulate it over the same data.

    Args:
        plan: The plan.
        folder: For everything.
        n_subjects: Mean number of subjects at a hospital.
        say: Is told where it stands.

    Raises:
        RoundError: The run failed, or took too long (R43).
    """
    started = time.monotonic()
    say(f"Three hospitals with their own scans, keys and folders, in {folder}")
    generate(folder / "data", SyntheticConfig(n_sites=3, n_subjects=n_subjects), plan.seed)
    consortium = make_consortium(folder, own_folders(folder / "data", folder / "scans"))
    with running(consortium):
        run = submit(consortium, plan)
        deployed = wait(run, TIMEOUT_S, _Teller(say))
    seconds = time.monotonic() - started
    say(f"The consortium took {seconds:.0f} s. The same plan, simulated:")
    same = simulated(plan, folder / "data", folder / "simulated", folder / "cache")
    return Rehearsed(consortium, run, deployed, same, seconds)


class _Teller:
    """Says each round that is complete once."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._n_rounds = 0

    def __call__(self, run: RunFolder) -> None:
        """Say what is new."""
        n_rounds = run.n_checkpointed
        if n_rounds > self._n_rounds:
            self._n_rounds = n_rounds
            self._say(f"  round {n_rounds} of {run.signed.plan.rounds.n_rounds} is complete")


@dataclass(frozen=True)
class Consortium:
    """A coordinator and its sites, each in a folder of its own.

    Attributes:
        server: The coordinator's folder.
        sites: Each site's folder, by its name.
    """

    server: ServerHome
    sites: Mapping[str, ClientHome]


def own_folders(data: Path, folder: Path) -> dict[str, Path]:
    """Copy a BIDS data set to one data set a site, as hospitals hold their own; return them."""
    table = pd.read_csv(data / "participants.tsv", sep="\t", dtype=str)
    found = {}
    for site, rows in table.groupby("site"):
        own = folder / str(site)
        own.mkdir(parents=True)
        rows.to_csv(own / "participants.tsv", sep="\t", index=False)
        mine = set(rows["participant_id"])
        for path in sorted(data.rglob("*")):
            relative = path.relative_to(data)
            subjects = [part for part in relative.parts if part.startswith("sub-")]
            is_mine = subjects[0] in mine if subjects else path.suffix == ".json"
            if path.is_file() and is_mine:
                (own / relative).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, own / relative)
        found[str(site)] = own
    return found


def make_consortium(folder: Path, data: Mapping[str, Path]) -> Consortium:
    """Make the folders of a coordinator and its sites, and enroll each by its own public key.

    Args:
        folder: Where they go.
        data: Each site's own data set.
    """
    server = make_server(folder / "server", ["127.0.0.1"], free_port())
    sites = {}
    for name, path in data.items():
        site = make_site(folder / name, SourceConfig(path=str(path)))
        settings = site.settings_file.read_text(encoding="utf-8")
        write_whole(site.settings_file, settings.replace("policy:\n", POLICY, 1))
        enroll(server, name, site.public_key.read_text(encoding="ascii"))
        join(site, server.enrolments / f"{name}.json")
        # that of the simulation, so that a rehearsal ends with its bits: it protects nobody
        write_private(site.secret, simulated_secret(name))
        sites[name] = ClientHome(site.folder)
    return Consortium(server, sites)


@contextmanager
def running(
    consortium: Consortium, before_each: Callable[[str], None] = lambda name: None
) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Run server and clients as processes; all are ended at the end.

    Args:
        consortium: Whose.
        before_each: Is called with ``server`` or a site's name before that process is started.
    """
    before_each("server")
    processes = {"server": command("server", "start", consortium.server.folder)}
    try:
        for name, site in consortium.sites.items():
            before_each(name)
            processes[name] = command("client", "start", site.folder)
        yield processes
    finally:
        for process in processes.values():
            process.send_signal(signal.SIGTERM)
        for process in processes.values():
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def command(group: str, name: str, folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start a command of fedmri in a folder of its own."""
    program = [str(Path(sys.executable).with_name("fedmri")), group, name, "--dir", str(folder)]
    with (folder / "out.txt").open("ab") as output:
        return subprocess.Popen(
            [*program, *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(os.environ),
        )


def submit(consortium: Consortium, plan: Plan, name: str = "", post: Post = NO_POST) -> RunFolder:
    """Sign a plan and submit it for all sites; ``post`` is how letters to some travel."""
    members = sorted(consortium.sites)
    signed = sign_for(consortium.server, plan, members)
    return new_run(consortium.server.runs, signed, name, members, post=post)


def wait(run: RunFolder, timeout_s: float, tell: Callable[[RunFolder], None]) -> str:
    """Wait for the end of a run and return the SHA-256 of its final weights.

    Args:
        run: The run.
        timeout_s: Longest wait.
        tell: Is called at every look.

    Raises:
        RoundError: It failed, or took too long (R43).
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        tell(run)
        note = run.note
        if note.status == "finished":
            return final_sha256(run.path)
        if note.status in OVER:
            break
        time.sleep(POLL_S)
    note = run.note
    said, fix = note.message or "no end in sight", f"see {run.path / 'log.txt'}"
    want = "a finished run"
    raise RoundError("R43", f"run {run.name}", found=f"{note.status}: {said}", want=want, fix=fix)


def final_sha256(folder: Path) -> str:
    """Return the SHA-256 of a run's final weights."""
    return digest(load_weights_file(folder / MODEL)[0])


def simulated(
    plan: Plan, data: Path, folder: Path, cache: Path, replayed: Path | None = None
) -> str:
    """Simulate the same plan over the same data in this process; return the SHA-256.

    Where the rounds did not wait for all, ``replayed`` is the record of which updates they took.
    """
    at = replace(plan, data=replace(plan.data, source=replace(plan.data.source, path=str(data))))
    source = SiteSource(at, PartitionConfig(), "", is_rest_external=False, cache=cache)
    folder.mkdir(parents=True, exist_ok=True)
    sites = prepare_sites(source, folder)
    [run] = arm_runs(plan, SimulationConfig(arms=("federated",)), ArmSites(sites.sites))
    run = replace(run, replayed=replayed)
    run_arm(run, folder, SimulationConfig(n_pictures=0), None, lambda record: None)
    return final_sha256(folder / "arms" / run.path)
