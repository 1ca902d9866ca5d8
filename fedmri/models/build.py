"""How a network is built: seeded, and checked against its images."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.func import functional_call

from fedmri.errors import ConfigError, require
from fedmri.models.model import Model
from fedmri.models.registry import MODELS, model_names
from fedmri.models.sizes import Sizes, require_multiples
from fedmri.round import Answer, Target

# Weights are drawn from the process's one global generator: two threads would mix their draws.
_DRAWING = threading.Lock()

# A process builds the network of its plan anew for each order; one passage says it for all.
_PASSED: set[tuple[Model, Sizes]] = set()

_EACH: Mapping[Answer, str] = {"image": "an image", "voxel": "a voxel"}


def build_network(  # noqa: PLR0913  # every one is named at the call
    model: Model,
    *,
    target: Target,
    n_dims: int,
    n_channels: int,
    shape: Sequence[int],
    seed: int,
    n_covariates: int = 0,
    n_visits: int = 1,
) -> nn.Module:
    """Build a network on the CPU, in training mode; the seed decides its weights to the bit.

    The global random state is left as it was.

    Args:
        model: Which network, with its settings.
        target: What it predicts; ``target.n_outputs`` channels come out, without activation.
        n_dims: Spatial dimensions of an image, 2 or 3.
        n_channels: Channels of an image.
        shape: Spatial size of an image in voxels, ``n_dims`` numbers. 0 is a size that differs
            from scan to scan; not every network takes that, and what is too small shows later.
        seed: Seed of the initial weights, the same at every site.
        n_covariates: Numbers of the patient that come with an image.
        n_visits: Visits of a patient that an image is made of.

    Returns:
        A network from images ``(B, C, *shape)`` to ``(B, n_outputs)`` or, where the target asks
        for each voxel, to ``(B, n_outputs, *shape)``. Where there are covariates, it is called with
        images and covariates ``(B, n_covariates)``.

    Raises:
        ConfigError: A width does not do (C01), the network cannot do the task (C20), or images
            of this size do not go through it (C21).
    """
    require(n_dims in (2, 3) and len(shape) == n_dims, "image shape", tuple(shape), "2D or 3D")
    name = MODELS.name_of(model)
    sizes = Sizes(tuple(shape), n_channels, target.n_outputs, n_covariates, n_visits)
    _require_answer(name, model, target)
    _require_dims(name, model, sizes)
    require_multiples(name, (model.multiple,) * n_dims, sizes)
    with drawing(seed):
        network = model.build(sizes)
    _avoid_in_place(network)
    if (model, sizes) not in _PASSED:
        _require_passage(name, network, sizes)
        _PASSED.add((model, sizes))
    return network


@contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Let weights be drawn from the global generator; its state is left as it was."""
    with _DRAWING, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def n_parameters(network: nn.Module) -> int:
    """Return the number of trainable values."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def _require_answer(name: str, model: Model, target: Target) -> None:
    if target.answer not in model.kinds:
        want = f"a network for {target.title}, with one answer {_EACH[target.answer]}"
        fix = f"set model.name to one of {', '.join(model_names(target.answer))}"
        found = f"one answer {' and '.join(_EACH[kind] for kind in model.kinds)}"
        raise ConfigError("C20", f"model {name}", found=found, want=want, fix=fix)


def _require_dims(name: str, model: Model, sizes: Sizes) -> None:
    wanted: tuple[int, ...] = getattr(model, "n_dims", (2, 3))
    if sizes.n_dims not in wanted:
        found, want = f"{sizes.n_dims}D", " or ".join(f"{n}D" for n in wanted)
        fix = f"set data.prepare.dimension={wanted[0]}d, or take another model"
        raise ConfigError("C21", f"images for {name}", found=found, want=want, fix=fix)


def _avoid_in_place(network: nn.Module) -> None:
    # Per-example gradients (vmap, hooks) fail on activations that overwrite their input.
    for module in network.modules():
        if hasattr(module, "inplace"):
            vars(module)["inplace"] = False


def _require_passage(name: str, network: nn.Module, sizes: Sizes) -> None:
    """Send one example through without arithmetic; a site's last batch may hold just one."""
    if 0 in sizes.shape:
        return
    entries = dict(network.named_parameters()) | dict(network.named_buffers())
    empty = {name: torch.empty_like(value, device="meta") for name, value in entries.items()}
    inputs = [torch.empty(1, sizes.n_channels, *sizes.shape, device="meta")]
    if sizes.n_covariates:
        inputs.append(torch.empty(1, sizes.n_covariates, device="meta"))
    try:
        with torch.no_grad():
            functional_call(network, empty, tuple(inputs))
    except (RuntimeError, ValueError) as error:
        want = "room for norm layers and pooling in a batch of one image"
        fix = "set a larger data.prepare.size or shape, set model.norm=group, or take another model"
        found = f"{sizes.shape} ({error})"
        what = f"images for {name}"
        raise ConfigError("C21", what, found=found, want=want, fix=fix) from error
