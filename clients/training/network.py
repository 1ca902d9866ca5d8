"""The network of a process: one is held at a time, and every site of it trains it in turn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

from fedmri.assembly import Assembly, assemble
from fedmri.plan import from_json
from fedmri.round import Layout, Weights


@dataclass(frozen=True)
class Network:
    """The one network of this process: every site of it trains it in turn.

    Attributes:
        made: The plan, made real.
        initial: Seeded initial values of the entries that no round brings to a site.
    """

    made: Assembly
    initial: Weights

    @property
    def module(self) -> torch.nn.Module:
        """The network; its weights are whatever was loaded last."""
        return self.made.network

    @property
    def layout(self) -> Layout:
        """Which entries are what."""
        return self.made.layout


@lru_cache(maxsize=1)
def network_of(plan_json: str) -> Network:
    """Return the network of a plan; one is held at a time, whatever the number of sites."""
    made = assemble(from_json(plan_json)).checked()
    entries = made.entries
    return Network(made, {name: entries[name].clone() for name in sorted(made.untold)})
