"""The ServerApp of a deployment: the rounds of a simulation, over the folder of a run."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedmri.errors import FedmriError
from fedmri.server.asking import present, wait_for_sites
from fedmri.server.home import ServerHome
from fedmri.server.memory import return_large_blocks
from fedmri.server.records import Record
from fedmri.server.rounds import Rounds, Run
from fedmri.server.runs import RunFolder, write_json

log = logging.getLogger("fedmri.server")

HOME = "FEDMRI_SERVER_DIR"
FAILED = "failed.json"

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train what is left of the run that the context names."""
    return_large_blocks()
    home = ServerHome(Path(os.environ[HOME]))
    folder = RunFolder(home.runs / str(context.run_config["run"]))
    _log_to(folder.path / "log.txt")
    (folder.path / FAILED).unlink(missing_ok=True)
    try:
        Rounds(_run(grid, folder, home), grid, _note).go()
    except FedmriError as error:
        log.error("%s", error)
        write_json(folder.path / FAILED, {"code": error.code, "message": str(error)})
        raise


def _run(grid: Grid, folder: RunFolder, home: ServerHome) -> Run:
    signed = folder.signed
    signed.verify(home.verify_key.read_text(encoding="utf-8"))
    plan = signed.plan
    members = folder.note.members
    if not members:
        wait_for_sites(grid, (), plan.rounds.min_sites, plan.rounds.timeout_s)
        members = folder.change(members=tuple(present(grid))).members
    declared = {name: site.max_examples for name, site in home.sites().items()}
    roll = signed.roll(folder.name)
    return Run(plan, "federated", members, members, folder.path, declared=declared, roll=roll)


def _note(record: Record) -> None:
    if record["kind"] in ("round_total", "done"):
        log.info("%s", {key: value for key, value in record.items() if key != "seed"})


def _log_to(path: Path) -> None:
    form = "%(asctime)s %(name)s %(levelname)s %(message)s"
    logging.basicConfig(filename=path, format=form, level=logging.INFO, force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # every look for an answer is a line
