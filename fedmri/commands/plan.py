"""The commands about a plan before it is signed: begin, check, compare and explain it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedmri.commands.apps import AsJson
from fedmri.commands.argument_help import ArgumentHelp
from fedmri.errors import UsageError

if TYPE_CHECKING:
    from fedmri.api.plans.check import DeclaredSite
    from fedmri.settings.words import Section

plan_app = typer.Typer(
    cls=ArgumentHelp,
    help="Write, check, compare and explain a plan before it is signed.",
    no_args_is_help=True,
)
PlanFile = Annotated[Path, typer.Argument(exists=True, help="PLAN.yaml, or a signed plan as JSON.")]


@plan_app.command("init")
def init(
    file: Annotated[Path, typer.Argument(help="File to write; it must not be there yet.")],
    data: Annotated[
        Path | None, typer.Option(help="A data set whose images and target the plan is for.")
    ] = None,
    kind: Annotated[str, typer.Option(help="Kind of task, such as segmentation.")] = "",
    target: Annotated[str, typer.Option(help="Column or label map that is learned.")] = "",
    classes: Annotated[str, typer.Option(help="Its classes, as a,b,c.")] = "",
    modalities: Annotated[str, typer.Option(help="Images of a patient, as FLAIR,T1w.")] = "",
    rounds: Annotated[int, typer.Option(help="Rounds of training.", min=1)] = 20,
    sites: Annotated[int, typer.Option(help="Sites that take part at least.", min=1)] = 3,
) -> None:
    """Write a commented plan, from a data set or from answers; a terminal is asked for the rest.

    Every line stands under the meaning of its setting. Read it, change it, then check it.
    """
    from dataclasses import replace

    from fedmri.api.plans.check import check_plan
    from fedmri.api.plans.draft import PlanAnswers, answers_from, draft_plan

    if file.exists():
        want, fix = "a new file", "choose another name, or remove it"
        raise UsageError("U20", f"plan {file}", found="a file", want=want, fix=fix)
    answers = PlanAnswers(name=file.stem, n_rounds=rounds, min_sites=sites)
    answers = answers if data is None else answers_from(data, answers)
    is_asked = data is None and sys.stdin.isatty()
    kind = kind or (_asked("Kind of task", answers.kind) if is_asked else answers.kind)
    target = target or (_asked("Column or label map", answers.target) if is_asked else "")
    classes = classes or (_asked("Classes, as a,b", "") if is_asked else "")
    modalities = modalities or (_asked("Images of a patient", "T1w") if is_asked else "")
    answers = replace(
        answers,
        kind=kind,
        target=target or answers.target,
        classes=_listed(classes) or answers.classes,
        modalities=_listed(modalities) or answers.modalities,
    )
    file.write_text(draft_plan(answers), encoding="utf-8")
    print(f"{file} learns {answers.target} ({answers.kind}) from {', '.join(answers.modalities)}.")
    for problem in check_plan(file).problems:
        print(f"To put right: {problem}")
    print(f"Next: fedmri plan check {file}")


@plan_app.command("check")
def check(
    file: Annotated[Path, typer.Argument(exists=True, help="PLAN.yaml.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Settings that win over the file."),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="A site's data set to hold against it; may be repeated."),
    ] = None,
    server: Annotated[
        Path | None,
        typer.Option("--dir", help="Server's folder: hold it against what its sites declared."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check all of a plan: values, what goes with what, its network, and sites where named.

    Every problem is printed, each with its code. The exit status is that of the first: 4 for
    settings, 5 for privacy, 3 for data.
    """
    from fedmri.api.plans.check import check_plan

    declared = [] if server is None else _declared(server)
    found = check_plan(file, settings or [], data=data or [], sites=declared)
    if as_json:
        said = [{"code": one.code, "text": str(one)} for one in found.problems]
        print(json.dumps({"problems": said}))
        if found.problems:
            raise typer.Exit(found.problems[0].exit_code)
        return
    for problem in found.problems[1:]:
        print(f"Also: {problem}")
    found.enforce()
    print(f"{file} can be signed: nothing in it contradicts anything else.")


@plan_app.command("diff")
def diff(before: PlanFile, after: PlanFile, as_json: AsJson = False) -> None:
    """Show in which settings two plans differ, with the meaning of each."""
    from dataclasses import asdict

    from fedmri.agreement.plan_changes import plan_changes
    from fedmri.api.plans.check import plan_of_file

    found = plan_changes(plan_of_file(before), plan_of_file(after))
    if as_json:
        print(json.dumps([asdict(change) for change in found]))
        return
    for change in found:
        print(f"{change.key}: {change.before} -> {change.after}")
        if change.meaning:
            print(f"    {change.meaning.replace('``', '`')}")
    if not found:
        print("The plans have the same settings.")


@plan_app.command("explain")
def explain(
    key: Annotated[
        str,
        typer.Argument(help="Setting, section or part: train.lr, rounds, strategy=fedprox."),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Tell what settings mean, what they take and their defaults; without a key, of all."""
    from dataclasses import asdict

    from fedmri.api.plans.reference import explain_settings

    found = explain_settings(key)
    if as_json:
        print(json.dumps([asdict(section) for section in found]))
        return
    for section in found:
        _print_section(section)


def _print_section(section: Section) -> None:
    summary = section.summary.partition("\n\n")[0].replace("\n", " ").replace("``", "`")
    print(f"{section.key or 'the experiment'}: {summary}")
    for one in section.settings:
        takes = ", ".join(one.values) if one.values else one.kind
        print(f"  {one.key}  (takes {takes}; default {one.default})")
        print(f"    {one.meaning.replace('``', '`')}")


def _declared(folder: Path) -> list[DeclaredSite]:
    from fedmri.api.plans.check import DeclaredSite
    from fedmri.server.registry.home import ServerHome

    enrolled = ServerHome(folder).sites()
    return [DeclaredSite(n, s.max_subjects) for n, s in enrolled.items() if not s.is_revoked]


def _asked(question: str, default: str) -> str:
    answer: str = typer.prompt(question, default=default)
    return answer


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
