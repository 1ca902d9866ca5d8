"""The command that says what privacy costs before anybody trains."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from fedmri.commands.apps import AsJson
from fedmri.commands.argument_help import ArgumentHelp
from fedmri.commands.privacy.head import print_head
from fedmri.commands.privacy.site import print_site

if TYPE_CHECKING:
    from fedmri.api.privacy.training import PrivacyPlan

privacy_app = typer.Typer(cls=ArgumentHelp, no_args_is_help=True)


@privacy_app.callback()
def _group() -> None:
    """Differential privacy: what it costs, before anybody trains."""


class Unit(StrEnum):
    """Whose privacy is planned."""

    PATIENT = "patient"
    SITE = "site"


class Released(StrEnum):
    """What leaves a site under the noise."""

    MODEL = "model"
    HEAD = "head"


@privacy_app.command("plan")
def plan(
    rounds: Annotated[int, typer.Option(help="Rounds of training; a head has none.")] = 0,
    patients: Annotated[int, typer.Option(help="Training patients of the site.")] = 0,
    epsilon: Annotated[float, typer.Option(help="Largest epsilon of the whole training.")] = 8,
    batch: Annotated[float, typer.Option(help="Expected number of patients in a step.")] = 16,
    steps: Annotated[
        int, typer.Option(help="Steps of a round; 0 counts passes over the patients.")
    ] = 0,
    epochs: Annotated[int, typer.Option(help="Passes over the patients in a round.")] = 1,
    delta: Annotated[
        float,
        typer.Option(
            help="Delta of the guarantee. 0 takes one tenth over the patients, or 0.001 for a site."
        ),
    ] = 0.0,
    unit: Annotated[Unit, typer.Option(help="Unit of privacy: a patient, or a whole site.")] = (
        Unit.PATIENT
    ),
    release: Annotated[
        Released,
        typer.Option(help="What is trained: a model by rounds, or the stage `private_head` once."),
    ] = Released.MODEL,
    is_shared: Annotated[
        bool,
        typer.Option("--shared", help="With --release head: secure sums, all sites but one share."),
    ] = False,
    auc: Annotated[
        float, typer.Option(help="With --release head: AUC of all features, endless patients.")
    ] = 0.9,
    sites: Annotated[
        int, typer.Option(help="With --unit site or --release head: sites of the consortium.")
    ] = 5,
    dimensions: Annotated[
        int, typer.Option(help="With --unit site: how many numbers a release has.")
    ] = 514,
    as_json: AsJson = False,
) -> None:
    """Find the noise for an epsilon. Show the cost of each round and the effect on learning.

    Epsilon holds for one patient at one site and all rounds together. The number of the patient's
    scans does not matter. A patient of two sites pays at both. With `--unit site`, epsilon holds
    for one hospital that releases --dimensions numbers a round. With `--release head`, a model of
    few numbers is fitted once, and a simulation shows what it loses.
    """
    from fedmri.api.privacy.head import head_plan
    from fedmri.api.privacy.site import site_privacy_plan
    from fedmri.api.privacy.training import privacy_plan

    if unit is Unit.SITE:
        budget = {"rounds": rounds, "dimensions": dimensions}
        site = site_privacy_plan(sites, epsilon=epsilon, delta=delta or 1e-3, **budget)
        print_site(site, as_json=as_json)
        return
    if release is Released.HEAD:
        budget_of = {"epsilon": epsilon, "delta": delta, "auc": auc}
        head = head_plan(patients, sites=sites, is_shared=is_shared, **budget_of)
        print_head(head, as_json=as_json)
        return
    found = privacy_plan(
        patients,
        rounds=rounds,
        epsilon=epsilon,
        batch=batch,
        steps=steps,
        epochs=epochs,
        delta=delta,
    )
    if as_json:
        _print_json(found)
    else:
        _print_table(found)


def _print_json(found: PrivacyPlan) -> None:
    import json

    values = {
        "noise_multiplier": found.noise_multiplier,
        "epsilon": found.epsilon,
        "delta": found.delta,
        "sample_rate": found.sample_rate,
        "steps_a_round": found.steps_a_round,
        "by_round": [{"round": index, "epsilon": cost} for index, cost in found.by_round],
    }
    print(json.dumps(values, indent=1))


def _print_table(found: PrivacyPlan) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="What one patient at one site has spent", title_justify="left")
    table.add_column("after round", justify="right")
    table.add_column(f"epsilon at delta {found.delta:.2g}", justify="right")
    for index, cost in found.by_round:
        table.add_row(str(index), f"{cost:.2f}")
    console = Console()
    console.print(table)
    console.print(" ".join(found.settings))
    for line in _warnings(found):
        console.print(line, highlight=False)


def _warnings(found: PrivacyPlan) -> list[str]:
    """Return what the noise does to learning, in words that promise nothing."""
    ratio = found.noise_multiplier / found.batch
    lines = [
        f"Each step's noise is {ratio:.2g} of the clip norm in every direction of the network; "
        f"of d parameters together {ratio:.2g} times the root of d, while the signal is 1 at most."
    ]
    if ratio > 0.3:
        lines.append(
            "That is much: expect to lose accuracy. More patients, a larger batch, fewer rounds or "
            "a smaller network help; a larger clip norm does not."
        )
    if found.delta * found.sample_rate > 0 and found.delta > 1e-3:
        lines.append(
            f"Delta {found.delta:.2g} is large: with so few patients a guarantee says little."
        )
    lines.append(
        "Outside of it: numbers of patients, scores, harmonization, what is chosen by looking."
    )
    return lines
