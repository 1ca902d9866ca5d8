"""Predictions as DICOM files: a segmentation, a measurement report and pictures of each scan."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from fedmri.archive.source import BLANK, Source, source_of
from fedmri.errors import DataError
from fedmri.machine.extras import require_packages
from fedmri.machine.files import write_whole
from fedmri.trained.file.card import ModelCard
from fedmri.trained.inputs import Input
from fedmri.trained.outputs import make_empty
from fedmri.trained.predict import Prediction

UNMADE = (ValueError, AttributeError, TypeError, LookupError)
"""What highdicom and pydicom raise about a header that lacks what the standard wants."""


@dataclass(frozen=True)
class Made:
    """The objects of one scan, and what they belong to.

    Attributes:
        files: The objects.
        patient: Number of the patient.
        study: UID of the study.
        series: UID of the series that was predicted on.
        frame: UID of its frame of reference.
    """

    files: tuple[Path, ...]
    patient: str = field(repr=False)
    study: str
    series: str
    frame: str


@dataclass
class DicomResults:
    """Writes what is predicted for DICOM series as DICOM; hand it to ``TrainedModel.predict``.

    Each scan gets a folder. A mask becomes ``seg.dcm``, numbers become ``sr.dcm``, and
    ``sc-0001.dcm`` and so on are pictures. Patient, study, geometry and frame of reference are
    those of the series.

    Attributes:
        folder: Where to; missing or empty.
        patient: Number that the patient must have; ``""`` takes any.
        unit: Unit of a predicted value in UCUM, such as ``a`` for years; ``1`` has none.
        made: What was written, by scan.
        card: Of the model, once it is known.
        sources: Series of the scans that are not predicted yet, by their names.
    """

    folder: Path
    patient: str = ""
    unit: str = "1"
    made: list[Made] = field(default_factory=list)
    card: ModelCard | None = field(default=None, repr=False)
    sources: dict[str, Source] = field(default_factory=dict, repr=False)

    def begin(self, card: ModelCard) -> None:
        """Make the folder.

        Raises:
            UsageError: There are files in it (U20).
            ConfigError: A package is not installed (C05).
        """
        require_packages("archive", ("highdicom",), "DICOM results")
        make_empty(self.folder)
        self.card = card

    def check(self, one: Input) -> None:
        """Refuse a scan whose results would not be of one patient and one frame of reference.

        Raises:
            DataError: As ``source_of`` says (D85 to D87), or the series cannot be read.
        """
        paths = [one.scan.images[name] for name in self._modalities if name in one.scan.images]
        self.sources[one.name] = source_of(paths, self.patient)

    def add(self, one: Prediction) -> None:
        """Write the objects of a scan.

        Raises:
            DataError: Its header lacks what DICOM results must say (D85).
        """
        source = self.sources.pop(one.input.name)
        try:
            made = dict(self._objects(one, source))
        except UNMADE as error:
            fix = "export the series again, with its whole header"
            what, want = f"header of {one.input.name}", "what DICOM results must say"
            found = _unfit(error, source.first)
            raise DataError("D85", what, found=found, want=want, fix=fix) from None
        place = self.folder / one.input.name
        place.mkdir(parents=True)
        for name, data in made.items():
            write_whole(place / name, _as_bytes(data))
        files, first = tuple(place / name for name in made), source.first
        owner = (str(first.PatientID or ""), str(first.StudyInstanceUID))
        self.made.append(Made(files, *owner, first.SeriesInstanceUID, first.FrameOfReferenceUID))

    @property
    def files(self) -> list[Path]:
        """All objects that were written, in order."""
        return [file for one in self.made for file in one.files]

    @property
    def _modalities(self) -> tuple[str, ...]:
        assert self.card is not None, "begin comes first"
        return self.card.plan.data.source.modalities

    def _objects(self, one: Prediction, source: Source) -> Iterator[tuple[str, Dataset]]:
        from fedmri.archive.capture import overlay_captures, text_capture
        from fedmri.archive.origin import Origin
        from fedmri.archive.report import value_report, volume_report
        from fedmri.archive.segmentation import segmentation

        assert self.card is not None, "begin comes first"
        origin, target = Origin(self.card, self.unit), self.card.plan.target
        if one.mask is not None:
            seg = segmentation(one.mask, one.grid, source, origin)
            yield "seg.dcm", seg
            classes = target.label_map.classes if target.label_map else ()
            found = dict(enumerate(one.volumes_ml))
            volumes = {name: found.get(n, 0.0) for n, name in enumerate(classes)}
            yield "sr.dcm", volume_report(volumes, seg, source, origin)
            for number, picture in enumerate(overlay_captures(one.mask, source, origin), start=1):
                yield f"sc-{number:04}.dcm", picture
            return
        values = _values(one, self.card)
        is_shares = len(values) > 1 and abs(sum(values.values()) - 1) < MOST_OFF
        best = max(values, key=lambda name: values[name]) if is_shares else ""
        yield "sr.dcm", value_report(values, best, source, origin)
        shown = {name: f"{value:.4g}" for name, value in values.items()}
        yield "sc-0001.dcm", text_capture(shown, source, origin)


MOST_OFF = 1e-3
"""Of the sum of shares from 1, by rounding."""


def _values(one: Prediction, card: ModelCard) -> Mapping[str, float]:
    assert one.reading is not None, "numbers where there is no mask"
    target = card.plan.target
    of_scan = target.case("", one.input.scan.subject, [one.reading])
    return dict(zip(target.outputs, map(float, of_scan.prediction), strict=True))


def _unfit(error: Exception, header: Dataset) -> str:
    """Return what is wrong with a header; values in it, which may name a person, are not told."""
    if isinstance(error, AttributeError) and error.name:
        return f"no {error.name}"
    values = {name: str(header.get(name) or "") for name in BLANK}
    names = [name for name, value in values.items() if value and value in str(error)]
    if not names:  # errors about names of persons quote none
        names = [name for name, value in values.items() if "\\" in value or value.startswith("[")]
    longest = max(names, key=lambda name: len(values[name]), default="a field")
    return f"a value of {longest} that DICOM does not allow"


def _as_bytes(data: Dataset) -> bytes:
    whole = io.BytesIO()
    pydicom.dcmwrite(whole, data, enforce_file_format=True)
    return whole.getvalue()
