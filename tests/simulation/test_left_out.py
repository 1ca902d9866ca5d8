"""Hospitals left out: tested whole, and never by an arm that knows a patient of theirs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedmri.arm import Arm
from fedmri.config import load
from fedmri.data.preparation.prepared import read_site, write_site
from fedmri.errors import ConfigError, UsageError
from fedmri.reports.results import load_results
from fedmri.reports.summary import summarise
from fedmri.simulation.arms.arm_runs import ArmRun
from fedmri.simulation.arms.running import refuse_known
from tests.conftest import RunTiny

LEFT_OUT, POOLED_LEFT_OUT = "federated (site left out)", "pooled (site left out)"
SITES = ("site01", "site02", "site03")
LOSO = (
    *("simulation.protocol=loso", "simulation.arms=[federated,pooled]", "rounds.n_rounds=1"),
    *("rounds.evaluate_every=0", "simulation.n_pictures=0"),
)


def subjects(path: Path) -> list[str]:
    """Return the patients of a file of cases."""
    return [json.loads(line)["subject"] for line in path.read_text().splitlines()]


def test_a_left_out_site_is_tested_whole_and_the_others_on_their_test_patients(
    run_tiny: RunTiny,
) -> None:
    """All patients are new to an arm without the site; pairs are over patients new to both."""
    folder = run_tiny("a", *LOSO)
    used = json.loads((folder / "used.json").read_text())
    tested = {}
    for site in SITES:
        counts = used[site]
        n_all = counts["train"] + counts["val"] + counts["test"]
        for kind in ("loso", "loso-pooled"):
            found = subjects(folder / f"cases/{kind}-{site}/seed-0/{site}.jsonl")
            assert len(found) == len(set(found)) == n_all
        tested[site] = subjects(folder / f"cases/federated/seed-0/{site}.jsonl")
        assert len(tested[site]) == counts["test"] < n_all
    plan = load(["experiment=smoke"]).plan
    summary = summarise(load_results(folder), plan.target, n_bootstrap=200)
    n_whole = sum(u["train"] + u["val"] + u["test"] for u in used.values())
    n_test = sum(u["test"] for u in used.values())
    n_pairs = {(d.label, d.reference): d.estimate.n_subjects for d in summary.differences}
    assert n_pairs[LEFT_OUT, POOLED_LEFT_OUT] == n_whole
    assert n_pairs[LEFT_OUT, "pooled"] == n_pairs["federated", POOLED_LEFT_OUT] == n_test
    assert any(f"{n_whole} patients" in note for note in summary.notes)


def test_no_arm_is_tested_on_whom_it_trained_on(run_tiny: RunTiny, tmp_path: Path) -> None:
    """A whole site beside its own training patients is refused before anything is trained."""
    folder = run_tiny("a", *LOSO)
    prepared = {site: (folder / f"prepared/{site}.json",) for site in SITES}
    plan = load(["experiment=smoke"]).plan
    refuse_known([ArmRun(Arm("federated"), plan, SITES, prepared, SITES)])
    whole = {**prepared, "site01": (folder / "prepared/whole/site01.json",)}
    refuse_known([ArmRun(Arm("federated", left_out="site01"), plan, SITES[1:], whole, SITES[:1])])
    pool = {"pooled": (prepared["site01"][0],), **whole}
    with pytest.raises(ConfigError, match=r"arm pooled.*of site01 on both sides.*\[C15\]"):
        refuse_known([ArmRun(Arm("pooled"), plan, ("pooled",), pool, SITES)])
    part = read_site(prepared["site01"][0])
    write_site(tmp_path / "damaged.json", part)
    (tmp_path / "damaged.json").write_text("{")
    refuse_known(
        [ArmRun(Arm("local", site="x"), plan, ("x",), {"x": (tmp_path / "damaged.json",)}, ("x",))]
    )


def test_a_report_refuses_more_patients_than_a_site_has_to_test(run_tiny: RunTiny) -> None:
    """Cases of a whole site under an arm that trained there would be scores of known patients."""
    folder = run_tiny("a", *LOSO)
    whole = folder / "cases/loso-site01/seed-0/site01.jsonl"
    (folder / "cases/federated/seed-0/site01.jsonl").write_bytes(whole.read_bytes())
    with pytest.raises(UsageError, match=r"patients of site01 under federated.*\[U13\]"):
        load_results(folder)
