"""The commands that use a finished model: predict, score, show."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedmri.commands.model.predict_options import (
    DicomFolder,
    HasProbabilities,
    Inputs,
    IsCropped,
    LoginFiles,
    Modalities,
    OutFolder,
    PatientNumber,
    SeriesUids,
    SourceUrl,
    StudyUid,
    TargetUrl,
    Unit,
)
from fedmri.errors import DataError, UsageError
from fedmri.machine.delimited import decoded

if TYPE_CHECKING:
    from fedmri.trained.inputs import LeftOut
    from fedmri.trained.model import Predictions

ModelPath = Annotated[
    Path, typer.Argument(metavar="MODEL", help="File model.safetensors of a run.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for machines.")]
Device = Annotated[
    str, typer.Option(help="Where the network runs: cpu, cuda or auto. Default: as in training.")
]
N_SHOWN = 20


def predict(
    model: ModelPath,
    inputs: Inputs = None,
    out: OutFolder = Path("predictions"),
    modality: Modalities = None,
    probabilities: HasProbabilities = False,
    crop: IsCropped = False,
    device: Device = "",
    dicom: DicomFolder = None,
    source: SourceUrl = "",
    study: StudyUid = "",
    series: SeriesUids = None,
    target: TargetUrl = "",
    login: LoginFiles = None,
    patient: PatientNumber = "",
    unit: Unit = "1",
    as_json: AsJson = False,
) -> None:
    """Predict on new scans: masks on each scan's own grid, tables of classes and values.

    The folder is a BIDS derivative. A scan that does not fit the model is named, with the reason.
    Exits with 3 where a scan was left out; everything else is written all the same.
    """
    from fedmri.trained.model import TrainedModel
    from fedmri.trained.predict import PredictOptions

    options = PredictOptions(crop, probabilities, device)
    if not (dicom or source or study or target):
        _refuse_of_dicom(patient, series, login, unit)
    opened, named = TrainedModel.open(model), _named(modality or [])
    if dicom or source or study or target:
        from fedmri.api.archive import DicomExchange, predict_dicom

        of_both = (tuple(login or ()), patient, unit)
        exchange = DicomExchange(dicom, source, study, tuple(series or ()), target, *of_both)
        made = predict_dicom(
            opened, *(inputs or []), exchange=exchange, out=out, modalities=named, options=options
        )
        if target:
            print(f"{made.n_stored} DICOM objects stored at the archive.", file=sys.stderr)
        found = made.predictions
    else:
        found = opened.predict(*(inputs or []), modalities=named, out=out, options=options)
    _tell(found, out, is_json=as_json)
    refuse_left_out("predictions", found.left_out, out / "predictions.tsv")


def _refuse_of_dicom(
    patient: str, series: Sequence[str] | None, login: Sequence[Path] | None, unit: str
) -> None:
    """Refuse options that only results in DICOM heed: a check of the patient would not be made.

    Raises:
        UsageError: There are some (U01).
    """
    given = {"--patient": patient, "--series": series, "--login": login, "--unit": unit != "1"}
    if names := [name for name, value in given.items() if value]:
        what, want = ", ".join(names), "--dicom, --from or --to beside it"
        fix = "add --dicom FOLDER, or leave it out"
        raise UsageError("U01", what, found="no results in DICOM", want=want, fix=fix)


def refuse_left_out(what: str, left_out: Sequence[LeftOut], table: Path) -> None:
    """End a command where scans were left out, after everything else was written.

    Raises:
        DataError: There are some (D83).
    """
    if left_out:
        first = left_out[0]
        found = f"{len(left_out)} left out, such as {first.name} [{first.code}]"
        fix = f"read {table}, then correct or leave out these scans"
        raise DataError("D83", what, found=found, want="one for each scan", fix=fix)


def score(
    model: ModelPath,
    data: Annotated[Path, typer.Argument(help="BIDS, site/class/*.png, or DICOM folders.")],
    site: Annotated[
        str, typer.Option(help="Hospital of all scans, where the data set does not say.")
    ] = "",
    patients: Annotated[
        Path | None,
        typer.Option(help="File of the patients to score, one a line. Default: all."),
    ] = None,
    device: Device = "",
    as_json: AsJson = False,
) -> None:
    """Score a model on a data set with labels, without training: one table with intervals.

    Scores and intervals are the same as from `fedmri simulate --external` with the data set.
    """
    from rich.console import Console

    from fedmri.reports.text.tables import as_json as json_of
    from fedmri.reports.text.terminal import show_summary
    from fedmri.trained.model import TrainedModel
    from fedmri.trained.scoring import ScoreOptions

    options = ScoreOptions(site, _lines(patients), device)
    found = TrainedModel.open(model).score(data, options)
    gone = [
        (one.code, _without_code(one.reason, one.code)) for one in found.findings if one.is_excluded
    ]
    if as_json:
        print(json.dumps({**json.loads(json_of(found.summary)), "left_out": gone}))
        return
    show_summary(found.summary, Console())
    for code, reason in gone[:N_SHOWN]:
        print(f"Left out: {reason} [{code}]")
    if len(gone) > N_SHOWN:
        print(f"{len(gone) - N_SHOWN} more are left out; --json names all.")
    for note in found.summary.notes:
        print(note)


def show(model: ModelPath, as_json: AsJson = False) -> None:
    """Print what a model predicts, from what, how well, and what it is meant for."""
    from fedmri.trained.describe import describe
    from fedmri.trained.file.card import to_json
    from fedmri.trained.model import TrainedModel

    card = TrainedModel.open(model).card
    if as_json:
        print(to_json(card))
        return
    facts = describe(card)
    width = max(map(len, facts))
    for name, text in facts.items():
        print(f"{name:<{width}}  {text}")


def _named(texts: list[str]) -> dict[str, Path]:
    """Return the files of one scan by modality, as NAME=PATH gives them."""
    found: dict[str, Path] = {}
    for text in texts:
        name, separator, path = text.partition("=")
        if not separator or not path or name in found:
            fix = "write --modality FLAIR=scan.nii.gz, once for each modality"
            raise UsageError("U01", "--modality", found=text, want="NAME=PATH", fix=fix)
        found[name] = Path(path)
    return found


def _lines(path: Path | None) -> tuple[str, ...]:
    if path is None:
        return ()
    text = decoded(path.read_bytes())
    if text is None:
        fix = "write it anew with an editor, one patient a line"
        found = "bytes that are no text"
        raise UsageError("U01", f"--patients {path}", found=found, want="a text", fix=fix)
    lines = [line.strip() for line in text.text.splitlines()]
    return tuple(line.removeprefix("sub-") for line in lines if line)


def _without_code(reason: str, code: str) -> str:
    """Return a reason without the code at its end, which that of an error has."""
    return reason.removesuffix(f" [{code}]")


def _tell(found: Predictions, out: Path, *, is_json: bool) -> None:
    odd = [one for one in found if one.remarks]
    if is_json:
        told = {one.input.name: [list(remark) for remark in one.remarks] for one in found}
        left_out = [asdict(one) for one in found.left_out]
        notes = [list(note) for note in found.notes]
        said = {"predicted": told, "left_out": left_out, "notes": notes, "folder": str(out)}
        print(json.dumps(said))
        return
    for code, reason in found.notes[:N_SHOWN]:
        print(f"Note: {reason} [{code}]")
    for one in odd[:N_SHOWN]:
        text = "; ".join(f"{reason} [{code}]" for code, reason in one.remarks)
        print(f"Warning: {one.input.name}: {text}")
    for gone in found.left_out[:N_SHOWN]:
        print(f"Left out: {gone.name}: {_without_code(gone.reason, gone.code)} [{gone.code}]")
    n_more = max(0, len(odd) - N_SHOWN) + max(0, len(found.left_out) - N_SHOWN)
    if n_more:
        print(f"{n_more} more are in {out / 'predictions.tsv'}.")
    print(
        f"{len(found)} scans predicted, {len(odd)} with warnings; "
        f"{len(found.left_out)} left out. Results: {out}"
    )
