"""Batches that a thread makes ahead: the same bits, few at once, and errors where they belong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from fedmri.data.batches.examples import PreparedSite
from fedmri.data.scans import Scan
from fedmri.data.settings import AugmentConfig
from fedmri.errors import DataError
from fedmri.models.build import build_network
from fedmri.models.weights import digest, weights
from fedmri.training.ahead import ahead
from fedmri.training.local import train_round
from fedmri.training.settings import TrainConfig
from tests.data.test_examples import AGE, SPLITS, VOLUMES, opened, write_volume
from tests.made import model

TRAIN = TrainConfig(batch_size=2, local_epochs=2, device="cpu")


@pytest.fixture
def data(tmp_path: Path) -> PreparedSite:
    """Return five training patients whose images are changed in every way."""
    changes = replace(AugmentConfig(), affine=0.5, elastic=0.5, noise=0.5, gamma=0.5, ghosting=0.5)
    scans = [
        Scan("x", name, "", {"T1w": write_volume(tmp_path / f"{i}.nii.gz", i)}, {}, {"age": str(i)})
        for i, name in enumerate(SPLITS)
    ]
    return opened(scans, tmp_path, AGE, replace(VOLUMES, augment=changes))


def network(dropout: float = 0.5) -> nn.Module:
    """Return a small network; its dropout draws from the process's generator."""
    chosen = model("cnn5", width=2, dropout=dropout)
    return build_network(chosen, target=AGE, n_dims=3, n_channels=2, shape=(8, 8, 8), seed=0)


def trained(data: PreparedSite, config: TrainConfig) -> str:
    """Return the digest of the weights after a round."""
    made = network()
    train_round(made, data, AGE, config, round_index=1, n_rounds=1, seed=0)
    return digest(weights(made))


def n_threads() -> int:
    """Return how many threads are making batches."""
    return sum(thread.name.startswith("batches") for thread in threading.enumerate())


@pytest.mark.parametrize("config", [TRAIN, replace(TRAIN, local_steps=3, local_examples=7)])
def test_bits_do_not_depend_on_what_is_ahead(data: PreparedSite, config: TrainConfig) -> None:
    """Order, augmentation and dropout are decided by seeds, and no thread is left."""
    digests = {trained(data, replace(config, n_ahead=n)) for n in (0, 1, 3)}
    assert len(digests) == 1
    assert n_threads() == 0


@pytest.mark.parametrize("n_ahead", [0, 2])
def test_a_scan_that_is_gone_is_named_and_ends_the_round(data: PreparedSite, n_ahead: int) -> None:
    """As without a thread: the error of its batch, with the scan's name."""
    gone = next(scan for scan in data.prepared.scans if scan.split == "train")
    gone.image.unlink()
    with pytest.raises(DataError, match=r"\[D44\]") as raised:
        trained(data, replace(TRAIN, n_ahead=n_ahead))
    assert gone.scan in "".join(raised.value.__notes__)
    assert n_threads() == 0


def test_few_are_made_before_they_are_asked_for_and_nothing_after_the_last() -> None:
    """Two ahead of the one in use; a user who stops early leaves no thread."""
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    found = ahead(items(), 2)
    for number in range(5):
        assert next(found) == number
        assert len(made) <= number + 1 + 2
    found.close()  # type: ignore[attr-defined]  # a generator
    assert n_threads() == 0
    assert len(made) <= 7
    assert [*ahead(iter(range(7)), 3)] == [*range(7)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="it needs a GPU")
def test_a_gpu_learns_what_a_cpu_does(data: PreparedSite) -> None:
    """With fused steps, pinned memory and augmentation on the GPU, to rounding alone."""
    here = replace(TRAIN, precision="fp32")
    there = replace(here, device="cuda", n_ahead=2, augment_on="device")
    found = []
    for config in (here, there):
        made = network(dropout=0)
        train_round(made, data, AGE, config, round_index=1, n_rounds=1, seed=0)
        found.append(torch.cat([value.flatten() for value in weights(made).values()]))
    assert torch.allclose(found[0], found[1], atol=1e-2)
