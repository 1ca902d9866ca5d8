"""ComBat by sums over sites against the reference implementation's outputs on pooled data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fedmri.harmonize.combat.combat_site import SiteEffect, apply, fit_site
from fedmri.harmonize.combat.model import ComBat
from fedmri.harmonize.combat.site_table import Array, SiteTable
from fedmri.harmonize.sums import Arrays, run

DATA = os.environ.get("FEDMRI_TEST_DATA")
FOLDER = Path(DATA or ".").parent / "oracles" / "combat"
pytestmark = pytest.mark.skipif(
    DATA is None or not FOLDER.is_dir(), reason="FEDMRI_TEST_DATA has no oracles beside it"
)
ORACLES: dict[str, dict[str, Any]] = {
    "synth6__eb_param": {},
    "synth6__eb_nonparam": {"mode": "nonparametric"},
    "synth6__no_eb": {"mode": "no_eb"},
    "synth6__mean_only": {"mode": "mean_only"},
    "synth6__eb_param__conv1e-13": {"tolerance": 1e-13},
    "synth6__eb_param__ref_S5": {"reference": "S5"},
    "synth6__no_eb__ref_S5": {"mode": "no_eb", "reference": "S5"},
    "synth6_nocov__eb_param": {},
    "synth6_nocov__eb_param__conv1e-13": {"tolerance": 1e-13},
}


def columns(frame: pd.DataFrame, oracle: str) -> pd.DataFrame:
    """Return the covariate columns of an oracle: age, sex and diagnosis against their first."""
    if "nocov" in oracle:
        return pd.DataFrame(index=frame.index)
    dummies = {
        f"{name}={level}": (frame[name] == level).astype(float)
        for name in ("sex", "dx")
        for level in sorted(frame[name].unique())[1:]
    }
    return pd.DataFrame({**dummies, "age": frame["age"]})


def tables(frame: pd.DataFrame, covariates: pd.DataFrame) -> dict[str, SiteTable]:
    """Return each site's table, by name."""
    features = frame.filter(regex=r"^f\d\d$").to_numpy()
    found = {}
    for site in sorted(frame["site"].unique()):
        rows = (frame["site"] == site).to_numpy()
        found[site] = SiteTable(site, features[rows], covariates.to_numpy()[rows])
    return found


def harmonized(
    frame: pd.DataFrame, parameters: Arrays, effects: dict[str, SiteEffect], sites: Any
) -> Array:
    """Return all rows harmonized, in the order of the table."""
    clean = np.full((len(frame), 40), np.nan)
    for site, table in sites.items():
        clean[(frame["site"] == site).to_numpy()] = apply(parameters, effects[site], table)
    return clean


@pytest.mark.parametrize("oracle", ORACLES)
def test_sums_over_sites_give_what_the_reference_gives_on_pooled_data(oracle: str) -> None:
    """All that travels is sums, and nothing of pooled ComBat is lost by it."""
    frame, expected = pd.read_csv(FOLDER / "input.csv"), np.load(FOLDER / f"{oracle}.npz")
    covariates = columns(frame, oracle)
    sites = tables(frame, covariates)
    stage = ComBat(40, tuple(covariates.columns), n_min=8, **ORACLES[oracle])
    parameters = run(stage, sites.values())
    effects = {site: fit_site(stage, parameters, table) for site, table in sites.items()}
    found = harmonized(frame, parameters, effects, sites)
    for name in ("gamma_star", "delta_star"):
        stacked = np.stack([getattr(effects[site], name) for site in sites])
        np.testing.assert_allclose(stacked, expected[name], atol=1e-10, rtol=0)
    np.testing.assert_allclose(parameters["sigma"] ** 2, expected["sigma2"].ravel(), rtol=1e-10)
    np.testing.assert_allclose(found, expected["harmonized"], atol=1e-10, rtol=0)


def test_a_site_that_joins_later_changes_nothing_for_the_others() -> None:
    """With the parameters frozen, three sites that join are harmonized as in the reference."""
    frame = pd.read_csv(FOLDER / "input.csv")
    expected = np.load(FOLDER / "newsite_freeze_S1S2S3_add_S4S5S6.npz")
    is_first = frame["site"].isin(["S1", "S2", "S3"])
    assert (is_first.to_numpy() == expected["train_mask"]).all()
    covariates = columns(frame, "newsite")
    sites = tables(frame, covariates)
    stage = ComBat(40, tuple(covariates.columns), n_min=8)
    parameters = run(stage, [sites[name] for name in ("S1", "S2", "S3")])
    effects = {site: fit_site(stage, parameters, table) for site, table in sites.items()}
    found = harmonized(frame, parameters, effects, sites)
    np.testing.assert_allclose(parameters["alpha"], expected["alpha"], rtol=1e-10)
    np.testing.assert_allclose(found, expected["harmonized"], atol=1e-10, rtol=0)
