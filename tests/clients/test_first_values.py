"""What a site keeps of a first model that starts from a file: sent once, and never exchanged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fedmri.clients.training.first_values import FirstValues
from fedmri.errors import RoundError
from fedmri.server.rounds.first_values import FirstValues as AtServer
from fedmri.wire import START, TrainOrder

VALUES = {"encoder.weight": torch.ones(2)}


def test_what_was_sent_once_is_beside_every_order(tmp_path: Path) -> None:
    """A worker that was killed reads it from the disk."""
    first = TrainOrder(1, {}, {START: VALUES, "other": {}})
    assert FirstValues(tmp_path / "first").beside(first) == first
    again = FirstValues(tmp_path / "first").beside(TrainOrder(2, {}, {"other": {}}))
    assert torch.equal(again.extra[START]["encoder.weight"], torch.ones(2))
    assert "other" in again.extra


def test_nothing_kept_and_other_values_are_refused(tmp_path: Path) -> None:
    """Noise hangs on an order: the same one must not be trained from two encoders."""
    site = FirstValues(tmp_path / "first")
    with pytest.raises(RoundError, match=r"neither sent nor kept.*\[R12\]"):
        site.beside(TrainOrder(1, {}))
    site.beside(TrainOrder(1, {}, {START: VALUES}))
    with pytest.raises(RoundError, match=r"other ones.*\[R12\]"):
        site.beside(TrainOrder(1, {}, {START: {"encoder.weight": torch.zeros(2)}}))


def test_the_server_sends_until_every_site_that_is_asked_has_answered() -> None:
    """A site that failed may have lost them; an answer to an order without them says nothing."""
    first = AtServer(VALUES)
    first.note("a", is_sent=True, is_answered=True)
    assert not first.beside(["a"])
    assert first.beside(["a", "b"])
    first.note("b", is_sent=False, is_answered=True)
    assert first.beside(["b"])
    first.note("a", is_sent=False, is_answered=False)
    assert first.beside(["a"])
    assert not AtServer().beside(["a"])
