"""Weights of a file as the start of a network: what fits is taken, and all is told by name."""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from fedmri.errors import ConfigError, told
from fedmri.models.weights import layout, load_weights, weights
from fedmri.round import Weights

log = logging.getLogger("fedmri.models")

LEAST_SHARE = 0.5
"""Share of a network's numbers, its head apart, that a file must have: less is another network."""
_NESTED = ("state_dict", "model_state_dict", "model", "network", "net")
_STEM_DIMS = 4


@dataclass(frozen=True)
class Fit:
    """What of a file went into a network, by the network's own names.

    Attributes:
        taken: Entries as the file has them.
        resized: First convolutions of other modalities: the mean of the file's channels.
        fresh: Entries with seeded values: the file has none of the name, or of another shape.
        unused: Names of the file that went nowhere.
    """

    taken: tuple[str, ...]
    resized: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Fit:
        """Return what ``as_dict`` gave, as a record of a run has it."""
        return cls(**{one.name: tuple(values[one.name]) for one in fields(cls)})

    @property
    def summary(self) -> str:
        """One line with all that is not as in the file."""
        fresh = f"; seeded: {', '.join(self.fresh)}" if self.fresh else ""
        resized = f"; resized: {', '.join(self.resized)}" if self.resized else ""
        unused = f"; {len(self.unused)} of the file not used" if self.unused else ""
        return f"{len(self.taken)} entries of the file taken{resized}{fresh}{unused}"

    def as_dict(self) -> dict[str, list[str]]:
        """Return the names as plain values."""
        return {key: list(names) for key, names in asdict(self).items()}


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        ConfigError: It cannot be read (C24).
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, told(error)) from error


def read_weights(path: Path) -> Weights:
    """Return the tensors of a file by name; no code of the file runs.

    Args:
        path: A ``.safetensors`` file, or one that ``torch.save`` wrote, such as MedicalNet's
            ``.pth`` or the ``model.pt`` of a MONAI bundle.

    Raises:
        ConfigError: It cannot be read, or holds no tensors by name (C24).
    """
    try:
        if path.suffix == ".safetensors":
            found: object = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise _unreadable(path, told(error)) from error
    for key in _NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    named = found if isinstance(found, Mapping) else {}
    tensors = {str(name): value for name, value in named.items() if torch.is_tensor(value)}
    if not tensors:
        raise _unreadable(path, "no tensors by name")
    return tensors


def task_of(path: Path) -> str:
    """Return the kind of task that a model of fedmri was trained for; "" for files of others."""
    if path.suffix != ".safetensors":
        return ""
    with safe_open(path, "pt") as file:
        texts = (file.metadata() or {}).values()
    for text in texts:
        try:
            return str(json.loads(text)["plan"]["target"]["kind"])
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
    return ""


def begin_from(network: nn.Module, tensors: Mapping[str, torch.Tensor], n_channels: int) -> Fit:
    """Copy the tensors of a file into a network, where name and shape fit.

    Prefixes that all names of one side share, such as ``module.``, do not count.

    Args:
        network: Network with seeded weights, which stay where the file has none.
        tensors: What ``read_weights`` returned.
        n_channels: Channels of an image: first convolutions for others are resized to it.

    Raises:
        ConfigError: The file has less than half of the network's numbers (C24).
    """
    own, beside = weights(network), _aligned(network.state_dict().keys(), tensors)
    values: Weights = {}
    resized = []
    for name, source in beside.items():
        value = tensors[source]
        if value.shape != own[name].shape and _is_stem(own[name], value, n_channels):
            value = value.mean(1, keepdim=True).expand(own[name].shape) * (
                value.shape[1] / n_channels
            )
            resized.append(name)
        if value.shape == own[name].shape:
            values[name] = value.to(own[name].dtype)
    _refuse_other(network, values)
    load_weights(network, values)
    used = {beside[name] for name in values}
    return Fit(
        taken=tuple(name for name in values if name not in resized),
        resized=tuple(resized),
        fresh=tuple(name for name in own if name not in values),
        unused=tuple(name for name in tensors if name not in used),
    )


def begin(
    network: nn.Module, sha256: str, path: Path | None, n_channels: int, task: str
) -> Fit | None:
    """Let a network start from the file that a plan names by its hash; without a hash, do nothing.

    Args:
        network: Network of the plan, with seeded weights.
        sha256: Hash that the plan names.
        path: The file.
        n_channels: Channels of an image.
        task: Kind of what is learned. The last layer of a model for another task is not taken.

    Raises:
        ConfigError: The file is not there, is another one, or fits another network (C24).
    """
    if not sha256:
        return None
    found = "no file" if path is None else file_sha256(path)
    if path is None or found != sha256:
        fix = "give the file that the plan was made with: simulation.weights, or --weights"
        what = "file of weights to start from"
        raise ConfigError("C24", what, found=found, want=f"SHA-256 {sha256}", fix=fix)
    tensors = read_weights(path)
    if task_of(path) not in ("", task):
        names = _aligned(network.state_dict().keys(), tensors)
        others = {names[name] for name in layout(network).head if name in names}
        tensors = {name: value for name, value in tensors.items() if name not in others}
    fit = begin_from(network, tensors, n_channels)
    log.info("%s: %s", path.name, fit.summary)
    return fit


def _aligned(own: Iterable[str], other: Iterable[str]) -> dict[str, str]:
    """Return the file's name of each of the network's, where it has one."""
    names, sources = list(own), list(other)
    n_own, n_other = _n_shared(names), _n_shared(sources)
    by_name = {source[n_other:]: source for source in sources}
    by_name |= {source: source for source in sources}
    pairs = {name: by_name.get(name) or by_name.get(name[n_own:]) for name in names}
    return {name: source for name, source in pairs.items() if source is not None}


def _n_shared(names: list[str]) -> int:
    """Return the length of the dotted prefix that all names have."""
    first, last = (name.split(".")[:-1] for name in (min(names), max(names)))
    same = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return sum(len(part) + 1 for part, _ in same)


def _is_stem(own: torch.Tensor, other: torch.Tensor, n_channels: int) -> bool:
    is_like = own.shape[:1] == other.shape[:1] and own.shape[2:] == other.shape[2:]
    return own.ndim >= _STEM_DIMS and own.shape[1] == n_channels and is_like


def _refuse_other(network: nn.Module, values: Weights) -> None:
    head = layout(network).head
    body = {name: p.numel() for name, p in network.named_parameters() if name not in head}
    n_body, n_taken = sum(body.values()), sum(body.get(name, 0) for name in values)
    if n_taken < LEAST_SHARE * n_body:
        found = f"{n_taken:,} of {n_body:,} numbers of the network, its last layer apart"
        fix = "set model to the network that the file was made with, with its width and depth"
        want = f"{LEAST_SHARE:.0%} or more"
        raise ConfigError("C24", "file of weights to start from", found=found, want=want, fix=fix)


def _unreadable(path: Path, found: str) -> ConfigError:
    want = "a safetensors file, or a state_dict that torch.save wrote"
    fix = "save the network's state_dict() alone, or take another file"
    return ConfigError("C24", f"file of weights {path.name}", found=found, want=want, fix=fix)
