"""A site's half of an evaluation: the received model on its own patients."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fedmri.clients.egress.audit import audit
from fedmri.clients.training.own_model import write_own_model
from fedmri.clients.training.results import (
    CASES,
    EMBEDDINGS,
    VALIDATION,
    write_cases,
    write_embeddings,
    write_pictures,
)
from fedmri.clients.training.site_state import SiteState
from fedmri.clients.training.site_view import SiteView
from fedmri.data.batches.site_data import SiteData, Split
from fedmri.errors import RoundError
from fedmri.models.weights import load_weights
from fedmri.round import Strategy
from fedmri.strategies.registry import STRATEGIES
from fedmri.tasks.task import Task
from fedmri.training.computing.device import reproducible
from fedmri.training.evaluation import Evaluation, adapt_norm_statistics, evaluate
from fedmri.training.seeds import derive_seed
from fedmri.wire import ADAPTED, EvaluateOrder, Scores

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fedmri.stages.stage import AtSite


@dataclass(frozen=True)
class SiteScores:
    """What a site answers to an order to evaluate.

    Attributes:
        view: The site, as stages see it.
        task: What is scored.
        are_embeddings_kept: Whether embeddings of test patients are written beside their results.
    """

    view: SiteView
    task: Task
    are_embeddings_kept: bool = False

    def of(self, order: EvaluateOrder, split: Split) -> Scores:
        """Score the received model; a patient's own results stay on the site's disk."""
        started = time.monotonic()
        view = self.view
        state = view.states.before(order.round_index + 1)
        is_adapted = self._load(order, state, split)
        seen = view.seen(order.extra, order.round_index)
        data = view.changed(order.extra)
        with reproducible(view.plan.train.n_threads), self._stages(seen, split) as is_fitted:
            result = self._evaluated(order, data, split)
        metrics = {**self.task.metrics(self.task.clipped(result.cases)), "loss": result.loss}
        if split == "test":
            self._keep(result)
            if not is_adapted:  # adapted to test images, it is no model to calibrate by others
                self._validate(order, data)
            if state is not None:
                write_own_model(view, order, state, metrics, len(result.cases))
            metrics |= self._audited(data)
        if is_adapted or is_fitted:
            metrics[ADAPTED] = 1.0
        metrics["seconds"] = time.monotonic() - started
        return Scores(view.name, len(result.cases), result.n_examples, metrics)

    def _load(self, order: EvaluateOrder, state: SiteState | None, split: Split) -> bool:
        """Load the model as it is scored here; tell whether it was adapted to these images."""
        view, strategy = self.view, self.view.plan.strategy
        network = view.load(order, state)
        load_weights(network.module, strategy.own_model(state.memory if state else {}))
        if network.made.adapters:
            load_weights(network.module, network.made.scored(network.made.entries))
        if state is not None:
            return False
        own = network.layout.parameters - network.layout.norm_parameters
        if own & network.made.local:
            raise _no_head(view.name, strategy)
        if not network.made.local:
            return False
        # No batch norm of its own: this site took no part, so its images supply the statistics.
        data = view.changed(order.extra)
        return adapt_norm_statistics(network.module, data, split, view.plan.train)

    @contextmanager
    def _stages(self, seen: Mapping[str, AtSite], split: Split) -> Iterator[bool]:
        """Let stages change what the network does; give whether the scored images were used."""
        with ExitStack() as stack:
            found = [
                stack.enter_context(stage.scoring(seen[name], split))
                for name, stage in self.view.stages.items()
            ]
            yield any(found)

    def _evaluated(self, order: EvaluateOrder, data: SiteData, split: Split) -> Evaluation:
        plan, task, layout = self.view.plan, self.task, self.view.layout
        is_kept = self.are_embeddings_kept and split == "test" and task.answer == "image"
        return evaluate(
            *(self.view.network.module, data, split, task, plan.train),
            wanted=plan.data,
            n_pictures=order.n_pictures,
            layer=layout.head_layer if is_kept and layout.head else "",
        )

    def _validate(self, order: EvaluateOrder, data: SiteData) -> None:
        """Keep what the tested model says of validation patients: what it is calibrated by.

        It stays here. Masks are left out: they take long, and have no probability.
        """
        view = self.view
        if self.task.answer != "image" or not data.examples("val"):
            return
        seen = view.seen(order.extra, order.round_index)
        with reproducible(view.plan.train.n_threads), self._stages(seen, "val"):
            result = self._evaluated(replace(order, n_pictures=0), data, "val")
        write_cases(view.folder / VALIDATION, result.cases)

    def _audited(self, data: SiteData) -> dict[str, float]:
        """Return what the losses of the model that was tested prove of its privacy."""
        view = self.view
        privacy = view.plan.privacy
        if not (privacy.is_audited and view.guard.has_spent()):
            return {}
        delta = view.guard.delta_of(privacy, view.counts[1])
        seed = derive_seed(view.plan.seed, view.name, "audit")
        with reproducible(view.plan.train.n_threads):
            return audit(view.network.module, data, self.task, delta, seed)

    def _keep(self, result: Evaluation) -> None:
        folder = self.view.folder
        folder.mkdir(parents=True, exist_ok=True)
        write_cases(folder / CASES, result.cases)
        write_pictures(folder / "pictures.npz", result.pictures)
        write_embeddings(folder / EMBEDDINGS, result.embeddings)


def _no_head(site: str, strategy: Strategy) -> RoundError:
    fix = "look at its scores under a strategy that shares the whole model"
    name = STRATEGIES.name_of(strategy)
    found = f"strategy {name}, of whose layers every site keeps some; this site trained none"
    want = "a site that took part"
    return RoundError("R10", f"model for site {site}", found=found, want=want, fix=fix)
