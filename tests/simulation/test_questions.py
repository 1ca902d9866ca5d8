"""Protocols ask what they say: fewer patients or sites, other patients, every patient once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from fedmri.config import load
from fedmri.data.batches.examples import open_site
from fedmri.data.preparation.prepared import read_site
from fedmri.data.synthetic.data_set import SyntheticConfig, generate
from fedmri.errors import ConfigError, DataError
from fedmri.reports.results import load_results
from fedmri.reports.summary import Summary, summarise
from fedmri.server.rounds.checkpoint import load_weights_file
from fedmri.simulation.settings import SimulationConfig
from tests.conftest import TINY, RunTiny

SITES = ("site01", "site02", "site03")
QUICK = (
    *("rounds.n_rounds=1", "rounds.evaluate_every=0", "simulation.n_pictures=0"),
    *("train.local_steps=1", "model.norm=group"),
)


def summary_of(folder: Path) -> Summary:
    """Return all numbers of a run."""
    return summarise(load_results(folder), load(["experiment=smoke"]).plan.target, n_bootstrap=100)


def sides(path: Path) -> dict[str, set[str]]:
    """Return the patients of a prepared site by side."""
    found: dict[str, set[str]] = {"train": set(), "val": set(), "test": set()}
    for scan in read_site(path).scans:
        found[scan.split].add(scan.subject)
    return found


def who(folder: Path, arm: str) -> dict[str, list[str]]:
    """Return the tested patients of an arm by site."""
    cases = load_results(folder).cases[arm, 0]
    return {site: [case.subject for case in own] for site, own in cases.items()}


def test_folds_test_every_patient_once_and_stay_apart(run_tiny: RunTiny) -> None:
    """Test, validation and training of a fold share nobody, and a row is over all patients."""
    arms = "simulation.arms=[federated]"
    protocol = ("simulation.protocol=folds", "simulation.protocol.n_folds=3")
    folder = run_tiny("a", *QUICK, *protocol, arms)
    for site in SITES:
        all_patients = set().union(*sides(folder / f"prepared/{site}.json").values())
        counts: Counter[str] = Counter()
        for path in folder.glob(f"prepared/*fold*/{site}.json"):
            found = sides(path)
            assert sum(map(len, found.values())) == len(all_patients)
            counts.update(found["test"])
        assert counts == Counter(dict.fromkeys(all_patients, 1))
    summary = summary_of(folder)
    n_all = sum(len(set().union(*sides(folder / f"prepared/{s}.json").values())) for s in SITES)
    row = summary.row("federated")
    assert row is not None
    assert row.overall[summary.metric].n_subjects == n_all


def test_a_learning_curve_nests_and_tests_the_same_patients(run_tiny: RunTiny) -> None:
    """One patient is among two; the same are tested, and no verdict is added."""
    arms, protocol = "simulation.arms=[federated]", "simulation.protocol=learning_curve"
    folder = run_tiny("a", *QUICK, protocol, arms, "simulation.protocol.counts=[1,2]")
    base = {site: sides(folder / f"prepared/{site}.json") for site in SITES}
    for site in SITES:
        one, two = (sides(next(folder.glob(f"prepared/{n}-patient*/{site}.json"))) for n in (1, 2))
        assert one["train"] < two["train"] <= base[site]["train"]
        assert len(one["train"]) == 1
        assert one["test"] == two["test"] == base[site]["test"]
    summary = summary_of(folder)
    sizes = {row.label: row.group.size for row in summary.rows if row.group.role == "federated"}
    n_most = max(len(one["train"]) for one in base.values())
    assert sizes == {"federated": n_most, "federated (1 patient)": 1, "federated (2 patients)": 2}
    assert {difference.label for difference in summary.differences} == {"federated"}
    assert who(folder, "federated") == who(folder, "federated (1 patient)")


@pytest.mark.slow
def test_fewer_sites_are_tested_at_all_sites(run_tiny: RunTiny) -> None:
    """A federation of two hospitals meets the third one as a new hospital."""
    arms, protocol = "simulation.arms=[federated]", "simulation.protocol=learning_curve"
    folder = run_tiny("a", *QUICK, protocol, arms, "simulation.protocol.by=sites")
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    trained = {r["site"] for r in records if r["kind"] == "round" and "2 sites" in r["arm"]}
    assert trained == set(SITES[:2])
    assert set(who(folder, "federated (2 sites)")) == set(SITES)


def test_a_shift_is_tested_on_patients_of_a_kind_that_none_trained_on(
    run_tiny: RunTiny, hospitals: Path
) -> None:
    """Within each hospital, patients with the column's value are on no side but the test's."""
    table = (hospitals / "participants.tsv").read_text().splitlines()
    head = table[0].split("\t")
    rows = [dict(zip(head, line.split("\t"), strict=True)) for line in table[1:]]
    sex = {row["participant_id"].removeprefix("sub-"): row["sex"] for row in rows}
    arms, protocol = "simulation.arms=[federated]", "simulation.protocol=domain_shift"
    folder = run_tiny("a", *QUICK, protocol, arms, "simulation.protocol.column=sex")
    for value in set(sex.values()):
        files = list(folder.glob(f"prepared/without-sex-{value}*/*.json"))
        assert len(files) == len(SITES)
        for path in files:
            found = sides(path)
            assert {sex[name] for name in found["train"] | found["val"]} <= set(sex.values()) - {
                value
            }
            assert {sex[name] for name in found["test"]} <= {value}
    with pytest.raises(ConfigError, match=r"'colour', want one of the columns.*\[C11\]"):
        run_tiny("b", *QUICK, protocol, arms, "simulation.protocol.column=colour")


@pytest.mark.slow
def test_a_personalised_model_starts_from_the_federation_and_knows_its_few_patients(
    run_tiny: RunTiny,
) -> None:
    """It goes on from the federated weights; at a new site its few are not tested."""
    arms = "simulation.arms=[federated,personalised]"
    few = ("simulation.protocol=loso", "simulation.n_calibration=2", "train.lr=1e-9")
    folder = run_tiny("a", *QUICK, arms, *few, "train.weight_decay=0")
    federated, own = (
        load_weights_file(folder / f"arms/{arm}/seed-0/model.safetensors")[0]
        for arm in ("federated", "personalised-site01")
    )
    assert all(torch.allclose(own[name], federated[name], atol=1e-6) for name in federated)
    labels = {row.label for row in summary_of(folder).rows}
    assert {
        "personalised (own site)",
        "personalised (site left out, fine-tune 2 patients)",
    } <= labels
    for site in SITES:
        everyone = set().union(*sides(folder / f"prepared/{site}.json").values())
        arm = f"loso-personalised:{site} (fine-tune 2 patients)"
        assert len(who(folder, arm)[site]) == len(everyone) - 2


def test_an_ensemble_is_the_mean_of_local_answers_and_a_balanced_pool_is_even(
    run_tiny: RunTiny,
) -> None:
    """Patient by patient; and a pass of the balanced pool has each site as often."""
    folder = run_tiny("a", *QUICK, "simulation.arms=[local,ensemble,federated,balanced]")
    _sees_each_site_as_often([folder / f"prepared/{site}.json" for site in SITES])
    cases = load_results(folder).cases
    for site in SITES:
        members = [cases[f"local:{own}", 0][site] for own in SITES]
        for number, case in enumerate(cases["ensemble", 0][site]):
            rows = [member[number].prediction for member in members]
            mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
            assert case.prediction == pytest.approx(mean)


def _sees_each_site_as_often(paths: Sequence[Path]) -> None:
    plan = load(TINY).plan
    data = open_site(paths, plan.target, plan.data)
    sizes = {site: sum(one.site == site for one in data.examples("train")) for site in SITES}
    assert len(set(sizes.values())) > 1
    for is_balanced in (False, True):
        opened = open_site(paths, plan.target, replace(plan.data, is_site_balanced=is_balanced))
        counts: Counter[str] = Counter()
        for batch in opened.train_batches(batch_size=4, seed=0):
            counts.update(name.partition("/")[0] for name in batch.subjects)
        assert counts == (dict.fromkeys(SITES, max(sizes.values())) if is_balanced else sizes)


@pytest.mark.parametrize("arms", [("ensemble",), ("local", "personalised")])
def test_an_arm_without_its_makings_is_refused(arms: Sequence[str]) -> None:
    """An ensemble needs local models, and a personalised model a federation."""
    with pytest.raises(ConfigError, match=r"want (local|federated) among them.*\[C01\]"):
        SimulationConfig(arms=tuple(arms))  # type: ignore[arg-type]  # names of arms


def test_answers_of_an_external_data_set_are_read_in_our_words(
    run_tiny: RunTiny, tmp_path: Path
) -> None:
    """A data set that calls a class otherwise is tested whole by a declared map."""
    other = tmp_path / "other"
    generate(other, SyntheticConfig(n_sites=1, n_subjects=6, spacing_mm=8), 7)
    table = other / "participants.tsv"
    rows = [line.split("\t") for line in table.read_text().splitlines()]
    place = rows[0].index("lesion")
    theirs = {"mass": "Masse", "spots": "Flecken", "wedge": "Keil"}
    words = [rows[0], *([*r[:place], theirs[r[place]], *r[place + 1 :]] for r in rows[1:])]
    table.write_text("".join("\t".join(row) + "\n" for row in words))
    external = (f"simulation.external={other}", "simulation.arms=[federated]")
    labels = ",".join(f'"{word}={own}"' for own, word in theirs.items())
    folder = run_tiny("a", *QUICK, *external, f"simulation.external_labels=[{labels}]")
    assert len(who(folder, "federated")["external:site01"]) == len(rows) - 1
    with pytest.raises(DataError, match=r"external:site01 lost 6 of 6.*D16"):
        run_tiny("b", *QUICK, *external)


def test_label_maps_of_an_external_data_set_are_read_in_our_words(
    run_tiny: RunTiny, tmp_path: Path
) -> None:
    """Another name of the map, and 2 and 4 for what is 1 here: the same truth voxel by voxel."""
    scores = []
    for name in ("ours", "theirs"):
        generate(tmp_path / name, SyntheticConfig(n_sites=1, n_subjects=4, spacing_mm=8), 7)
    for path in (tmp_path / "theirs/derivatives").rglob("*_mask.nii.gz"):
        image = nib.Nifti1Image.from_filename(path)
        voxels = np.asanyarray(image.dataobj).astype(np.uint8)
        voxels[voxels > 0] = np.where(np.arange((voxels > 0).sum()) % 2, 2, 4)
        voxels[0, 0, 0] = 9  # what their key calls air
        nib.save(
            nib.Nifti1Image(voxels, image.affine), path.with_name(path.name.replace("mask", "dseg"))
        )
        path.unlink()
    words = '["dseg=mask","2=lesion","4=lesion","*=background"]'
    task = ("experiment=lesion_mask", *TINY[1:], "simulation.arms=[federated]", *QUICK[:3])
    for name, more in (("ours", ()), ("theirs", (f"simulation.external_labels={words}",))):
        folder = run_tiny(name + "run", *task, f"simulation.external={tmp_path / name}", *more)
        cases = load_results(folder).cases["federated", 0]["external:site01"]
        scores.append([(case.subject, case.scores) for case in cases])
    assert scores[0] == scores[1]
    assert len(scores[0]) == 4
    with pytest.raises(ConfigError, match=r"external_labels.*2:tumor.*background, lesion.*C01"):
        run_tiny("c", *task, f"simulation.external={tmp_path / 'theirs'}",
                 'simulation.external_labels=["2=tumor"]')  # fmt: skip
