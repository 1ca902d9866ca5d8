"""The ServerApp of a deployment: the rounds of a simulation, over the folder of a run."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedmri.arm import Arm
from fedmri.assembly import assemble
from fedmri.errors import FedmriError, UsageError
from fedmri.machine.logs import log_to
from fedmri.server.mailbox.grid import MixedGrid
from fedmri.server.mailbox.letters import Letters
from fedmri.server.memory import return_large_blocks
from fedmri.server.registry.home import ServerHome
from fedmri.server.registry.nodes import present, wait_for_sites
from fedmri.server.rounds.loop import Rounds
from fedmri.server.rounds.records import Record
from fedmri.server.rounds.run import Run
from fedmri.server.runs import RunFolder, write_json
from fedmri.server.transport.inflating import bound_answers

log = logging.getLogger("fedmri.server")

HOME = "FEDMRI_SERVER_DIR"
FAILED = "failed.json"
LOOK_S = 1.0
"""Between two looks at who was revoked."""

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train what is left of the run that the context names."""
    return_large_blocks()
    home = ServerHome(Path(os.environ[HOME]))
    folder = RunFolder(home.runs / str(context.run_config["run"]))
    log_of_run(folder.path / "log.txt")
    (folder.path / FAILED).unlink(missing_ok=True)
    try:
        with _mailing(grid, home, folder) as whole:
            run = run_of(whole, folder, home)
            made = assemble(run.plan)
            folder.bound_answers(bound_answers(run.plan, made.entries, made.layout))
            Rounds(run, whole, note_record).go()
    except FedmriError as error:
        log.error("%s", error)
        write_json(folder.path / FAILED, {"code": error.code, "message": str(error)})
        raise


@contextmanager
def _mailing(grid: Grid, home: ServerHome, folder: RunFolder) -> Iterator[Grid]:
    """Give a grid that also reaches the sites of the run that get letters, if it has such sites."""
    note = folder.note
    if not note.mailed:
        yield grid
        return
    letters = Letters(home, folder, Path(note.mailbox), frozenset(note.mailed))
    try:
        yield MixedGrid(grid, letters)
    finally:
        letters.close()


def run_of(grid: Grid, folder: RunFolder, home: ServerHome) -> Run:
    """Return what is trained, once the plan is known to be the coordinator's own."""
    signed = folder.signed
    signed.verify(home.verify_key.read_text(encoding="utf-8"))
    plan = signed.plan
    members = folder.note.members
    if not members:
        wait_for_sites(grid, (), plan.rounds.min_sites, plan.rounds.timeout_s)
        members = folder.change(members=tuple(present(grid))).members
    return Run(
        *(plan, Arm("federated"), members, members, folder.path),
        declared=Declared(home, "max_examples"),
        declared_subjects=Declared(home, "max_subjects"),
        roll=signed.roll(folder.name),
        weights=folder.weights,
        revoked=Revoked(home),
    )


@dataclass(frozen=True)
class Declared(Mapping[str, int]):
    """What sites declared, as the registry has it now: it may change while a run goes on."""

    home: ServerHome
    field: str

    def __getitem__(self, site: str) -> int:
        """Return what a site declared."""
        return int(getattr(self.home.sites()[site], self.field))

    def __iter__(self) -> Iterator[str]:
        """Iterate over the sites."""
        return iter(self.home.sites())

    def __len__(self) -> int:
        """Return how many sites are enrolled."""
        return len(self.home.sites())


@dataclass
class Revoked:
    """The sites that the registry has as revoked, read again while a run goes on."""

    home: ServerHome
    _found: frozenset[str] = frozenset()
    _looked: float = -inf

    def __call__(self) -> frozenset[str]:
        """Return them; where the registry cannot be read, who was known last."""
        if time.monotonic() - self._looked >= LOOK_S:
            self._looked = time.monotonic()
            try:
                sites = self.home.sites().values()
                self._found = frozenset(site.name for site in sites if site.is_revoked)
            except UsageError as error:
                log.warning("%s", error)
        return self._found


def note_record(record: Record) -> None:
    """Log what a round came to."""
    if record["kind"] in ("round_total", "done"):
        log.info("%s", {key: value for key, value in record.items() if key != "seed"})


def log_of_run(path: Path) -> None:
    """Send all logs of this process to a file of the run."""
    log_to(path)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # every look for an answer is a line
