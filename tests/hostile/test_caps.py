"""A site's own caps against plans that would walk around them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fedmri.clients.process.home import ClientHome
from fedmri.clients.training.network import network_of
from fedmri.config import load
from fedmri.models.weights import weights
from fedmri.plan import Plan, to_json
from fedmri.privacy.settings import SiteNoiseConfig
from fedmri.strategies.personal.lgfedavg import LGFedAvg
from fedmri.wire import TrainOrder, content_of
from tests.clients.conftest import Sign
from tests.conftest import TINY
from tests.hostile.conftest import Order, code_of, with_policy

pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # flwr's
PRIVATE = ("privacy.noise_multiplier=4", "privacy.batch_subjects=2")


def train(plan: Plan, round_index: int = 1, number: int = 0) -> TrainOrder:
    """Return an order to train, from weights that no round led to where a number is given."""
    rng = torch.Generator().manual_seed(number)
    model = weights(network_of(to_json(plan)).module)
    given = {k: v + 0.1 * number * torch.randn(v.shape, generator=rng) for k, v in model.items()}
    return TrainOrder(round_index, given)


@pytest.mark.parametrize(
    ("settings", "is_refused"),
    [
        ((), False),
        (("harmonize=zscore", "data.prepare.scaling=none"), True),
        (("harmonize=robust", "data.prepare.scaling=none"), True),
        (("harmonize=nyul",), True),
        (("harmonize=nyul", "stages.nyul.weighting=patient"), True),
        (
            ("harmonize=nyul", "stages.nyul.weighting=patient", "stages.nyul.noise_multiplier=4"),
            False,
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_no_exact_sum_leaves_beside_a_cap(
    order: Order, sign: Sign, home: ClientHome, settings: tuple[str, ...], *, is_refused: bool
) -> None:
    """Noise on gradients is worth nothing beside the exact mean of the same patients' voxels."""
    with_policy(home, "max_epsilon: 1000", "is_approval_automatic: true")
    plan = load([*TINY, *PRIVATE, *settings]).plan
    reply = order(sign(plan), content_of(train(plan)), "train")
    assert (code_of(reply) == "P10") == is_refused


@pytest.mark.parametrize(
    ("noise", "code"),
    [
        (SiteNoiseConfig(), "P10"),
        (SiteNoiseConfig(2.0, 0.1, max_epsilon=0), "P31"),
        (SiteNoiseConfig(2.0, 0.1, max_epsilon=1e6), "P31"),
        (SiteNoiseConfig(2.0, 0.1, delta=0.9), "P31"),
        (SiteNoiseConfig(200.0, 0.1), "ok"),
    ],
    ids=["none", "no bound", "a bound far off", "a large delta", "much noise"],
)
def test_a_site_caps_what_it_loses_as_a_whole(
    order: Order, sign: Sign, home: ClientHome, noise: SiteNoiseConfig, code: str
) -> None:
    """Whatever epsilon and delta the plan states, the site's own are the least."""
    with_policy(home, "max_site_epsilon: 1", "is_approval_automatic: true")
    plan = load([*TINY]).plan
    of_site = replace(plan, privacy=replace(plan.privacy, site=noise), strategy=LGFedAvg())
    network = network_of(to_json(of_site))
    sent = {n: v for n, v in train(of_site).weights.items() if n not in network.initial}
    content = content_of(TrainOrder(1, sent))
    assert code_of(order(sign(of_site), content, "train")) == code


def test_which_updates_pass_unmeasured_is_not_the_servers_to_choose(
    order: Order, plan: Plan, sign: Sign, home: ClientHome
) -> None:
    """Sent for every second round, orders used to pass; now some of them are measured."""
    with_policy(
        home,
        "max_leakage: 1",
        "leakage_every: 2",
        "leakage_steps: 1",
        "is_approval_automatic: true",
    )
    signed = sign(replace(plan, rounds=replace(plan.rounds, n_rounds=20)))
    for round_index in range(2, 20, 2):
        reply = order(signed, content_of(train(signed.plan, round_index, round_index)), "train")
        assert code_of(reply) == "ok"
    assert home.leakage_ledger.exists()
