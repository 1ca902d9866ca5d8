"""Predictions on DICOM series, written as DICOM, from an archive and into one."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from fedmri.errors import UsageError
from fedmri.machine.extras import require_packages

if TYPE_CHECKING:
    from fedmri.archive.dicomweb import Archive
    from fedmri.trained.model import Predictions, TrainedModel
    from fedmri.trained.predict import PredictOptions

AnyPath = str | PathLike[str]


@dataclass(frozen=True)
class DicomExchange:
    """Where DICOM series come from, and where results go as DICOM.

    Attributes:
        folder: Folder for the results as DICOM files; None keeps none of them.
        source: Address of the DICOMweb that a study is read from; ``""`` reads none.
        study: UID of the study.
        series: UIDs of its series; empty takes all of MRI.
        target: Address of the DICOMweb that results are stored at; ``""`` stores none.
        logins: Private files with user and password, or a token, for one archive each.
        patient: Number that the patient must have; ``""`` takes any.
        unit: Unit of a predicted value in UCUM, such as ``a`` for years.
    """

    folder: AnyPath | None = None
    source: str = ""
    study: str = ""
    series: tuple[str, ...] = ()
    target: str = ""
    logins: tuple[Path, ...] = ()
    patient: str = ""
    unit: str = "1"

    def __post_init__(self) -> None:
        if bool(self.source) != bool(self.study):
            fix = "name both, or neither"
            found = "one of them"
            what, want = "archive and study", "an address and the UID of a study"
            raise UsageError("U01", what, found=found, want=want, fix=fix)


@dataclass(frozen=True)
class DicomPredictions:
    """What was predicted, and what became of it as DICOM.

    Attributes:
        predictions: As ``TrainedModel.predict`` returns them.
        files: DICOM files that were written and kept.
        n_stored: Objects that the archive took.
    """

    predictions: Predictions
    files: tuple[Path, ...]
    n_stored: int


def predict_dicom(
    model: TrainedModel,
    *inputs: AnyPath,
    exchange: DicomExchange,
    out: AnyPath | None = None,
    modalities: Mapping[str, AnyPath] | None = None,
    options: PredictOptions | None = None,
) -> DicomPredictions:
    """Predict on DICOM series and write the results as DICOM beside them.

    A scan that is no DICOM series, or of several patients or frames of reference, is left out with
    the reason. Results are stored at an archive once all of them are made.

    Args:
        model: The model.
        inputs: Folders of DICOM series; none where a study is read from an archive.
        exchange: Where series come from and results go.
        out: Folder for the BIDS derivative; None writes none.
        modalities: Series folders of one scan of several modalities, by name.
        options: How predictions are made.

    Raises:
        ConfigError: A package is not installed (C05).
        NetworkError: An archive does not answer or refuses (N30 to N33).
        DataError: A study is another patient's (D86), or the archive has the series in another
            frame of reference (D87).
        UsageError: As ``TrainedModel.predict`` says.
    """
    require_packages("archive", ("highdicom", "dicomweb_client"), "DICOM results")
    from fedmri.archive.results import DicomResults

    with ExitStack() as stack:
        target = _archive(exchange.target, exchange) if exchange.target else None
        if target is not None:
            stack.callback(target.close)
        paths = list(inputs)
        if exchange.source:
            paths.append(stack.enter_context(_fetched(exchange)))
        kept = exchange.folder is not None
        folder = Path(exchange.folder or stack.enter_context(_private_folder()))
        results = DicomResults(folder, exchange.patient, exchange.unit)
        found = model.predict(
            *paths, modalities=modalities, out=out, options=options, also=[results]
        )
        n_stored = target.store(results.made) if target else 0
        return DicomPredictions(found, tuple(results.files) if kept else (), n_stored)


@contextmanager
def _fetched(exchange: DicomExchange) -> Iterator[Path]:
    """Yield a private folder with the series of a study; it is gone afterwards."""
    from fedmri.archive.dicomweb import Wanted

    wanted = Wanted(exchange.study, exchange.series, exchange.patient)
    with closing(_archive(exchange.source, exchange)) as archive, _private_folder() as folder:
        name = hashlib.sha256(exchange.study.encode()).hexdigest()[:12]  # a UID names a person
        archive.fetch(wanted, folder / f"study{name}")
        yield folder


@contextmanager
def _private_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fedmri-") as folder:
        yield Path(folder)


def _archive(url: str, exchange: DicomExchange) -> Archive:
    from fedmri.archive.dicomweb import Archive
    from fedmri.archive.login import login_for

    return Archive(login_for(url, exchange.logins))
