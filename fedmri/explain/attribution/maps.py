"""Maps of what moved a score: Grad-CAM, Grad-CAM++, integrated gradients, occlusion, attention."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

import torch
from monai.visualize.class_activation_maps import GradCAM, GradCAMpp, ModelWithHooks
from torch import nn
from torch.nn.functional import interpolate

from fedmri.explain.attribution.attention import attention_map, slice_axis
from fedmri.explain.attribution.scores import Scores
from fedmri.explain.options import Method

N_ALONG, N_AT_ONCE = 5, 8
"""Of occlusion: boxes along an axis, and images in a batch."""

NO_PLACES = "no layer before the last one has places"
NO_ATTENTION = "the network has no attention over places"


@dataclass(frozen=True)
class Seen:
    """A network that is explained.

    Attributes:
        scores: The network as scores.
        layers: Names of the layers that Grad-CAM looks at.
        n_steps: Steps of integrated gradients.
    """

    scores: Scores
    layers: tuple[str, ...]
    n_steps: int = 16

    def map(self, method: Method, image: torch.Tensor, index: int) -> torch.Tensor | None:
        """Return what moves a score, by place; None where the network has no such map.

        Args:
            method: Which.
            image: Shape ``(1, C, *shape)``.
            index: Which score.

        Returns:
            Not negative, shape ``(1, 1, *shape)``.
        """
        return _MAKERS[method](self, image, index)


class _Centred(nn.Module):
    """Scores moved to 0, with their gradient: Grad-CAM++ takes the exponential of a score."""

    def __init__(self, scores: Scores) -> None:
        super().__init__()
        self.scores = scores

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.scores(image)
        return found - found.detach()


def _by_gradients(kind: type[GradCAM]) -> Callable[[Seen, torch.Tensor, int], torch.Tensor | None]:
    def cam(seen: Seen, image: torch.Tensor, index: int) -> torch.Tensor | None:
        if not seen.layers:
            return None
        names = [f"scores.network.{name}" for name in seen.layers]
        # MONAI never takes its hooks off: they go with the copy
        hooked: Any = ModelWithHooks(
            _Centred(copy.deepcopy(seen.scores)),
            names,
            register_forward=True,
            register_backward=True,
        )
        method, total = kind(hooked, names[0]), torch.zeros_like(image[:, :1])
        leaf = image.detach().clone().requires_grad_()  # the first layer's hook wants it
        for i in range(len(names)):
            raw = method.compute_map(leaf, class_idx=index, layer_idx=i).detach()
            total = total + _fitted(raw, image, seen.scores)
        return total

    return cam


def _fitted(raw: torch.Tensor, image: torch.Tensor, scores: Scores) -> torch.Tensor:
    """Return a coarse map at the image's size; maps of single slices are put together first.

    Of several visits, whose maps lie apart, it is that of the last one.
    """
    axis = slice_axis(scores.network)
    if raw.ndim == image.ndim:
        raw = raw[-1:]
    elif raw.ndim < image.ndim and axis is not None:
        raw = raw[:, 0].movedim(0, axis)[None, None]
    shape = image.shape[2:]
    return interpolate(raw, shape, mode="trilinear" if len(shape) == 3 else "bilinear")


def _integrated(seen: Seen, image: torch.Tensor, index: int) -> torch.Tensor:
    return attributions(seen, image, index).abs().sum(1, keepdim=True)


def attributions(seen: Seen, image: torch.Tensor, index: int) -> torch.Tensor:
    """Return the share of each voxel in the score's way from an image of air, shape of the image.

    They sum to the difference of the two scores, but for the steps of the sum.

    Source:
        Sundararajan, Taly and Yan 2017, arXiv:1703.01365.
    """
    total = torch.zeros_like(image)
    for step in range(seen.n_steps):
        part = ((step + 0.5) / seen.n_steps * image).requires_grad_()
        [slope] = torch.autograd.grad(seen.scores(part)[0, index], part)
        total += slope / seen.n_steps
    return total * image


def incompleteness(seen: Seen, image: torch.Tensor, index: int) -> float:
    """Return how far the attributions are from summing to the score's way, as a share of it."""
    with torch.no_grad():
        way = seen.scores(image)[0, index] - seen.scores(torch.zeros_like(image))[0, index]
    gap = (attributions(seen, image, index).sum() - way).abs()
    return float(gap / way.abs().clamp(min=1e-6))


def _occluded(seen: Seen, image: torch.Tensor, index: int) -> torch.Tensor:
    """Return by how much a score falls where a box is air; boxes lie side by side.

    Source:
        Zeiler and Fergus 2014, arXiv:1311.2901. MONAI's own fails from PyTorch 2.9 on.
    """
    found = torch.zeros_like(image[:, :1])
    with torch.no_grad():
        whole = seen.scores(image)[0, index]
        for boxes in _batched(_boxes(image.shape[2:])):
            hidden = image.repeat(len(boxes), *[1] * (image.ndim - 1))
            for row, box in enumerate(boxes):
                hidden[row][box] = 0
            falls = whole - seen.scores(hidden)[:, index]
            for fall, box in zip(falls, boxes, strict=True):
                found[0][box] = fall.clamp(min=0)
    return found


def _boxes(shape: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    sides = [max(1, -(-side // N_ALONG)) for side in shape]
    steps = [range(0, side, box) for side, box in zip(shape, sides, strict=True)]
    for corner in product(*steps):
        places = (slice(start, start + box) for start, box in zip(corner, sides, strict=True))
        yield (slice(None), *places)


def _batched(boxes: Iterator[tuple[slice, ...]]) -> Iterator[list[tuple[slice, ...]]]:
    while some := list(islice(boxes, N_AT_ONCE)):
        yield some


def _attended(seen: Seen, image: torch.Tensor, index: int) -> torch.Tensor | None:
    found = attention_map(seen.scores.network, image)
    return None if found is None else interpolate(found, image.shape[2:], mode="nearest")


_MAKERS: Mapping[Method, Callable[[Seen, torch.Tensor, int], torch.Tensor | None]] = {
    "gradcam": _by_gradients(GradCAM),
    "gradcam++": _by_gradients(GradCAMpp),
    "integrated_gradients": _integrated,
    "occlusion": _occluded,
    "attention": _attended,
}

WHY_NONE: Mapping[Method, str] = {
    "gradcam": NO_PLACES,
    "gradcam++": NO_PLACES,
    "attention": NO_ATTENTION,
}
