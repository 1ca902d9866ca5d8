"""The commands that put runs side by side, and pack one for a journal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; the first is the reference.")],
) -> None:
    """Compare the first model of several runs over the patients that they share.

    Differences are those from the first run. Verdicts are adjusted for the number of runs (Holm).
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from fedmri.api.submission.comparing import compare_runs
    from fedmri.reports.text.words import with_interval

    found = compare_runs(runs)
    table = Table("run", "model", "score (95 % interval)", "minus the first", "shown")
    for one in found:
        minus = with_interval(one.difference, is_signed=True)
        shown = one.verdict if one.difference is not None else ""
        table.add_row(*map(Text, (one.name, one.label, with_interval(one.score), minus, shown)))
    Console().print(table)
    if len({one.n_trials for one in found}) > 1:
        counts = ", ".join(f"{one.name} {one.n_trials}" for one in found)
        print(f"Not tuned alike: settings tried are {counts}. The run with more of them gains.")


def subgroups(
    run: Annotated[Path, typer.Argument(help="Run folder of a finished simulation.")],
    by: Annotated[
        list[str],
        typer.Option(help="Column of the subject table, or COLUMN:LIMITS for its bands."),
    ],
) -> None:
    """Score a run's first model by sex, age, scanner or field, each group beside all others.

    Verdicts are adjusted for all groups that are shown (Holm). The tables of the data are read.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from fedmri.api.submission.grouping import scores_by_group
    from fedmri.reports.text.words import with_interval

    table = Table("column", "group", "patients", "score (95 % interval)", "minus others", "shown")
    for one in scores_by_group(run, by):
        minus = with_interval(one.against_rest, is_signed=True)
        n = str(one.score.n_subjects)
        cells = (one.column, one.group, n, with_interval(one.score), minus, one.verdict)
        table.add_row(*map(Text, cells))
    Console().print(table)


def bundle(
    run: Annotated[Path, typer.Argument(help="Run folder of a finished simulation.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to; RUN/bundle by default.")
    ] = None,
) -> None:
    """Pack a run for a journal: checklists, claims, results, settings, model and an RO-Crate.

    The bundle holds no image and no name of a patient. Items of checklists that only the authors
    know are left open and named.
    """
    from fedmri.api.submission.bundle import bundle_run

    found = bundle_run(run, out)
    print(f"Bundle: {found.folder}")
    print(f"{found.claims.n_claims} claims checked, {len(found.claims.findings)} findings.")
    if found.without_model:
        print(f"No MONAI bundle: {found.without_model}")
