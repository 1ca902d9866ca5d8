"""A trained model in the formats of other programs, from Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from fedmri.trained.model import TrainedModel

AnyPath = str | PathLike[str]


def export_model(
    model: TrainedModel,
    out: AnyPath,
    formats: Sequence[str] = ("onnx",),
    *,
    data: AnyPath | None = None,
    amount: float = 0.5,
) -> pd.DataFrame:
    """Write a model in other formats, with what each costs and changes beside it.

    Args:
        model: The model.
        out: Folder, missing or empty.
        formats: Of ``onnx``, ``torch``, ``monai``, ``int8`` and ``pruned``.
        data: Data set with answers that each export is scored on.
        amount: Share of the weights that ``pruned`` sets to zero.

    Returns:
        A row for each format: size, latency, throughput, ratios to PyTorch, largest difference.

    Raises:
        UsageError: A name is no format (U01), the folder holds files (U20), the model cannot be
            exported (U72, U73, U76), or an export of floats has other outputs (U75).
        ConfigError: A package is not installed (C05).
    """
    import pandas as pd

    from fedmri.export.exporting import ExportOptions, export

    place = None if data is None else Path(data).expanduser()
    options = ExportOptions(tuple(formats), amount, place)
    rows = export(model.file, Path(out).expanduser(), options)
    return pd.DataFrame([asdict(row) for row in rows])
