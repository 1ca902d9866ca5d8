"""Each strategy ends where its mathematics says, on sites whose losses are quadratic."""

from __future__ import annotations

import pytest
import torch

from fedmri.round import Strategy, Update, Weights
from fedmri.strategies.adaptive.diloco import DiLoCo
from fedmri.strategies.adaptive.fedadagrad import FedAdagrad
from fedmri.strategies.adaptive.fedadam import FedAdam
from fedmri.strategies.adaptive.fedavgm import FedAvgM
from fedmri.strategies.adaptive.fedyogi import FedYogi
from fedmri.strategies.averaging.cyclic import Cyclic
from fedmri.strategies.averaging.fedavg import FedAvg
from fedmri.strategies.averaging.feddyn import FedDyn
from fedmri.strategies.averaging.fednova import FedNova, effective_steps
from fedmri.strategies.averaging.fedprox import FedProx
from fedmri.strategies.averaging.ima import IMA
from fedmri.strategies.averaging.scaffold import Scaffold
from fedmri.strategies.personal.ditto import Ditto
from fedmri.strategies.registry import STRATEGIES
from tests.strategies.quadratics import LAYOUT, N_EXAMPLES, Federation, optimum, sites, weighted

EYE = torch.eye(4, dtype=torch.float64)
UNEQUAL = (1, 4, 2, 7, 3)


def contracted(n_steps: int, lr: float, mu: float = 0.0) -> list[torch.Tensor]:
    """Return ``I - (I - lr (A + mu))^E`` of each site: how far E steps go."""
    return [
        EYE - torch.linalg.matrix_power(EYE - lr * (site.a + mu * EYE), n_steps) for site in sites()
    ]


def close(found: torch.Tensor, want: torch.Tensor, tolerance: float = 1e-9) -> bool:
    """Tell whether two points are the same."""
    return bool((found - want).abs().max() < tolerance)


def test_fedavg_of_one_step_finds_the_pooled_optimum() -> None:
    """One step a round is gradient descent on the weighted objective."""
    assert close(Federation(FedAvg()).limit(500), optimum())


@pytest.mark.parametrize("strategy", [FedAvg(), FedAvgM(beta=0.5)], ids=repr)
def test_fedavg_of_many_steps_is_biased_as_predicted(strategy: Strategy) -> None:
    """Ten steps end at the optimum of other curvatures, momentum at the server or not."""
    found = Federation(strategy).limit(400, n_steps=10)
    assert close(found, weighted(contracted(10, 0.1), N_EXAMPLES))
    assert (found - optimum()).norm() > 0.05


@pytest.mark.parametrize("mu", [0.0, 0.7])
def test_fedprox_ends_where_the_pull_lets_it(mu: float) -> None:
    """``Q = [I - (I - lr (A + mu))^E] (A + mu)^-1 A``."""
    found = Federation(FedProx(mu=mu)).limit(600, n_steps=10)
    there = [torch.linalg.solve(s.a + mu * EYE, s.a) for s in sites()]
    q = [one @ other for one, other in zip(contracted(10, 0.1, mu), there, strict=True)]
    assert close(found, weighted(q, N_EXAMPLES))


def test_fedprox_without_pull_is_fedavg_to_the_bit() -> None:
    """With ``mu`` 0 nothing is added."""
    one = Federation(FedProx(mu=0.0)).limit(3, n_steps=5)
    assert torch.equal(one, Federation(FedAvg()).limit(3, n_steps=5))


@pytest.mark.parametrize("kind", [FedAdam, FedYogi, FedAdagrad])
def test_adaptive_servers_share_fedavgs_fixed_point(kind: type[FedAdam]) -> None:
    """Started where FedAvg stands still, they stand still."""
    federation = Federation(kind(server_lr=0.1))
    still = weighted(contracted(10, 0.1), N_EXAMPLES)
    federation.state = federation.strategy.start({"x": still.clone()}, LAYOUT)
    assert close(federation.round(n_steps=10), still)


@pytest.mark.parametrize("kind", [FedAdam, FedYogi, FedAdagrad])
def test_the_first_step_of_an_adaptive_server_is_reddis(kind: type[FedAdam]) -> None:
    """From ``m = 0`` and ``v = tau^2``, computed by hand."""
    change = Federation(FedAvg()).round(n_steps=3)
    m = change if kind is FedAdagrad else 0.1 * change
    tau2, square = torch.full_like(change, 1e-6), change**2
    v = {
        FedAdam: 0.99 * tau2 + 0.01 * square,
        FedYogi: tau2 - 0.01 * square * torch.sign(tau2 - square),
        FedAdagrad: tau2 + square,
    }[kind]
    want = 0.5 * m / (v.sqrt() + 1e-3)
    found = Federation(kind(server_lr=0.5, tau=1e-3)).round(n_steps=3)
    assert close(found, want, 1e-12)


def test_the_first_step_with_momentum_is_fedavgs_and_the_second_overshoots() -> None:
    """``v = beta v + change``: the second step has 1.5 times the change where the pull is even."""
    plain, heavy = Federation(FedAvg()), Federation(FedAvgM(beta=0.5, server_lr=1.0))
    first = plain.round()
    assert close(heavy.round(), first, 1e-12)
    change = plain.round() - first
    assert close(heavy.round(), first + 0.5 * first + change, 1e-12)


def test_nesterovs_first_step_looks_ahead() -> None:
    """``change + beta v`` with ``v = change``: half as far again with a momentum of a half."""
    first = Federation(FedAvg()).round()
    found = Federation(DiLoCo(beta=0.5, server_lr=1.0)).round()
    assert close(found, 1.5 * first, 1e-12)


@pytest.mark.parametrize("name", ["fedavgm", "diloco", "fedadam", "fedyogi", "fedadagrad", "ima"])
@pytest.mark.parametrize("size", [1e-4, 1e-2, 1.0])
def test_no_default_goes_farther_than_averaging_in_the_long_run(name: str, size: float) -> None:
    """Sites that move on by the same change, round for round: a step ten times too far diverges."""
    strategy = STRATEGIES.made(name)
    state, n_rounds = strategy.start({"x": torch.zeros(1, dtype=torch.float64)}, LAYOUT), 300
    for _ in range(n_rounds):
        update = Update("a", {"x": state.model["x"] + size}, 1, 1)
        state = strategy.aggregate(state, [update], {"x": torch.empty(1, dtype=torch.float64)})
    way = float(state.model["x"]) / (n_rounds * size)
    assert 0 < way <= 1 + 1e-9
    assert way > 0.9 or name not in ("fedavgm", "diloco")


@pytest.mark.parametrize("name", ["fedavgm", "diloco", "ima"])
def test_servers_with_a_memory_end_where_fedavg_does(name: str) -> None:
    """With their defaults, on losses whose sites disagree."""
    still = weighted(contracted(10, 0.1), N_EXAMPLES)
    assert close(Federation(STRATEGIES.made(name)).limit(400, n_steps=10), still)


def test_ima_is_the_mean_of_the_last_rounds() -> None:
    """After the free rounds; what is averaged are the means of the sites, not their averages."""
    strategy, model = IMA(window=2, n_free=1), torch.zeros(1)
    state, found = strategy.start({"x": model}, LAYOUT), []
    for value in (1.0, 3.0, 7.0, 9.0):
        update = Update("a", {"x": torch.tensor([value])}, 1, 1)
        state = strategy.aggregate(state, [update], {"x": torch.empty(1)})
        found.append(float(state.model["x"]))
    assert found == [1.0, 3.0, 5.0, 8.0]


def test_scaffold_begins_as_fedavg_to_the_bit() -> None:
    """All control variates are zero in the first round."""
    one = Federation(Scaffold()).round(n_steps=UNEQUAL.__getitem__)
    assert torch.equal(one, Federation(FedAvg()).round(n_steps=UNEQUAL.__getitem__))


def test_scaffold_finds_the_optimum_whatever_the_steps() -> None:
    """Unequal numbers of steps and no bias; each ``c_k`` is the site's gradient there."""
    federation = Federation(Scaffold())
    assert close(federation.limit(1500, n_steps=UNEQUAL.__getitem__), optimum(), 1e-12)
    for site in federation.sites:
        gradient = site.a @ (optimum() - site.b)
        assert close(site.memory["control"]["x"], gradient, 1e-9)
    common = federation.strategy.broadcast(federation.state)["control"]["x"]
    assert close(common, torch.zeros(4, dtype=torch.float64), 1e-9)


@pytest.mark.parametrize("strategy", [Scaffold(), FedDyn(weighting="uniform", mu=2.0)], ids=repr)
def test_absent_sites_do_not_move_the_limit(strategy: Strategy) -> None:
    """Three of five sites take part in a round; what the others keep still counts."""
    federation = Federation(strategy)
    n_steps, n_rounds = (80, 300) if isinstance(strategy, FedDyn) else (5, 1200)
    found = federation.limit(n_rounds, n_steps=n_steps, there=lambda k, r: (k + r) % 5 < 3)
    want = optimum((1,) * 5) if isinstance(strategy, FedDyn) else optimum()
    assert close(found, want, 1e-9)


@pytest.mark.parametrize("strategy", [Scaffold(), FedDyn(weighting="uniform", mu=2.0)], ids=repr)
def test_a_lost_update_does_not_bias_for_ever(strategy: Strategy) -> None:
    """A site whose update the server never saw goes back to what it had before it."""
    federation = Federation(strategy)
    n_steps, n_rounds = (80, 200) if isinstance(strategy, FedDyn) else (5, 1500)
    for _ in range(40):
        federation.round(n_steps=n_steps, is_taken=lambda k, r: (3 * k + r) % 7 > 1)
    found = federation.limit(n_rounds, n_steps=n_steps)
    want = optimum((1,) * 5) if isinstance(strategy, FedDyn) else optimum()
    assert close(found, want, 1e-9)


def test_feddyn_finds_the_unweighted_optimum() -> None:
    """Its sites agree there, each with ``g_k`` the gradient of its own loss."""
    federation = Federation(FedDyn(weighting="uniform", mu=2.0))
    assert close(federation.limit(150, n_steps=80), optimum((1,) * 5), 1e-10)
    for site in federation.sites:
        gradient = site.a @ (optimum((1,) * 5) - site.b)
        assert close(site.memory["gradient"]["x"], gradient, 1e-8)


def test_fednova_removes_the_pull_of_more_steps() -> None:
    """The limit is the optimum of ``Q_k / tau_k``; with equal steps it is FedAvg's."""
    found = Federation(FedNova()).limit(800, n_steps=UNEQUAL.__getitem__, lr=0.02)
    q = [contracted(n, 0.02)[k] / n for k, n in enumerate(UNEQUAL)]
    assert close(found, weighted(q, N_EXAMPLES))
    naive = Federation(FedAvg()).limit(800, n_steps=UNEQUAL.__getitem__, lr=0.02)
    assert (found - optimum()).norm() < 0.2 * (naive - optimum()).norm()


def test_fednova_of_equal_steps_is_fedavg() -> None:
    """Whatever the momentum that is counted in."""
    one = Federation(FedNova(), momentum=0.9).limit(5, n_steps=4)
    assert close(one, Federation(FedAvg()).limit(5, n_steps=4), 1e-12)


def test_steps_with_momentum_are_counted_as_they_act() -> None:
    """A constant gradient moves momentum SGD by its effective number of steps."""
    velocity = moved = 0.0
    for _ in range(7):
        velocity = 0.9 * velocity + 1.0
        moved += velocity
    assert abs(effective_steps(7, 0.9) - moved) < 1e-12


def test_fednova_counts_the_steps_of_sites_that_are_pulled_back() -> None:
    """``|a| = (1 - (1 - lr mu)^tau) / (lr mu)``; the limit is the optimum of ``Q_k / |a_k|``."""
    found = Federation(FedNova(mu=2.0)).limit(900, n_steps=UNEQUAL.__getitem__, lr=0.05)
    there = [torch.linalg.solve(s.a + 2 * EYE, s.a) for s in sites()]
    ways = [(1 - 0.9**n) / 0.1 for n in UNEQUAL]
    q = [contracted(n, 0.05, 2.0)[k] @ there[k] / ways[k] for k, n in enumerate(UNEQUAL)]
    assert close(found, weighted(q, N_EXAMPLES))


@pytest.mark.parametrize("mu", [0.0, 1.5])
def test_dittos_own_models_stand_between_local_and_global(mu: float) -> None:
    """``v_k = (A_k + mu)^-1 (A_k b_k + mu w)``; ``mu`` 0 is the site's own optimum."""
    federation = Federation(Ditto(mu=mu))
    common = federation.limit(400, n_steps=10)
    assert torch.equal(common, Federation(FedAvg()).limit(400, n_steps=10))
    for site in federation.sites:
        own = federation.strategy.own_model(site.memory)["x"]
        want = torch.linalg.solve(site.a + mu * EYE, site.a @ site.b + mu * common)
        assert close(own, want, 1e-8)


def test_the_travelling_model_goes_from_site_to_site() -> None:
    """A journey of exact solutions ends at the optimum of the site that it visits last."""
    federation = Federation(Cyclic())
    by_name: dict[str, Weights] = {site.name: {"x": site.b} for site in federation.sites}
    assert close(federation.round(n_steps=400), by_name["s4"]["x"])
    assert close(federation.round(n_steps=400), by_name["s0"]["x"])


def test_a_site_that_is_away_does_not_stop_the_journey() -> None:
    """The model goes on from the site before it."""
    federation = Federation(Cyclic())
    found = federation.round(n_steps=400, there=lambda k, r: k < 4)
    assert close(found, federation.sites[3].b)
