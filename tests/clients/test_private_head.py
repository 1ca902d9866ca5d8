"""A private last layer at a hospital: what leaves, what it costs, and what comes of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedmri.clients.consent.policy import SitePolicy, violations
from fedmri.clients.egress.ledger import entries
from fedmri.clients.training.site import Site
from fedmri.config import load
from fedmri.errors import ConfigError, PrivacyError
from fedmri.privacy.head_sums import N_SITES
from fedmri.round import Weights
from fedmri.server.rounds.fitting import as_weights
from fedmri.stages.embeddings.private_head import PrivateHead
from fedmri.stages.stage import Made
from fedmri.wire import SumsOrder
from tests.clients.conftest import MakeSite
from tests.conftest import RunTiny
from tests.simulation.test_study import StopHere, model_of, stop_at

HEAD = ("harmonize=private_head", "rounds.n_rounds=0")
NOISED = (*HEAD, "stages.private_head.noise_multiplier=0.5")


def shared_of(site: Site) -> Weights:
    """Return the entries of the first model that travel."""
    made = site.view.network.made
    return made.shared(made.entries, made.last)


def answered(site: Site) -> list[dict[str, np.ndarray]]:
    """Return what leaves in both steps, as a server asks for it."""
    weights, fit = shared_of(site), site.plan.stages[0].fit(made_of(site))
    assert fit is not None
    shared: dict[str, np.ndarray] = {}
    found = []
    for step in range(fit.n_steps):
        order = SumsOrder(step, as_weights(shared), weights)
        found.append({name: value.numpy() for name, value in site.sums(order).arrays.items()})
        shared = fit.combine(step, found[-1], shared)
    return found


def made_of(site: Site) -> Made:
    """Return what the sums of the plan's stage depend on."""
    return Made(site.plan, shared_of(site), site.layout)


def test_the_cost_is_on_the_disk_once(make_site: MakeSite, tmp_path: Path) -> None:
    """Asked again, the site answers with the same bits; both lines cost as one of the plan's."""
    site = make_site(*NOISED)
    first, again = answered(site), answered(site)
    for one, other in zip(first, again, strict=True):
        for name, value in one.items():
            np.testing.assert_array_equal(value, other[name])
    lines = list(entries(tmp_path / "privacy.jsonl"))
    assert [line["kind"] for line in lines] == ["dp", "dp"]
    together = sum(line["noise_multiplier"] ** -2 for line in lines)
    assert together == pytest.approx(0.5**-2, rel=1e-9)


def test_the_noise_has_the_size_of_the_share(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two hospitals that share the noise each adds the root of a half of it."""
    site = make_site(*HEAD)
    at, n = site.view.summing(SumsOrder(0, {}, shared_of(site)), site.plan.stages[0]), 60
    place = PrivateHead()._place(at.made)  # of one model: to embed public images takes long
    monkeypatch.setattr(PrivateHead, "_place", lambda _self, _made: place)
    clear = PrivateHead().own_sums(at, 0, {})
    for n_shares in (1, 2):
        stage = PrivateHead(noise_multiplier=0.5, n_shares=n_shares)
        noises = []
        for seed in range(n):
            own = stage.own_sums(replace(at, plan=replace(site.plan, name=f"{seed}")), 0, {})
            noises += [(own[k] - clear[k]).ravel() for k in own if k != N_SITES]
        expected = stage.fit(at.made).noise_of(0) / np.sqrt(n_shares)
        assert np.std(np.concatenate(noises)) == pytest.approx(expected, rel=0.1)


def test_sums_beyond_the_cap_do_not_leave(make_site: MakeSite, tmp_path: Path) -> None:
    """Refused by code, and not counted."""
    site = make_site(*NOISED, "privacy.max_epsilon=0.1")
    with pytest.raises(PrivacyError, match=r"one patient at this site.*\[P31\]"):
        answered(site)
    assert not list(entries(tmp_path / "privacy.jsonl"))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (("rounds.n_rounds=1",), r"rounds.n_rounds: found 1.*\[C01\]"),
        (("stages.private_head.n_shares=2",), r"n_shares: found 2.*\[C01\]"),
        (
            ("stages.private_head.n_shares=2", "secagg.is_on=true", "secagg.threshold=2"),
            r"n_shares: found 2.*less than secagg.threshold.*\[C01\]",
        ),
        (("harmonize=[nyul,private_head]",), r"noise_multiplier: found 0.5.*\[C01\]"),
        (("data.prepare.shape=[0,0,0]",), r"one size for all images.*\[C01\]"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_plan_whose_noise_hides_nobody_is_refused(
    tiny: Callable[..., list[str]], settings: tuple[str, ...], told: str
) -> None:
    """Before anything is spent."""
    with pytest.raises(ConfigError, match=told):
        load(tiny(*NOISED, *settings))


def test_a_site_with_a_cap_takes_it_and_no_bare_one(tiny: Callable[..., list[str]]) -> None:
    """Noise on the sums bounds the loss, as long as nothing else is trained."""
    capped = SitePolicy(max_epsilon=8)
    assert violations(capped, load(tiny(*NOISED)).plan) == []
    assert any("no noise" in text for text in violations(capped, load(tiny(*HEAD)).plan))


def test_a_run_ends_with_a_head_whatever_kills_it(run_tiny: RunTiny) -> None:
    """Under secure sums and shared noise: workers and a stop change no bit; the file predicts."""
    arms = ("simulation.arms=[federated]", "secagg.is_on=true", "secagg.threshold=3")
    settings = (*NOISED, *arms, "stages.private_head.n_shares=2")
    whole = run_tiny("whole", *settings)
    assert model_of(run_tiny("workers", *settings, "simulation.workers=2")) == model_of(whole)
    with pytest.raises(StopHere):
        run_tiny("stopped", *settings, observe=stop_at("test", 1))
    assert model_of(run_tiny("stopped", *settings)) == model_of(whole)
    clear = run_tiny("clear", *HEAD, "simulation.arms=[federated]")
    assert model_of(clear) != model_of(whole)


def test_patients_unlike_the_public_images_are_told_to_the_site(
    make_site: MakeSite, caplog: pytest.LogCaptureFixture
) -> None:
    """Clipped numbers make a head that fits nobody: only the site's own log says so."""
    site = make_site(*HEAD)
    at = site.view.summing(SumsOrder(0, {}, shared_of(site)), site.plan.stages[0])
    stage = PrivateHead()
    stage.own_sums(at, 0, {})
    assert "unlike the public images" not in caplog.text
    place = stage._place(at.made)
    far = replace(place, centre=place.centre + 1e3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PrivateHead, "_place", lambda _self, _made: far)
        stage.own_sums(at, 0, {})
    assert "5 of 5 patients are unlike the public images" in caplog.text
