"""Local training: exact steps, counts, seeds, and what is left as it was."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from fedmri.data.batches.site_data import SiteData
from fedmri.errors import ConfigError, RoundError
from fedmri.models.build import build_network
from fedmri.round import Batch
from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.kinds.regression import Regression
from fedmri.training import local
from fedmri.training.local import TrainResult, train_round
from fedmri.training.optimizers import set_rate
from fedmri.training.settings import TrainConfig
from tests.made import model

LESION = Classification("lesion", ("none", "round"))
AGE = Regression("age")
SGD: dict[str, Any] = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "device": "cpu"}
MakeSite = Callable[..., SiteData]


class Constant(nn.Module):
    """Predicts one trained number, whatever the image."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor([[value]]))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the number for each image."""
        return self.value.expand(len(image), 1)


def train(network: nn.Module, data: SiteData, config: TrainConfig, **more: Any) -> TrainResult:
    """Train a round of a regression with squared error, unless something else is asked for."""
    task = more.pop("task", replace(AGE, loss="mse"))
    settings: dict[str, Any] = {"round_index": 1, "n_rounds": 1, "seed": 0} | more
    return train_round(network, data, task, config, **settings)


@pytest.fixture
def ages(make_site: MakeSite) -> SiteData:
    """Return five images of four patients; two are of one patient."""
    scans = ["a_0", "a_1", "b_0", "c_0", "d_0"]
    return make_site(torch.zeros(5, 1, 4, 4), torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]), scans=scans)


def classifier(norm: str = "group", dropout: float = 0.0) -> nn.Module:
    """Return a small network for two classes."""
    config = model("cnn5", norm=norm, width=4, dropout=dropout)
    return build_network(config, target=LESION, n_dims=2, n_channels=1, shape=(16, 16), seed=0)


@pytest.fixture
def lesions(make_site: MakeSite) -> SiteData:
    """Return ten noisy images; class 1 is brighter."""
    targets = torch.arange(10) % 2
    noise = torch.randn(10, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    return make_site(noise + targets.reshape(-1, 1, 1, 1), targets)


def sha256(network: nn.Module) -> str:
    """Return a digest of the bits of all entries."""
    digest = hashlib.sha256()
    for value in network.state_dict().values():
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def test_a_step_on_a_quadratic_is_exact(ages: SiteData) -> None:
    """Mean squared error to 1..5 from 0: gradient -2 * 3, step 0.1 * 6, loss (1+4+9+16+25)/5."""
    network = Constant()
    result = train(network, ages, TrainConfig(batch_size=5, lr=0.1, clip_grad_norm=0, **SGD))
    assert network.value.item() == pytest.approx(0.6)
    assert result.loss == pytest.approx(11)
    assert (result.n_steps, result.n_examples, result.n_subjects) == (1, 5, 4)


def test_clipping_bounds_the_step_and_reports_the_gradient_before(ages: SiteData) -> None:
    """A gradient of norm 6 is cut to 1.5."""
    network = Constant()
    result = train(network, ages, TrainConfig(batch_size=5, lr=0.1, clip_grad_norm=1.5, **SGD))
    assert network.value.item() == pytest.approx(0.15)
    assert result.grad_norm == pytest.approx(6)


def test_a_gradient_term_acts_before_clipping(ages: SiteData) -> None:
    """-6 and a pull of 4 make -2, which a bound of 1.5 cuts: 0.15 and not 0.15 - 0.4."""

    def pull(network: nn.Module) -> None:
        for parameter in network.parameters():
            assert parameter.grad is not None
            parameter.grad.add_(4)

    network = Constant()
    config = TrainConfig(batch_size=5, lr=0.1, clip_grad_norm=1.5, **SGD)
    result = train(network, ages, config, gradient_term=pull)
    assert network.value.item() == pytest.approx(0.15)
    assert result.grad_norm == pytest.approx(2)


@pytest.mark.parametrize(
    ("config", "n_steps"),
    [
        ({"batch_size": 2, "local_epochs": 1}, 3),
        ({"batch_size": 2, "local_epochs": 3}, 9),
        ({"batch_size": 2, "local_steps": 2}, 2),
        ({"batch_size": 2, "local_steps": 7, "local_epochs": 9}, 7),
    ],
)
def test_a_round_has_the_steps_that_were_asked_for(
    ages: SiteData, config: dict[str, Any], n_steps: int
) -> None:
    """Epochs are whole passes, the last batch too; steps go on into a next pass."""
    result = train(Constant(), ages, TrainConfig(**SGD, **config))
    assert result.n_steps == n_steps
    assert result.n_examples == 5


def test_the_loss_is_the_mean_over_examples_and_not_over_batches(ages: SiteData) -> None:
    """Batches of 4 and 1 at a rate that moves nothing: the mean of 1, 4, 9, 16 and 25."""
    result = train(Constant(), ages, TrainConfig(batch_size=4, lr=1e-30, **SGD))
    assert result.loss == pytest.approx(11)


def test_no_gradient_is_held_between_rounds(ages: SiteData) -> None:
    """A waiting network takes the memory of its weights and no more."""
    network = Constant()
    train(network, ages, TrainConfig(**SGD))
    assert network.value.grad is None


def test_a_site_without_training_examples_changes_nothing(make_site: MakeSite) -> None:
    """Its only patient is in the test split: no step, no example, no error."""
    data = make_site(torch.zeros(1, 1, 4, 4), torch.zeros(1), split="test")
    network = Constant(2.0)
    result = train(network, data, TrainConfig(local_steps=3, **SGD))
    assert (result.n_examples, result.n_subjects, result.n_steps) == (0, 0, 0)
    assert math.isnan(result.loss)
    assert network.value.item() == 2


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", "ranger"])
def test_the_same_seed_gives_the_same_bits(lesions: SiteData, optimizer: str) -> None:
    """With dropout and batch norm, whatever was drawn before; another seed gives others."""
    task = LESION
    config = TrainConfig(optimizer=optimizer, batch_size=4, local_epochs=2, device="cpu")  # type: ignore[arg-type]  # any str
    digests = []
    for seed, global_seed in ((3, 0), (3, 1), (4, 0)):
        torch.manual_seed(global_seed)
        network = classifier("batch", dropout=0.5)
        train(network, lesions, config, task=task, seed=seed)
        digests.append(sha256(network))
    assert digests[0] == digests[1] != digests[2]


class InOrder:
    """A site that ignores the seed of an epoch and remembers it."""

    def __init__(self, data: SiteData) -> None:
        self._data, self.seeds = data, list[int]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)

    def train_batches(self, *, batch_size: int, seed: int) -> Iterator[Batch]:
        """Yield the same epoch every time."""
        self.seeds.append(seed)
        return self._data.train_batches(batch_size=batch_size, seed=0)


def test_every_epoch_of_every_round_has_an_order_of_its_own(lesions: SiteData) -> None:
    """Two rounds of three epochs: six seeds; the same six again."""
    data = InOrder(lesions)
    config = TrainConfig(local_epochs=3, device="cpu")
    task = LESION
    for round_index in (1, 2, 1, 2):
        train(classifier(), data, config, task=task, round_index=round_index, n_rounds=2)
    assert len(set(data.seeds)) == 6
    assert data.seeds[:6] == data.seeds[6:]


def test_dropout_differs_from_round_to_round(lesions: SiteData) -> None:
    """With the same examples in the same order, dropout alone makes the difference."""
    digests = set()
    for dropout, round_index in ((0.0, 1), (0.0, 2), (0.5, 1), (0.5, 2)):
        network, task = classifier(dropout=dropout), LESION
        data, config = InOrder(lesions), TrainConfig(device="cpu")
        train(network, data, config, task=task, round_index=round_index, n_rounds=2)
        digests.add(sha256(network))
    assert len(digests) == 3


def test_what_training_sets_is_set_back(lesions: SiteData) -> None:
    """Threads, determinism and random state belong to the process and not to a site."""
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    seen = []

    def look(network: nn.Module) -> None:
        seen.append((torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()))

    config = TrainConfig(n_threads=threads + 1, device="cpu")
    task = LESION
    train(classifier(dropout=0.5), lesions, config, task=task, gradient_term=look)
    assert set(seen) == {(threads + 1, True)}
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    assert torch.equal(torch.get_rng_state(), state)


def test_what_training_sets_is_set_back_after_a_failure(ages: SiteData) -> None:
    """A site that fails leaves nothing behind for the next."""

    def fail(network: nn.Module) -> None:
        raise ZeroDivisionError

    threads = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError):
        train(Constant(), ages, TrainConfig(n_threads=threads + 1, **SGD), gradient_term=fail)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("schedule", ["constant", "cosine", "cyclic"])
def test_rounds_go_through_the_schedule_of_one_run(
    ages: SiteData, schedule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four rounds of an epoch set the rates that one round of four epochs sets."""
    rates: list[tuple[float, float]] = []
    real = set_rate

    def record(optimizer: Any, config: TrainConfig, rate: float, momentum: float) -> None:
        rates.append((rate, momentum))
        real(optimizer, config, rate, momentum)

    monkeypatch.setattr(local, "set_rate", record)
    settings = {"batch_size": 2, "schedule": schedule, "warmup": 0.25, "cycle_steps": 5, **SGD}
    train(Constant(), ages, TrainConfig(local_epochs=4, **settings))
    whole = list(rates)
    rates.clear()
    for round_index in (1, 2, 3, 4):
        config = TrainConfig(local_epochs=1, **settings)
        train(Constant(), ages, config, round_index=round_index, n_rounds=4)
    assert rates == whole
    assert len(rates) == 12


def test_plateau_looks_at_the_rounds_before(ages: SiteData) -> None:
    """Two rounds without progress halve the step of 0.6."""
    network = Constant()
    config = TrainConfig(
        batch_size=5, lr=0.1, clip_grad_norm=0, schedule="plateau", patience=2, **SGD
    )
    train(network, ages, config, loss_history=(1.0, 1.0, 1.0))
    assert network.value.item() == pytest.approx(0.3)


def test_slow_weights_are_what_leaves_the_site(ages: SiteData) -> None:
    """One step of RAdam: the network ends half way between the start and where the step led."""
    settings: dict[str, Any] = {"batch_size": 5, "lr": 0.1, "clip_grad_norm": 0}
    settings |= {"weight_decay": 0, "device": "cpu"}
    network, fast = Constant(), Constant()
    train(network, ages, TrainConfig(optimizer="ranger", **settings))
    optimizer = torch.optim.RAdam(fast.parameters(), lr=0.1)
    (fast(torch.zeros(5))[:, 0] - torch.arange(1.0, 6.0)).square().mean().backward()
    optimizer.step()
    assert network.value.item() == pytest.approx(fast.value.item() / 2)


def test_a_kept_optimizer_makes_two_rounds_one(ages: SiteData) -> None:
    """With the optimizer's state two rounds of a step are a round of two, bit for bit."""
    settings: dict[str, Any] = {"batch_size": 5, "lr": 1.0, "clip_grad_norm": 0, "device": "cpu"}
    once, twice, forgetful = Constant(), Constant(), Constant()
    train(once, ages, TrainConfig(local_steps=2, **settings))
    config = TrainConfig(local_steps=1, is_optimizer_kept=True, **settings)
    first = train(twice, ages, config)
    train(twice, ages, config, optimizer_state=first.optimizer_state, round_index=2, n_rounds=2)
    plain = TrainConfig(local_steps=1, **settings)
    for round_index in (1, 2):
        result = train(forgetful, ages, plain, round_index=round_index, n_rounds=2)
        assert result.optimizer_state is None
    assert twice.value.item() == once.value.item() != forgetful.value.item()


class Spoiled:
    """A site whose training images are not a number in some batches."""

    def __init__(self, data: SiteData, bad: set[int]) -> None:
        self._data, self._bad = data, bad

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)

    def train_batches(self, *, batch_size: int, seed: int) -> Iterator[Batch]:
        """Yield the batches of the site, the bad ones spoiled."""
        for number, batch in enumerate(self._data.train_batches(batch_size=batch_size, seed=seed)):
            if number in self._bad:
                batch.target.fill_(math.nan)
            yield batch


@pytest.mark.parametrize("clip_norm", [0.0, 1.0])
def test_a_step_that_is_not_finite_is_skipped_and_counted(ages: SiteData, clip_norm: float) -> None:
    """One bad batch of three: two steps, a finite network, a finite loss."""
    network = Constant()
    config = TrainConfig(batch_size=2, clip_grad_norm=clip_norm, device="cpu")
    result = train(network, Spoiled(ages, {1}), config)
    assert (result.n_steps, result.n_skipped) == (2, 1)
    assert math.isfinite(result.loss)
    assert math.isfinite(network.value.item())


def test_a_round_without_a_finite_step_is_an_error(ages: SiteData) -> None:
    """Nothing was learned, so nothing may be sent as if it were."""
    with pytest.raises(RoundError, match=r"in 3 steps.*train.lr.*\[R20\]"):
        train(Constant(), Spoiled(ages, {0, 1, 2}), TrainConfig(batch_size=2, device="cpu"))


def test_exhausted_memory_says_what_helps(ages: SiteData) -> None:
    """A real request for more than there is, refused by the system."""

    def ask(network: nn.Module) -> None:
        torch.empty(2**55, dtype=torch.uint8)

    with pytest.raises(RoundError, match=r"lower train.batch_size.*\[R21\]"):
        train(Constant(), ages, TrainConfig(**SGD), gradient_term=ask)


def test_another_runtime_error_is_not_taken_for_exhausted_memory(ages: SiteData) -> None:
    """A bug keeps its own message."""

    def fail(network: nn.Module) -> None:
        torch.zeros(2) + torch.zeros(3)

    with pytest.raises(RuntimeError, match="must match the size"):
        train(Constant(), ages, TrainConfig(**SGD), gradient_term=fail)


@pytest.mark.parametrize("name", ["cuda:99", "tricorder"])
def test_a_device_that_is_not_there_is_refused(ages: SiteData, name: str) -> None:
    """The message offers what is always there."""
    with pytest.raises(ConfigError, match=r"train.device=auto.*\[C23\]"):
        train(Constant(), ages, TrainConfig(device=name))


def test_class_weights_are_the_sites_own(make_site: MakeSite) -> None:
    """Three of class 0 and one of class 1 weigh 2/3 and 2, so that at even odds they balance."""
    data = make_site(torch.zeros(4, 1, 16, 16), torch.tensor([0, 0, 0, 1]))
    network = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    nn.init.zeros_(network[1].weight)  # type: ignore[arg-type]  # a Linear
    nn.init.zeros_(network[1].bias)  # type: ignore[arg-type]
    task = replace(LESION, loss="weighted_ce")
    seen = []

    def look(net: nn.Module) -> None:
        seen.append(net[1].bias.grad.tolist())  # type: ignore[index]

    config = TrainConfig(batch_size=4, **SGD)
    result = train(network, data, config, task=task, gradient_term=look)
    assert result.loss == pytest.approx(math.log(2))
    # (3 * 2/3 * -1/2 + 1 * 2 * 1/2) / 4: the classes pull equally
    assert seen == [pytest.approx([0, 0], abs=1e-7)]


def test_training_lowers_the_loss(lesions: SiteData) -> None:
    """Brighter images are told apart within a few epochs."""
    network, config = classifier(), TrainConfig(batch_size=5, local_epochs=9, lr=0.01, device="cpu")
    task = LESION
    first = train(network, lesions, config, task=task)
    later = train(network, lesions, config, task=task)
    assert later.loss < first.loss
