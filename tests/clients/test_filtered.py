"""Filters of a plan at a real site: what of its training is in the update."""

from __future__ import annotations

import pytest
import torch

from fedmri.clients.consent.plan_text import describe
from fedmri.clients.consent.policy import SitePolicy
from fedmri.clients.training.network import network_of
from fedmri.clients.training.site import Site
from fedmri.errors import ConfigError
from fedmri.models.weights import weights
from fedmri.plan import FilterConfig, Plan, TransportConfig, to_json
from fedmri.round import Layout, Weights
from fedmri.strategies.registry import STRATEGIES
from fedmri.tasks.kinds.regression import Regression
from fedmri.training.settings import TrainConfig
from fedmri.updates.codec import decode
from fedmri.updates.filters import change_norm, n_values
from fedmri.wire import TrainOrder
from tests.clients.conftest import MakeSite, Sign
from tests.made import strategy as made

TARGET = Regression("age")


def received(site: Site) -> Weights:
    """Return the weights that a site is sent in its first round."""
    plan_json = to_json(site.plan)
    network_of.cache_clear()
    network = network_of(plan_json)
    entries = weights(network.module)
    return {n: value.clone() for n, value in entries.items() if n not in network.initial}


def change_of(site: Site) -> tuple[Weights, Weights]:
    """Return the changes of parameters, and of all else, that the server sees of a round."""
    before = received(site)
    update = site.train(TrainOrder(1, before))
    after = decode(update, before, site.plan.transport).weights
    changes = {name: after[name] - before[name] for name in before}
    parameters = site.layout.parameters
    rest = {name: value.clone() for name, value in changes.items() if name not in parameters}
    return {name: changes[name].clone() for name in sorted(parameters)}, rest


@pytest.mark.parametrize("update", ["weights", "difference"])
def test_the_largest_values_leave_and_the_rest_is_as_it_was_sent(
    make_site: MakeSite, update: str
) -> None:
    """At the 90th percentile a tenth of the parameters' values changes, by what was trained."""
    transport = f"transport.update={update}"
    all_of_it, _ = change_of(make_site(transport))
    shared, _ = change_of(make_site(transport, "filters.percentile=90"))
    n_shared = sum(int(value.count_nonzero()) for value in shared.values())
    assert n_shared == pytest.approx(n_values(all_of_it) / 10, abs=2)
    for name, value in shared.items():
        kept = value != 0
        torch.testing.assert_close(value[kept], all_of_it[name][kept], rtol=1e-3, atol=1e-6)
    least = min(float(v[v != 0].abs().min()) for v in shared.values() if v.any())
    left_out = [(all_of_it[n] * (value == 0)).abs().max() for n, value in shared.items()]
    assert max(map(float, left_out)) <= least * 1.01


def test_a_change_is_scaled_to_its_bound_and_statistics_are_not(make_site: MakeSite) -> None:
    """The parameters' change keeps its direction; what batch norm counted passes to the bit."""
    norm = "model.norm=batch"
    whole, counted = change_of(make_site(norm))
    bound = change_norm(whole) / 4
    clipped, counted_too = change_of(make_site(norm, f"filters.clip_norm={bound}"))
    assert change_norm(clipped) == pytest.approx(bound, rel=1e-4)
    for name, value in clipped.items():
        torch.testing.assert_close(value, whole[name] / 4, rtol=1e-2, atol=1e-6)
    assert any(value.any() for value in counted.values())
    assert all(torch.equal(counted[name], value) for name, value in counted_too.items())


def test_filters_that_let_all_through_change_no_bit(make_site: MakeSite) -> None:
    """A bound that is not reached gives the update of a plan without filters."""
    plain, wide = make_site(), make_site("filters.clip_norm=1e6")
    updates = [
        {name: value.clone() for name, value in site.train(TrainOrder(1, sent)).weights.items()}
        for site, sent in [(plain, received(plain)), (wide, received(wide))]
    ]
    assert all(torch.equal(updates[0][name], updates[1][name]) for name in updates[0])


@pytest.mark.parametrize("name", STRATEGIES.names)
def test_a_strategy_that_sends_more_than_a_model_is_refused(name: str) -> None:
    """Whoever declares something beside the update would send it unfiltered."""
    rule, layout = made(name), Layout(frozenset({"w"}), frozenset(), frozenset())
    extra = rule.extra_forms({"w": torch.zeros(2)}, layout)
    filters = FilterConfig(percentile=50)
    sgd = TrainConfig(optimizer="sgd", momentum=0, clip_grad_norm=0)
    if not extra:
        Plan(TARGET, strategy=rule, filters=filters, train=sgd)
        return
    with pytest.raises(ConfigError, match=r"strategy .*\[C31\]"):
        Plan(TARGET, strategy=rule, filters=filters, train=sgd)


def test_rests_of_rounding_would_pass_the_filters_by() -> None:
    """What was rounded off a round ago is added after the filters, so both are refused."""
    for filters in (FilterConfig(clip_norm=1), FilterConfig(percentile=1)):
        with pytest.raises(ConfigError, match=r"bf16.*\[C31\]"):
            Plan(TARGET, filters=filters, transport=TransportConfig(dtype="bf16"))


def test_whoever_approves_a_plan_reads_what_is_filtered(sign: Sign) -> None:
    """Bound and share are said in words, and that neither is a guarantee."""
    plain = describe(sign(Plan(TARGET)), SitePolicy())
    assert "none: all of the change leaves" in plain
    filters = FilterConfig(clip_norm=2.5, percentile=90)
    text = describe(sign(Plan(TARGET, filters=filters)), SitePolicy())
    assert "a norm of 2.5 at most; its largest 10 % of values leave" in text
    assert "no guarantee" in text
    own = describe(sign(Plan(TARGET)), SitePolicy(max_update_norm=3, max_leakage=0.4))
    assert "a norm above 3; a leakage score above 0.4, every 1 rounds" in own
