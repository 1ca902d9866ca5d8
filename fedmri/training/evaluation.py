"""Scores of a site's patients, one scan in memory at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedmri.data.batches.site_data import Example, SiteData, Split
from fedmri.data.settings import DataConfig
from fedmri.models.embedding import Embedding, embedding_of
from fedmri.round import Batch
from fedmri.tasks.task import Case, Reading, Task, patient_cases
from fedmri.training.computing.arithmetic import Arithmetic
from fedmri.training.computing.device import memory_explained, reproducible
from fedmri.training.looking import Look
from fedmri.training.pictures import Picture, picture_of
from fedmri.training.settings import TrainConfig

Patient = tuple[str, str]
"""Site and subject."""


@dataclass(frozen=True)
class Evaluation:
    """Results of a network on a split of a site. They stay at the site.

    Attributes:
        cases: One for each patient, sorted by site and subject.
        loss: Mean over patients, each within the task's range, of their mean over examples; NaN
            where there are none.
        n_examples: Volumes or slices.
        pictures: Of as many patients as were asked for, evenly spaced.
        embeddings: By patient, the mean over examples of what reaches a layer, shape ``(d,)``,
            float32; empty where no layer was named.
    """

    cases: tuple[Case, ...]
    loss: float
    n_examples: int
    pictures: tuple[Picture, ...] = ()
    embeddings: Mapping[Patient, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class _Row:
    """One example with its prediction."""

    example: Example
    image: torch.Tensor
    truth: torch.Tensor
    prediction: torch.Tensor
    loss: float
    embedding: torch.Tensor | None


def evaluate(  # noqa: PLR0913  # what, on whom, and how
    network: nn.Module,
    data: SiteData,
    split: Split,
    task: Task,
    train: TrainConfig,
    *,
    wanted: DataConfig | None = None,
    n_pictures: int = 0,
    layer: str = "",
) -> Evaluation:
    """Score a network on every patient of a split, without gradients and in evaluation mode.

    Examples of a scan are put together, and dropped when the next scan comes; scans of a patient
    make one case. The network is left in the mode that it was in. Losses are float32, of each
    example by itself; in float32 neither they nor cases depend on the size of a batch.

    Args:
        network: Network to score; it is moved to the device.
        data: Examples of the site.
        split: ``train``, ``val`` or ``test``.
        task: What is predicted and how it is scored.
        train: How the network computes, and on how many examples together.
        wanted: Whether the network looks by windows and in a mirror; None looks at whole images.
        n_pictures: Pictures wanted, one patient each.
        layer: Layer whose inputs are kept as embeddings, by its name; empty keeps none. Where an
            image and its mirror image are looked at, the latter's count.

    Raises:
        ConfigError: The device is not there, or lacks the precision (C23).
        RoundError: Memory ran out (R21), or slices cannot be put back together (R22).
    """
    readings: dict[Patient, list[Reading]] = {}
    pictures: list[Picture] = []
    shown = _spaced(data.examples(split), n_pictures)
    arithmetic = Arithmetic.of(train)
    place = arithmetic.device
    losses: dict[Patient, list[float]] = {}
    embeddings: dict[Patient, list[torch.Tensor]] = {}
    n_examples = 0
    kept = embedding_of(network, layer) if layer else nullcontext()
    with reproducible(), memory_explained(place), _evaluating(network.to(place)), kept as reached:
        look = Look.of(wanted, _mirror_axis(data, split)) if wanted else Look()
        answer = partial(look.outputs, arithmetic.answering(network))
        batches = data.eval_batches(split, batch_size=train.batch_size)
        outputs = ((batch, answer(arithmetic.inputs(batch.inputs))) for batch in batches)
        rows = _rows(iter(data.examples(split)), outputs, task, reached)
        for _, group in groupby(rows, key=lambda row: (row.example.site, row.example.scan)):
            scan = list(group)
            reading = _read(task, scan)
            patient = (scan[0].example.site, scan[0].example.subject)
            readings.setdefault(patient, []).append(reading)
            losses.setdefault(patient, []).extend(row.loss for row in scan)
            own = [row.embedding for row in scan if row.embedding is not None]
            embeddings.setdefault(patient, []).extend(own)
            n_examples += len(scan)
            if patient in shown:
                shown.remove(patient)
                pictures.append(_picture(task, scan, reading))
    cases = tuple(patient_cases(task, readings))
    loss = _mean_loss(task, losses)
    return Evaluation(cases, loss, n_examples, tuple(pictures), _means(embeddings))


def _mean_loss(task: Task, losses: Mapping[Patient, Sequence[float]]) -> float:
    """Return the mean over patients, none of whom decides it alone."""
    low, high = task.ranges["loss"]
    own = [math.fsum(losses[patient]) / len(losses[patient]) for patient in sorted(losses)]
    within = [min(max(loss, low), high) if math.isfinite(loss) else high for loss in own]
    return math.fsum(within) / len(within) if within else math.nan


def _means(embeddings: Mapping[Patient, Sequence[torch.Tensor]]) -> dict[Patient, torch.Tensor]:
    return {one: torch.stack(list(own)).mean(0) for one, own in embeddings.items() if own}


def adapt_norm_statistics(
    network: nn.Module, data: SiteData, split: Split, train: TrainConfig
) -> bool:
    """Estimate batch norm's running statistics anew from a split's images; labels are not read.

    For a site that took no part in training and has no batch norm of its own. Every batch counts
    the same; the weights do not change. A network without batch norm, or a split without examples,
    is left as it is.

    Args:
        network: Network to change; it is moved to the device.
        data: Examples of the site.
        split: Images to take.
        train: How the network computes, and of how many images statistics are taken together.

    Returns:
        Whether anything was estimated. Scores on the same images are transductive then.

    Source:
        Li, Wang, Shi, Liu and Hou 2018, AdaBN, doi:10.1016/j.patcog.2018.03.005.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    if not norms or not data.examples(split):
        return False
    arithmetic, momenta = Arithmetic.of(train), [norm.momentum for norm in norms]
    place = arithmetic.device
    with reproducible(), memory_explained(place), _evaluating(network.to(place)):
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a cumulative mean
            norm.train()
        for batch in data.eval_batches(split, batch_size=train.batch_size):
            arithmetic.outputs(network, arithmetic.inputs(batch.inputs))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return True


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, is_training in modes:
            module.training = is_training


def _mirror_axis(data: SiteData, split: Split) -> int | None:
    """Return the axis that runs left to right, the same in all examples of a site."""
    return next((example.mirror_axis for example in data.examples(split)), None)


def _rows(
    examples: Iterator[Example],
    found: Iterable[tuple[Batch, torch.Tensor]],
    task: Task,
    reached: Embedding | None,
) -> Iterator[_Row]:
    for batch, outputs in found:
        embedded = None if reached is None else reached.value.float().cpu()
        target, predictions = batch.target.to(outputs.device), task.predict(outputs).cpu()
        for i, (image, truth, prediction) in enumerate(
            zip(batch.image, batch.target, predictions, strict=True)
        ):
            # each by itself: overlap losses of a batch would mix patients
            loss = float(task.mean_loss(outputs[i : i + 1], target[i : i + 1]))
            own = None if embedded is None else embedded[i]
            yield _Row(next(examples), image, truth, prediction, loss, own)


def _read(task: Task, scan: list[_Row]) -> Reading:
    predictions = torch.stack([row.prediction for row in scan])
    truth = torch.stack([row.truth for row in scan])
    return task.read(predictions, truth, [row.example for row in scan])


def _spaced(examples: tuple[Example, ...], n_wanted: int) -> set[Patient]:
    patients = sorted({(example.site, example.subject) for example in examples})
    n_taken = min(n_wanted, len(patients))
    return {patients[i * len(patients) // n_taken] for i in range(n_taken)}


def _picture(task: Task, scan: list[_Row], reading: Reading) -> Picture:
    is_mask = task.label_map is not None
    return picture_of(
        [row.image for row in scan],
        [row.truth[0].clamp(min=0) for row in scan] if is_mask else None,
        [row.prediction.argmax(0) for row in scan] if is_mask else None,
        example=scan[0].example,
        caption=task.caption(reading),
    )
