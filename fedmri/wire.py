"""What travels, as Flower records and back; the only library file that imports flwr.

Nothing is ever unpickled: arrays travel in safetensors form, everything else as numbers and text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fedmri.errors import CODES, RoundError, told
from fedmri.round import Update, Weights

MODEL, EXTRA, ORDER, METRICS, SUMS = "model", "extra.", "order", "metrics", "sums"
SAFETENSORS = "safetensors"
SECURE, MASKED = "secure", "masked"
"""Record of what a secure sum needs, and the one entry of what it hides a site's values in."""
HARMONIZE = "harmonize"
"""Record beside a model that holds what images are harmonized by."""
TRAIN_METRICS = frozenset(
    {
        *("loss", "n_steps", "n_seen", "n_skipped", "train_seconds"),
        *("epsilon", "delta", "site_epsilon"),
    }
)
ADAPTED = "is_adapted"
"""Metric beside scores: 1 where the model was adapted to the images that are scored."""
EMBEDDING = "embedding"
"""Record beside a model that holds what its embeddings are harmonized by."""
TOLD = "told"
"""Entry of an order: round and code of the site's last update, where it was left out."""
N_MOST = 1 << 31
"""No count of examples or subjects is as large."""
MOST_METRICS, LONGEST_NAME = 1000, 100


ODD = (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError)
"""What comes of reading a message that is none of ours."""


@dataclass(frozen=True)
class Masking:
    """What a site needs to mask its values: the number of the sum, and the boxes of all sites."""

    number: int
    arrays: Weights


@dataclass(frozen=True)
class TrainOrder:
    """What the server asks of a site: train for a round, from ``weights``.

    Attributes:
        round_index: Number of the round, from 1.
        weights: Shared entries of the model.
        extra: What the strategy sends beside it, and what images are harmonized by.
        masking: Where the update is to be masked.
    """

    round_index: int
    weights: Weights
    extra: Mapping[str, Weights] = field(default_factory=dict)
    masking: Masking | None = None


@dataclass(frozen=True)
class EvaluateOrder:
    """What the server asks of a site: score ``weights`` on a split.

    Attributes:
        round_index: Last round of training behind the weights.
        split: ``val`` or ``test``.
        weights: Shared entries of the model.
        n_pictures: Example pictures that the site writes to its own disk.
        extra: Named tensors beside the weights: what images are harmonized by.
    """

    round_index: int
    split: str
    weights: Weights
    n_pictures: int = 0
    extra: Mapping[str, Weights] = field(default_factory=dict)


@dataclass(frozen=True)
class SumsOrder:
    """What the server asks of a site: its part of sums over sites.

    Attributes:
        step: Which step of the plan's harmonization, from 0.
        shared: What came of the step before it.
        weights: Model of whose embeddings the sums are; empty where they are of images.
        round_index: Last round of training behind it.
        extra: Named tensors beside the model: what images are harmonized by.
        masking: Where the sums are to be masked.
    """

    step: int
    shared: Weights
    weights: Weights = field(default_factory=dict)
    round_index: int = 0
    extra: Mapping[str, Weights] = field(default_factory=dict)
    masking: Masking | None = None


@dataclass(frozen=True)
class SecureStep:
    """What the server asks of a site for a secure sum, besides the values themselves.

    Attributes:
        round_index: Round whose updates are summed; 0 before the rounds.
        number: Number of the sum.
        stage: ``advertise``, ``share`` or ``reveal``.
        arrays: Nothing, the roster, or the survivors.
        sums: Step of the harmonization whose sums are hidden; None for updates.
    """

    round_index: int
    number: int
    stage: str
    arrays: Weights
    sums: SumsOrder | None = None


@dataclass(frozen=True)
class Sums:
    """What a site answers: what it adds to each sum, and how much is behind it."""

    site: str
    arrays: Weights
    n_subjects: int
    n_examples: int


@dataclass(frozen=True)
class Scores:
    """What a site answers: aggregate metrics over patients, never a patient's own."""

    site: str
    n_subjects: int
    n_examples: int
    metrics: Mapping[str, float]


class LazyArray(Array):
    """An array that turns into bytes only when somebody sends it over a network.

    In one process the receiver takes the tensor itself, so a round costs no serialisation.
    """

    def __init__(self, values: np.ndarray[Any, Any]) -> None:
        vars(self).update(
            _values=values,
            dtype=str(values.dtype),
            shape=tuple(values.shape),
            stype="numpy.ndarray",
        )

    @property
    def data(self) -> bytes:  # type: ignore[override]  # a field of the base is computed here
        """The array in ``.npy`` format."""
        buffer = BytesIO()
        np.save(buffer, vars(self)["_values"], allow_pickle=False)
        return buffer.getvalue()

    def numpy(self) -> np.ndarray[Any, Any]:
        """Return the array itself, not a copy."""
        values: np.ndarray[Any, Any] = vars(self)["_values"]
        return values


# flwr writes the class name into the message and looks it up on the other side.
LazyArray.__qualname__ = "Array"


def pack(weights: Mapping[str, torch.Tensor]) -> ArrayRecord:
    """Return the weights as a record that shares their memory."""
    record = ArrayRecord()
    for name, value in weights.items():
        record[name] = LazyArray(value.detach().cpu().numpy())
    return record


def unpack(record: ArrayRecord) -> Weights:
    """Return the record's arrays as tensors, sharing memory where possible.

    Raises:
        RoundError: An entry is no array of numbers (R03).
    """
    return {name: _tensor(name, array) for name, array in record.items()}


def _tensor(name: str, array: Array) -> torch.Tensor:
    try:
        values = array.numpy()
        # asarray: a 0-d array must stay one
        return torch.from_numpy(np.asarray(values))
    except (TypeError, ValueError, EOFError, OSError) as error:
        fix = "update fedmri at that site; both sides must run the same version"
        found = f"{array.dtype} in {array.stype} format ({type(error).__name__})"
        want = "numbers in .npy format"
        raise RoundError("R03", f"entry {name}", found=found, want=want, fix=fix) from error


def train_content(order: TrainOrder) -> RecordDict:
    """Return the message content of an order to train."""
    content = _content(order.weights, order.extra, {"round": order.round_index})
    _add_masking(content, order.masking)
    return content


def read_train(content: RecordDict) -> TrainOrder:
    """Return the order to train in a message."""
    round_index, masking = int(_config(content)["round"]), _masking(content)
    weights, extra = unpack(content.array_records[MODEL]), _extra(content)
    return TrainOrder(round_index, weights, extra, masking)


def _add_masking(content: RecordDict, masking: Masking | None) -> None:
    if masking is not None:
        fields = {**_config(content), "number": masking.number}
        content[ORDER] = ConfigRecord({"json": json.dumps(fields)})
        content[EXTRA + SECURE] = pack(masking.arrays)


def _masking(content: RecordDict) -> Masking | None:
    if EXTRA + SECURE not in content:
        return None
    return Masking(int(_config(content)["number"]), unpack(content.array_records[EXTRA + SECURE]))


def evaluate_content(order: EvaluateOrder) -> RecordDict:
    """Return the message content of an order to evaluate."""
    fields = {
        "round": order.round_index,
        "split": order.split,
        "n_pictures": order.n_pictures,
    }
    return _content(order.weights, order.extra, fields)


def read_evaluate(content: RecordDict) -> EvaluateOrder:
    """Return the order to evaluate in a message."""
    fields = _config(content)
    weights = unpack(content.array_records[MODEL])
    n_pictures = int(fields["n_pictures"])
    split = str(fields["split"])
    return EvaluateOrder(int(fields["round"]), split, weights, n_pictures, _extra(content))


def sums_order_content(order: SumsOrder) -> RecordDict:
    """Return the message content of an order for sums."""
    fields = {"round": order.round_index, "step": order.step}
    content = _content(order.weights, order.extra, fields)
    content[SUMS] = pack(order.shared)
    _add_masking(content, order.masking)
    return content


def read_query(content: RecordDict) -> SumsOrder | SecureStep:
    """Return the order for sums, or for a step of a secure sum, in a message."""
    fields, shared = _config(content), unpack(content.array_records[SUMS])
    weights, masking = unpack(content.array_records[MODEL]), _masking(content)
    step, round_index = int(fields["step"]), int(fields["round"])
    sums = SumsOrder(step, shared, weights, round_index, _extra(content), masking)
    if "stage" not in fields or masking is None:
        return sums
    hidden = replace(sums, masking=None) if sums.step >= 0 else None
    return SecureStep(round_index, masking.number, str(fields["stage"]), masking.arrays, hidden)


def secure_step_content(order: SecureStep) -> RecordDict:
    """Return the message content of an order for a step of a secure sum."""
    content = sums_order_content(order.sums or SumsOrder(-1, {}))
    fields = {**_config(content), "round": order.round_index, "stage": order.stage}
    content[ORDER] = ConfigRecord({"json": json.dumps(fields)})
    _add_masking(content, Masking(order.number, order.arrays))
    return content


def sums_content(sums: Sums) -> RecordDict:
    """Return the message content of a site's part of sums."""
    content = RecordDict()
    content[SUMS] = pack(sums.arrays)
    counts = {"n_examples": sums.n_examples, "n_subjects": sums.n_subjects}
    content[ORDER] = ConfigRecord({"json": json.dumps(counts)})
    content[METRICS] = MetricRecord()
    return content


def read_sums(site: str, content: RecordDict) -> Sums:
    """Return a site's part of sums.

    Raises:
        RoundError: A record is missing, not declared or no array of numbers (R03).
    """
    try:
        _refuse_others(content, {SUMS, ORDER, METRICS})
        n_examples, n_subjects = _counts(content)
        return Sums(site, unpack(content.array_records[SUMS]), n_subjects, n_examples)
    except ODD as error:
        raise _no_answer(site, error) from error


def update_content(update: Update) -> RecordDict:
    """Return the message content of a site's update; its name is not part of it."""
    counts = {"n_examples": update.n_examples, "n_subjects": update.n_subjects}
    content = _content(update.weights, update.extra, counts)
    content[METRICS] = MetricRecord({name: float(v) for name, v in update.metrics.items()})
    return content


def read_update(site: str, content: RecordDict) -> Update:
    """Return a site's update; the site is known from who answered, not from what it says.

    Raises:
        RoundError: A record is missing, not declared or no array of numbers (R03).
    """
    extra = {key for key in content if key.startswith(EXTRA)}
    try:
        _refuse_others(content, {MODEL, ORDER, METRICS} | extra)
        n_examples, n_subjects = _counts(content)
        weights = unpack(content.array_records[MODEL])
        metrics = _metrics(content)
        if strays := sorted(metrics.keys() - TRAIN_METRICS):
            raise ValueError(f"metric {strays[0]!r}")
    except ODD as error:
        raise _no_answer(site, error) from error
    return Update(site, weights, n_examples, n_subjects, metrics, _extra(content))


def scores_content(scores: Scores) -> RecordDict:
    """Return the message content of a site's scores."""
    content = RecordDict()
    counts = {"n_examples": scores.n_examples, "n_subjects": scores.n_subjects}
    content[ORDER] = ConfigRecord({"json": json.dumps(counts)})
    content[METRICS] = MetricRecord({name: float(v) for name, v in scores.metrics.items()})
    return content


def read_scores(site: str, content: RecordDict) -> Scores:
    """Return a site's scores; raise RoundError R03 where a record is missing or not declared."""
    try:
        _refuse_others(content, {ORDER, METRICS})
        n_examples, n_subjects = _counts(content)
        return Scores(site, n_subjects, n_examples, _metrics(content))
    except ODD as error:
        raise _no_answer(site, error) from error


def _refuse_others(content: RecordDict, names: set[str]) -> None:
    if strays := sorted(content.keys() - names):
        raise ValueError(f"record {strays[0]!r}")


def _counts(content: RecordDict) -> tuple[int, int]:
    counts = _config(content)
    n_examples, n_subjects = counts["n_examples"], counts["n_subjects"]
    if not all(type(n) is int and 0 <= n < N_MOST for n in (n_examples, n_subjects)):
        raise ValueError("a count that is none")
    return n_examples, n_subjects


def _metrics(content: RecordDict) -> dict[str, float]:
    record = content.metric_records[METRICS]
    # names are written down and shown
    is_plain = all(len(name) <= LONGEST_NAME and name.isprintable() for name in record)
    if len(record) > MOST_METRICS or not is_plain:
        raise ValueError("names of metrics that are none")
    return {name: float(value) for name, value in record.items()}  # type: ignore[arg-type]  # lists raise TypeError


def as_arrays(weights: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    """Return tensors of a message as arrays that share their memory."""
    return {name: value.numpy() for name, value in weights.items()}


def as_tensors(arrays: Mapping[str, np.ndarray[Any, Any]]) -> Weights:
    """Return arrays as tensors, to be sent; those that cannot be written are copied."""
    return {n: torch.from_numpy(np.require(v, requirements="W")) for n, v in arrays.items()}


def n_bytes(weights: Mapping[str, torch.Tensor]) -> int:
    """Return the size of the weights as they travel, without headers."""
    return sum(value.numel() * value.element_size() for value in weights.values())


def take_apart(content: RecordDict) -> tuple[dict[str, Any], Weights]:
    """Return content without its arrays, and the arrays by ``record/name``.

    For engines that move arrays through shared memory. ``put_together`` is the inverse.
    """
    skeleton: dict[str, Any] = {}
    arrays: Weights = {}
    for key, record in content.items():
        if isinstance(record, ArrayRecord):
            skeleton[key] = list(record)
            arrays |= {f"{key}/{name}": value for name, value in unpack(record).items()}
        else:
            skeleton[key] = (type(record).__name__, dict(record))
    return skeleton, arrays


def put_together(skeleton: Mapping[str, Any], arrays: Weights) -> RecordDict:
    """Return the content that ``take_apart`` took apart."""
    content = RecordDict()
    for key, value in skeleton.items():
        if isinstance(value, list):
            content[key] = pack({name: arrays[f"{key}/{name}"] for name in value})
        else:
            kind, entries = value
            content[key] = (
                MetricRecord(entries) if kind == "MetricRecord" else ConfigRecord(entries)
            )
    return content


def bundle(content: RecordDict) -> RecordDict:
    """Return content for a network: the arrays of each record as one, in safetensors form.

    Flower sends each array by calls of its own, over each of three hops: hundreds for a small
    network. ``unbundle`` is the inverse, to the bit.
    """
    bundled = RecordDict()
    for key, record in content.items():
        if not isinstance(record, ArrayRecord):
            bundled[key] = record
            continue
        data = save({name: np.asarray(array.numpy()) for name, array in record.items()})
        whole = ArrayRecord()
        whole[SAFETENSORS] = Array("uint8", (len(data),), SAFETENSORS, data)
        bundled[key] = whole
    return bundled


def unbundle(content: RecordDict) -> RecordDict:
    """Return the content that ``bundle`` made ready for a network.

    Raises:
        RoundError: A record is no such thing (R03).
    """
    plain = RecordDict()
    for key, record in content.items():
        plain[key] = _opened(key, record) if isinstance(record, ArrayRecord) else record
    return plain


def _opened(key: str, record: ArrayRecord) -> ArrayRecord:
    fix = "update fedmri at that site; both sides must run the same version"
    want = "one array in safetensors form"
    what = f"record {key}"
    if list(record) != [SAFETENSORS] or record[SAFETENSORS].stype != SAFETENSORS:
        raise RoundError("R03", what, found=f"{len(record)} others", want=want, fix=fix)
    opened = ArrayRecord()
    try:
        values = load(record[SAFETENSORS].data)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        found = told(error)
        raise RoundError("R03", what, found=found, want=want, fix=fix) from error
    for name, value in values.items():
        opened[name] = LazyArray(value)
    return opened


def telling(content: RecordDict, told: tuple[int, str] | None) -> RecordDict:
    """Return an order that also tells a site in which round its update was left out, and why."""
    if told is not None:
        fields = {**_config(content), TOLD: list(told)}
        content[ORDER] = ConfigRecord({"json": json.dumps(fields)})
    return content


def told_of(content: RecordDict) -> tuple[int, str] | None:
    """Return the round and the code of a site's last update that was left out, if one was."""
    told = _config(content).get(TOLD)
    if not isinstance(told, list) or len(told) != 2:
        return None
    round_index, code = told
    is_round = type(round_index) is int and 0 <= round_index < N_MOST
    is_plain = is_round and isinstance(code, str) and code in CODES
    return (round_index, code) if is_plain else None


def _content(
    weights: Mapping[str, torch.Tensor],
    extra: Mapping[str, Weights],
    fields: Mapping[str, Any],
) -> RecordDict:
    content = RecordDict()
    content[MODEL] = pack(weights)
    for name, values in extra.items():
        content[f"{EXTRA}{name}"] = pack(values)
    content[ORDER] = ConfigRecord({"json": json.dumps(dict(fields))})
    return content


def _config(content: RecordDict) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(str(content.config_records[ORDER]["json"]))
    return fields


def _extra(content: RecordDict) -> dict[str, Weights]:
    records = content.array_records.items()
    named = ((key.removeprefix(EXTRA), r) for key, r in records if key.startswith(EXTRA))
    return {name: unpack(record) for name, record in named if name != SECURE}


def _no_answer(site: str, error: Exception) -> RoundError:
    fix = "update fedmri at that site; both sides must run the same version"
    found = told(error)
    want = "the declared records"
    return RoundError("R03", f"answer of site {site}", found=found, want=want, fix=fix)
