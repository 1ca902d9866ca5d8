"""The area over all hospitals' patients, from counts that leave once and hold no few patients."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fedmri.agreement.signed_plan import sign_plan
from fedmri.clients.consent.plan_text import describe
from fedmri.clients.consent.policy import SitePolicy
from fedmri.clients.egress.scorings import Asked, Scorings
from fedmri.clients.training.results import read_cases
from fedmri.config import load
from fedmri.errors import ConfigError, HarmonizeError, PrivacyError
from fedmri.evaluate.scores.area_counts import NAMES, AreaCounts
from fedmri.harmonize.sums import run
from fedmri.reports.pages.page import write_report
from fedmri.reports.text.counted_areas import area_table
from fedmri.reports.text.words import DASH, number
from fedmri.stages.answers.counted_auc import CountedAuc
from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.kinds.multi_label import MultiLabel
from fedmri.tasks.task import Case, Task
from tests.simulation.test_study import StopHere, records, stop_at
from tests.test_signed_plan import key_pair

SETTINGS = (
    "stages={counted_auc: {n_least: 1}}",
    "simulation.arms=[federated]",
    "rounds.n_rounds=1",
    "data.split.test=0.5",
)
RNG = np.random.default_rng(0)
TWO = Classification("diagnosis", ("healthy", "tumour"))


def cases(classes: list[int], n_classes: int = 2) -> list[Case]:
    """Return patients of these classes, with probabilities that lean towards them."""
    found = []
    for place, truth in enumerate(classes):
        share = RNG.dirichlet(np.ones(n_classes) + 2 * (np.arange(n_classes) == truth))
        scores = {"predicted": float(share.argmax()), "is_correct": float(share.argmax() == truth)}
        found.append(Case("a", f"{place}", 1, float(truth), tuple(share), scores))
    return found


class _Site:
    """A site with test patients, a floor and four training patients."""

    def __init__(self, tested: list[Case], task: Task = TWO, n_least: int = 0) -> None:
        self.tested: Callable[[], list[Case]] = lambda: tested
        self.learned = task
        self.account = SimpleNamespace(n_least=n_least)
        self.made = SimpleNamespace(plan=SimpleNamespace(target=task))
        self.patients, self.n_subjects = [("a", "p")] * 40, 4


def sums_of(site: Any, stage: CountedAuc) -> dict[str, np.ndarray]:
    """Return what a site adds."""
    return stage.own_sums(site, 0, {})


def test_the_area_is_that_of_all_patients_within_its_bound() -> None:
    """Over three sites, none of whose own areas it is; every count is of five or more."""
    sites = [_Site(cases([0] * n + [1] * m)) for n, m in ((20, 8), (7, 30), (15, 15))]
    stage = CountedAuc()
    parts = [sums_of(site, stage) for site in sites]
    for part in parts:
        for name in NAMES:
            assert part[name][part[name] > 0].min() >= 5
    total = {name: np.sum([part[name] for part in parts], axis=0) for name in NAMES}
    fit = AreaCounts(1, 64, 5)
    made: Any = sites[0].made
    [area] = stage.recorded(made, fit.combine(0, total, {}))["areas"].values()
    every = [case for site in sites for case in site.tested()]
    exact = roc_auc_score([c.truth for c in every], [c.prediction[1] for c in every])
    assert abs(area["value"] - exact) <= area["error_bound"] < 0.2
    assert area["low"] <= exact <= area["high"]
    assert area["n_subjects"] == 95


def test_a_site_below_the_floor_of_a_class_counts_nobody() -> None:
    """Its own floor counts, where that is above the plan's; an absent class gives no area."""
    stage = CountedAuc(n_least=2)
    for few, floor in (([0] * 9 + [1], 0), ([0] * 9 + [1] * 4, 5), ([0] * 9, 0)):
        site: Any = _Site(cases(few), n_least=floor)
        assert not any(values.any() for values in sums_of(site, stage).values())
        assert stage.counts(site) == (40, 4)
    site = _Site(cases([0] * 11 + [1] * 5), n_least=5)
    assert stage.counts(site) == (16, 16)
    low = sums_of(site, stage)["negative_low"]
    assert low[low > 0].min() >= 5


def test_a_rare_class_is_not_told_by_the_counts_of_the_others() -> None:
    """Two of class C are 20 minus those of A and B; findings say nothing of each other."""
    three = Classification("kind", ("A", "B", "C"))
    patients = cases([0] * 9 + [1] * 9 + [2] * 2, 3)
    assert not sums_of(_Site(patients, three), CountedAuc())["positive_low"].any()
    enough = sums_of(_Site(cases([0] * 9 + [1] * 9 + [2] * 5, 3), three), CountedAuc())
    assert enough["positive_low"].sum(axis=1).tolist() == [9, 9, 5]
    findings = MultiLabel("findings", ("edema", "bleeding"))
    has = [(1.0, 1.0)] * 2 + [(0.0, 1.0)] * 8 + [(1.0, 0.0)] * 7 + [(math.nan, 0.0)] * 3
    pairs = zip(cases([0] * 20), has, strict=True)
    many = [replace(case, truth=truth, prediction=(0.3, 0.6)) for case, truth in pairs]
    both = sums_of(_Site(many, findings), CountedAuc())
    assert both["positive_low"].sum(axis=1).tolist() == [9, 10]
    assert both["negative_low"].sum(axis=1).tolist() == [8, 10]  # unknown of three
    seldom = zip(many, has, strict=True)
    rare = [replace(c, truth=(float(k < 2), t[1])) for k, (c, t) in enumerate(seldom)]
    one = sums_of(_Site(rare, findings), CountedAuc())
    assert one["positive_low"].sum(axis=1).tolist() == [0, 10]


def test_numbers_that_count_nobody_are_refused() -> None:
    """A dishonest site's half patients, and ranges that end before they begin."""
    fit = AreaCounts(1, 4, 1)
    good = fit.site_sums(0, [(np.array([0.1, 0.9]), np.array([False, True]))], {})
    assert fit.combine(0, good, {})["value"] == 1
    half = {name: values / 2 for name, values in good.items()}
    swapped = good | {"positive_low": np.array([[0.0, 0.0, 0.0, 1.0]])}  # its high end is bin 2
    more = good | {"negative_high": good["negative_high"] * 2}
    for odd in (half, swapped, more):
        with pytest.raises(HarmonizeError, match=r"counted_auc.*H01"):
            fit.combine(0, odd, {})
    none = run(fit, [[]])
    assert math.isnan(none["value"][0])


def test_a_run_tells_the_area_of_its_own_patients(run_tiny: Callable[..., Path]) -> None:
    """In clear, under masks and after a stop: the same number, within its bound of the exact."""
    found = []
    for name, more in (("clear", ()), ("masked", ("secagg.is_on=true",))):
        folder = run_tiny(name, *SETTINGS, *more)
        [record] = records(folder, kind="found")
        assert (record["stage"], record["status"]) == ("counted_auc", "ok")
        found.append(record["areas"])
    with pytest.raises(StopHere):
        run_tiny("stopped", *SETTINGS, observe=stop_at("test", 2))
    [record] = records(run_tiny("stopped", *SETTINGS), kind="found")
    np.testing.assert_equal(found, [record["areas"]] * 2)
    every = [c for path in (folder / "cases/federated").rglob("*.jsonl") for c in read_cases(path)]
    task = load(["experiment=smoke"]).plan.target
    assert isinstance(task, Classification)
    for (score, truth), area in zip(task.ranks(every), found[0].values(), strict=True):
        if math.isfinite(area["value"]):
            assert abs(area["value"] - roc_auc_score(truth, score)) <= area["error_bound"]
    assert any(math.isfinite(area["value"]) for area in found[0].values())
    page = write_report(folder, task)[0].read_text()
    assert "ROC area over the test patients of all hospitals, from counts alone" in page
    first = next(iter(found[0].values()))
    assert f"<td>{number(first['value'])}</td><td>{number(first['error_bound'])}</td>" in page


def test_odd_counts_of_one_site_cost_its_own_share(
    run_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In clear it is named and the area is the others'; under masks all is lost, and said."""
    honest, lies = CountedAuc.own_sums, {"site02": 0.5}

    def own_sums(self: CountedAuc, at: Any, step: int, shared: Any) -> dict[str, np.ndarray]:
        sums = honest(self, at, step, shared)
        return {name: values * lies.get(at.site, 1) for name, values in sums.items()}

    monkeypatch.setattr(CountedAuc, "own_sums", own_sums)
    folder = run_tiny("clear", *SETTINGS)
    [record] = records(folder, kind="found")
    assert (record["status"], record["left_out"]) == ("ok", {"site02": "H01"})
    paths = sorted((folder / "cases/federated").rglob("*.jsonl"))
    others = [c for path in paths if path.stem != "site02" for c in read_cases(path)]
    counted = [area["n_subjects"] for area in record["areas"].values()]
    n_counted = int(np.nanmax(counted))
    assert 0 < n_counted <= len(others)
    [note] = area_table(records(folder))["area_notes"]
    assert "the area is without these hospitals: site02 (H01" in note
    task = load(["experiment=smoke"]).plan.target
    assert note.partition(" (H01")[0] in write_report(folder, task)[0].read_text()
    masked = run_tiny("masked", *SETTINGS, "secagg.is_on=true")
    [record] = records(masked, kind="found")
    assert record["status"] == "H01"
    [note] = area_table(records(masked))["area_notes"]
    assert "nobody sees which hospital" in note
    assert records(masked, kind="done")


def test_the_area_stands_beside_the_mean_of_the_hospitals(tmp_path: Path) -> None:
    """Of one class that is the mean over patients: (10 * .8 + 30 * .6) / 40 is .65."""
    area = {"value": 0.7, "error_bound": 0.04, "low": 0.5, "high": 0.85, "n_subjects": 40.0}
    unknown = dict.fromkeys(area, math.nan)
    same = {"arm": "federated", "seed": 0, "kind": "test", "status": "ok"}
    tests = [
        same | {"site": site, "n_subjects": n, "metrics": {"auc": value}}
        for site, n, value in (("a", 10, 0.8), ("b", 30, 0.6), ("c", 3, math.nan))
    ]
    found = {"kind": "found", "stage": "counted_auc", "arm": "federated", "seed": 0}
    rows = area_table([*tests, found | {"areas": {"tumour": area}}])["area_rows"]
    numbers = ["0.700", "0.040", "0.500 to 0.850", "40", "0.650"]
    assert rows == [["federated, seed 0", "tumour", *numbers]]
    [one, two] = area_table([*tests, found | {"areas": {"A": area, "B": unknown}}])["area_rows"]
    assert one[-1] == DASH
    assert two[2:] == [DASH, DASH, "no interval", "0", DASH]


def test_a_run_without_an_area_ends_all_the_same(run_tiny: Callable[..., Path]) -> None:
    """No site has five test patients of each class: the record says nothing is known."""
    folder = run_tiny("few", "stages=[counted_auc]", *SETTINGS[1:])
    [record] = records(folder, kind="found")
    assert all(math.isnan(area["value"]) for area in record["areas"].values())
    assert records(folder, kind="done")


def test_a_site_counts_one_model_alone(tmp_path: Path) -> None:
    """Asked again the same leaves; the counts of another model never do (P13)."""
    scorings = Scorings(tmp_path / "scorings.jsonl", most_models=5)
    asked = Asked("sums over test patients, step 0.0,", 0, "first")
    scorings.refuse_models(asked, most=1)
    scorings.refuse_models(asked, most=1)
    with pytest.raises(PrivacyError, match=r"sums over test patients.*P13"):
        scorings.refuse_models(replace(asked, model="second"), most=1)


def test_a_hospital_reads_which_counts_leave() -> None:
    """After the test, and of how many bins."""
    key, _ = key_pair(1)
    text = describe(sign_plan(load(["experiment=smoke", *SETTINGS]).plan, key), SitePolicy())
    [line] = [one for one in text.splitlines() if one.startswith("leaves after the test")]
    assert "each number of several patients (counted_auc): positive_low (3, 64)" in line


def test_masks_and_private_patients_have_no_counted_area() -> None:
    """Masks have no order of patients; counts have no noise."""
    with pytest.raises(ConfigError, match=r"counted_auc.*segmentation.*C03"):
        load(["experiment=lesion_mask", "stages=[counted_auc]"])
    with pytest.raises(PrivacyError, match="P32"):
        load(["experiment=smoke", *SETTINGS, "privacy.noise_multiplier=1", "model.norm=group"])
    with pytest.raises(ConfigError, match=r"n_bins.*C01"):
        CountedAuc(n_bins=1)
