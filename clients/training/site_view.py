"""A site as the stages of a plan see it: its data, its network, and what was fitted for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

from fedmri.clients.egress.account import SiteAccount
from fedmri.clients.training.first_values import AnOrder, FirstValues
from fedmri.clients.training.network import Network, network_of
from fedmri.clients.training.protection.private import Guard
from fedmri.clients.training.results import CASES, VALIDATION, read_cases
from fedmri.clients.training.site_state import SiteState, SiteStates
from fedmri.data.batches.examples import open_images, open_site
from fedmri.data.batches.site_data import SiteData
from fedmri.data.preparation.prepared import Prepared
from fedmri.harmonize.sums import Arrays, version
from fedmri.models.weights import load_weights
from fedmri.plan import Plan, from_json
from fedmri.round import Layout, Weights
from fedmri.stages.chain import chain
from fedmri.stages.on_answers import task_under
from fedmri.stages.registry import STAGES
from fedmri.stages.stage import AtSite, Made, Stage, When
from fedmri.tasks.task import Case, Task
from fedmri.wire import FITTED, START, EvaluateOrder, SumsOrder, TrainOrder


class SiteView:
    """What a site has for a plan.

    Args:
        name: Name of the site.
        plan_json: The plan, as it travels.
        files: Files that the site's owner prepared: scans of one or more sites, or a table.
        folder: The site's own folder for this run.
        guard: What a plan with privacy needs of the site.
    """

    def __init__(
        self, name: str, plan_json: str, files: Sequence[Path], folder: Path, guard: Guard
    ) -> None:
        self.name, self.folder, self.guard = name, folder, guard
        self.plan: Plan = from_json(plan_json)
        self.plan_json = plan_json
        self.stages: dict[str, Stage] = {**chain(self.plan), "gate": guard.gate}
        self.states = SiteStates(folder / "state", self.plan.rounds.n_states)
        self._files = tuple(files)
        self._first = FirstValues(folder / "first.safetensors")
        self._changed: tuple[str, SiteData] | None = None

    @cached_property
    def data(self) -> SiteData:
        """The site's examples, before any stage; opened when they are asked for."""
        if self.plan.is_for_tables:
            return open_images(Prepared((), (), "", self.folder), self.plan.data)
        return open_site(self._files, self.plan.target, self.plan.data)

    @property
    def account(self) -> SiteAccount:
        """The site's account of privacy for the plan."""
        return SiteAccount(self.guard, self.plan.privacy, self.data.fingerprint)

    @property
    def network(self) -> Network:
        """The network of the plan; its weights are whatever was loaded last."""
        return network_of(self.plan_json)

    @property
    def layout(self) -> Layout:
        """Which entries of the model are what."""
        return self.network.layout

    @property
    def counts(self) -> tuple[int, int]:
        """Training examples and patients."""
        examples = self.data.examples("train")
        return len(examples), len({(one.site, one.subject) for one in examples})

    def known(self, order: AnOrder) -> AnOrder:
        """Return an order with the entries of the first model that no round brings here.

        Raises:
            RoundError: They are needed and were never sent, or are other ones than before (R12).
        """
        if not (self.plan.start.sha256 and order.weights and self.network.made.untold):
            return order
        return self._first.beside(order)

    def load(
        self, order: TrainOrder | EvaluateOrder | SumsOrder, state: SiteState | None
    ) -> Network:
        """Return the network with the received entries, the site's own, and those of the start."""
        network, made = self.network, self.network.made
        first = {**network.initial, **order.extra.get(START, {})}
        still = made.still(order.round_index)
        own = state.local if state is not None and state.local else made.kept(first)
        load_weights(network.module, order.weights | own | {name: first[name] for name in still})
        return network

    def summing(self, order: SumsOrder, stage: Stage) -> AtSite:
        """Return the site as a stage sees it that is fitted by sums."""
        network = None
        if order.weights:
            network = self.load(order, self.states.before(order.round_index + 1))
        name = STAGES.name_of(stage)
        return self._at(order.extra, order.round_index, network)(name, {})

    def seen(
        self, extra: Mapping[str, Weights], round_index: int, state: SiteState | None = None
    ) -> dict[str, AtSite]:
        """Return the site as each stage sees it, with the network as it is loaded.

        Args:
            extra: What came with the order: the parameters that were fitted for stages.
            round_index: Round.
            state: What the site kept after its last round.
        """
        kept, at = state.stages if state else {}, self._at(extra, round_index, self.network)
        return {name: at(name, kept.get(name, {})) for name in self.stages}

    def _at(
        self, extra: Mapping[str, Weights], round_index: int, network: Network | None
    ) -> Callable[[str, Weights], AtSite]:
        """Return what makes the view of a stage, by its name and what it kept."""
        common = AtSite(
            *(self.name, self.plan, self.changed(extra), self.account),
            round_index=round_index,
            network=None if network is None else network.module,
            layout=Layout() if network is None else network.layout,
            files=self._files,
            folder=self.folder,
            task=self.task(extra),
            tested=partial(self._results, CASES),
            validated=partial(self._results, VALIDATION),
        )

        def at(name: str, kept: Weights) -> AtSite:
            return replace(common, fitted=extra.get(f"{FITTED}{name}", {}), kept=kept)

        return at

    def _results(self, name: str) -> list[Case]:
        """Return the results of patients, as they lie in a file on this site's disk."""
        path = self.folder / name
        return read_cases(path) if path.exists() else []

    def task(self, extra: Mapping[str, Weights]) -> Task:
        """Return what is learned, as outputs are read under what came with an order."""
        return task_under(self.plan.target, self.stages, self._sent(extra))

    def _sent(self, extra: Mapping[str, Weights]) -> dict[str, Arrays]:
        """Return what was fitted for stages; copies, for an order's memory is another's soon."""
        return {
            name: {own: value.numpy().copy() for own, value in extra[f"{FITTED}{name}"].items()}
            for name in self.stages
            if f"{FITTED}{name}" in extra
        }

    def changed(self, extra: Mapping[str, Weights]) -> SiteData:
        """Return the site's examples as the stages of images change them."""
        sent = {
            name: arrays
            for name, arrays in self._sent(extra).items()
            if self.stages[name].when is When.BEFORE_ROUNDS
        }
        if not sent:
            return self.data
        known = " ".join(f"{name} {version(arrays)}" for name, arrays in sent.items())
        if self._changed is None or self._changed[0] != known:
            data, made = self.data, Made(self.plan)
            for name, arrays in sent.items():
                change = self.stages[name].image_change(made, arrays)
                data = data if change is None else data.changed(change)
            self._changed = known, data
        return self._changed[1]
