"""Noise for a whole hospital: what is clipped, how much is added, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fedmri.claims import Claim, claims_of
from fedmri.clients.training.network import network_of
from fedmri.clients.training.protection.private import Guard
from fedmri.config import load
from fedmri.errors import ConfigError, PrivacyError
from fedmri.models.build import build_network
from fedmri.models.weights import layout, weights
from fedmri.plan import Plan, to_json
from fedmri.privacy.accounting import spent
from fedmri.privacy.settings import PrivacyConfig, SiteNoiseConfig
from fedmri.privacy.site_level import (
    mean_error,
    noised,
    noised_weights,
    own_noise,
    refuse_large,
    round_cost,
    sum_noise,
)
from fedmri.privacy.stream import Stream, key_for
from fedmri.strategies.registry import STRATEGIES
from fedmri.tasks.kinds.classification import Classification
from fedmri.training.settings import TrainConfig
from tests.made import model
from tests.made import strategy as made

KEY = key_for(b"secret of a site", "order 1")
QUIET = SiteNoiseConfig(1e-12, clip_norm=0.5)
CHANGE = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([[4.0]]), "n": torch.tensor(7)}


def test_the_whole_release_is_clipped_as_one_vector() -> None:
    """(3, 0, 4) of norm 5 becomes (0.3, 0, 0.4) of norm one half; the count of batches stays."""
    after = noised(CHANGE, QUIET, Stream(KEY))
    assert torch.allclose(after["a"], torch.tensor([0.3, 0.0]))
    assert torch.allclose(after["b"], torch.tensor([[0.4]]))
    assert after["n"] == 7


def test_a_small_release_is_not_blown_up_to_the_norm() -> None:
    """Planted bug: scaling to the norm would show every hospital as loud as the bound lets it."""
    after = noised({"a": torch.tensor([0.1, -0.2])}, QUIET, Stream(KEY))
    assert torch.allclose(after["a"], torch.tensor([0.1, -0.2]))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_release_that_is_not_finite_is_noise_alone(bad: float) -> None:
    """An error would tell of the hospital's data, and a NaN takes the noise away."""
    config = SiteNoiseConfig(2.0, clip_norm=0.5)
    empty = noised({"a": torch.zeros(3)}, config, Stream(KEY))
    after = noised({"a": torch.tensor([1.0, bad, 2.0])}, config, Stream(KEY))
    assert torch.equal(after["a"], empty["a"])


def test_the_noise_has_the_size_that_is_accounted_for() -> None:
    """Multiplier times clip norm over root shares, within five standard errors of 20 000 draws."""
    config = SiteNoiseConfig(3.0, clip_norm=0.5, n_shares=4)
    noise = noised({"a": torch.zeros(20_000)}, config, Stream(KEY))["a"]
    assert abs(float(noise.std()) / 0.75 - 1) < 5 / math.sqrt(2 * 20_000)
    assert round_cost(config).noise_multiplier == own_noise(config) == 1.5


def test_no_two_releases_have_the_same_noise(tmp_path: Path) -> None:
    """Planted bug: a key of the order alone, whose noise would cancel where the data changed."""
    guard = Guard(b"secret of a site", tmp_path / "privacy.jsonl")
    found = [
        guard.site_stream("order", {"a": torch.tensor([value])}).normal(4)
        for value in (1.0, 1.0, 1.0001)
    ]
    assert (found[0] == found[1]).all()  # sent again after a crash: the same bits
    assert abs(found[0] - found[2]).min() > 1e-6


def test_what_is_noised_is_the_change_from_the_received_weights() -> None:
    """Weights of 100 that moved by 3 and 4 move by 0.3 and 0.4."""
    received = {"a": torch.full((2,), 100.0), "n": torch.tensor(1)}
    trained = {"a": torch.tensor([103.0, 104.0]), "n": torch.tensor(5)}
    after = noised_weights(trained, received, QUIET, Stream(KEY))
    assert torch.allclose(after["a"], torch.tensor([100.3, 100.4]))
    assert after["a"].dtype == torch.float32
    assert after["n"] == 5


def test_a_missing_hospital_takes_its_noise_along() -> None:
    """Four shares of 2 make 4; without one of them, or seen by one of them, root three quarters."""
    config = SiteNoiseConfig(4.0, n_shares=4)
    assert sum_noise(config, 4) == 4.0
    assert math.isclose(sum_noise(config, 3), 4.0 * math.sqrt(3 / 4))
    assert sum_noise(config, 4, n_known=1) == sum_noise(config, 3)
    steps = (round_cost(config), round_cost(SiteNoiseConfig(4.0)))
    own, whole = (spent([step], 1e-3).epsilon for step in steps)
    assert own > 1.5 * whole  # a share alone is less noise, and the account says so


def test_the_expected_noise_on_a_mean_is_what_is_measured() -> None:
    """Five hospitals of 514 numbers: 300 means, their norm over the clip norm, within 1 %."""
    generator = torch.Generator().manual_seed(0)
    each = 2.0 * torch.randn(300, 5, 514, generator=generator)
    measured = float(each.mean(1).norm(dim=1).mean())
    assert abs(measured / mean_error(2.0, 514, 5, is_shared=False) - 1) < 0.01
    shared = mean_error(2.0, 514, 5, is_shared=True)
    assert math.isclose(shared, mean_error(2.0 / math.sqrt(5), 514, 5, is_shared=False))


def _refuse(strategy: str, norm: str, name: str = "cnn3d") -> None:
    network = build_network(
        model(name, norm=norm),
        target=Classification("x", ("a", "b")),
        n_dims=3,
        n_channels=1,
        shape=(16, 16, 16),
        seed=0,
    )
    entries = layout(network)
    local = made(strategy).local_names(entries)
    shared = {name: value for name, value in weights(network).items() if name not in local}
    refuse_large(SiteNoiseConfig(1.0, max_values=10_000), shared, entries)


def test_a_whole_network_is_refused_and_its_head_is_not() -> None:
    """The reason is a number: noise of the root of 107 458 beside a signal of 1."""
    with pytest.raises(PrivacyError, match=r"107,458 numbers: found noise of 328 times.*\[P66\]"):
        _refuse("fedavg", "group")
    _refuse("lgfedavg", "group")
    _refuse("lgfedavg", "batch")  # its statistics stay at the site


def test_shared_statistics_of_batch_norm_are_refused() -> None:
    """A running variance with noise turns negative, and the network gives NaN."""
    network = torch.nn.Sequential(torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 1))
    with pytest.raises(PrivacyError, match=r"statistics of batch norm.*\[P67\]"):
        refuse_large(SiteNoiseConfig(1.0), weights(network), layout(network))
    refuse_large(SiteNoiseConfig(), weights(network), layout(network))


@pytest.mark.parametrize("name", STRATEGIES.names)
def test_strategies_that_send_more_than_an_update_are_refused(name: str) -> None:
    """Whoever declares something beside the update claims no model alone, and is refused."""
    network, rule = torch.nn.Linear(3, 1), made(name)
    is_alone = Claim.MODEL_ALONE in claims_of(rule)
    assert is_alone == (not rule.extra_forms(weights(network), layout(network)))
    noised = PrivacyConfig(site=SiteNoiseConfig(1.0))
    target = Classification("x", ("a", "b"))
    train = TrainConfig(optimizer="sgd", momentum=0, clip_grad_norm=0)
    if is_alone:
        Plan(target, strategy=rule, privacy=noised, train=train)
        return
    with pytest.raises(PrivacyError, match=rf"strategy {name}.*\[P67\]"):
        Plan(target, strategy=rule, privacy=noised, train=train)


@pytest.mark.parametrize("strategy", ["fedbn", "silobn"])
def test_private_training_and_local_batch_norm_refuse_each_other(
    tiny: Callable[..., list[str]], strategy: str
) -> None:
    """With batch norm there is no patient's own gradient; with group norm, nothing is local."""
    private = ("privacy.noise_multiplier=1", f"strategy={strategy}")
    with pytest.raises(PrivacyError, match=r"model.norm.*\[P32\]"):
        load(tiny(*private, "model.norm=batch"))
    plan = load(tiny(*private, "model.norm=group")).plan
    with pytest.raises(ConfigError, match=r"strategy .*: found no batch norm.*\[C03\]"):
        network_of(to_json(plan))
