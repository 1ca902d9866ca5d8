"""What noise for one patient, or for a whole hospital, does to the landmarks of Nyúl.

Takes the hospitals of a simulation's folder, whatever it trained, and says how far the landmarks
(0 to 100) lie from those without noise, as the mean over landmarks and draws of the noise.

    python benchmarks/harmonization/noised_landmarks.py RUN [n_draws]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import numpy as np

from fedmri.config import load_resolved
from fedmri.data.batches.examples import PreparedSite, open_site
from fedmri.errors import HarmonizeError
from fedmri.harmonize.images.bounded_nyul import BoundedNyulSums
from fedmri.harmonize.images.nyul import LANDMARKS
from fedmri.harmonize.sums import Arrays, add
from fedmri.privacy.accounting import noise_for
from fedmri.simulation.sites import StudySites
from fedmri.stages.account import NothingLeaves
from fedmri.stages.images.nyul import Nyul
from fedmri.stages.stage import AtSite

EPSILONS = (1.0, 3.0, 8.0)
SITE_DELTA = 1e-3
WEIGHTINGS: tuple[Literal["patient", "site"], ...] = ("patient", "site")


def main() -> None:
    """Print how unlike the hospitals are, then a line for each unit and epsilon."""
    run, n_draws = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 200
    plan = load_resolved(run / "config.yaml").plan
    paths = StudySites.read(run / "prepared" / "sites.json").sites
    sites = {name: open_site([path], plan.target, plan.data) for name, path in paths.items()}
    seen = [AtSite(name, plan, site, NothingLeaves()) for name, site in sites.items()]
    stage = BoundedNyulSums(len(plan.data.source.modalities))
    for weighting in WEIGHTINGS:
        config = Nyul(weighting, noise_multiplier=1.0)
        sums = [config.own_sums(at, 0, {}) for at in seen]  # silent: nothing leaves
        exact = stage.combine(0, add(sums), {})[LANDMARKS]
        apart = [np.abs(stage.combine(0, one, {})[LANDMARKS] - exact).mean() for one in sums]
        print(f"{weighting}: {len(sites)} hospitals, own landmarks {np.mean(apart):.2f} away")
        for epsilon in EPSILONS:
            delta = _delta(config, list(sites.values()))
            noise = noise_for(epsilon, delta, 1.0, 1)
            errors = [_error(stage, sums, exact, noise * stage.bound, i) for i in range(n_draws)]
            mean, n_failed = np.nanmean(errors), np.isnan(errors).sum()
            print(f"  epsilon {epsilon:g}, noise {noise:.2f}: {mean:.2f} away", end="")
            print(f"; {n_failed} of {n_draws} draws leave nobody")


def _delta(config: Nyul, sites: list[PreparedSite]) -> float:
    if config.weighting == "site":
        return SITE_DELTA
    return 0.1 / min(len({e.subject for e in site.examples("train")}) for site in sites)


def _error(
    stage: BoundedNyulSums, sums: list[Arrays], exact: np.ndarray, deviation: float, seed: int
) -> float:
    rng, total = np.random.default_rng(seed), add(sums)
    spread = deviation * np.sqrt(len(sums))
    noised = {name: v + rng.normal(0, spread, v.shape) for name, v in sorted(total.items())}
    try:
        return float(np.abs(stage.combine(0, noised, {})[LANDMARKS] - exact).mean())
    except HarmonizeError:
        return np.nan


if __name__ == "__main__":
    main()
