"""A step of DP-SGD is what the definition says; each way to get it wrong is noticed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fedmri.data.batches.site_data import Example, SiteData, Split, Voxels
from fedmri.data.settings import AugmentConfig, DataConfig, SampleConfig
from fedmri.errors import PrivacyError
from fedmri.models.build import build_network
from fedmri.models.registry import model_names
from fedmri.plan import Plan
from fedmri.privacy import per_sample, stream
from fedmri.privacy.conflicts import refuse_conflicts
from fedmri.privacy.dp_sgd import PrivateSteps, round_steps
from fedmri.privacy.per_sample import (
    Gradients,
    Inputs,
    by_loop,
    by_vmap,
    is_vmap_right,
    refuse_batch_norm,
)
from fedmri.privacy.settings import PrivacyConfig
from fedmri.privacy.stream import Stream, key_for
from fedmri.round import Batch
from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.kinds.regression import Regression
from fedmri.tasks.kinds.segmentation import Segmentation
from fedmri.tasks.task import Task
from fedmri.training.local import TrainResult, train_round
from fedmri.training.settings import TrainConfig
from tests.made import beside, each, few_slices, inputs_of, n_dims_of, n_visits_of, narrow

CLIP = 0.5
KEY = key_for(b"secret of a site", "order 1")
ROWS = torch.tensor([[3.0, 0, 0, 0], [0, 0.1, 0, 0], [0, 0, -9, 2.0]], dtype=torch.float64)


class Rows:
    """A site whose examples are rows of numbers; a patient may have several."""

    fingerprint = "0"

    def __init__(self, images: torch.Tensor, subjects: Sequence[str]) -> None:
        self.images, self.subjects = images, subjects
        self.picked: list[list[int]] = []

    def examples(self, split: Split) -> tuple[Example, ...]:
        """Return an example a row, all of them to train on."""
        fixed = (split, Path(), None, None, 0.0, (True,), (1.0,))
        return tuple(
            Example("north", subject, f"{subject}_{row}", *fixed)
            for row, subject in enumerate(self.subjects)
        )

    def scans(self, split: Split) -> Iterator[Voxels]:
        """Yield nothing."""
        yield from ()

    def changed(self, change: object) -> SiteData:
        """Return the same."""
        return self

    def placed(self, device: torch.device) -> SiteData:
        """Return the same."""
        return self

    def train_batches(self, *, batch_size: int, seed: int) -> Iterator[Batch]:
        """Yield nothing: private steps draw by themselves."""
        yield from ()

    def train_sized(self, sizes: Sequence[int], *, seeds: Iterator[int]) -> Iterator[Batch]:
        """Yield nothing: private steps draw by themselves."""
        yield from ()

    def train_picks(self, picks: Sequence[int], *, seed: int) -> Iterator[Batch]:
        """Yield the rows at these positions."""
        self.picked.append(list(picks))
        if picks:
            yield batch_of(self.images[list(picks)])

    def eval_batches(self, split: Split, *, batch_size: int) -> Iterator[Batch]:
        """Yield nothing."""
        yield from ()


def batch_of(images: torch.Tensor) -> Batch:
    """Return a batch with targets of zero."""
    names = tuple(str(row) for row in range(len(images)))
    return Batch(images, torch.zeros(len(images)), torch.ones(len(images), 1), names, names)


def line(n: int = 4) -> nn.Linear:
    """Return a linear map to one number, whose gradient of the sum is the row itself."""
    return nn.Linear(n, 1, bias=False).double()


def total(outputs: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """Return the mean output as a loss."""
    mean: torch.Tensor = outputs.mean()
    return mean


def config(noise: float, batch: float = 4.0) -> PrivacyConfig:
    """Return settings with a clip norm of one half."""
    return PrivacyConfig(noise_multiplier=noise, clip_norm=CLIP, batch_subjects=batch)


def gradients(
    rows: torch.Tensor, settings: PrivacyConfig, n_steps: int = 1, key: bytes = KEY
) -> list[torch.Tensor]:
    """Return the noisy gradient of each step that sees all rows."""
    network = line(rows.shape[1])
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    steps = PrivateSteps(settings, key)
    found = []
    for _ in range(n_steps):
        steps.fill(network, total, optimizer, [batch_of(rows)] if len(rows) else [])
        assert network.weight.grad is not None
        found.append(network.weight.grad[0].clone())
    return found


def clipped_mean(rows: torch.Tensor, batch: float) -> torch.Tensor:
    """Return the sum of clipped rows over the expected batch, by hand."""
    norms = rows.norm(dim=1, keepdim=True)
    mean: torch.Tensor = (rows * (CLIP / (norms + 1e-6)).clamp(max=1)).sum(0) / batch
    return mean


def test_no_patient_moves_the_sum_by_more_than_the_clip_norm() -> None:
    """Planted bug: no clipping. One patient more or less changes the sum by the norm at most."""
    (whole,) = gradients(ROWS, config(1e-12))
    assert torch.allclose(whole, clipped_mean(ROWS, 4.0), atol=1e-9)
    for left_out in range(3):
        rest = torch.cat([ROWS[:left_out], ROWS[left_out + 1 :]])
        (without,) = gradients(rest, config(1e-12))
        assert 4.0 * (whole - without).norm() <= CLIP + 1e-9


def test_every_step_has_noise_of_its_own_and_of_the_right_size() -> None:
    """Planted bug: noise once a round. Empty steps have it too: noise times clip over batch."""
    steps = gradients(torch.zeros(0, 4000).double(), config(2.0, 8.0), n_steps=2)
    assert torch.stack(steps).corrcoef()[0, 1].abs() < 0.1
    for step in steps:
        assert abs(float(step.std()) * 8 / (2.0 * CLIP) - 1) < 0.05
        assert abs(float(step.mean())) < 0.05 * 2.0 * CLIP / 8 * 4


def test_a_patient_is_drawn_at_the_rate_whatever_the_number_of_its_slices() -> None:
    """Planted bug: slices as items. Patient a has thirty, yet is drawn as often, one at a time."""
    subjects = ["a"] * 30 + [f"s{i}" for i in range(9)]
    data = Rows(torch.zeros(39, 4).double(), subjects)
    steps = PrivateSteps(config(1.0, 2.0), KEY)
    assert len(list(steps.batches(data, 1000, seed=0))) == 1000
    drawn = [[subjects[row] for row in picks] for picks in data.picked]
    assert all(len(set(each)) == len(each) for each in drawn)
    n_drawn = sum("a" in each for each in drawn)
    assert abs(n_drawn - 200) < 5 * (1000 * 0.2 * 0.8) ** 0.5
    assert len({row for picks in data.picked for row in picks if row < 30}) > 20
    sizes = torch.tensor([float(len(each)) for each in drawn])
    assert abs(float(sizes.var()) - 10 * 0.2 * 0.8) < 0.3  # binomial, not fixed
    assert not all(drawn)  # empty steps are steps


def test_the_expected_batch_divides_whoever_came() -> None:
    """One patient or three: the denominator is the constant of the plan."""
    (one,) = gradients(ROWS[:1], config(1e-12, 8.0))
    assert torch.allclose(one, clipped_mean(ROWS[:1], 8.0), atol=1e-9)


def test_a_patient_without_finite_gradient_counts_as_none() -> None:
    """The step is taken, and the others' part of it is theirs."""
    rows = torch.cat([ROWS, torch.full((1, 4), float("nan")).double()])
    (found,) = gradients(rows, config(1e-12))
    assert torch.allclose(found, clipped_mean(ROWS, 4.0), atol=1e-9)


def test_the_steps_of_a_round_are_those_accounted_for() -> None:
    """Forty patients, eight a step: rate one fifth, five steps a pass; all of them if too few."""
    steps = round_steps(config(1.0, 8.0), 40, local_epochs=2, local_steps=0)
    assert (steps.sample_rate, steps.n_steps) == (0.2, 10)
    few = round_steps(config(1.0, 8.0), 3, local_epochs=1, local_steps=0)
    assert (few.sample_rate, few.n_steps) == (1.0, 1)


def _round(key: bytes) -> tuple[torch.Tensor, TrainResult]:
    torch.manual_seed(0)
    network = nn.Linear(4, 1, bias=False)
    images = torch.arange(48.0).reshape(12, 4) / 48
    data = Rows(images, [f"s{row // 2}" for row in range(12)])
    task = replace(Regression("age"), loss="mse")
    train = TrainConfig(optimizer="sgd", lr=0.1, local_steps=3, device="cpu")
    steps = PrivateSteps(config(1.0, 2.0), key)
    result = train_round(network, data, task, train, round_index=1, n_rounds=2, seed=0, steps=steps)
    return network.weight.detach().clone(), result


def test_a_round_that_is_trained_again_gives_the_same_bits_and_another_key_others() -> None:
    """So a crashed round can be sent again, and two orders never share their noise."""
    (first, result), (again, _), (other, _) = (_round(KEY), _round(KEY), _round(b"k" * 32))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert (result.n_steps, result.n_subjects, result.n_skipped) == (3, 6, 0)
    assert result.loss != result.loss  # NaN: a loss of patients would leave without noise


def test_keys_differ_by_secret_and_by_order() -> None:
    """Nobody without the secret can draw the noise again."""
    keys = {key_for(s, o) for s in (b"a", b"b") for o in ("1", "2")}
    assert len(keys) == 4
    assert all(len(key) == 32 for key in keys)


def test_the_stream_is_uniform_and_normal() -> None:
    """By moments, within five standard errors of 20 000 draws."""
    u = torch.from_numpy(Stream(KEY).uniform(20_000))
    z = torch.from_numpy(Stream(KEY).normal(20_001))
    assert float(u.min()) > 0
    assert float(u.max()) < 1
    assert abs(float(u.mean()) - 0.5) < 5 * (1 / 12 / 20_000) ** 0.5
    assert len(z) == 20_001
    assert abs(float(z.mean())) < 5 / 20_000**0.5
    assert abs(float(z.var()) - 1) < 5 * (2 / 20_000) ** 0.5
    assert abs(float((z**4).mean()) - 3) < 5 * (96 / 20_000) ** 0.5


def test_a_stream_goes_on_where_one_count_of_the_cipher_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a long round of a huge network: new numbers, and again the same of the same key."""
    whole = Stream(KEY).uniform(8)
    monkeypatch.setattr(stream, "MOST_BYTES", 64)
    parts, again = Stream(KEY), Stream(KEY)
    found = [parts.uniform(8) for _ in range(3)]
    assert (found[0] == whole).all()
    assert len({value for part in found for value in part}) == 24
    assert all((again.uniform(8) == part).all() for part in found)


def _network(name: str) -> tuple[nn.Module, Inputs]:
    kind: Task = Classification("x", ("a", "b"))
    if name in model_names("voxel"):
        kind = Segmentation("m", ("t",))
    side = 16 if name in {"cnn5", "cnn3d", "vit", "unet", "segresnet"} else 32
    n_dims = 3 if name == "cnn3d" else n_dims_of(name)[0]
    shape = few_slices(name, (side,) * n_dims)
    sizes = {
        "target": kind,
        "n_dims": n_dims,
        "n_channels": n_visits_of(name),
        "shape": shape,
        "seed": 1,
    }
    sizes |= beside(name)
    network = build_network(narrow(name), **sizes).double()  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(2, n_visits_of(name), *shape, dtype=torch.float64, generator=generator)
    return network, inputs_of(name, images)


@pytest.mark.parametrize("name", each(model_names()))
def test_gradients_are_those_of_one_patient_at_a_time(name: str) -> None:
    """For every network, by whichever way is taken, against plain autograd of each image alone."""
    network, inputs = _network(name)
    refuse_batch_norm(network)
    network.eval()  # dropout would draw anew in the comparison
    targets = torch.zeros(2)

    def loss(outputs: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return outputs.square().mean()

    is_fast = is_vmap_right(network, loss, inputs, targets)
    found = (by_vmap if is_fast else by_loop)(network, loss, inputs, targets)
    for row in range(2):
        network.zero_grad()
        torch.autograd.backward(loss(network(*(each[row : row + 1] for each in inputs)), targets))
        scale = max(
            1.0, *(float(p.grad.abs().max()) for p in network.parameters() if p.grad is not None)
        )
        for parameter_name, parameter in network.named_parameters():
            want = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            gap = float((found[parameter_name][row] - want).abs().max())
            assert gap < 1e-10 * scale, (parameter_name, is_fast)


def test_dropout_differs_from_example_to_example() -> None:
    """Two equal images of a step drop other features."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Dropout(0.5), line(64)).train()
    images = torch.ones(2, 64).double()
    found = by_vmap(network, total, (images,), torch.zeros(2))["1.weight"]
    assert not torch.equal(found[0], found[1])


def test_batch_norm_is_refused_with_its_place() -> None:
    """A patient's features would depend on the others in the batch."""
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    with pytest.raises(
        PrivacyError, match=r"layer 1: found BatchNorm2d.*model.norm=group.*\[P33\]"
    ):
        refuse_batch_norm(network)


def test_statistics_of_patients_are_refused_with_their_place() -> None:
    """They are buffers: they would leave beside the parameters, and no noise is on them."""
    network = nn.Sequential(nn.InstanceNorm2d(2), nn.InstanceNorm2d(2, track_running_stats=True))
    with pytest.raises(PrivacyError, match=r"layer 1: found InstanceNorm2d.*\[P33\]"):
        refuse_batch_norm(network)


def test_gradients_that_are_none_are_no_agreement(monkeypatch: pytest.MonkeyPatch) -> None:
    """A NaN of vmap in any parameter but the first sends all examples through the loop."""

    def broken(*given: Any) -> Gradients:  # as by_vmap
        found = by_loop(*given)
        return {**found, "bias": found["bias"] * float("nan")}

    monkeypatch.setattr(per_sample, "by_vmap", broken)
    assert not is_vmap_right(nn.Linear(4, 1).double(), total, (ROWS,), torch.zeros(3))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("augment.mixup", {"data": DataConfig(augment=AugmentConfig(mixup=0.5))}),
        ("augment.cutmix", {"data": DataConfig(augment=AugmentConfig(cutmix=0.5))}),
        ("sample.foreground", {"data": DataConfig(sample=SampleConfig(foreground=0.5))}),
        ("train.schedule", {"train": TrainConfig(schedule="plateau")}),
    ],
)
def test_what_goes_past_the_noise_is_refused_by_name(
    name: str, settings: dict[str, object]
) -> None:
    """Each alone; and none of it where nothing is noised."""
    given = {"train": TrainConfig(), "data": DataConfig(), **settings}
    with pytest.raises(PrivacyError, match=rf"{name}.*\[P32\]"):
        refuse_conflicts(config(1.0), **given)  # type: ignore[arg-type]
    refuse_conflicts(PrivacyConfig(), **given)  # type: ignore[arg-type]


def test_a_loss_that_counts_a_sites_patients_is_refused() -> None:
    """Weights by counts have no noise; neither alone is refused."""
    counted = Classification("kind", ("a", "b"), loss="weighted_ce")
    with pytest.raises(PrivacyError, match=r"target classification.*set target.loss.*\[P32\]"):
        Plan(counted, privacy=config(1.0))
    Plan(counted)
    Plan(replace(counted, loss="focal"), privacy=config(1.0))
