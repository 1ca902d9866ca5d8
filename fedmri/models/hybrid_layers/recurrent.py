"""A memory that goes over items in order and forgets with the time between them."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import nn

Cell: TypeAlias = Literal["gru", "lstm"]

_SLOW = -4.0
"""Bias of the decay when training begins: over one unit of time 2 % are forgotten."""


class Recurrent(nn.Module):
    """GRU or LSTM over items ``(B, T, F)`` whose memory decays between them.

    The decay is ``exp(-softplus(w * interval + b))`` for each feature, of the hidden state of a GRU
    and of the cell state of an LSTM. Layers of torch that take a whole sequence at once know no
    intervals, and have no gradient of single examples.

    Source:
        Che et al. 2018, doi:10.1038/s41598-018-24271-9 (GRU-D); Baytas et al. 2017,
        doi:10.1145/3097983.3097997 (LSTM); softplus instead of a maximum, which can die.
    """

    def __init__(self, cell: Cell, n_in: int, n_hidden: int, *, is_timed: bool = True) -> None:
        super().__init__()
        kind = nn.GRUCell if cell == "gru" else nn.LSTMCell
        self.cell = kind(n_in, n_hidden)
        self.decay = nn.Linear(1, n_hidden) if is_timed else None
        if self.decay is not None:
            nn.init.zeros_(self.decay.weight)
            nn.init.constant_(self.decay.bias, _SLOW)

    def forward(
        self,
        items: torch.Tensor,
        intervals: torch.Tensor | None = None,
        is_there: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the last hidden state, shape ``(B, n_hidden)``.

        Args:
            items: Shape ``(B, T, F)``.
            intervals: Time since the item before, shape ``(B, T)``, in a unit of choice such as
                years; the first is not read. None: one unit each.
            is_there: Whether an item is there, shape ``(B, T)``; one that is not changes nothing.
                None: all are.
        """
        hidden = items.new_zeros(len(items), self.cell.hidden_size)
        cell = torch.zeros_like(hidden)
        since = torch.ones_like(items[..., 0]) if intervals is None else intervals
        for i in range(items.shape[1]):
            kept = self._kept(since[:, i]) if i and self.decay else torch.ones_like(hidden)
            if isinstance(self.cell, nn.LSTMCell):
                state = self.cell(items[:, i], (hidden, kept * cell))
            else:
                state = (self.cell(items[:, i], kept * hidden), cell)
            if is_there is not None:
                there = is_there[:, i, None]
                state = torch.where(there, state[0], hidden), torch.where(there, state[1], cell)
            hidden, cell = state
        return hidden

    def _kept(self, interval: torch.Tensor) -> torch.Tensor:
        assert self.decay is not None, "items without time between them do not decay"
        rate: torch.Tensor = nn.functional.softplus(self.decay(interval[:, None]))
        return torch.exp(-rate)
