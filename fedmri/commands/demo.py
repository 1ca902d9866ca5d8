"""The command that rehearses a consortium on one machine."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedmri.commands.apps import AsJson

if TYPE_CHECKING:
    from fedmri.server.runs import RunFolder

SETTINGS = (
    "name=demo",
    "rounds.n_rounds=3",
    "rounds.min_sites=3",
    "rounds.quorum=1.0",
    "rounds.timeout_s=120",
)
TIMEOUT_S = 900.0


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
    from fedmri.data.synthetic.data_set import SyntheticConfig, generate
    from fedmri.simulation import demo as rehearsal

    plan = load([*SETTINGS, *(overrides or [])]).plan
    folder = folder or Path(tempfile.mkdtemp(prefix="fedmri-demo-"))
    say: Callable[[str], None] = _silent if as_json else _aloud
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # four processes train side by side
    started = time.monotonic()
    say(f"Three hospitals with their own scans, keys and folders, in {folder}")
    generate(folder / "data", SyntheticConfig(n_sites=3, n_subjects=subjects), plan.seed)
    own = rehearsal.own_folders(folder / "data", folder / "scans")
    consortium = rehearsal.make_consortium(folder, own)
    with rehearsal.running(consortium):
        run = rehearsal.submit(consortium, plan)
        sha256 = rehearsal.wait(run, TIMEOUT_S, _Teller(say))
    seconds = time.monotonic() - started
    say(f"The consortium took {seconds:.0f} s. The same plan, simulated:")
    same = rehearsal.simulated(plan, folder / "data", folder / "simulated", folder / "cache")
    result = {"deployed": sha256, "simulated": same, "seconds": round(seconds, 1)}
    if as_json:
        print(json.dumps({**result, "folder": str(folder)}))
        return
    print(f"  deployed   {sha256}\n  simulated  {same}")
    print(
        "Same weights, bit for bit." if same == sha256 else "The weights differ: please report it."
    )
    print("Look around:")
    print(f"  fedmri server status {run.name} --dir {consortium.server.folder}")
    print(f"  fedmri client ledger --dir {next(iter(consortium.sites.values())).folder}")


class _Teller:
    """Says each new line of a run's log once."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._n_rounds = 0

    def __call__(self, run: RunFolder) -> None:
        """Say what is new."""
        n_rounds = run.n_checkpointed
        if n_rounds > self._n_rounds:
            self._n_rounds = n_rounds
            self._say(f"  round {n_rounds} of {run.signed.plan.rounds.n_rounds} is complete")


def _aloud(text: str) -> None:
    print(text, flush=True)


def _silent(text: str) -> None:
    """Say nothing: machines want the result alone."""
