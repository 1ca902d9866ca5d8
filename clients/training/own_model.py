"""The whole model of a site whose strategy keeps a part here: a file that never leaves the site."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import replace

from fedmri.arm import Arm
from fedmri.clients.training.site_state import SiteState
from fedmri.clients.training.site_view import SiteView
from fedmri.models.weights import digest
from fedmri.trained.file.card import PERSONAL, CardScore, Entries, Provenance, card_of
from fedmri.trained.file.model_file import ModelFile, write_model
from fedmri.trained.file.names import MODEL
from fedmri.wire import FITTED, EvaluateOrder

log = logging.getLogger("fedmri.client")


def write_own_model(
    view: SiteView, order: EvaluateOrder, state: SiteState, scores: Mapping[str, float], n: int
) -> None:
    """Write the model that was tested here, where it is not the one that all sites share.

    Args:
        view: The site; its network holds the model.
        order: The order to test it.
        state: What the site keeps.
        scores: Metrics over the site's test patients.
        n: How many patients these are.
    """
    plan, made = view.plan, view.network.made
    if not (state.local or plan.strategy.own_model(state.memory)):
        return
    weights = made.finished(made.entries)
    origin = Provenance(plan, Arm("federated"), (view.name,), order.round_index, digest(weights))
    known = {
        name: CardScore.of(value, math.nan, math.nan, n)
        for name, value in scores.items()
        if math.isfinite(value)
    }
    card = replace(card_of(origin, Entries.of(made.written, frozenset()), known), role=PERSONAL)
    fitted = {
        name.removeprefix(FITTED): values
        for name, values in order.extra.items()
        if name.startswith(FITTED)
    }
    write_model(view.folder / MODEL, ModelFile(card, weights, fitted))
    log.info("%s has a model of its own: %s", view.name, view.folder / MODEL)
