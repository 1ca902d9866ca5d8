"""Every expected value of the oracles, equalled."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmri.evaluate.hospitals.new_hospital import OF_AUC, new_hospital
from fedmri.evaluate.hospitals.random_effects import on_scale, random_effects
from fedmri.evaluate.hospitals.worst import worst_area_by_chance
from fedmri.evaluate.proportions import clopper_pearson
from fedmri.evaluate.reliability.calibration import ece, ece_beside_null
from fedmri.evaluate.resampling import bootstrap, drawn_weights, percentiles
from fedmri.evaluate.scores import masks
from fedmri.evaluate.scores.agreement import agreement
from fedmri.evaluate.scores.ranking import delong, weighted_auc
from fedmri.evaluate.scores.sites import design_effect

DATA = os.environ.get("FEDMRI_TEST_DATA")
FOLDER = Path(DATA or ".").parent / "oracles" / "evaluation"
pytestmark = pytest.mark.skipif(
    DATA is None or not FOLDER.is_dir(), reason="FEDMRI_TEST_DATA has no oracles beside it"
)
EXACT = 1e-6


def oracle(name: str, file: str = "eval_oracle.json") -> Any:
    """Return the expected values of one name."""
    return json.loads((FOLDER / file).read_text())[name]


def test_delong() -> None:
    """Areas, covariance, difference, p-value and both intervals."""
    wanted, given = oracle("delong"), np.load(FOLDER / "delong_input.npz")
    found = delong([given["s1"], given["s2"]], given["y"] == 1)
    assert found.values == pytest.approx(wanted["auc"], abs=EXACT)
    np.testing.assert_allclose(found.covariance, wanted["cov"], atol=EXACT)
    one = found.difference()
    assert one.value == pytest.approx(wanted["diff"], abs=EXACT)
    assert (one.high - one.value) / 1.959964 == pytest.approx(wanted["se"], abs=EXACT)
    assert one.value / wanted["se"] == pytest.approx(wanted["z"], abs=1e-5)
    assert found.p_value() == pytest.approx(wanted["p"], abs=EXACT)
    for model in (0, 1):
        ends = [found.wald(model), found.logit(model)]
        assert [one.low for one in ends] == pytest.approx(
            [wanted["wald95"][model][0], wanted["logit95"][model][0]], abs=EXACT
        )
        assert [one.high for one in ends] == pytest.approx(
            [wanted["wald95"][model][1], wanted["logit95"][model][1]], abs=EXACT
        )


def test_the_paired_bootstrap_within_classes() -> None:
    """Draws differ, so ends agree within what 4,000 draws leave open."""
    wanted, given = oracle("delong"), np.load(FOLDER / "delong_input.npz")
    truth = given["y"] == 1

    def gain(weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        areas = [weighted_auc(given[name], truth, weights) for name in ("s1", "s2")]
        return np.asarray(areas[0] - areas[1])

    weights = drawn_weights(np.arange(140), truth, 4000, np.random.default_rng(0))
    ends = percentiles(gain, weights, 0.95)
    assert ends == pytest.approx(wanted["stratified_boot95_diff"], abs=0.006)
    found = bootstrap(gain, weights, 140)
    half = (found.high - found.low) / 2 / 1.977  # t(0.975, 139)
    assert half == pytest.approx(wanted["boot_se_diff"], abs=0.0015)


def test_intraclass_correlations() -> None:
    """All six of Shrout and Fleiss."""
    wanted = oracle("icc_shrout_fleiss")
    found = agreement(np.array(wanted["data"]))
    for name in ("11", "21", "31", "1k", "2k", "3k"):
        assert getattr(found, f"icc{name}") == pytest.approx(wanted[f"ICC{name}"], abs=EXACT)


def test_calibration_error_and_its_null() -> None:
    """Two binnings exactly, and the error of perfect models within the error of a simulation."""
    wanted = oracle("ece_example")
    values = np.array(wanted["conf"]), np.array(wanted["hit"])
    found = ece(*values, n_bins=5), ece(*values, n_bins=15)
    assert found == pytest.approx((wanted["ece5"], wanted["ece15"]), abs=EXACT)
    rng = np.random.default_rng(0)
    for n, expected in oracle("ece_bias_perfectly_calibrated").items():
        draws = 400 if int(n) <= 100 else 40
        nulls = []
        for _ in range(draws):
            confidence = 0.5 + 0.5 * rng.random(int(n))  # of the called class of two
            null = ece_beside_null(confidence, np.ones(int(n)), rng, n_draws=20).null
            nulls.append(null)
        assert np.mean(nulls) == pytest.approx(expected, rel=0.04)


def test_the_worst_of_equal_sites() -> None:
    """The mean lowest area of sites that all have .85, within the error of a simulation."""
    for name, expected in oracle("worst_site_bias").items():
        k, n = (int(part.split("=")[1]) for part in name.split(","))
        rng = np.random.default_rng(1)
        found = worst_area_by_chance(0.85, [(n // 2, n // 2)] * k, rng, 600)
        assert found == pytest.approx(expected, abs=0.008)


def test_the_design_effect() -> None:
    """1 + (m - 1) rho."""
    for name, expected in oracle("design_effect").items():
        m, rho = (float(part.split("=")[1]) for part in name.split(","))
        assert design_effect(m, rho) == pytest.approx(expected, abs=EXACT)


def test_random_effects() -> None:
    """Spread, Q, mean, and the intervals of the mean and of a new hospital."""
    wanted = oracle("random_effects_auc")
    sites = on_scale(wanted["auc"], wanted["se"], "logit")
    assert sites is not None
    found = random_effects(sites)
    assert found.tau2 == pytest.approx(wanted["tau2_DL"], abs=EXACT)
    assert found.q == pytest.approx(wanted["Q"], abs=EXACT)
    assert found.mean == pytest.approx(wanted["pooled"], abs=EXACT)
    assert (found.low, found.high) == pytest.approx(wanted["HKSJ95"], abs=EXACT)
    assert (found.new_low, found.new_high) == pytest.approx(wanted["prediction95"], abs=EXACT)
    with_prior = new_hospital(wanted["auc"], wanted["se"], prior=OF_AUC)
    assert with_prior is not None
    assert with_prior.frequentist == found


def test_exact_intervals_of_shares() -> None:
    """8/10, 11/12, 73/75 and 38/38."""
    for (hits, n), expected in zip(
        [(8, 10), (11, 12), (73, 75), (38, 38)], oracle("gap_rule").values(), strict=True
    ):
        assert clopper_pearson(hits / n, n) == pytest.approx(expected, abs=EXACT)


def test_masks() -> None:
    """Overlap, the three HD95, HD100, the mean distance and NSD, all in mm."""
    given = np.load(FOLDER / "hd_input.npz")
    pair, spacing = (given["A"], given["B"]), given["spacing"].tolist()
    found = {
        "dice": masks.dice(*pair),
        "jaccard": masks.jaccard(*pair),
        "HD100": masks.hausdorff_mm(*pair, spacing),
        "HD95_max_of_directed": masks.hd95_mm(*pair, spacing),
        "HD95_concatenated_medpy_style": masks.hd95_mm(*pair, spacing, definition="concatenated"),
        "HD95_mean_of_directed": masks.hd95_mm(*pair, spacing, definition="mean"),
        "ASSD": masks.mean_surface_mm(*pair, spacing),
        "monai_NSD_2mm": masks.nsd(*pair, spacing, tolerance_mm=2),
        "monai_HD95_no_spacing_VOXELS": masks.hd95_mm(*pair, (1, 1, 1)),
    }
    for name, value in found.items():
        assert value == pytest.approx(oracle(name, "hd_oracle.json"), abs=EXACT), name
