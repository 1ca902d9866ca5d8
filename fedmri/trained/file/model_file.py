"""The one file of a trained model: tensors, and one JSON text in the metadata; nothing is pickled.

A file is read in this order: its header, the card, the network that the card's plan describes
(without memory), the names, types and shapes of all tensors against that network, then the values.
So a hostile file costs no more than its own size.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch.overrides import TorchFunctionMode

from fedmri.errors import ConfigError, FedmriError, UsageError, told
from fedmri.harmonize.images.nyul import PERCENTILES
from fedmri.machine.files import write_tensors
from fedmri.models.build import build_network
from fedmri.models.weights import digest, layout
from fedmri.plan import Plan
from fedmri.round import Layout, Weights
from fedmri.stages.registry import STAGES
from fedmri.stages.stage import Made
from fedmri.trained.file.card import FORMAT, PERSONAL, Entries, ModelCard, from_json, to_json
from fedmri.trained.file.names import CARD, PARAMETERS

MOST_HEADER_BYTES = 16 * 2**20
MOST_VOXELS, LEAST_SPACING_MM, MOST_THREADS, MOST_EXAMPLES = 8192, 0.05, 1024, 65_536
"""Of one side of an image; of a voxel; of the CPU; of a batch."""
MOST_NUMBERS = 10**6
"""Of one harmonization parameter."""

AGAIN = "copy or fetch it again from the run that made it; do not use it if you were sent it"
NEWER = "update fedmri, for a newer version wrote it; do not use it if you were sent it"
UNKNOWN_PART = (
    "install what the run had: a later fedmri, or the distribution of this part; do not use the "
    "file if you were sent it"
)

Form = tuple[str, tuple[int, ...]]
"""Type and shape of a tensor, as the header writes them."""


@dataclass(frozen=True)
class ModelFile:
    """What a model's file holds.

    Attributes:
        card: What it says of itself.
        weights: Entries of the network; those of ``card.entries.at_sites`` are initial values.
        harmonized: Harmonization parameters by stage and name.
    """

    card: ModelCard
    weights: Weights
    harmonized: Mapping[str, Weights]


def write_model(path: Path, file: ModelFile) -> None:
    """Write a model's file; whoever reads meanwhile sees the old file or the new, never a part.

    Raises:
        OSError: The system refuses it, such as a full disk.
    """
    tensors = dict(file.weights)
    for group, values in file.harmonized.items():
        tensors |= {f"{PARAMETERS}{group}/{name}": value for name, value in values.items()}
    write_tensors(path, tensors, {CARD: to_json(file.card)})


def read_model(path: Path) -> ModelFile:
    """Read a model's file, trusting nothing in it.

    Raises:
        UsageError: It is damaged, or no such file (U70), or of a version that wrote weights alone
            (U71).
    """
    header = _header(path)
    card = _card(path, header.pop("__metadata__", None))
    try:
        _refuse_large(card)
        forms, entries = network_forms(card.plan)
        _refuse_other_entries(card, entries)
        _refuse_other_forms(header, forms)
        file = _loaded(path, card)
        _refuse_other_values(file, entries)
    except (SafetensorError, OSError, ValueError, RuntimeError, FedmriError) as error:
        raise unusable(path, _said(error)) from error
    return file


def network_forms(plan: Plan) -> tuple[dict[str, Form], Layout]:
    """Return type and shape of each entry of a plan's network, and the layout; no value is made.

    Raises:
        ConfigError: The network does not fit the plan's task or images.
        RuntimeError: The network looks at values while it is made.
    """
    with torch.device("meta"), _RatesKept():
        network = build_network(plan.model, **plan.network)
    state = network.state_dict()
    forms = {name: (type_name(v.dtype), tuple(v.shape)) for name, v in state.items()}
    return forms, layout(network)


class _RatesKept(TorchFunctionMode):
    """Gives values to ranges of numbers: MONAI's SwinUNETR reads its drop rates from one."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, on the CPU where it makes a range."""
        given = dict(kwargs or {})
        if func is torch.linspace:
            given.setdefault("device", "cpu")
        return func(*args, **given)


def type_name(dtype: torch.dtype) -> str:
    """Return a type as headers of safetensors write it: a letter, and the bits of a number."""
    if dtype in (torch.bool, torch.bfloat16):
        return "BOOL" if dtype == torch.bool else "BF16"
    is_signed = dtype != torch.uint8
    letter = "F" if dtype.is_floating_point else "I" if is_signed else "U"
    return f"{letter}{8 * dtype.itemsize}"


def _header(path: Path) -> dict[str, Any]:
    """Return the header of a safetensors file as JSON has it, before anything else is read."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("no regular file")
        with path.open("rb") as file:
            n_header = int.from_bytes(file.read(8), "little")
            if n_header > min(MOST_HEADER_BYTES, status.st_size - 8):
                raise ValueError(f"a header of {n_header} bytes in a file of {status.st_size}")
            header = json.loads(file.read(n_header))
        if not isinstance(header, dict) or not all(isinstance(v, dict) for v in header.values()):
            raise ValueError("a header that is no table of tensors")
    except (OSError, ValueError, RecursionError) as error:
        fix = "name the model.safetensors of a run" if isinstance(error, FileNotFoundError) else ""
        raise unusable(path, _said(error), fix) from error
    return header


def _card(path: Path, metadata: Any) -> ModelCard:
    notes: object = None
    if not isinstance(metadata, dict) or set(metadata) != {CARD}:
        raise unusable(path, "no card in its metadata")
    try:
        notes = json.loads(metadata[CARD])
        if isinstance(notes, dict) and "format" not in notes and "sha256" in notes:
            raise _too_old(path)
        return from_json(metadata[CARD])
    except UsageError:
        raise
    except (ValueError, TypeError, RecursionError, OverflowError, FedmriError) as error:
        fix = NEWER if _is_newer(notes) else UNKNOWN_PART if _is_part_unknown(error) else ""
        raise unusable(path, f"a card with {_said(error)}", fix) from error


def _is_newer(notes: object) -> bool:
    """Whether a card says that a later version wrote it, which need not be a lie."""
    number = notes.get("format") if isinstance(notes, dict) else None
    return isinstance(number, int) and number > FORMAT


def _is_part_unknown(error: Exception) -> bool:
    """Whether a card names a part that nothing installed here has."""
    return isinstance(error, ConfigError) and error.code == "C01" and "want one of " in str(error)


def _refuse_large(card: ModelCard) -> None:
    """Refuse a plan that would take the memory or the cores of a machine, and odd ranges."""
    plan, prepare = card.plan, card.plan.data.prepare
    sides = (*prepare.size, *prepare.shape, prepare.n_neighbours)
    if max(sides) > MOST_VOXELS or 0 < prepare.spacing_mm < LEAST_SPACING_MM:
        raise ValueError("images of a size that no scan has")
    if plan.train.n_threads > MOST_THREADS or plan.train.batch_size > MOST_EXAMPLES:
        raise ValueError("more threads or examples at once than any machine takes")
    n_modalities, ranges = len(plan.data.source.channels), card.ranges
    if ranges is None:
        return
    has_form = (
        len(ranges.percentiles) == len(ranges.distances) == n_modalities
        and all(len(values) in (0, len(PERCENTILES)) for values in ranges.percentiles)
        and len(ranges.spacing_mm) == len(ranges.extent_mm)
        and len(ranges.spacing_mm) in (0, 3)
    )
    if not has_form:
        raise ValueError("ranges of other scans than the plan's")


def _refuse_other_entries(card: ModelCard, entries: Layout) -> None:
    """Refuse a card whose lists of entries are not those of its own plan's network."""
    kept = frozenset() if card.role == PERSONAL else card.plan.strategy.local_names(entries)
    wanted = Entries.of(entries, kept)
    if card.entries != wanted:
        raise ValueError("lists of entries that are not those of its network")


def _refuse_other_forms(header: Mapping[str, Any], forms: Mapping[str, Form]) -> None:
    """Refuse tensors that the network does not have, has otherwise, or that are not there."""
    weights = {name: form for name, form in header.items() if not name.startswith(PARAMETERS)}
    if missing := sorted(forms.keys() - weights.keys()):
        raise ValueError(f"{len(missing)} missing tensors, such as {missing[0]}")
    if extra := sorted(weights.keys() - forms.keys()):
        raise ValueError(f"{len(extra)} tensors that its network does not have")
    for name, (dtype, shape) in forms.items():
        found = weights[name]
        if found.get("dtype") != dtype or found.get("shape") != list(shape):
            raise ValueError(f"another type or shape of {name} than that of its network")
    for name, form in header.items():
        if name.startswith(PARAMETERS) and form.get("dtype") != type_name(torch.float64):
            raise ValueError(f"harmonization parameters of type {form.get('dtype')!r}")


def _loaded(path: Path, card: ModelCard) -> ModelFile:
    weights: Weights = {}
    harmonized: dict[str, Weights] = {}
    with safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118  # no iterator
            if not name.startswith(PARAMETERS):
                weights[name] = file.get_tensor(name)
                continue
            group, _, own = name.removeprefix(PARAMETERS).partition("/")
            if file.get_slice(name).get_shape() and _size(file.get_slice(name)) > MOST_NUMBERS:
                raise ValueError("very large harmonization parameters")
            harmonized.setdefault(group, {})[own] = file.get_tensor(name)
    return ModelFile(card, weights, harmonized)


def _size(part: Any) -> int:
    total = 1
    for length in part.get_shape():
        total *= int(length)
    return total


def _refuse_other_values(file: ModelFile, entries: Layout) -> None:
    """Refuse values that are not finite, not those of the digest, or not those of the plan."""
    every = [*file.weights.values(), *(v for g in file.harmonized.values() for v in g.values())]
    if not all(bool(value.isfinite().all()) for value in every):
        raise ValueError("values that are not finite")
    if digest(file.weights) != file.card.sha256:
        raise ValueError("weights of another SHA-256 than the card says")
    plan = file.card.plan
    wanted = {STAGES.name_of(one): one for one in plan.stages if one.is_scored_with}
    if set(file.harmonized) != set(wanted):
        raise ValueError(f"harmonization parameters of {sorted(file.harmonized) or 'nothing'}")
    made = Made(plan, file.weights, entries)
    for name, stage in wanted.items():
        arrays = {own: value.numpy() for own, value in file.harmonized[name].items()}
        stage.refuse_fitted(made, arrays)


def _said(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "JSON that is nested too deep"
    if isinstance(error, json.JSONDecodeError):
        return "bytes that are no JSON"
    if isinstance(error, FedmriError):
        return str(error).partition(". To fix")[0]
    return told(error)


def unusable(path: Path, found: str, fix: str = "") -> UsageError:
    """Return the error about a file that cannot be used."""
    what, want = f"model {path}", "the whole file of a model that fedmri trained"
    return UsageError("U70", what, found=found, want=want, fix=fix or AGAIN)


def _too_old(path: Path) -> UsageError:
    found = "numbers alone: plan, classes, preparation and harmonization are missing"
    what, want = f"model {path}", "a model's whole file"
    fix = (
        "train it again, for an older version wrote weights alone; parameters of tables are for "
        "`fedmri harmonize --parameters`"
    )
    return UsageError("U71", what, found=found, want=want, fix=fix)
