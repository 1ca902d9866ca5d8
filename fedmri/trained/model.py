"""A trained model as a researcher holds it: opened from its file, it predicts and is scored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from fedmri.tasks.task import Case
from fedmri.trained.card import ModelCard
from fedmri.trained.inputs import Gathered, LeftOut, Remark, gather
from fedmri.trained.model_file import ModelFile, read_model
from fedmri.trained.names import MODEL
from fedmri.trained.outputs import DerivativeWriter
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
    ) -> Predictions:
        """Predict on scans; their hospital need not have taken part, and no answer is read.

        Args:
            inputs: NIfTI files, pictures, BIDS data sets, DICOM series or trees, folders of files.
            modalities: Files of one scan of several modalities, by name.
            out: Folder that a BIDS derivative is written to; None writes nothing.
            options: How.

        Raises:
            UsageError: The model cannot predict by itself (U72, U73), there is nothing to predict
                on (U01), or ``out`` holds files (U20).
            ConfigError: The device is not there (C23).
        """
        refuse_incomplete(self.file)
        found = self._gathered(inputs, modalities)
        predictor = Predictor(self.file, self.network, options or PredictOptions())
        predictor.refuse_device()
        if out is None:
            return _kept(predictor, predictor.each(found.inputs), found)
        writer = DerivativeWriter(Path(out), self.card)
        writer.begin()
        for one in found.left_out:
            writer.leave_out(one)
        made = _kept(predictor, _written(predictor.each(found.inputs), writer), found)
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
        labels = target.name if target.kind == "segmentation" else ""
        return gather([Path(path) for path in inputs], named, source, labels)

    def score(self, data: AnyPath, options: ScoreOptions | None = None) -> Scored:
        """Score the model on every patient of a data set, as a simulation scores an external one.

        Raises:
            DataError: The data set cannot be scored on.
            UsageError: The model lacks layers that sites keep (U72).
        """
        return score(self.file, Path(data).expanduser(), options or ScoreOptions())


def _written(
    found: Iterator[Prediction | LeftOut], writer: DerivativeWriter
) -> Iterator[Prediction | LeftOut]:
    """Write each result as it comes and pass it on without its maps."""
    for one in found:
        if isinstance(one, LeftOut):
            writer.leave_out(one)
            yield one
        else:
            writer.add(one)
            yield replace(one, mask=None, shares=None)


def _kept(
    predictor: Predictor, made: Iterator[Prediction | LeftOut], found: Gathered
) -> Predictions:
    every = tuple(made)
    predicted = tuple(one for one in every if isinstance(one, Prediction))
    gone = tuple(one for one in every if isinstance(one, LeftOut))
    patients = tuple(predictor.patients(predicted))
    return Predictions(predicted, (*found.left_out, *gone), patients, (), tuple(found.notes))
