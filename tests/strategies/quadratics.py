"""Sites whose losses are quadratic, so that the limit of every strategy is known exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from fedmri.round import Layout, Phase, ServerState, SiteRound, Strategy, Trained, Update, Weights

N_SITES, N_DIMS = 5, 4
LAYOUT = Layout(frozenset({"x"}), frozenset(), frozenset())
N_EXAMPLES = (10, 20, 30, 15, 25)


class Point(torch.nn.Module):
    """A model that is one vector."""

    def __init__(self) -> None:
        super().__init__()
        self.x = torch.nn.Parameter(torch.zeros(N_DIMS, dtype=torch.float64))


@dataclass
class Site:
    """A loss ``(x - b)' A (x - b) / 2``, and what a strategy keeps here."""

    name: str
    a: torch.Tensor
    b: torch.Tensor
    n_examples: int
    memory: Mapping[str, Weights] = field(default_factory=dict)

    def train(self, strategy: Strategy, before: SiteRound, n_steps: int, lr: float) -> Update:
        """Take the phases of a round by gradient descent."""
        point, trained = Point(), dict[str, Trained]()
        point.x.data.copy_(before.received["x"])
        for phase in strategy.phases(before):
            if phase.start is not None:
                point.x.data.copy_(phase.start["x"])
            steps = round(phase.share * n_steps)
            self._descend(point, phase, steps, lr)
            weights = {"x": point.x.detach().clone()}
            trained[phase.name] = Trained(weights, steps, steps * lr)
        kept = strategy.remember(before, trained)
        self.memory = kept.memory
        weights = dict(trained["train"].weights)
        return Update(self.name, weights, self.n_examples, 1, extra=kept.extra)

    def _descend(self, point: Point, phase: Phase, n_steps: int, lr: float) -> None:
        for _ in range(n_steps):
            point.x.grad = self.a @ (point.x.detach() - self.b)
            if phase.term is not None:
                phase.term(point)
            point.x.data.sub_(point.x.grad, alpha=lr)


def sites() -> list[Site]:
    """Return five sites with curvatures between 1 and 3 and optima far apart."""
    rng = torch.Generator().manual_seed(4)
    found = []
    for number, n_examples in enumerate(N_EXAMPLES):
        q, _ = torch.linalg.qr(torch.randn(N_DIMS, N_DIMS, generator=rng, dtype=torch.float64))
        size = 1 + 2 * torch.rand(N_DIMS, generator=rng, dtype=torch.float64)
        optimum = 3 * torch.randn(N_DIMS, generator=rng, dtype=torch.float64)
        found.append(Site(f"s{number}", q @ torch.diag(size) @ q.T, optimum, n_examples))
    return found


def weighted(q: Sequence[torch.Tensor], weight: Sequence[float]) -> torch.Tensor:
    """Return ``(sum w Q)^-1 sum w Q b``: the optimum of quadratics with curvatures Q."""
    there = sites()
    total = sum((w * one for w, one in zip(weight, q, strict=True)), torch.zeros(()))
    pulls = (w * one @ site.b for w, one, site in zip(weight, q, there, strict=True))
    pull = sum(pulls, torch.zeros(N_DIMS, dtype=torch.float64))
    found: torch.Tensor = torch.linalg.solve(total, pull)
    return found


def optimum(weight: Sequence[float] = N_EXAMPLES) -> torch.Tensor:
    """Return the optimum of the sites' weighted objective."""
    return weighted([site.a for site in sites()], weight)


@dataclass
class Federation:
    """Sites and a server under a strategy."""

    strategy: Strategy
    sites: list[Site] = field(default_factory=sites)
    state: ServerState = field(init=False)
    round_index: int = 0
    momentum: float = 0.0

    def __post_init__(self) -> None:
        self.state = self.strategy.start({"x": torch.zeros(N_DIMS, dtype=torch.float64)}, LAYOUT)

    def round(
        self,
        n_steps: Callable[[int], int] | int = 1,
        lr: float = 0.1,
        there: Callable[[int, int], bool] = lambda site, round_index: True,
        is_taken: Callable[[int, int], bool] = lambda site, round_index: True,
    ) -> torch.Tensor:
        """Take a round and return the model; some sites may be absent, or their updates lost."""
        self.round_index += 1
        for turn in self.strategy.turns(tuple(site.name for site in self.sites), self.round_index):
            updates = []
            for number, site in enumerate(self.sites):
                if site.name not in turn or not there(number, self.round_index):
                    continue
                steps = n_steps if isinstance(n_steps, int) else n_steps(number)
                before = SiteRound(
                    LAYOUT,
                    1000 * number + self.round_index,
                    self.state.model,
                    self.strategy.broadcast(self.state),
                    site.memory,
                    self.momentum,
                )
                update = site.train(self.strategy, before, steps, lr)
                if is_taken(number, self.round_index):
                    updates.append(update)
            out = {"x": torch.full_like(self.state.model["x"], 77)}
            self.state = self.strategy.aggregate(self.state, iter(updates), out)
        return self.state.model["x"]

    def limit(self, n_rounds: int = 3000, **how: object) -> torch.Tensor:
        """Take many rounds."""
        for _ in range(n_rounds - 1):
            self.round(**how)  # type: ignore[arg-type]
        return self.round(**how)  # type: ignore[arg-type]
