"""Gradient inversion: an image is sought whose gradient points where the update does.

Source:
    Geiping, Bauermeister, Dröge and Moeller 2020, Inverting gradients, arXiv:2003.14053: cosine
    distance and total variation, Adam on the signs of the gradient, three drops of the step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from fedmri.errors import require
from fedmri.leakage.release import Loss, Release
from fedmri.round import Batch, Weights

DROPS, DROP = (3 / 8, 5 / 8, 7 / 8), 0.1
"""After which shares of the steps the step size falls, and to what share of itself."""


@dataclass(frozen=True)
class InversionConfig:
    """How hard the attacker tries.

    Attributes:
        n_images: Training images that are sought at once.
        n_steps: Steps of the search: its whole cost, and the same on every machine.
        step: First step size, in shares of the images' range of intensities.
        smoothness: Weight of total variation against the cosine distance.
        seed: Of the noise that the search starts from.
    """

    n_images: int = 1
    n_steps: int = 400
    step: float = 0.1
    smoothness: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.n_images >= 1, "leakage.n_images", self.n_images, "1 or more")
        require(self.n_steps >= 1, "leakage.n_steps", self.n_steps, "1 or more")
        require(self.step > 0, "leakage.step", self.step, "a positive number")
        require(self.smoothness >= 0, "leakage.smoothness", self.smoothness, "0 or more")


@dataclass(frozen=True)
class InversionScore:
    """How like a training image the best reconstruction is, and how like what it should not be.

    The controls hold what all images of a site have in common, and chance: the reconstruction
    beside images that were not trained on, and the training image beside what the same attack
    makes of the gradient of such images. The closest of them counts.

    Attributes:
        ssim: Structural similarity, 1 for the image itself.
        control_ssim: That of the closest control.
        psnr_db: Peak signal-to-noise ratio in dB.
        control_psnr_db: That of the closest control.
    """

    ssim: float
    control_ssim: float
    psnr_db: float
    control_psnr_db: float

    @property
    def excess(self) -> float:
        """What the update says of this very image, 0 to 1: the larger of two.

        Structural similarity beyond the closest control's, or how far the squared error is below
        half of its: 3 dB are 0, 6 dB are 0.5 and 13 dB are 0.9.
        """
        gain = 1 - 2 * 10 ** ((self.control_psnr_db - self.psnr_db) / 10)
        # NaN stays one
        return float(np.max([self.ssim - self.control_ssim, gain, 0]))


def inversion(
    release: Release, trained: Batch, other: Batch, config: InversionConfig
) -> InversionScore:
    """Attack an update, and in the same way the gradient of images that were not trained on.

    The attacker is given the targets and the range of intensities, as in the source, and the
    covariates.

    Args:
        release: The update.
        trained: Images behind it; the first ``config.n_images`` are sought.
        other: Images that are not behind it, of the same shape: the more there are, the rarer is
            a high score by chance. The first ``config.n_images`` are attacked in the same way.
        config: How hard the attacker tries.

    Raises:
        PrivacyError: The update changes nothing (P61).
    """
    sought, control = first(trained, config.n_images), first(other, config.n_images)
    network = release.network(release.before)
    found = rebuild(network, release.loss, release.change, sought, config)
    names = release.change.keys()
    gradient = gradients(network, release.loss, control.inputs, control.target)
    unrelated = {name: value.detach() for name, value in gradient.items() if name in names}
    control_found = rebuild(network, release.loss, unrelated, control, config)
    return InversionScore(
        ssim=ssim(found, sought.image),
        control_ssim=max(ssim(control_found, sought.image), ssim(found, other.image)),
        psnr_db=psnr_db(found, sought.image),
        control_psnr_db=max(psnr_db(control_found, sought.image), psnr_db(found, other.image)),
    )


def first(batch: Batch, n: int) -> Batch:
    """Return the first examples of a batch."""
    image, target, present = batch.image[:n], batch.target[:n], batch.present[:n]
    covariates = None if batch.covariates is None else batch.covariates[:n]
    return Batch(image, target, present, batch.subjects[:n], batch.scans[:n], covariates)


def gradients(
    network: nn.Module, loss: Loss, inputs: Sequence[torch.Tensor], target: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Return the gradient of the mean loss by parameter, itself open to differentiation."""
    named = {name: p for name, p in network.named_parameters() if p.requires_grad}
    grads = torch.autograd.grad(
        loss(network(*inputs), target), list(named.values()), create_graph=True, allow_unused=True
    )
    return {n: g for n, g in zip(named, grads, strict=True) if g is not None}


def rebuild(
    network: nn.Module, loss: Loss, wanted: Weights, like: Batch, config: InversionConfig
) -> torch.Tensor:
    """Return the images whose gradient points as nearly as found where ``wanted`` does.

    Args:
        network: With the weights that the site was sent.
        loss: What the site minimised.
        wanted: Direction by parameter: a gradient, or an update's change.
        like: Targets and covariates, and images whose shape and range of intensities are the
            attacker's.
        config: How hard the attacker tries.

    Returns:
        Images, shape of ``like.image``.
    """
    low, high = float(like.image.min()), float(like.image.max())
    scale = high - low or 1.0
    source = torch.Generator().manual_seed(config.seed)
    noise = torch.randn(like.image.shape, generator=source).to(like.image.device)
    image = ((low + high) / 2 + scale / 4 * noise).clamp(low, high).requires_grad_()
    optimizer = torch.optim.Adam([image], lr=config.step * scale)
    drops = [int(share * config.n_steps) for share in DROPS]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, drops, DROP)
    for _ in range(config.n_steps):
        gradient = gradients(network, loss, (image, *like.inputs[1:]), like.target)
        cost = cosine_distance(gradient, wanted)
        cost = cost + config.smoothness / scale * total_variation(image)
        image.grad = torch.autograd.grad(cost, image)[0].sign()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            image.clamp_(low, high)
    return image.detach()


def cosine_distance(gradient: Weights, wanted: Weights) -> torch.Tensor:
    """Return 1 less the cosine of the angle between two sets of entries, over common names."""
    names = sorted(gradient.keys() & wanted.keys())
    a = torch.cat([gradient[name].flatten() for name in names])
    b = torch.cat([wanted[name].flatten() for name in names]).to(a)
    return 1 - torch.nn.functional.cosine_similarity(a, b, dim=0, eps=1e-12)


def total_variation(image: torch.Tensor) -> torch.Tensor:
    """Return the mean absolute difference of neighbours, summed over spatial axes."""
    axes = range(2, image.dim())
    return torch.stack([image.diff(dim=axis).abs().mean() for axis in axes]).sum()


def ssim(found: torch.Tensor, truth: torch.Tensor) -> float:
    """Return the largest structural similarity of any found image to any true one.

    Source:
        Wang, Bovik, Sheikh and Simoncelli 2004, doi:10.1109/TIP.2003.819861, by MONAI.
    """
    from monai.metrics.regression import SSIMMetric  # MONAI takes seconds to import

    smallest = min(truth.shape[2:])
    window = min(11, smallest - 1 + smallest % 2)
    value_range = float(truth.max() - truth.min()) or 1.0
    metric = SSIMMetric(truth.dim() - 2, value_range, win_size=window, reduction="none")
    values = [metric(found, image[None].expand_as(found)) for image in truth]
    return float(torch.cat([torch.as_tensor(value) for value in values]).max())


def psnr_db(found: torch.Tensor, truth: torch.Tensor) -> float:
    """Return the largest peak signal-to-noise ratio of any found image to any true one, in dB."""
    value_range = float(truth.max() - truth.min()) or 1.0
    errors = [float((found - image).square().flatten(1).mean(1).min()) for image in truth]
    return 10 * math.log10(value_range**2 / max(min(errors), 1e-12))
