"""What a site keeps between rounds, and for how long."""

from __future__ import annotations

from pathlib import Path

import torch

from fedmri.clients.training.site_state import SiteState, SiteStates
from fedmri.settings.rounds import RoundsConfig


def kept_after(round_index: int) -> SiteState:
    """Return a state that tells its round."""
    return SiteState(memory={"slot": {"w": torch.tensor(float(round_index))}})


def found(states: SiteStates, round_index: int) -> float | None:
    """Return the round of the state that a site has before a round."""
    state = states.before(round_index)
    return None if state is None else float(state.memory["slot"]["w"])


def test_a_site_that_missed_rounds_can_repeat_the_one_it_came_back_in(tmp_path: Path) -> None:
    """The server was killed before its checkpoint: round 11 starts again from what 6 left."""
    states = SiteStates(tmp_path, n_kept=3)
    for round_index in (4, 5, 6, 11):
        states.save(round_index, kept_after(round_index))
    assert found(states, 11) == 6
    for round_index in (12, 13, 14):
        states.save(round_index, kept_after(round_index))
    assert [found(states, r) for r in (12, 13, 14, 15)] == [None, 12, 13, 14]


def test_states_reach_back_to_the_checkpoint_before_the_last(tmp_path: Path) -> None:
    """Killed in round 15 with the checkpoint of 10 damaged, the server starts again after 5."""
    n_kept = RoundsConfig(checkpoint_every=5).n_states
    states = SiteStates(tmp_path, n_kept)
    for round_index in range(1, 16):
        states.save(round_index, kept_after(round_index))
    assert [found(states, r) for r in (5, 6, 11, 15)] == [None, 5, 10, 14]
