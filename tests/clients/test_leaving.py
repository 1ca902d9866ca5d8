"""What a site consents to weighs and names what really leaves it."""

from __future__ import annotations

import pytest

from fedmri.clients.consent.leaving import key_bytes, score_metrics, train_metrics, update_bytes
from fedmri.clients.consent.plan_text import describe
from fedmri.clients.consent.policy import SitePolicy
from fedmri.config import load
from fedmri.models.build import build_network
from fedmri.models.weights import layout, weights
from fedmri.plan import Plan
from tests.clients.conftest import Sign
from tests.conftest import TINY


def plan_of(*settings: str) -> Plan:
    """Return a plan of a tiny network."""
    return load([*TINY, *settings]).plan


def bytes_of(plan: Plan) -> int:
    """Return what an update of a plan weighs."""
    module = build_network(plan.model, **plan.network)
    entries, named = weights(module), layout(module)
    strategy = plan.strategy
    return update_bytes(plan, entries, strategy.extra_forms(entries, named))


def test_masks_take_eight_bytes_a_number() -> None:
    """A secure sum hides each number in the ring of 64 bits: twice the bytes of float32."""
    clear, hidden = plan_of("strategy=fedavg"), plan_of("strategy=fedavg", "secagg.is_on=true")
    n_numbers = sum(
        v.numel() for v in weights(build_network(clear.model, **clear.network)).values()
    )
    assert bytes_of(clear) == 4 * n_numbers
    # one number more: the weight of the site
    assert 8 * n_numbers <= bytes_of(hidden) <= 8 * (n_numbers + 2)


def test_what_a_strategy_sends_beside_the_model_is_counted() -> None:
    """SCAFFOLD sends as much again for its control variate."""
    sgd = ("train.optimizer=sgd", "train.momentum=0", "train.clip_grad_norm=0")
    plain, scaffold = plan_of("strategy=fedavg"), plan_of("strategy=scaffold", *sgd)
    assert bytes_of(scaffold) > 1.9 * bytes_of(plain)


def test_a_hospital_reads_what_stands_still_and_what_is_left_to_leave(sign: Sign) -> None:
    """The last layer's weight and bias leave; of the rest each entry is counted."""
    plan = plan_of("train.frozen=['*']", "model.norm=group")
    text = describe(sign(plan), SitePolicy())
    n_entries = len(weights(build_network(plan.model, **plan.network)))
    assert f"2 entries of trained weights ({n_entries - 2} stand still and never leave)" in text
    assert "stand still" not in describe(sign(plan_of()), SitePolicy())


def test_keys_and_shares_grow_with_the_sites() -> None:
    """Each site sends a box and a share for each other one."""
    assert key_bytes(6) - key_bytes(5) == key_bytes(5) - key_bytes(4) > 0


@pytest.mark.parametrize(
    ("settings", "named", "missing"),
    [
        ((), {"loss", "n_steps", "train_seconds"}, {"epsilon", "delta", "site_epsilon"}),
        (("secagg.is_on=true",), {"train_seconds"}, {"n_steps", "n_skipped", "loss"}),
        (("privacy.noise_multiplier=1", "privacy.batch_subjects=2"), {"epsilon"}, {"loss"}),
        (
            ("privacy.site.noise_multiplier=2", "privacy.site.clip_norm=0.1", "strategy=lgfedavg"),
            {"site_epsilon"},
            {"loss"},
        ),
    ],
    ids=["in clear", "secure", "private", "hospital private"],
)
def test_only_metrics_that_leave_are_named(
    settings: tuple[str, ...], named: set[str], missing: set[str]
) -> None:
    """A loss that is held back is not listed, nor an epsilon that nobody computes."""
    found = set(train_metrics(plan_of(*settings)))
    assert named <= found
    assert not missing & found


def test_a_classification_is_scored_with_its_loss() -> None:
    """The embedded example has a loss over patients."""
    assert "loss" in score_metrics(plan_of())
