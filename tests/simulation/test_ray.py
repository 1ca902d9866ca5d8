"""The same apps on a Ray cluster."""

from __future__ import annotations

import pytest

from tests.conftest import RunTiny
from tests.simulation.test_study import SITES, model_of

pytest.importorskip("ray", reason="ray is an extra: pip install 'fedmri[ray]'")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own, at start and stop
def test_ray_does_not_change_the_bits(run_tiny: RunTiny) -> None:
    """Every arm ends with the weights that it has in this process."""
    settings = ("strategy=fedbn", "model.norm=batch")
    alone = run_tiny("alone", *settings)
    cluster = run_tiny("cluster", *settings, "simulation.backend=ray", "simulation.workers=2")
    arms = ["federated", "pooled", *(f"local-{site}" for site in SITES)]
    assert [model_of(alone, arm) for arm in arms] == [model_of(cluster, arm) for arm in arms]
