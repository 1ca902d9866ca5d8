"""The command that runs a study of several runs."""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


def study(
    file: Annotated[
        Path, typer.Argument(help="YAML file with settings, and a grid of lists of values.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the study; a folder beside the file by default."),
    ] = None,
) -> None:
    """Run every combination of a grid of settings, or the trials of a search, each step once.

    Data are prepared once, and trainings that runs share are done once. Stopped or killed, the same
    command goes on. After a change of the file it redoes only what the change decides. With
    is_chosen: true, each arm gets the values that are best on validation patients. A section tune:
    in place of grid: searches values (needs pip install 'fedmri[tune]').
    """
    from fedmri.api.grid.study_grid import TABLE, StudyGrid

    grid = StudyGrid(file, out)
    grid.folder.mkdir(parents=True, exist_ok=True)
    form = "%(asctime)s %(process)d %(name)s %(levelname)s %(message)s"
    logging.basicConfig(
        filename=grid.folder / "log.txt", format=form, level=logging.INFO, force=True
    )
    try:
        result = grid.run(tell=lambda line: print(line, file=sys.stderr))
    except KeyboardInterrupt:
        again = shlex.join(["fedmri", "study", str(file)])
        print(f"Stopped. Go on with the same command: {again}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    print(f"{len(result.variants)} runs, tables: {result.folder / TABLE}")
    if result.chosen is not None:
        print(f"Chosen on validation patients, {result.n_trials} trials an arm.")
        print(f"Report: {result.chosen.report}")
