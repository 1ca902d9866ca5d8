"""A model, its untrained twins and its fellows, ready to be explained on scans."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from fedmri.data.covariates import entries_of
from fedmri.errors import ConfigError, UsageError
from fedmri.explain.attribution.columns import beside
from fedmri.explain.attribution.scores import classes_of, untrained, with_head_of
from fedmri.explain.distance import KnownScans, read_sums
from fedmri.explain.judged import MaskFolder
from fedmri.explain.look import look_of
from fedmri.explain.options import ExplainOptions
from fedmri.explain.uncertainty import Doubt, doubt_of, n_dropouts, passes
from fedmri.models.embedding import embedding_of
from fedmri.models.weights import layout
from fedmri.trained.file.model_file import ModelFile, read_model
from fedmri.trained.inputs import Gathered, Input, LeftOut, gather
from fedmri.trained.predict import (
    Opened,
    PredictOptions,
    Predictor,
    make_network,
    refuse_incomplete,
)
from fedmri.training.computing.device import pick_device


@dataclass(frozen=True)
class Explainer:
    """What is the same for all scans.

    Attributes:
        predictor: Opens scans as for predictions, at the field that training cropped to.
        options: What is shown.
        fellows: Networks of the ensemble, the model itself first.
        inputs: Scans that are explained.
    """

    predictor: Predictor
    options: ExplainOptions
    fellows: tuple[nn.Module, ...]
    inputs: Sequence[Input]

    @classmethod
    def of(cls, file: ModelFile, options: ExplainOptions, inputs: Sequence[Input]) -> Explainer:
        """Return the explainer of a model and of those beside it."""
        place = pick_device(options.device or file.card.plan.train.device)
        classes = classes_of(file.card.plan.target)
        if options.explained_class and options.explained_class not in classes:
            want, fix = f"one of {', '.join(classes) or 'none'}", "name a class of the model"
            found = repr(options.explained_class)
            raise ConfigError("C01", "--class", found=found, want=want, fix=fix)
        files = [file, *(_fellow(path, file) for path in options.also)]
        fellows = tuple(make_network(each).to(place) for each in files)
        predicting = PredictOptions(is_cropped=True, device=options.device)
        return cls(Predictor(file, fellows[0], predicting), options, fellows, inputs)

    @property
    def file(self) -> ModelFile:
        """The model's file."""
        return self.predictor.file

    @property
    def network(self) -> nn.Module:
        """The model's network."""
        return self.fellows[0]

    @cached_property
    def place(self) -> torch.device:
        """Where networks are."""
        return next(self.network.parameters()).device

    @cached_property
    def head(self) -> str:
        """Name of the last layer."""
        return layout(self.network).head_layer

    @cached_property
    def twins(self) -> dict[str, nn.Module]:
        """The model, and the same network untrained: all of it, and its last layer alone."""
        other = untrained(self.file, self.options.seed).to(self.place)
        mixed = with_head_of(self.network, other, self.file.card.entries.head)
        return {"model": self.network, "untrained": other, "head": mixed}

    @cached_property
    def masks(self) -> MaskFolder | None:
        """Masks of lesions, where a folder was named."""
        return None if self.options.masks is None else MaskFolder.of(self.options.masks)

    @property
    def sums(self) -> KnownScans | None:
        """Sums over scans that the model knows, where some were named."""
        return self.known[0]

    @cached_property
    def known(self) -> tuple[KnownScans | None, tuple[LeftOut, ...]]:
        """The sums, and scans of the reference that could not be used."""
        path, found = self.options.reference, self._reference
        if found is None:
            return (None if path is None else read_sums(path, self.file.card.sha256)), ()
        every = list(self.predictor.over(found.inputs, self._numbers_of))
        known = [one for one in every if not isinstance(one, LeftOut)]
        gone = (*found.left_out, *(one for one in every if isinstance(one, LeftOut)))
        none = torch.zeros(0, 1)
        embeddings, looks = map(torch.stack, zip(*known, strict=True)) if known else (none, none)
        return KnownScans.of(embeddings, looks, self.file.card.sha256), gone

    @cached_property
    def _reference(self) -> Gathered | None:
        """Scans of the folder that was named as the reference."""
        path = self.options.reference
        if path is None or path.suffix == ".safetensors":
            return None
        return gather([path], {}, self.predictor.plan.data.source)

    @cached_property
    def rows(self) -> torch.Tensor:
        """Rows of the table, one a patient: of the reference, else of what is explained."""
        declared = self.predictor.plan.data.source.declared
        inputs = self.inputs if self._reference is None else self._reference.inputs
        rows = {one.scan.subject: entries_of(declared, one.scan) for one in inputs}
        return torch.tensor([rows[subject] for subject in sorted(rows)], device=self.place)

    def row(self, opened: Opened) -> torch.Tensor:
        """Return what networks read of a scan's row, shape ``(K,)``; nothing where they do not."""
        return torch.tensor(opened.scan.covariates, device=self.place)

    def beside(self, opened: Opened) -> AbstractContextManager[None]:
        """Let all networks read a scan's own row beside its image."""
        return beside(self.row(opened), *self.fellows, *self.twins.values())

    def _numbers_of(self, opened: Opened) -> tuple[torch.Tensor, torch.Tensor]:
        with self.beside(opened):
            return self._numbers(self.images(opened))

    def predictions(self, images: torch.Tensor) -> Doubt:
        """Return what all networks say of examples, with dropout where they have some."""
        return doubt_of(self._members(images))

    def _members(self, images: torch.Tensor) -> Iterator[torch.Tensor]:
        def predict(network: nn.Module) -> torch.Tensor:
            parts = torch.split(images, self.predictor.plan.train.batch_size)
            found = torch.cat([network(part) for part in parts])
            return self.predictor.task.predict(found).cpu()

        for number, network in enumerate(self.fellows):
            n_passes = self.options.n_samples if n_dropouts(network) else 0
            first = self.options.seed + number * self.options.n_samples
            yield from passes(network, predict, n_passes, first)
            if not n_passes:
                with torch.no_grad():
                    yield predict(network)

    def images(self, opened: Opened) -> torch.Tensor:
        """Return the examples of a scan, where the networks are."""
        return self.predictor.images(opened.scan).to(self.place)

    def distances(self, images: torch.Tensor) -> tuple[float, float]:
        """Return how far a scan is from those that the model knows; NaN where none were named.

        The first distance is of its embedding, the second of its look.
        """
        if self.sums is None:
            return math.nan, math.nan
        embedding, look = self._numbers(images)
        return self.sums.embedding.distance(embedding), self.sums.look.distance(look)

    def _numbers(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the embedding and the look of a scan's examples."""
        return self._embedding(images), look_of(images)

    def _embedding(self, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), embedding_of(self.network, self.head) as embedding:
            values = []
            for part in torch.split(images, self.predictor.plan.train.batch_size):
                self.network(part)
                values.append(embedding.value.double().cpu())
        return torch.cat(values).mean(0)


def _fellow(path: Path, first: ModelFile) -> ModelFile:
    """Return a model that sees the same images and answers the same question."""
    file = read_model(path)
    refuse_incomplete(file)
    mine, theirs = first.card.plan, file.card.plan
    pairs = {
        "target": (mine.target, theirs.target),
        "modalities": (mine.data.source.channels, theirs.data.source.channels),
        "columns": (mine.data.source.covariates, theirs.data.source.covariates),
        "preparation": (mine.data.prepare, theirs.data.prepare),
        "harmonization": (_numbers_of(first), _numbers_of(file)),
    }
    if other := [name for name, (a, b) in pairs.items() if a != b]:
        want, fix = "the same as the first model", "name models of runs that differ in seeds alone"
        what = f"model {path} of an ensemble"
        raise UsageError("U85", what, found=f"another {', '.join(other)}", want=want, fix=fix)
    return file


def _numbers_of(file: ModelFile) -> dict[str, dict[str, list[float]]]:
    return {
        group: {name: value.flatten().tolist() for name, value in values.items()}
        for group, values in file.harmonized.items()
    }
