"""A site's part of sums by fuzzy cluster: what a floor of patients keeps out of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fedmri.stages.stage import Made
from fedmri.wire import SumsOrder, as_arrays
from tests.clients.conftest import MakeSite

CLUSTERS = ("model=gabor_paths", "model.width=2", "model.clusters=3", "stages=[fuzzy]")


def test_a_cluster_that_too_few_patients_are_near_is_in_no_sum(make_site: MakeSite) -> None:
    """Under a floor above all patients nothing is left, and centres without points stay."""
    site = make_site(*CLUSTERS)
    made = site.view.network.made
    order = SumsOrder(0, {}, made.shared(made.entries, 0))
    start = made.entries["memberships.centres"].double().numpy().copy()
    whole = as_arrays(site.sums(order).arrays)
    n_subjects = site.view.counts[1]
    # memberships of a point add up to 1, and their squares to a third at least
    assert n_subjects / 3 <= whole["weight"].sum() <= n_subjects
    site.view.guard = replace(site.view.guard, n_least=n_subjects + 1)
    few = as_arrays(site.sums(order).arrays)
    assert not any(values.any() for values in few.values())
    [stage] = site.plan.stages
    fit = stage.fit(Made(site.plan, made.entries, made.layout))
    assert fit is not None
    assert np.array_equal(fit.combine(0, few, {})["centres"], start)
