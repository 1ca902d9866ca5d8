"""A plan made real: its network, what each entry of it is, and what of it stays at the sites."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedmri.models.build import build_network
from fedmri.models.weights import layout, weights
from fedmri.plan import Plan
from fedmri.privacy.site_level import refuse_large
from fedmri.round import ExtraForms, Layout, Weights

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Assembly:
    """The parts of a plan, put together.

    Attributes:
        plan: The plan.
        network: Its network with the seeded initial weights.
        layout: Which entries of the network are what.
        local: Entries that the strategy keeps at the sites.
    """

    plan: Plan
    network: torch.nn.Module
    layout: Layout
    local: frozenset[str]

    @property
    def entries(self) -> Weights:
        """All entries of the network; they change with it."""
        return weights(self.network)

    def shared(self, values: Mapping[str, torch.Tensor]) -> Weights:
        """Return the entries that travel."""
        return {name: value for name, value in values.items() if name not in self.local}

    def kept(self, values: Mapping[str, torch.Tensor]) -> Weights:
        """Return the entries that stay at a site."""
        return {name: value for name, value in values.items() if name in self.local}

    def checked(self) -> Assembly:
        """Return it where it can be trained; a plan is described to people without.

        Raises:
            PrivacyError: Noise for a whole hospital would drown what is shared (P66, P67).
        """
        refuse_large(self.plan.privacy.site, self.shared(self.entries), self.layout)
        return self

    @property
    def extra_forms(self) -> ExtraForms:
        """What a site sends beside its model."""
        return self.plan.strategy.extra_forms(self.shared(self.entries), self.layout)


def assemble(plan: Plan) -> Assembly:
    """Build the network of a plan and divide its entries; equal plans give equal bits.

    Raises:
        ConfigError: The network does not fit the task or the images (C20, C21), or the strategy
            does not fit the network (C03).
    """
    network = build_network(plan.model, **plan.network)
    entries = layout(network)
    return Assembly(plan, network, entries, plan.strategy.local_names(entries))
