"""A trained model as a researcher holds it: opened from its file, it predicts and is scored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from torch import nn

from fedmri.errors import FedmriError
from fedmri.tasks.task import Case
from fedmri.trained.file.card import ModelCard
from fedmri.trained.file.model_file import ModelFile, read_model
from fedmri.trained.file.names import MODEL
from fedmri.trained.inputs import Gathered, Input, LeftOut, Remark, gather
from fedmri.trained.outputs import DerivativeWriter, refuse_full
from fedmri.trained.predict import (
    Prediction,
    PredictOptions,
    Predictor,
    make_network,
    refuse_incomplete,
)
from fedmri.trained.scoring import Scored, ScoreOptions, score

if TYPE_CHECKING:
    from fedmri.explain.options import ExplainOptions
    from fedmri.explain.record import Explained

AnyPath = str | PathLike[str]


class ResultWriter(Protocol):
    """Writes predictions in another form, beside the BIDS derivative or without it."""

    def begin(self, card: ModelCard) -> None:
        """Get ready for the results of a model; an error ends the command."""
        ...

    def check(self, one: Input) -> None:
        """Raise FedmriError where the results of a scan could not be written: it is left out."""
        ...

    def add(self, one: Prediction) -> None:
        """Write what is predicted for a scan; FedmriError leaves it out."""
        ...


@dataclass(frozen=True)
class Predictions:
    """What a model made of some scans.

    Attributes:
        predicted: One for each scan that could be used, in order. Where files were written, masks
            are in them and not in here.
        left_out: The others, and why.
        patients: One result for each patient, as a run's scores have it; empty for masks.
        files: What was written, in order.
        notes: Codes and reasons of what is odd about a folder as a whole.
    """

    predicted: tuple[Prediction, ...]
    left_out: tuple[LeftOut, ...]
    patients: tuple[Case, ...] = ()
    files: tuple[Path, ...] = ()
    notes: tuple[Remark, ...] = ()

    def __iter__(self) -> Iterator[Prediction]:
        """Iterate over the predictions."""
        return iter(self.predicted)

    def __len__(self) -> int:
        """Return how many scans were predicted."""
        return len(self.predicted)


@dataclass(frozen=True)
class TrainedModel:
    """A model that fedmri trained, from its one file."""

    file: ModelFile

    @classmethod
    def open(cls, path: AnyPath) -> TrainedModel:
        """Open a model's file, or that of the folder of a run; nothing in it is unpickled.

        Raises:
            UsageError: It is damaged or not one (U70), or an older version wrote it (U71).
        """
        place = Path(path).expanduser()
        return cls(read_model(place / MODEL if place.is_dir() else place))

    @property
    def card(self) -> ModelCard:
        """What the file says: plan, classes, rounds, scores, intended use."""
        return self.file.card

    @cached_property
    def network(self) -> nn.Module:
        """The network with its weights, in evaluation mode."""
        return make_network(self.file)

    def predict(
        self,
        *inputs: AnyPath,
        modalities: Mapping[str, AnyPath] | None = None,
        out: AnyPath | None = None,
        options: PredictOptions | None = None,
        also: Sequence[ResultWriter] = (),
    ) -> Predictions:
        """Predict on scans; their hospital need not have taken part, and no answer is read.

        Args:
            inputs: NIfTI files, pictures, BIDS data sets, DICOM series or trees, folders of files.
            modalities: Files of one scan of several modalities, by name.
            out: Folder that a BIDS derivative is written to; None writes nothing.
            options: How.
            also: Writers of further forms, such as ``fedmri.DicomResults``.

        Raises:
            UsageError: The model cannot predict by itself (U72, U73), there is nothing to predict
                on (U01), or ``out`` holds files (U20).
            ConfigError: The device is not there (C23).
        """
        refuse_incomplete(self.file)
        found = self._gathered(inputs, modalities)
        predictor = Predictor(self.file, self.network, options or PredictOptions())
        predictor.refuse_device()
        writer = None if out is None else DerivativeWriter(Path(out), self.card)
        if writer is not None:
            refuse_full(writer.folder)  # before another writer leaves a folder behind
        for other in also:
            other.begin(self.card)
        if writer is not None:
            writer.begin()
        found = _without_refused(found, also)
        if writer is not None:
            writer.leave_out(*found.left_out)
        made = _kept(predictor, _written(predictor.each(found.inputs), writer, also), found)
        if writer is None:
            return made
        writer.end(made.patients)
        return replace(made, files=tuple(writer.files))

    def explain(
        self,
        *inputs: AnyPath,
        out: AnyPath,
        modalities: Mapping[str, AnyPath] | None = None,
        options: ExplainOptions | None = None,
    ) -> Explained:
        """Show what the model looks at in scans, how sure it is, and how far it is from home.

        Args:
            inputs: As for ``predict``.
            out: Folder for maps, pictures and a table, which stay at the site, and aggregates.
            modalities: Files of one scan of several modalities, by name.
            options: Methods, masks, further models, scans that the model knows.

        Raises:
            UsageError: The model cannot predict by itself (U72, U73), models do not go together
                (U85), there is nothing to explain (U01), or ``out`` holds files (U20).
            ConfigError: The class or the device is not there (C01, C23).
        """
        from fedmri.explain.explained import explain
        from fedmri.explain.options import ExplainOptions

        found = self._gathered(inputs, modalities)
        return explain(self.file, found, Path(out), options or ExplainOptions())

    def _gathered(
        self, inputs: Sequence[AnyPath], modalities: Mapping[str, AnyPath] | None
    ) -> Gathered:
        """Return the scans of a call; of a mask's target, the images that masks are drawn on."""
        named = {name: Path(path) for name, path in (modalities or {}).items()}
        source, target = self.card.plan.data.source, self.card.plan.target
        labels = target.label_map.name if target.label_map else ""
        return gather([Path(path) for path in inputs], named, source, labels)

    def score(self, data: AnyPath, options: ScoreOptions | None = None) -> Scored:
        """Score the model on every patient of a data set, as a simulation scores an external one.

        Raises:
            DataError: The data set cannot be scored on.
            UsageError: The model lacks layers that sites keep (U72).
        """
        return score(self.file, Path(data).expanduser(), options or ScoreOptions())


def _without_refused(found: Gathered, also: Sequence[ResultWriter]) -> Gathered:
    """Return the scans that every writer can write the results of, before any is predicted."""
    kept = Gathered(left_out=[*found.left_out], notes=found.notes)
    for one in found.inputs:
        try:
            for writer in also:
                writer.check(one)
        except FedmriError as error:
            kept.left_out.append(LeftOut(one.name, error.code, str(error)))
        else:
            kept.inputs.append(one)
    return kept


def _written(
    found: Iterable[Prediction | LeftOut],
    derivative: DerivativeWriter | None,
    also: Sequence[ResultWriter],
) -> Iterator[Prediction | LeftOut]:
    """Write each result as it comes; what a file holds is passed on without its maps."""
    for one in found:
        told = _told(one, also)
        if derivative is None:
            yield told
        elif isinstance(told, LeftOut):
            derivative.leave_out(told)
            yield told
        else:
            derivative.add(told)
            yield replace(told, mask=None, shares=None)


def _told(one: Prediction | LeftOut, also: Sequence[ResultWriter]) -> Prediction | LeftOut:
    """Hand a result to each writer; one that cannot write it leaves the scan out."""
    if isinstance(one, LeftOut):
        return one
    try:
        for writer in also:
            writer.add(one)
    except FedmriError as error:
        return LeftOut(one.input.name, error.code, str(error))
    return one


def _kept(
    predictor: Predictor, made: Iterator[Prediction | LeftOut], found: Gathered
) -> Predictions:
    every = tuple(made)
    predicted = tuple(one for one in every if isinstance(one, Prediction))
    gone = tuple(one for one in every if isinstance(one, LeftOut))
    patients = tuple(predictor.patients(predicted))
    return Predictions(predicted, (*found.left_out, *gone), patients, (), tuple(found.notes))
