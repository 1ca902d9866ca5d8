"""Mistakes of evaluation, each planted once in a run folder, a plan or a claim."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from fedmri.api.grid.choice import choose
from fedmri.api.submission.methods import methods_of
from fedmri.compatibility import plan_advice
from fedmri.config import as_yaml, load
from fedmri.errors import ConfigError, UsageError
from fedmri.evaluate.claims.lint import lint
from fedmri.evaluate.claims.paper import paper_of
from fedmri.evaluate.comparisons.paired import non_inferiority, paired_means
from fedmri.evaluate.scores.masks import hd95_mm
from fedmri.privacy.settings import PrivacyConfig
from fedmri.reports.results import TRIALS, load_results
from fedmri.reports.summary import summarise
from fedmri.reports.text.tables import as_markdown
from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.kinds.segmentation import Segmentation
from tests.conftest import program
from tests.reports.conftest import write_run

GROUPS = Classification("group", ("a", "b"))
MASKS = Segmentation("lesion", ("tumour",))


def of_dice(level: float) -> Callable[..., dict[str, Any]]:
    """Return a model of one Dice for all patients, but for their noise."""

    def predict(arm: str, seed: int, site: str, i: int) -> dict[str, Any]:
        return {"scores": {"dice": level + 0.01 * (i % 5)}}

    return predict


def of_sites(arm: str, seed: int, site: str, i: int) -> dict[str, Any]:
    """Return a model that knows the site and nothing else: 8 of 10 are ill at A, 2 of 10 at B."""
    p, n_ill = (0.7, 8) if site == "A" else (0.3, 2)
    return {
        "truth": float(i % 10 < n_ill),
        "prediction": [1 - p, p],
        "scores": {"predicted": float(p > 0.5)},
    }


def with_records(run: Path, arm: str, site: str, score: float) -> None:
    """Write what a training leaves: a score on validation patients, and its end."""
    ended = {"kind": "done", "arm": arm, "seed": 0, "round": 1}
    scored = {
        **ended,
        "kind": "validation",
        "site": site,
        "n_subjects": 5,
        "metrics": {"dice": score},
    }
    (run / "metrics.jsonl").write_text(f"{json.dumps(scored)}\n{json.dumps(ended)}\n")
    environment = json.loads((run / "environment.json").read_text())
    environment["data_fingerprints"] = {"A": "1"}
    (run / "environment.json").write_text(json.dumps(environment))


def test_6_validation_patients_choose_whatever_tests_say(tmp_path: Path) -> None:
    """Run b is best on test patients and worst on validation patients: a is chosen.

    Varma and Simon 2006, doi:10.1186/1471-2105-7-91.
    """
    runs = [
        write_run(tmp_path / name, {"A": 8}, of_dice(test))
        for name, test in (("a", 0.5), ("b", 0.9))
    ]
    for run, score in zip(runs, (0.8, 0.6), strict=True):
        with_records(run, "federated", "A", score)
    assert [one.run.name for one in choose(runs, MASKS)] == ["a"]


def test_7_accuracy_without_prevalence_is_flagged() -> None:
    """Nine of ten are ill: 89 % is less than calling all ill gives."""
    bare = lint(paper_of({"claims": [{"n": 100, "accuracy": "90 %"}]}))
    assert "prevalence" in {one.rule for one in bare}
    counted = lint(paper_of({"claims": [{"n": 100, "n_positive": 90, "accuracy": "89 %"}]}))
    assert "majority" in {one.rule for one in counted}


def test_8_a_patient_whose_slices_stand_as_patients_is_refused(tmp_path: Path) -> None:
    """Intervals count patients; a second line of one patient is no second patient.

    Design effect of clusters: Obuchowski 1997, doi:10.2307/2533958.
    """
    run = write_run(tmp_path / "a", {"A": 8}, of_dice(0.8))
    path = run / "cases/federated/seed-0/A.jsonl"
    path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")
    with pytest.raises(UsageError, match=r"sub-000 of A twice.*\[U13\]"):
        load_results(run)


def test_9_a_tuned_run_beside_one_that_is_not_is_said(tmp_path: Path) -> None:
    """Twelve settings were tried for one run and one for the other: `compare` names both.

    FLamby's arms have other optimizers (Ogier du Terrail et al. 2022, arXiv:2210.04620).
    """
    settings = as_yaml(load(["experiment=smoke"]))

    def of_class(arm: str, seed: int, site: str, i: int) -> dict[str, Any]:
        scores = {"predicted": float(i % 3)}
        return {"truth": float(i % 3), "prediction": [0.4, 0.3, 0.3], "scores": scores}

    for name in ("tuned", "plain"):
        run = write_run(tmp_path / name, {"A": 8}, of_class)
        (run / "config.yaml").write_text(settings)
    (tmp_path / "tuned" / TRIALS).write_text(json.dumps({"n_trials": 12}))
    said = CliRunner().invoke(
        program(), ["compare", str(tmp_path / "tuned"), str(tmp_path / "plain")]
    )
    assert "Not tuned alike: settings tried are tuned 12, plain 1." in said.output


def test_9_an_arm_with_fewer_trials_is_not_chosen_among(tmp_path: Path) -> None:
    """One of two runs has no score of the pooled arm: it would have had one trial."""
    arms = ["federated", "pooled"]
    runs = [write_run(tmp_path / name, {"A": 8}, of_dice(0.8), arms=arms) for name in "ab"]
    for run in runs:
        with_records(run, "federated", "A", 0.8)
    with pytest.raises(ConfigError, match=r"arm pooled.*a validation score in all 2 runs.*\[C03\]"):
        choose(runs, MASKS)


def test_12_an_area_that_prevalence_alone_makes_is_said(tmp_path: Path) -> None:
    """.80 over all patients and .50 within hospitals: the report says both.

    Janes and Pepe 2009, doi:10.1093/biomet/asp002.
    """
    run = write_run(tmp_path / "a", {"A": 20, "B": 20}, of_sites)
    notes = summarise(load_results(run), GROUPS).notes
    assert any("0.80 over all patients and 0.50 within hospitals" in note for note in notes)


def test_13_the_worst_of_equal_hospitals_stands_beside_chance(tmp_path: Path) -> None:
    """Ten hospitals of one truth: the worst is as bad as chance makes it."""

    def noise(arm: str, seed: int, site: str, i: int) -> dict[str, Any]:
        return {"scores": {"dice": float(np.random.default_rng([i, ord(site)]).uniform(0.6, 1))}}

    fairness = summarise(
        load_results(write_run(tmp_path / "a", dict.fromkeys("ABCDEFGHIJ", 8), noise)), MASKS
    ).fairness
    assert fairness is not None
    assert fairness.worst < 0.78
    assert abs(fairness.expected_worst - fairness.worst) < 0.05
    assert fairness.chance > 0.05


def test_14_a_calibration_error_of_few_patients_stands_beside_its_null(tmp_path: Path) -> None:
    """A perfect model of 40 patients has an error of .1 or more, which is no finding.

    Roelofs et al. 2022, arXiv:2012.08668.
    """
    rng = np.random.default_rng(3)
    p = rng.uniform(0, 1, 40)
    truth = rng.random(40) < p

    def predict(arm: str, seed: int, site: str, i: int) -> dict[str, Any]:
        return {
            "truth": float(truth[i]),
            "prediction": [1 - p[i], p[i]],
            "scores": {"predicted": float(p[i] > 0.5)},
        }

    (found,) = summarise(
        load_results(write_run(tmp_path / "a", {"A": 40}, predict)), GROUPS
    ).calibrations
    assert found.ece > 0.08
    assert found.null > 0.08
    assert found.p_value > 0.05


def test_15_no_difference_is_never_called_equal(tmp_path: Path) -> None:
    """Equal scores show no difference; a margin must be stated to be called as good.

    Piaggio et al. 2012, doi:10.1001/jama.2012.87802.
    """
    run = write_run(tmp_path / "a", {"A": 8}, of_dice(0.8), arms=["federated", "pooled"])
    text = as_markdown(summarise(load_results(run), MASKS))
    assert "no difference shown" in text
    assert not {"equal", "equivalent", "as good as", "non-inferior"} & {*text.lower().split()}
    paired = paired_means(np.linspace(0.7, 0.9, 8), np.linspace(0.9, 0.7, 8))
    with pytest.raises(UsageError, match=r"margin of non-inferiority.*\[U80\]"):
        non_inferiority(paired, 0)


def test_16_a_distance_has_a_voxel_size_and_a_missed_lesion_counts() -> None:
    """Without the size in mm nothing is computed; an empty mask gives 374 and no NaN.

    Maier-Hein et al. 2024, doi:10.1038/s41592-023-02151-z.
    """
    truth = np.zeros((8, 8, 8), dtype=bool)
    truth[2:4, 2:4, 2:4] = True
    with pytest.raises(UsageError, match=r"\[U80\]"):
        hd95_mm(truth, truth, ())
    with pytest.raises(TypeError):
        hd95_mm(truth, truth)  # type: ignore[call-arg]  # that is the mistake
    assert hd95_mm(np.zeros_like(truth), truth, (1, 1, 3)) == 374
    assert MASKS.metrics([]) is not None


def test_17_a_score_over_sites_says_its_weights(tmp_path: Path) -> None:
    """0.9 at 30 patients and 0.5 at 10 is 0.8 by patient and 0.7 by hospital."""

    def predict(arm: str, seed: int, site: str, i: int) -> dict[str, Any]:
        return {"scores": {"dice": 0.9 if site == "A" else 0.5}}

    summary = summarise(load_results(write_run(tmp_path / "a", {"A": 30, "B": 10}, predict)), MASKS)
    assert summary.rows[0].overall["dice"].value == pytest.approx(0.8)
    assert "Scores over all hospitals weigh each patient alike." in as_markdown(summary)


def test_18_a_private_plan_that_follows_scores_without_noise_is_told_and_flagged(
    tmp_path: Path,
) -> None:
    """The best round of clear scores: said before it runs, and flagged in the bundle's claims.

    Papernot and Steinke 2022, arXiv:2110.03620.
    """
    plan = load(["experiment=smoke"]).plan
    private = replace(
        plan,
        privacy=PrivacyConfig(noise_multiplier=1.0),
        rounds=replace(plan.rounds, select="best", evaluate_every=1),
    )
    assert any("leave sites without noise" in text for text in plan_advice(private))
    results = load_results(write_run(tmp_path / "a", {"A": 8}, of_dice(0.8)))
    found = lint(paper_of({"methods": methods_of(results, summarise(results, MASKS), private)}))
    assert [one.rule for one in found if one.severity == "flag"] == ["stopped_on"]


def test_19_validation_patients_of_the_left_out_site_choose_nothing(tmp_path: Path) -> None:
    """A record of such a score is refused, however it came there.

    Cawley and Talbot 2010, JMLR 11, 2079-2107.
    """
    runs = [write_run(tmp_path / n, {"A": 8}, of_dice(0.8), arms=["loso-A"]) for n in "ab"]
    for run in runs:
        with_records(run, "loso:A", "A", 0.8)
    with pytest.raises(ConfigError, match=r"arm loso:A.*validation patients of A.*\[C15\]"):
        choose(runs, MASKS)


@pytest.mark.parametrize(
    ("row", "said", "flagged"),
    [
        ("A\ts1\t\tD20\tno\tx", "possible copies of scans were kept", "copies_removed"),
        ("A\ts1\t\tC14\tno\tx", "look like visits of one patient", "visits"),
        ("external:B\t\t\tD23\tno\tx", "without every class (D23): B", "external_labels"),
    ],
)
def test_what_was_found_and_kept_is_said_and_flagged(
    row: str, said: str, flagged: str, tmp_path: Path
) -> None:
    """Brothers of 2, 20 and 11: a setting may keep what was found, and no claim hides it."""
    run = write_run(tmp_path / "a", {"A": 8, "external:B": 8}, of_dice(0.8))
    (run / "manifest.tsv").write_text((run / "manifest.tsv").read_text() + row + "\n")
    results = load_results(run)
    summary = summarise(results, MASKS)
    assert any(said in note for note in summary.notes)
    plan = load(["experiment=smoke"]).plan
    found = lint(paper_of({"methods": methods_of(results, summary, plan)}))
    assert [one.rule for one in found if one.severity == "flag"] == [flagged]
