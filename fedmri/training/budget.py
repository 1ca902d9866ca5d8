"""What a round of training takes: counted beforehand, so that arms can share one budget."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from fedmri.training.settings import TrainConfig


@dataclass(frozen=True)
class Budget:
    """Steps of the optimizer in a round, and the examples in them, as often as they are seen.

    Under differential privacy the examples are those expected: a step draws its patients.
    """

    n_steps: int
    n_seen: float

    def __add__(self, other: Budget) -> Budget:
        """Return what two data holders take together."""
        return Budget(self.n_steps + other.n_steps, self.n_seen + other.n_seen)


def round_budget(config: TrainConfig, sizes: Sequence[int]) -> Budget:
    """Return what a site takes in a round.

    Args:
        config: Length of a round.
        sizes: Sizes of the batches of one pass. Where examples differ in shape, batches of a pass
            come in any order, and the examples of a part of a pass are an estimate.
    """
    if not sizes:
        return Budget(0, 0)
    if config.local_examples:
        return Budget(config.local_steps, config.local_examples)
    if config.local_steps:
        return Budget(config.local_steps, sum(islice(cycle(sizes), config.local_steps)))
    return Budget(config.local_epochs * len(sizes), config.local_epochs * sum(sizes))


def total(budgets: Iterable[Budget]) -> Budget:
    """Return what several data holders take together."""
    return sum(budgets, Budget(0, 0))


def shared_steps(n_steps: int, shares: Sequence[float]) -> list[int]:
    """Return the steps of phases that share a round: its sum, and one each at least."""
    counts: list[int] = []
    for place, share in enumerate(shares, 1):
        n_left = n_steps - sum(counts) - (len(shares) - place)
        counts.append(
            max(1, n_left if place == len(shares) else min(n_left, round(share * n_steps)))
        )
    return counts
