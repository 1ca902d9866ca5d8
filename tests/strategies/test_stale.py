"""Late updates: what is left of their change, and what no weight may break."""

from __future__ import annotations

import pytest
import torch

from fedmri.round import ServerState, Update
from fedmri.strategies.averaging.fedavg import FedAvg
from fedmri.strategies.stale import carried_over, staleness_weight


def test_fedbuff_adds_the_discounted_changes() -> None:
    """The mean over carried updates is the model, moved by the mean of the discounted changes."""
    sent, now = {"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([5.0, -1.0])}
    late = Update("a", {"w": torch.tensor([3.0, 2.0])}, 1, 1, {})
    fresh = Update("b", {"w": torch.tensor([6.0, 1.0])}, 1, 1, {})
    carried = carried_over(late, sent, now, frozenset("w"), staleness_weight(3, 0.5))
    state = ServerState(now)
    after = FedAvg().aggregate(state, [carried, fresh], {"w": torch.empty(2)}).model["w"]
    changes = torch.tensor([0.5 * 2.0 + 1.0, 0.5 * 0.0 + 2.0])  # 1 / sqrt(1 + 3) is a half
    torch.testing.assert_close(after, now["w"] + changes / 2)


@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_a_late_variance_stays_positive(weight: float) -> None:
    """Statistics go towards the site's value and never beyond; counts are the site's."""
    sent = {"v": torch.tensor(9.0), "n": torch.tensor(4)}
    now = {"v": torch.tensor(1.0), "n": torch.tensor(40)}
    update = Update("a", {"v": torch.tensor(2.0), "n": torch.tensor(5)}, 1, 1, {})
    carried = carried_over(update, sent, now, frozenset(), weight).weights
    torch.testing.assert_close(carried["v"], torch.tensor(1.0 + weight))
    assert carried["n"] == 5


def test_an_update_in_time_counts_in_full() -> None:
    """FedBuff's weight is 1 without delay, and falls with each round."""
    weights = [staleness_weight(n, 0.5) for n in range(4)]
    assert weights[0] == 1
    assert weights == sorted(weights, reverse=True)
    assert staleness_weight(7, 0.0) == 1
