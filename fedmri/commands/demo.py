"""The command that rehearses a consortium on one machine."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from fedmri.commands.apps import AsJson

SETTINGS = (
    "name=demo",
    "rounds.n_rounds=3",
    "rounds.min_sites=3",
    "rounds.quorum=1.0",
    "rounds.timeout_s=120",
)


def demo(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Settings of the plan, as for `fedmri simulate`."
        ),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Folder for everything. Without it, a temporary folder.")
    ] = None,
    subjects: Annotated[int, typer.Option(help="Mean number of subjects at a hospital.")] = 12,
    as_json: AsJson = False,
) -> None:
    """Rehearse a consortium of three hospitals on this machine, with real processes and TLS.

    The command makes a coordinator and three sites, each with its own keys, folder and data. They
    train the example data for a few rounds. The same plan is then simulated: the weights are equal.
    """
    import json

    from fedmri.config import load
    from fedmri.simulation.demo import rehearse

    plan = load([*SETTINGS, *(overrides or [])]).plan
    folder = folder or Path(tempfile.mkdtemp(prefix="fedmri-demo-"))
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # four processes train side by side
    found = rehearse(plan, folder, subjects, _silent if as_json else _aloud)
    weights = {"deployed": found.deployed, "simulated": found.simulated}
    if as_json:
        print(json.dumps({**weights, "seconds": round(found.seconds, 1), "folder": str(folder)}))
        return
    print(f"  deployed   {found.deployed}\n  simulated  {found.simulated}")
    is_same = found.deployed == found.simulated
    print("Same weights, bit for bit." if is_same else "The weights differ: please report it.")
    print("Look around:")
    print(f"  fedmri server status {found.run.name} --dir {found.consortium.server.folder}")
    print(f"  fedmri client ledger --dir {next(iter(found.consortium.sites.values())).folder}")


def _aloud(text: str) -> None:
    print(text, flush=True)


def _silent(text: str) -> None:
    """Say nothing: machines want the result alone."""
