"""The network of a process: one is held at a time, and every site of it trains it in turn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

from fedmri.assembly import assemble
from fedmri.plan import from_json
from fedmri.round import Layout, Weights


@dataclass(frozen=True)
class Network:
    """The one network of this process: every site of it trains it in turn.

    Attributes:
        module: The network; its weights are whatever was loaded last.
        layout: Which entries are what.
        initial: Seeded initial values of the entries that the strategy keeps at the sites.
    """

    module: torch.nn.Module
    layout: Layout
    initial: Weights


@lru_cache(maxsize=1)
def network_of(plan_json: str) -> Network:
    """Return the network of a plan; one is held at a time, whatever the number of sites."""
    made = assemble(from_json(plan_json)).checked()
    initial = {name: value.clone() for name, value in made.kept(made.entries).items()}
    return Network(made.network, made.layout, initial)
