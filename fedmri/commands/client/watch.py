"""The commands by which a hospital sees what runs, and rehearses a plan."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedmri.commands.apps import HERE, AsJson, ClientDir, client_app

if TYPE_CHECKING:
    from fedmri.clients.process.rehearsal import Rehearsed


@client_app.command("watch")
def watch(
    folder: ClientDir = HERE,
    web: Annotated[
        bool, typer.Option("--web", help="Serve a page for a browser of this machine instead.")
    ] = False,
    port: Annotated[int, typer.Option(help="Port of the page; 0 takes a free one.")] = 0,
    once: Annotated[bool, typer.Option("--once", help="Print it once and end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what runs here, who takes part, what left, and which plans wait. Ends with Ctrl-C.

    The page is on loopback and needs the printed token. It changes nothing but by its buttons:
    approve, refuse and withdraw.
    """
    from rich.console import Console

    from fedmri.clients.views.page import Watch, serve
    from fedmri.clients.views.state import as_json as json_of
    from fedmri.clients.views.terminal import as_text, watch_terminal

    seen = Watch(folder)
    if as_json:
        print(json.dumps(json_of(seen.state())))
    elif once:
        Console(soft_wrap=True).print(as_text(seen.state()))
    else:
        try:
            if web:
                serve(folder, port)
            else:
                watch_terminal(seen.state, Console())
        except KeyboardInterrupt:
            print()


@client_app.command("rehearse")
def rehearse(
    plan: Annotated[
        Path, typer.Argument(exists=True, help="PLAN.yaml, or the signed plan as JSON.")
    ],
    folder: ClientDir = HERE,
    as_json: AsJson = False,
) -> None:
    """Run one step of a plan on this site's own data, without any server.

    Tells who takes part, peak memory, estimated hours, what would leave and what it costs. Nothing
    leaves, and no ledger is written. The exit status is 3 if the data cannot be trained on. It is 5
    if the plan goes beyond the limits of site.yaml.
    """
    from dataclasses import asdict

    from fedmri.clients.consent.approval import refuse_violations
    from fedmri.clients.process.home import ClientHome
    from fedmri.clients.process.rehearsal import rehearse as run_once
    from fedmri.commands.client.plan_file import plan_and_text

    home = ClientHome(folder)
    wanted, text, n_sites = plan_and_text(home, plan)
    found = run_once(home, wanted, n_sites)
    if as_json:
        print(json.dumps({**asdict(found), "hours": found.hours}))
    else:
        print(text)
        for line in _lines(found):
            print(line)
        print(f"Who is left out and why: {home.folder / 'manifest.tsv'}")
    refuse_violations(home.config.policy, wanted, found.subjects["train"])


def _lines(found: Rehearsed) -> Iterator[str]:
    yield "Subjects: " + ", ".join(f"{n} {split}" for split, n in found.subjects.items())
    yield f"Preparing took {found.prepare_seconds:.1f} s; the cache has it now."
    each = f"{found.step_seconds:.3f} s a step on {found.device}, {found.n_steps} steps a round"
    yield f"Training: {each}, {found.n_rounds} rounds."
    yield f"Scoring: {found.score_seconds:.2f} s each, {found.n_scorings} times."
    yield f"Estimated work of this site: {found.hours:.2f} hours, without waiting for others."
    on_device = f", {found.peak_device_bytes / 1e9:.2f} GB of the GPU"
    peak = f"{found.peak_bytes / 1e9:.2f} GB"
    yield f"Peak memory: {peak}{on_device if found.peak_device_bytes else ''}."
    total = found.bytes_a_round * found.n_rounds
    yield f"Would leave: {found.bytes_a_round:,} bytes a round, {total:,} in all."
    if found.epsilon is not None:
        cost = f"{found.epsilon:.3g} at delta {found.delta:.2g}"
        yield f"Epsilon of one patient after all rounds: {cost}."
    if found.left_aside:
        names = ", ".join(found.left_aside)
        yield f"The step was taken without {names}: they are fitted together with other sites."
