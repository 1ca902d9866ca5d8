"""Sums of landmarks under noise: what leaves, what it costs, and who is hidden."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fedmri.clients.egress.ledger import entries
from fedmri.clients.training.site import Site
from fedmri.errors import PrivacyError
from fedmri.harmonize.images.bounded_nyul import BoundedNyulSums
from fedmri.wire import SumsOrder
from tests.clients.conftest import MakeSite

ORDER = SumsOrder(0, {})
CLEAR = ("harmonize=nyul", "stages.nyul.weighting=patient")
NOISED = (*CLEAR, "stages.nyul.noise_multiplier=0.5")


def sums(site: Site) -> NDArray[np.float64]:
    """Return what leaves as one vector."""
    arrays = site.sums(ORDER).arrays
    return np.concatenate([arrays[name].numpy().ravel() for name in sorted(arrays)])


def test_the_noise_has_the_size_that_is_accounted_for(make_site: MakeSite) -> None:
    """Over many runs, its standard deviation is the multiplier times the most a patient adds."""
    clear = sums(make_site(*CLEAR))
    site = make_site(*NOISED)
    (stage,), at = site.plan.stages, site.view.summing(ORDER, site.plan.stages[0])
    noises = []
    for seed in range(60):
        own = stage.own_sums(replace(at, plan=replace(site.plan, seed=seed)), 0, {})
        noises.append(np.concatenate([own[name].ravel() for name in sorted(own)]) - clear)
    expected = 0.5 * BoundedNyulSums(1).bound
    assert np.std(noises) == pytest.approx(expected, rel=0.1)
    assert abs(np.mean(noises)) < 0.15 * expected


@pytest.mark.parametrize(("weighting", "kind"), [("patient", "dp"), ("site", "dp-site")])
def test_the_cost_is_on_the_disk_once(
    make_site: MakeSite, tmp_path: Path, weighting: str, kind: str
) -> None:
    """An order that comes again has the same bits, which are free; its unit is the plan's."""
    site = make_site(*NOISED, f"stages.nyul.weighting={weighting}")
    first, again = sums(site), sums(site)
    np.testing.assert_array_equal(first, again)
    (line,) = entries(tmp_path / "privacy.jsonl")
    kept = [line[name] for name in ("kind", "noise_multiplier", "sample_rate", "n_steps", "round")]
    assert kept == [kind, 0.5, 1.0, 1, 0]
    assert not site.view.guard.has_spent(), "nobody was trained on"


def test_sums_beyond_the_cap_do_not_leave(make_site: MakeSite, tmp_path: Path) -> None:
    """Refused by code, and not counted."""
    site = make_site(*NOISED, "privacy.max_epsilon=0.1")
    with pytest.raises(PrivacyError, match=r"one patient at this site.*\[P31\]"):
        site.sums(ORDER)
    assert not list(entries(tmp_path / "privacy.jsonl"))


def test_another_secret_has_other_noise(make_site: MakeSite) -> None:
    """Whoever lacks the secret cannot take the noise away."""
    site = make_site(*NOISED)
    first = sums(site)
    site.view.guard = replace(site.view.guard, secret=bytes(31) + b"1")
    assert np.abs(sums(site) - first).min() > 0
