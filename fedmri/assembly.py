"""A plan made real: its network, what each entry of it is, and what of it stays at the sites."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fedmri.errors import ConfigError
from fedmri.models.build import build_network
from fedmri.models.tuning.adapters import add_adapters, merged
from fedmri.models.tuning.still import refuse_unknown, still_at
from fedmri.models.weights import layout, stand_still, weights
from fedmri.plan import Plan
from fedmri.privacy.site_level import refuse_large
from fedmri.round import ExtraForms, Layout, Weights
from fedmri.training.seeds import derive_seed

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Assembly:
    """The parts of a plan, put together.

    Attributes:
        plan: The plan.
        network: Its network with the seeded initial weights; what is never trained has no gradient.
        layout: Which entries of the network are what.
        local: Entries that the strategy keeps at the sites.
        written: Layout of the network that the finished model's file holds: all of it is trained.
        adapters: Entries of low-rank adapters, which a finished model has no more.
    """

    plan: Plan
    network: torch.nn.Module
    layout: Layout
    local: frozenset[str]
    written: Layout
    adapters: frozenset[str] = frozenset()

    @property
    def entries(self) -> Weights:
        """All entries of the network; they change with it."""
        return weights(self.network)

    @property
    def last(self) -> int:
        """The last round, in which most entries travel."""
        return self.plan.rounds.n_rounds

    def still(self, round_index: int) -> frozenset[str]:
        """Return the entries that neither move nor travel in a round."""
        if not (self.adapters or self.plan.train.frozen):
            return frozenset()
        entries, head = self.network.state_dict(), self.layout.head
        if self.adapters:
            return frozenset(entries.keys() - self.adapters - head)
        return still_at(round_index, entries, head, self.plan.train.thaws)

    @property
    def untold(self) -> frozenset[str]:
        """Entries of the first model that no round brings to a site."""
        return self.local | self.still(1)

    def shared(self, values: Mapping[str, torch.Tensor], round_index: int) -> Weights:
        """Return the entries that travel in a round."""
        stay = self.local | self.still(round_index)
        return {name: value for name, value in values.items() if name not in stay}

    def kept(self, values: Mapping[str, torch.Tensor]) -> Weights:
        """Return the entries that stay at a site."""
        return {name: value for name, value in values.items() if name in self.local}

    def finished(self, values: Weights) -> Weights:
        """Return the entries of a finished model, as its file holds them."""
        return merged(values, self.adapters) if self.adapters else values

    def scored(self, values: Weights) -> Weights:
        """Return the entries with which this network answers as the finished model, to the bit.

        What an adapter adds afterwards and what is added to a weight differ in their rounding.
        """
        idle = {name: values[name].new_zeros(values[name].shape) for name in self.adapters}
        return {**self.finished(values), **idle}

    def checked(self) -> Assembly:
        """Return it where it can be trained; a plan is described to people without.

        Raises:
            PrivacyError: Noise for a whole hospital would drown what is shared (P66, P67).
        """
        refuse_large(self.plan.privacy.site, self.shared(self.entries, self.last), self.layout)
        return self

    @property
    def extra_forms(self) -> ExtraForms:
        """What a site sends beside its model."""
        return self.plan.strategy.extra_forms(self.shared(self.entries, self.last), self.layout)


def settled(plan: Plan, memory: Path) -> Plan:
    """Return the plan with what its network computes with: see ``fedmri.training.computing.probe``.

    A run begins with it, and its plan holds the choice. So bits stay defined wherever it goes on.
    Private steps compute in float32, and images whose size the data decide are not known here.

    Args:
        plan: The plan.
        memory: File in which this machine keeps its choices.

    Raises:
        ConfigError: As ``assemble``; or the device is not there (C23).
    """
    is_open = "auto" in {plan.train.precision, plan.train.memory_format}
    is_known = all(plan.shape) and plan.rounds.n_rounds > 0
    if not (is_open and is_known) or plan.privacy.is_on or plan.is_for_tables:
        return plan
    from fedmri.training.computing.probe import settled as chosen

    known = plan.network
    shapes: list[tuple[int, ...]] = [(known["n_channels"], *plan.shape)]
    if known["n_covariates"]:
        shapes.append((known["n_covariates"],))
    return replace(plan, train=chosen(plan.train, assemble(plan).network, shapes, memory))


def assemble(plan: Plan) -> Assembly:
    """Build the network of a plan and divide its entries; equal plans give equal bits.

    Raises:
        ConfigError: The network does not fit the task or the images (C20, C21), the strategy does
            not fit the network (C03), ``train.frozen`` names no part of it (C01) or leaves
            nothing to train (C03), or no layer is larger than its adapter (C01).
    """
    network = build_network(plan.model, **plan.network)
    written, train = layout(network), plan.train
    refuse_unknown(network.state_dict(), train.thaws)
    seed = derive_seed(plan.seed, "adapters")
    adapters = add_adapters(network, train.adapter_rank, written.head, seed)
    made = Assembly(plan, network, written, frozenset(), written, adapters)
    stand_still(network, made.still(made.last))
    entries = layout(network)
    made = replace(made, layout=entries, local=plan.strategy.local_names(entries))
    if made.still(1) and not entries.parameters - made.untold:
        fix = "leave a part out of train.frozen, or set another strategy"
        want, what = "a part that is trained and shared", "setting train.frozen"
        raise ConfigError("C03", what, found="none in round 1", want=want, fix=fix)
    return made
