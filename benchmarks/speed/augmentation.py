"""Augmenting a batch over a step of training: all examples together, and one by one.

Usage: python benchmarks/speed/augmentation.py
Prints a row a network: milliseconds of a float32 step on one thread, and the share of that step
which augmentation takes. ``one by one`` is TorchIO and MONAI for each example, as fedmri did it.
``ahead`` is the time of steps whose batches a second thread augments, over that of steps in turn.
Medians over runs that take turns; every change happens to three examples of ten.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torchio as tio
from monai.networks.nets.densenet import DenseNet121
from monai.networks.nets.unet import UNet
from monai.transforms import RandBiasField

from fedmri.data.batches.augment import Sample, augmented
from fedmri.data.settings import AugmentConfig
from fedmri.training.ahead import ahead

N_RUNS = 7
N_STEPS = 4
CHANCE = 0.3
CONFIG = AugmentConfig(
    affine=CHANCE, flip=CHANCE, noise=CHANCE, bias=CHANCE, gamma=CHANCE, ghosting=CHANCE
)


def unet(n_dims: int, widths: Sequence[int]) -> torch.nn.Module:
    """Return a U-Net of some widths."""
    strides = [2] * (len(widths) - 1)
    return UNet(n_dims, 1, 2, widths, strides, num_res_units=2, norm="batch")


NETWORKS: dict[str, tuple[Callable[[], torch.nn.Module], int, tuple[int, ...]]] = {
    "U-Net 3D 16-128": (lambda: unet(3, [16, 32, 64, 128]), 1, (64, 64, 64)),
    "DenseNet121 2D": (lambda: DenseNet121(2, 1, 2), 16, (128, 128)),
    "U-Net 2D 32-512": (lambda: unet(2, [32, 64, 128, 256, 512]), 8, (128, 128)),
    "U-Net 2D 8-128": (lambda: unet(2, [8, 16, 32, 64, 128]), 8, (128, 128)),
}


def heads(n: int, shape: tuple[int, ...]) -> list[Sample]:
    """Return examples of a noisy ball in air, with a smaller ball as their label."""
    axes = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij")
    far = torch.from_numpy(sum(axis**2 for axis in axes))
    found = []
    for number in range(n):
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(number))
        image = torch.where(far < 0.8, noise, 0.0).float()[None]
        label = (far < 0.1).to(torch.uint8)[None]
        found.append(Sample(image, label, (True,), (2.0,) * len(shape), 0))
    return found


def one_by_one(samples: Sequence[Sample], seed: int) -> torch.Tensor:
    """Return images that TorchIO and MONAI changed, an example at a time."""
    images = []
    for number, sample in enumerate(samples):
        torch.manual_seed(seed + number)
        shape = sample.image.shape
        ones = [1] * (4 - len(shape))
        low, high = sample.image.amin(), sample.image.amax()
        unit = (sample.image - low) / (high - low)
        coil = RandBiasField(coeff_range=(-0.3, 0.3), prob=CHANCE)
        coil.set_random_state(seed + number)
        unit = torch.as_tensor(coil(unit)).reshape(*shape, *ones)
        assert sample.label is not None
        maps = {"head": (sample.image != 0).to(torch.uint8), "label": sample.label}
        subject = tio.Subject(
            image=tio.ScalarImage(tensor=unit),
            **{name: tio.LabelMap(tensor=v.reshape(*v.shape, *ones)) for name, v in maps.items()},
        )
        changes = tio.Compose(
            [
                tio.RandomAffine(0.1, 10, _twentieth(subject.spatial_shape), p=CHANCE),
                tio.RandomFlip((0,), flip_probability=CHANCE),
                tio.RandomGhosting(intensity=(0.2, 0.6), p=CHANCE),
                tio.RandomNoise(std=(0, 0.05), p=CHANCE),
            ],
            copy=False,
        )
        images.append(changes(subject).get_images()[0].data.reshape(shape))
    return torch.stack(images)


def _twentieth(shape: Sequence[int]) -> tuple[float, float, float]:
    x, y, z = (side // 20 for side in shape)
    return x, y, z


def step(network: torch.nn.Module, image: torch.Tensor) -> None:
    """Take a step's forward and backward pass."""
    network.zero_grad()
    network(image).square().mean().backward()


def steps(
    network: torch.nn.Module, samples: Sequence[Sample], seeds: Sequence[int], n_ahead: int
) -> None:
    """Take steps, each on a batch that is augmented anew."""
    batches = (augmented(samples, CONFIG, seeds)[0] for _ in range(N_STEPS))
    for image in ahead(batches, n_ahead):
        step(network, image)


def seconds(work: Callable[[], object]) -> float:
    """Return how long some work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    print(f"{'network':16} {'ms a step':>10} {'together':>10} {'one by one':>11} {'ahead':>7}")
    for name, (made, n_examples, shape) in NETWORKS.items():
        network, samples = made().train(), heads(n_examples, shape)
        image = torch.stack([sample.image for sample in samples])
        kinds = ("step", "together", "one by one", "in turn", "ahead")
        taken: dict[str, list[float]] = {kind: [] for kind in kinds}
        for run in range(N_RUNS + 1):
            seeds = range(100 * run, 100 * run + n_examples)
            found = {
                "step": seconds(lambda: step(network, image)),  # noqa: B023  # called at once
                "together": seconds(lambda: augmented(samples, CONFIG, seeds)),  # noqa: B023
                "one by one": seconds(lambda: one_by_one(samples, seeds[0])),  # noqa: B023
                "in turn": seconds(lambda: steps(network, samples, seeds, 0)),  # noqa: B023
                "ahead": seconds(lambda: steps(network, samples, seeds, 2)),  # noqa: B023
            }
            for kind, value in found.items():
                taken[kind] += [value] if run else []  # the first warms up
        of_step, whole, single = (statistics.median(taken[kind]) for kind in kinds[:3])
        pairs = zip(taken["ahead"], taken["in turn"], strict=True)
        ratio = statistics.median(own / other for own, other in pairs)
        shares = f"{whole / of_step:10.1%} {single / of_step:11.1%}"
        print(f"{name:16} {1000 * of_step:10.0f} {shares} {ratio:7.2f}")


if __name__ == "__main__":
    main()
