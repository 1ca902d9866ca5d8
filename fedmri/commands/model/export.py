"""The command that writes a model in the formats of other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedmri.commands.model.trained import AsJson, ModelPath

if TYPE_CHECKING:
    from rich.table import Table

    from fedmri.export.measured import Measured


def export(
    model: ModelPath,
    form: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="onnx, torch, monai, int8 or pruned; repeat for more. Default: onnx.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to write to; it must be empty.")] = Path(
        "exported"
    ),
    data: Annotated[
        Path | None,
        typer.Option(
            help="Data set with answers: each export is scored on it.", show_default=False
        ),
    ] = None,
    site: Annotated[
        str, typer.Option(help="Hospital of all scans, where the data set does not say.")
    ] = "",
    amount: Annotated[
        float, typer.Option(help="Share of the weights that pruned sets to zero.")
    ] = 0.5,
    as_json: AsJson = False,
) -> None:
    """Write a model as ONNX, torch.export or a MONAI bundle, smaller where you like.

    Each export is compared with the model: size, speed, outputs and, with data, its score. An
    export of floats whose outputs differ by more than 0.0001 is refused.
    """
    from rich.console import Console

    from fedmri.export.exporting import REPORT, ExportOptions
    from fedmri.export.exporting import export as write
    from fedmri.trained.model import TrainedModel

    options = ExportOptions(tuple(form or ("onnx",)), amount, data, site)
    found = write(TrainedModel.open(model).file, out, options)
    if as_json:
        print(json.dumps(json.loads((out / REPORT).read_text(encoding="utf-8"))))
        return
    Console().print(_table(found))
    print(f"Exports, with what a program must know to run them: {out}")


def _table(found: list[Measured]) -> Table:
    from rich.table import Table

    table = Table("export", "MB", "under 10 MB", "ms an image", "x PyTorch", "difference")
    if found[0].metric:
        table.add_column(found[0].metric)
    for one in found:
        cells = [
            one.path,
            f"{one.n_bytes / 1e6:.2f}",
            "yes" if one.is_small else "no",
            f"{one.latency_ms:.1f}",
            f"{one.latency_ratio:.2f}",
            f"{one.difference:.1e}",
        ]
        if one.metric:
            cells.append(f"{_shown(one.score_before)} -> {_shown(one.score_after)}")
        table.add_row(*cells)
    return table


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"
