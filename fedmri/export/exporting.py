"""Exports of a model: each format written, measured, and refused where it is another model."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from torch import nn

from fedmri.errors import UsageError, require
from fedmri.export.bundle import read_bundle, write_bundle
from fedmri.export.measured import Measured, measured
from fedmri.export.onnx_file import read_onnx, write_int8, write_onnx, write_pruned
from fedmri.export.program import read_program, write_program
from fedmri.export.subject import Subject, contract, subject_of
from fedmri.machine.files import write_whole
from fedmri.trained.file.model_file import ModelFile
from fedmri.trained.scoring import ScoreOptions, score
from fedmri.training.computing.device import reproducible

MOST_DIFFERENCE = 1e-4
"""Largest difference of raw outputs that a format of floats may have."""
REPORT = "export.json"
Score = tuple[str, float | None]
"""Name of a metric and its value; ``""`` and None without data."""


@dataclass(frozen=True)
class ExportOptions:
    """How models are exported.

    Attributes:
        formats: Names of formats, as ``formats`` has them.
        amount: Share of the weights that ``pruned`` sets to zero.
        data: Data set with answers that each export is scored on; None scores none.
        site: Site of all scans of the data set, where it does not say.
        seed: Of the made images that outputs are compared on.
    """

    formats: tuple[str, ...] = ("onnx",)
    amount: float = 0.5
    data: Path | None = None
    site: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        require(0 < self.amount < 1, "export.amount", self.amount, "between 0 and 1")
        known = formats(self.amount)
        if not self.formats or not set(self.formats) <= set(known):
            found, want = ", ".join(self.formats) or "none", f"some of {', '.join(known)}"
            raise UsageError("U01", "--format", found=found, want=want, fix="--format onnx")


@dataclass(frozen=True)
class Format:
    """A format that a model can have.

    Attributes:
        write: Writes a model into a folder and returns the file or folder.
        read: Returns what was written as a network.
        is_exact: Whether its outputs must be those of the model.
    """

    write: Callable[[Subject, Path], Path]
    read: Callable[[Path], nn.Module]
    is_exact: bool = True


def formats(amount: float) -> dict[str, Format]:
    """Return the formats by name; ``amount`` is the share of weights that ``pruned`` drops."""
    return {
        "onnx": Format(write_onnx, read_onnx),
        "torch": Format(write_program, read_program),
        "monai": Format(write_bundle, read_bundle),
        "int8": Format(write_int8, read_onnx, is_exact=False),
        "pruned": Format(partial(write_pruned, amount=amount), read_onnx, is_exact=False),
    }


def export(file: ModelFile, out: Path, options: ExportOptions) -> list[Measured]:
    """Write a model in other formats, and ``export.json`` with what each costs and changes.

    Args:
        file: Of the model.
        out: Folder, missing or empty.
        options: Which formats.

    Raises:
        UsageError: There are files in the folder (U20), the model cannot be exported (U72, U73,
            U76), or an export of floats has other outputs (U75): then nothing is kept.
        ConfigError: A package is not installed (C05).
    """
    _refuse_full(out)
    subject = subject_of(file, options.seed)
    with tempfile.TemporaryDirectory(prefix="fedmri-") as place, reproducible(1):
        folder = Path(place) / "export"
        folder.mkdir()
        scored = partial(_score, subject, options, Path(place) / "cache")
        _, before = scored(subject.network)
        known = formats(options.amount)
        found = [
            replace(_one(known[name], name, subject, folder, scored), score_before=before)
            for name in dict.fromkeys(options.formats)
        ]
        out.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            shutil.move(path, out / path.name)
    said = {**contract(subject), "exports": [asdict(one) for one in found]}
    write_whole(out / REPORT, json.dumps(said, indent=2, allow_nan=False) + "\n")
    return found


def _one(
    form: Format, name: str, subject: Subject, folder: Path, scored: Callable[[nn.Module], Score]
) -> Measured:
    path = form.write(subject, folder)
    exported = form.read(path)
    found = measured(name, path, exported, subject)
    if form.is_exact and not found.difference <= MOST_DIFFERENCE:
        what = f"outputs of the model as {name}"
        shown = f"a difference of {found.difference:.2g}"
        fix = "use another format, and report the model's network as a bug"
        want = f"at most {MOST_DIFFERENCE:g}"
        raise UsageError("U75", what, found=shown, want=want, fix=fix)
    metric, value = scored(exported)
    return replace(found, metric=metric, score_after=value)


def _score(subject: Subject, options: ExportOptions, cache: Path, network: nn.Module) -> Score:
    """Return the task's metric of a network on the data, where there are any."""
    if options.data is None:
        return "", None
    how = ScoreOptions(options.site, device="cpu", cache=cache)
    summary = score(subject.file, options.data, how, network).summary
    value = summary.rows[0].overall[summary.metric].value
    return summary.metric, value if math.isfinite(value) else None


def _refuse_full(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        fix = "name a folder that is missing or empty"
        what = f"folder {out}"
        raise UsageError("U20", what, found="files in it", want="nothing in it", fix=fix)
