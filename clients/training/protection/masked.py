"""A site's update under masks: the server learns its sum with those of other sites, and no more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from fedmri.clients.egress.revealed import Subject
from fedmri.clients.training.protection.secure import SecureSite, Values
from fedmri.clients.training.site_view import SiteView
from fedmri.errors import RoundError
from fedmri.models.weights import norm
from fedmri.round import Update, Weights
from fedmri.secagg.ring import Slot
from fedmri.secagg.updates import weighted_update, with_beside
from fedmri.wire import TrainOrder, as_arrays

HIDDEN = frozenset({"n_steps", "n_seen", "n_skipped", "delta", "loss"})
"""Metrics that tell how many examples or patients a site has, or what its images are like: beside a
secure sum they do not leave."""


@dataclass(frozen=True)
class MaskedUpdates:
    """What a site answers to an order to train, where the plan sums securely.

    Attributes:
        view: The site, as stages see it.
        secure: Its part in secure sums.
        slots: What is summed.
    """

    view: SiteView
    secure: SecureSite
    slots: Mapping[str, Slot]

    def of(
        self, order: TrainOrder, received: str, digest: str, train: Callable[[], Update]
    ) -> Update:
        """Train, unless this order was answered already; return the update under masks.

        Args:
            order: The order.
            received: Digest of its arrays.
            digest: Digest of all that decides the answer.
            train: Trains.
        """

        def values() -> Values:
            update = train()
            self._refuse_large(update.weights, order.weights)
            weight = self.view.plan.strategy.weigh(update)
            own = {name: value.numpy() for name, value in update.weights.items()}
            extra = {record: as_arrays(of) for record, of in update.extra.items()}
            told = {name: v for name, v in update.metrics.items() if name not in HIDDEN}
            change = {name: values - order.weights[name].numpy() for name, values in own.items()}
            of = Subject("update", received, self.view.guard.sketch(change))
            return Values(of, weighted_update(with_beside(own, extra), weight), told)

        masked, metrics = self.secure.mask(order.masking, digest, self.slots, values)
        return Update(self.view.name, masked, *self.view.counts, metrics)

    def _refuse_large(self, trained: Mapping[str, torch.Tensor], received: Weights) -> None:
        """Hold this site to the bound that the server holds updates to that it can look at."""
        names = self.view.layout.parameters
        most = self.view.plan.rounds.max_norm_ratio * max(1.0, norm(received, names))
        found = norm(dict(trained), names)
        if not found <= most:  # true for NaN too
            fix = "look at this site's data and log; lower train.lr"
            what, want = f"norm of the update of site {self.view.name}", f"at most {most:.3g}"
            raise RoundError("R41", what, found=f"{found:.3g}", want=want, fix=fix)
