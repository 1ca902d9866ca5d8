"""Centres of fuzzy clusters from sums over hospitals: those of the pool, and no gradient's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fedmri.assembly import assemble
from fedmri.config import load, load_resolved
from fedmri.errors import ConfigError
from fedmri.round import Weights
from fedmri.server.rounds.checkpoint import load_weights_file
from tests.conftest import RunTiny
from tests.simulation.test_study import StopHere, model_of, stop_at

CLUSTERS = ("model=gabor_paths", "model.width=2", "model.clusters=3", "stages=[fuzzy]")
CENTRES = "memberships.centres"
SHORT = ("rounds.n_rounds=1", "rounds.evaluate_every=0", "simulation.n_pictures=0")


def final(folder: Path, arm: str) -> Weights:
    """Return the final weights of an arm."""
    return load_weights_file(folder / f"arms/{arm}/seed-0/model.safetensors")[0]


def test_centres_over_sites_are_those_of_the_pool(run_tiny: RunTiny) -> None:
    """Two steps before the round, whose rate moves the rest and never the centres."""
    folder = run_tiny(
        "a", *SHORT, *CLUSTERS, "stages.fuzzy.n_steps=2", "simulation.arms=[federated,pooled]"
    )
    first = assemble(load_resolved(folder / "config.yaml").plan).entries[CENTRES]
    apart, together = (final(folder, arm) for arm in ("federated", "pooled"))
    assert torch.allclose(apart[CENTRES], together[CENTRES], atol=1e-6)
    assert (apart[CENTRES] - first).abs().max() > 0.1
    assert not torch.equal(apart["out.weight"], together["out.weight"])


@pytest.mark.slow
def test_a_stop_and_masks_change_no_centre(run_tiny: RunTiny) -> None:
    """A run that goes on asks for the sums anew."""
    settings = (*SHORT, *CLUSTERS, "simulation.arms=[federated]", "rounds.n_rounds=3")
    whole = run_tiny("whole", *settings)
    with pytest.raises(StopHere):
        run_tiny("stopped", *settings, observe=stop_at("round", 5))
    assert model_of(run_tiny("stopped", *settings, "simulation.workers=2")) == model_of(whole)
    hidden = final(run_tiny("hidden", *settings, "secagg.is_on=true"), "federated")
    assert torch.allclose(hidden[CENTRES], final(whole, "federated")[CENTRES], atol=1e-3)


def test_a_network_without_clusters_is_refused() -> None:
    """Nothing could be set to what is found."""
    with pytest.raises(ConfigError, match=r"network of stage fuzzy.*\[C03\]"):
        load(["experiment=smoke", "stages=[fuzzy]"])
    with pytest.raises(ConfigError, match=r"stand still.*\[C03\]"):
        load(["experiment=smoke", *CLUSTERS, "train.frozen=['*']"])
