"""Temperature and coverage by site from sums: the numbers of all patients in one place."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fedmri.agreement.signed_plan import sign_plan
from fedmri.clients.consent.plan_text import describe
from fedmri.clients.consent.policy import SitePolicy
from fedmri.clients.training.results import read_cases
from fedmri.config import load
from fedmri.errors import ConfigError, HarmonizeError, PrivacyError
from fedmri.evaluate.comparisons.paired import paired_means
from fedmri.evaluate.reliability.by_sums import (
    Answered,
    ReliabilitySums,
    SiteAnswers,
    Sums,
    at_temperature,
    gain_over_sites,
    logits_of,
)
from fedmri.evaluate.reliability.calibration import temperature
from fedmri.evaluate.reliability.conformal import conformal_quantile
from fedmri.harmonize.embeddings.domain_head import site_numbers
from fedmri.reports.pages.page import write_report
from fedmri.reports.text.calibrated import summed_reliability, summed_tables
from fedmri.stages.answers.reliability import Reliability
from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.task import Case
from tests.simulation.test_study import StopHere, records, stop_at
from tests.test_signed_plan import key_pair

RNG = np.random.default_rng(0)
NAMES = ("a", "b", "c")
SETTINGS = (
    "stages={reliability: {n_least: 1}, counted_auc: {n_least: 1}}",
    "simulation.arms=[federated]",
    "rounds.n_rounds=1",
    "data.split={val: 0.6, test: 0.3}",
)


def classes(n: int, sure: float = 3.0) -> Answered:
    """Return patients of three classes under a model that is surer than it should be."""
    truth = RNG.integers(0, 3, n)
    logits = RNG.normal(0, 1, (n, 3)) + np.eye(3)[truth]
    shares = np.exp(sure * logits)
    return Answered(shares / shares.sum(axis=1, keepdims=True), truth.astype(float))


def values(n: int, spread: float) -> Answered:
    """Return patients with a value, and errors of a spread."""
    truth = RNG.uniform(20, 80, n)
    return Answered((truth + spread * RNG.normal(size=n))[:, None], truth)


def run(fit: ReliabilitySums, sites: list[SiteAnswers]) -> Sums:
    """Run both steps over sites that lie in memory."""
    shared: Sums = site_numbers(NAMES)
    for step in range(fit.n_steps):
        parts = [fit.site_sums(step, site, shared) for site in sites]
        for part in parts:
            fit.refuse_odd(step, part)
        total = {name: np.sum([part[name] for part in parts], axis=0) for name in parts[0]}
        shared = fit.combine(step, total, shared)
    return shared


def together(sides: list[Answered]) -> Answered:
    """Return the patients of all sites in one place."""
    said = np.concatenate([side.predictions for side in sides])
    return Answered(said, np.concatenate([side.truth for side in sides]))


def test_sums_give_the_temperature_and_gain_of_all_patients() -> None:
    """As if they lay in one place: the temperature, its Brier score, and the paired interval."""
    sites = [SiteAnswers(classes(n), classes(m), k) for k, (n, m) in enumerate(SIZES)]
    found = run(ReliabilitySums(3, 0.0, 5), sites)
    old, new = (together([getattr(s, side) for s in sites]) for side in ("validated", "tested"))
    wanted = temperature([(logits_of(old.predictions), old.classes)])
    assert wanted > 1.5
    assert found["temperature"][0] == pytest.approx(wanted, rel=1e-3)
    truth = np.eye(3)[new.classes]
    shares = at_temperature(new.predictions, wanted)
    plain, tempered = (((p - truth) ** 2).sum(axis=1) for p in (new.predictions, shares))
    assert found["brier_common"].sum() == pytest.approx(tempered.sum(), rel=1e-3)
    labels = np.repeat(NAMES, [m for _, m in SIZES])
    exact = paired_means(tempered, plain, sites=labels).difference
    gain = gain_over_sites(found, "common")
    assert (gain.value, gain.low, gain.high) == pytest.approx(
        (exact.value, exact.low, exact.high), abs=2e-4
    )
    assert exact.high < 0
    right = [(s.tested.predictions.argmax(1) == s.tested.classes).sum() for s in sites]
    assert found["right"].tolist() == right


SIZES = ((40, 30), (25, 12), (60, 45))


@pytest.mark.parametrize("kind", ["classes", "values"])
def test_one_limit_holds_what_it_promises_and_little_more(kind: str) -> None:
    """Never below the limit of all patients; who is held is counted, at each site by itself."""
    make = classes if kind == "classes" else values
    spread = {"classes": (1.0, 1.0, 3.0), "values": (4.0, 4.0, 12.0)}[kind]
    sites = [
        SiteAnswers(make(n, s), make(m, s), k)
        for k, ((n, m), s) in enumerate(zip(SIZES, spread, strict=True))
    ]
    fit = ReliabilitySums(3 if kind == "classes" else 0, 2000.0, 1)
    found = run(fit, sites)
    limit = float(found["limit"][0])
    exact = conformal_quantile(together([s.validated for s in sites]).unlikeness, 0.9)
    assert exact <= limit < 1.12 * exact
    for site in sites:
        held = site.tested.unlikeness <= limit
        assert found["held"][site.row] == held.sum()
        own = conformal_quantile(site.validated.unlikeness, 0.9)
        assert found["held_own"][site.row] == (site.tested.unlikeness <= own).sum()
    assert found["n"].tolist() == [m for _, m in SIZES]
    if kind == "values":
        assert found["size"] == pytest.approx(2 * limit * found["n"], rel=1e-3)


def test_ranges_of_several_patients_keep_the_promise() -> None:
    """Merged counts are of five or more, and the limit only grows."""
    sites = [SiteAnswers(values(n, 5), values(m, 5), k) for k, (n, m) in enumerate(SIZES)]
    fit = ReliabilitySums(0, 2000.0, 5)
    high = fit.site_sums(0, sites[0], {})["high"]
    assert high.sum() == 40
    assert high[high > 0].min() >= 5
    alone = run(replace(fit, n_least=1), sites)["limit"][0]
    assert run(fit, sites)["limit"][0] >= alone


def test_a_site_with_too_few_patients_sends_zeros() -> None:
    """Of either side; its row is empty, and the others' numbers are those without it."""
    few = SiteAnswers(classes(4), classes(4), 1)
    others = [SiteAnswers(classes(40), classes(30), 0), SiteAnswers(classes(20), classes(30), 2)]
    fit = ReliabilitySums(3, 0.0, 5)
    found, without = run(fit, [others[0], few, others[1]]), run(fit, others)
    np.testing.assert_equal(found, without)
    assert found["n"].tolist() == [30, 0, 30]


def test_too_few_validation_patients_give_no_temperature_and_no_limit() -> None:
    """Eight patients cannot promise nine of ten; the test patients' own numbers stand."""
    found = run(ReliabilitySums(3, 0.0, 1), [SiteAnswers(classes(8), classes(20), 0)])
    assert (found["temperature"][0], found["limit"][0]) == (0, -1)
    assert not found["held"].any()
    assert found["right"].sum() > 0


def test_sums_that_no_patients_give_are_refused() -> None:
    """Half patients, more held than tested, a loss that is not convex."""
    fit, site = ReliabilitySums(3, 0.0, 1), SiteAnswers(classes(30), classes(30), 0)
    first = fit.site_sums(0, site, site_numbers(NAMES))
    shared = fit.combine(0, first, site_numbers(NAMES))
    second = fit.site_sums(1, site, shared)
    odd = (
        (0, first | {"high": first["high"] / 2}),
        (0, first | {"slope": first["slope"][::-1].copy()}),
        (1, second | {"held": second["n"] + 1}),
        (1, second | {"brier_plain": 3 * second["n"]}),
        (1, second | {"right": second["right"] / 7}),
    )
    for step, sums in odd:
        with pytest.raises(HarmonizeError, match=r"sums of reliability.*H01"):
            fit.refuse_odd(step, sums)


class _Site:
    """A site with patients on both sides, a floor and four training patients."""

    def __init__(self, n_validated: int, n_tested: int, n_least: int = 0) -> None:
        self.validated, self.tested = (lambda n=n: cases(n) for n in (n_validated, n_tested))
        self.site, self.learned = "b", Classification("kind", ("A", "B", "C"))
        self.account = SimpleNamespace(n_least=n_least)
        self.made = SimpleNamespace(plan=SimpleNamespace(target=self.learned))
        self.patients, self.n_subjects = [("b", "p")] * 40, 4


def cases(n: int) -> list[Case]:
    """Return patients of three classes."""
    said = classes(n)
    pairs = zip(said.predictions.tolist(), said.truth.tolist(), strict=True)
    scores = {"predicted": 0.0, "is_correct": 0.0}
    return [Case("b", f"{k}", 1, truth, tuple(p), scores) for k, (p, truth) in enumerate(pairs)]


def test_a_sites_own_floor_holds() -> None:
    """Above the plan's; what the border is told is the fewest patients behind a sum."""
    stage, shared = Reliability(n_least=2), site_numbers(NAMES)
    low: Any = _Site(12, 30)
    assert stage.own_sums(low, 0, shared)["high"].sum() == 12
    assert stage.counts(low) == (12, 12)
    high: Any = _Site(12, 30, n_least=20)
    assert not stage.own_sums(high, 0, shared)["high"].any()
    assert stage.counts(high) == (30, 30)
    none: Any = _Site(1, 1)
    assert stage.counts(none) == (40, 4)


def answered(side: Path) -> Answered:
    """Return all patients of a side of a run, as the federated model answers them."""
    paths = sorted((side / "federated").rglob("*.jsonl"))
    found = [case for path in paths for case in read_cases(path)]
    said = np.array([case.prediction for case in found])
    return Answered(said, np.array([case.truth for case in found], dtype=np.float64))


def test_a_run_tells_what_its_own_patients_give(run_tiny: Callable[..., Path]) -> None:
    """In clear, under masks and after a stop: the same numbers, beside those of the report."""
    found = []
    for name, more in (("clear", ()), ("masked", ("secagg.is_on=true",))):
        folder = run_tiny(name, *SETTINGS, *more)
        by_stage = {record["stage"]: record for record in records(folder, kind="found")}
        assert {record["status"] for record in by_stage.values()} == {"ok"}
        assert by_stage.keys() == {"counted_auc", "reliability"}
        found.append(by_stage["reliability"]["reliability"])
    with pytest.raises(StopHere):
        run_tiny("stopped", *SETTINGS, observe=stop_at("test", 2))
    stopped = records(run_tiny("stopped", *SETTINGS), kind="found", stage="reliability")
    clear, masked = found
    np.testing.assert_equal(clear, stopped[0]["reliability"])
    assert masked["temperature"] == pytest.approx(clear["temperature"])
    for name, sums in clear["sums"].items():  # masks keep ten digits
        assert masked["sums"][name] == pytest.approx(sums, abs=1e-8)
    [told] = summed_reliability(records(folder))
    old, new = (answered(folder / side) for side in ("validation", "cases"))
    assert told.n == len(new)
    assert conformal_quantile(old.unlikeness, 0.9) <= told.limit < math.inf
    summed = next(iter(told.coverages()))
    assert summed.common.value == (new.unlikeness <= told.limit).mean()
    assert summed.n_validation == len(old) >= 9
    truth = np.eye(new.predictions.shape[1])[new.classes]
    squares = ((new.predictions - truth) ** 2).sum(axis=1)
    assert np.sum(told.sums["brier_plain"]) == pytest.approx(squares.sum(), rel=1e-3)
    wanted = old.temperature()
    assert told.temperature == pytest.approx(wanted if math.isfinite(wanted) else 0, rel=2e-3)
    task = load(["experiment=smoke"]).plan.target
    page = write_report(folder, task)[0].read_text()
    assert "Reliability from sums" in page
    assert "promises 90 %, from sums over hospitals" in page


def test_odd_sums_of_one_site_cost_its_own_share(
    run_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In clear the others' numbers stand, and the page names the site."""
    honest = Reliability.own_sums

    def own_sums(self: Reliability, at: Any, step: int, shared: Any) -> dict[str, np.ndarray]:
        sums = honest(self, at, step, shared)
        return {n: v / 3 + 0.1 if at.site == "site02" else v for n, v in sums.items()}

    monkeypatch.setattr(Reliability, "own_sums", own_sums)
    folder = run_tiny("clear", *SETTINGS)
    [record] = records(folder, kind="found", stage="reliability")
    assert (record["status"], record["left_out"]) == ("ok", {"site02": "H01"})
    [told] = summed_reliability([record])
    assert told.sums["n"].tolist()[1] == 0
    assert told.n > 0
    notes = summed_tables([record])["summed_notes"]
    assert "without these hospitals: site02 (H01" in notes[0]


def test_a_hospital_reads_what_leaves() -> None:
    """After the test, twice."""
    key, _ = key_pair(1)
    text = describe(sign_plan(load(["experiment=smoke", *SETTINGS]).plan, key), SitePolicy())
    [line] = [one for one in text.splitlines() if one.startswith("leaves after the test")]
    assert "2 times, numbers of validation patients" in line
    assert "(reliability): high (256,), slope (33,)" in line


def test_masks_and_private_patients_have_none() -> None:
    """Masks have no probability of a patient; sums have no noise."""
    with pytest.raises(ConfigError, match=r"reliability.*segmentation.*C03"):
        load(["experiment=lesion_mask", "stages=[reliability]"])
    with pytest.raises(PrivacyError, match="P32"):
        load(["experiment=smoke", *SETTINGS, "privacy.noise_multiplier=1", "model.norm=group"])
    assert math.isclose(load(["experiment=brain_age", "stages=[reliability]"]).plan.seed, 0)
