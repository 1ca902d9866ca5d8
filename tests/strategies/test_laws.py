"""Laws that every strategy obeys, and the arithmetic of each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest
import torch

from fedmri.errors import ConfigError, RoundError
from fedmri.round import ExtraForms, Layout, SiteRound, Strategy, Update, Weights
from fedmri.strategies.adaptive.diloco import DiLoCo
from fedmri.strategies.adaptive.fedadam import FedAdam
from fedmri.strategies.averaging.fedavg import FedAvg
from fedmri.strategies.averaging.feddyn import FedDyn
from fedmri.strategies.averaging.fedprox import FedProx
from fedmri.strategies.mean import WEIGHTINGS
from fedmri.strategies.personal.fedbn import FedBN
from fedmri.strategies.personal.lgfedavg import LGFedAvg
from fedmri.strategies.personal.silobn import SiloBN
from fedmri.strategies.registry import STRATEGIES
from tests.made import strategy as made_of

SHARED = ("fedavg", "fedprox", "fedbn", "silobn", "moon", "ditto", "fedper", "fedrep", "lgfedavg")
"""Strategies whose server takes the weighted mean."""


def made(name: str, **settings: object) -> Strategy:
    """Return a strategy with numbers that suit a few sites."""
    return made_of(name, **{"server_lr": 1.0, "n_outliers": 0, "max_change": 1e6, **settings})


MEANS = [made(name) for name in SHARED]
ALL = [made(name) for name in STRATEGIES.names if name not in ("krum", "cyclic")]
"""Krum needs more sites, and the travelling model has one a turn: they have tests of their own."""
LAYOUT = Layout(
    parameters=frozenset({"conv.weight", "bn.weight", "bn.bias"}),
    norm_parameters=frozenset({"bn.weight", "bn.bias"}),
    norm_statistics=frozenset({"bn.running_mean", "bn.num_batches_tracked"}),
)


def model(value: float) -> Weights:
    """Return a model of two float entries and one integer entry."""
    return {
        "w": torch.full((3,), float(value)),
        "b": torch.full((2, 2), -float(value)),
        "n": torch.tensor(int(value)),
    }


ENTRIES = Layout(frozenset({"w", "b"}), frozenset(), frozenset())


def update(site: str, value: float, n_examples: int, n_subjects: int = 1) -> Update:
    """Return a site's update: a model whose entries all hold one number."""
    return Update(site, model(value), n_examples, n_subjects)


def zeros(forms: ExtraForms) -> dict[str, Weights]:
    """Return what a strategy declares beside an update, all zero; lengths are one."""
    return {
        record: {n: torch.full(f.shape, float(n == "length"), dtype=f.dtype) for n, f in of.items()}
        for record, of in forms.items()
    }


def aggregate(strategy: Strategy, start: float, updates: list[Update]) -> Weights:
    """Return the model after one round."""
    out = {name: torch.full_like(value, 77) for name, value in model(0).items()}
    extra = zeros(strategy.extra_forms(model(0), ENTRIES))
    whole = (replace(update, extra=extra) for update in updates)
    return strategy.aggregate(strategy.start(model(start), ENTRIES), whole, out).model


@pytest.mark.parametrize("strategy", MEANS, ids=repr)
def test_the_mean_is_weighted_by_examples(strategy: Strategy) -> None:
    """Sites with 1, 3 and 4 examples at 8, 0 and 4 average to (8 + 0 + 16) / 8 = 3."""
    new = aggregate(strategy, 5, [update("a", 8, 1), update("b", 0, 3), update("c", 4, 4)])
    assert torch.equal(new["w"], torch.full((3,), 3.0))
    assert torch.equal(new["b"], torch.full((2, 2), -3.0))


@pytest.mark.parametrize("strategy", ALL, ids=repr)
def test_what_no_site_changed_does_not_move(strategy: Strategy) -> None:
    """Three sites that return the model that they got leave it where it is."""
    new = aggregate(strategy, 2, [update(site, 2, n) for site, n in [("a", 1), ("b", 5), ("c", 2)]])
    assert torch.equal(new["w"], model(2)["w"])


@pytest.mark.parametrize("strategy", ALL, ids=repr)
def test_the_old_model_is_not_changed(strategy: Strategy) -> None:
    """A checkpoint of the last round may still be reading it."""
    state = strategy.start(model(5), ENTRIES)
    memory = {slot: {n: v.clone() for n, v in of.items()} for slot, of in state.memory.items()}
    out = {name: torch.empty_like(value) for name, value in state.model.items()}
    extra = zeros(strategy.extra_forms(model(0), ENTRIES))
    strategy.aggregate(state, iter([replace(update("a", 1, 1), extra=extra)]), out)
    assert torch.equal(state.model["w"], model(5)["w"])
    for slot, of in memory.items():
        assert all(torch.equal(value, state.memory[slot][name]) for name, value in of.items())


@pytest.mark.parametrize("strategy", ALL, ids=repr)
def test_one_update_is_held_at_a_time(strategy: Strategy) -> None:
    """An update may be overwritten as soon as the next is asked for: memory is flat in sites."""
    shared, extra = model(0), zeros(strategy.extra_forms(model(0), ENTRIES))

    def stream() -> Iterator[Update]:
        for site, value in [("a", 2.0), ("b", 4.0)]:
            for name, entry in model(value).items():
                shared[name].copy_(entry)
            yield Update(site, shared, 1, 1, extra=extra)

    out = {name: torch.empty_like(value) for name, value in model(0).items()}
    new = strategy.aggregate(strategy.start(model(9), ENTRIES), stream(), out).model
    assert torch.equal(
        new["w"], aggregate(strategy, 9, [update("a", 2, 1), update("b", 4, 1)])["w"]
    )


@pytest.mark.parametrize("strategy", ALL, ids=repr)
def test_arrival_order_is_refused(strategy: Strategy) -> None:
    """Float sums depend on their order, so only the order of sites is taken."""
    with pytest.raises(RoundError, match=r"found a after b.*\[R07\]"):
        aggregate(strategy, 0, [update("b", 1, 1), update("a", 1, 1)])


@pytest.mark.parametrize("strategy", ALL, ids=repr)
def test_a_round_without_examples_is_refused(strategy: Strategy) -> None:
    """Nothing can be averaged when nobody trained, and the message names who was asked."""
    with pytest.raises(RoundError, match=r"no examples at a, b.*\[R02\]"):
        aggregate(strategy, 0, [update("a", 1, 0), update("b", 1, 0)])


@pytest.mark.parametrize("strategy", ALL, ids=repr)
def test_a_site_without_examples_weighs_nothing(strategy: Strategy) -> None:
    """An empty site returns the model unchanged; it must not pull the mean."""
    new = aggregate(strategy, 0, [update("a", 6, 2), update("b", 0, 0)])
    assert torch.equal(new["w"], aggregate(strategy, 0, [update("a", 6, 2)])["w"])


@pytest.mark.parametrize("strategy", ALL, ids=repr)
def test_integers_are_not_averaged(strategy: Strategy) -> None:
    """Batch counts of 3 and 8 give 8: a mean of 5.5 batches would be nonsense."""
    new = aggregate(strategy, 0, [update("a", 3, 1), update("b", 8, 1)])
    assert new["n"].dtype == torch.int64
    assert new["n"].item() == 8


@pytest.mark.parametrize("strategy", ALL, ids=repr)
def test_entries_that_stay_at_the_site_keep_the_servers_value(strategy: Strategy) -> None:
    """FedBN sites do not send their batch norm; the server's own stays as it was."""
    part = Update("a", {"w": torch.full((3,), 6.0)}, 1, 1)
    new = aggregate(strategy, 2, [part])
    assert not torch.equal(new["w"], model(2)["w"])
    assert torch.equal(new["b"], model(2)["b"])


@pytest.mark.parametrize(
    ("weighting", "want"),
    [
        ("examples", (1 * 0 + 9 * 10) / 10),
        ("subjects", (3 * 0 + 1 * 10) / 4),
        ("square_root", (1 * 0 + 3 * 10) / 4),
        ("uniform", 5.0),
    ],
)
def test_each_weighting_weighs_as_it_says(weighting: str, want: float) -> None:
    """Site a has 1 example of 3 patients at 0, site b 9 examples of 1 patient at 10."""
    assert set(WEIGHTINGS) == {"examples", "subjects", "square_root", "uniform"}
    strategy = made("fedavg", weighting=weighting)
    new = aggregate(strategy, 0, [update("a", 0, 1, 3), update("b", 10, 9, 1)])
    assert math.isclose(new["w"][0].item(), want, rel_tol=1e-6)


def test_the_server_goes_its_share_of_the_way() -> None:
    """From 4 towards a mean of 8 with rate 0.25 is 5."""
    strategy = FedAvg(server_lr=0.25)
    assert aggregate(strategy, 4, [update("a", 8, 1)])["w"][0].item() == 5.0


@pytest.mark.parametrize(
    "name", [name for name in STRATEGIES.names if name not in ("krum", "feddyn")]
)
def test_no_server_steps_beyond_a_running_variance(name: str) -> None:
    """From 4 to sites' 1 with twice the step is -2 for a weight; a variance is 1, not negative."""
    strategy, entries = (
        made(name, server_lr=2.0),
        Layout(frozenset({"w"}), frozenset(), frozenset()),
    )
    old, new = ({"w": torch.tensor([v]), "var": torch.tensor([v])} for v in (4.0, 1.0))
    extra = zeros(strategy.extra_forms(old, entries))
    sent = [Update(site, new, 2, 1, extra=extra) for site in "ab"]
    out = {name: torch.full_like(value, 77) for name, value in old.items()}
    state = strategy.start(old, entries)
    turn = sent[:1] if name == "cyclic" else sent
    state = strategy.aggregate(state, turn, out)
    assert state.model["var"].item() == 1.0
    if not isinstance(strategy, FedAdam | DiLoCo):
        assert state.model["w"].item() == -2.0


def test_a_step_that_feddyn_does_not_have_is_refused() -> None:
    """Its server goes to the corrected mean, however small a step is asked for."""
    with pytest.raises(ConfigError, match=r"strategy.server_lr.*1 for feddyn.*\[C01\]"):
        FedDyn(server_lr=0.5)


def before(received: Weights, memory: Mapping[str, Weights] | None = None) -> SiteRound:
    """Return what a site has before a round."""
    return SiteRound(LAYOUT, 7, received, {}, memory or {})


def test_fedprox_adds_the_proximal_gradient() -> None:
    """At weight 5, received 2 and mu 0.5 the gradient grows by 0.5 * (5 - 2)."""
    network = torch.nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(5.0)
    network.weight.grad = torch.full((1, 1), 1.0)
    strategy = FedProx(mu=0.5)
    (phase,) = strategy.phases(before({"weight": torch.full((1, 1), 2.0)}))
    assert phase.term is not None
    phase.term(network)
    assert network.weight.grad.item() == 2.5


def test_fedbn_keeps_all_of_batch_norm() -> None:
    """Scale, shift and statistics of batch norm stay; the convolution is shared."""
    local = FedBN().local_names(LAYOUT)
    assert local == LAYOUT.norm_parameters | LAYOUT.norm_statistics


def test_silobn_keeps_statistics_only() -> None:
    """Scale and shift are averaged, running statistics are not."""
    assert SiloBN().local_names(LAYOUT) == LAYOUT.norm_statistics


def test_lgfedavg_shares_the_last_layer_alone() -> None:
    """Everything else, batch norm too, stays; it needs a last layer."""
    head = frozenset({"fc.weight"})
    whole = replace(LAYOUT, head=head, parameters=LAYOUT.parameters | head)
    strategy = LGFedAvg()
    assert strategy.local_names(whole) == LAYOUT.parameters | LAYOUT.norm_statistics
    with pytest.raises(ConfigError, match=r"found none, want a network with a last layer.*\[C03\]"):
        strategy.local_names(LAYOUT)


@pytest.mark.parametrize("name", ["fedbn", "silobn"])
def test_a_network_without_batch_norm_is_refused(name: str) -> None:
    """FedBN of a group-norm network would be FedAvg under another name."""
    bare = Layout(frozenset({"w"}), frozenset(), frozenset())
    with pytest.raises(ConfigError, match=r"found no batch norm.*model.norm=batch.*\[C03\]"):
        made(name).local_names(bare)


def test_an_unknown_strategy_is_refused_with_the_known_ones() -> None:
    """The message lists what there is."""
    with pytest.raises(ConfigError, match=r"one of cyclic, fedavg, feddyn, .*, krum, median"):
        STRATEGIES.made("fedavgg")
