"""ComBat over tables that lie at sites: the real ServerApp's half, the real ClientApp, no copy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fedmri.arm import Arm
from fedmri.clients.app import app
from fedmri.config import load
from fedmri.errors import HarmonizeError, RoundError
from fedmri.harmonize.combat.combat_table import harmonize, harmonize_later
from fedmri.harmonize.combat.model import ComBat
from fedmri.harmonize.combat.saved_combat import read_combat
from fedmri.harmonize.tables.table import Columns, cohort, cohort_like
from fedmri.harmonize.tables.table_source import read
from fedmri.plan import Plan, to_json
from fedmri.server.rounds.loop import Rounds
from fedmri.server.rounds.records import Record
from fedmri.server.rounds.run import Run
from fedmri.simulation.arms.running import simulated_roll
from fedmri.simulation.engines.flower import Node
from fedmri.simulation.engines.in_process import InProcessGrid

FEATURES = ("left", "right", "flat", "csf")
SETTINGS = (
    *("rounds.n_rounds=0", "rounds.quorum=1.0", "experiment=smoke"),
    f"stages.table_combat.features=[{','.join(FEATURES)}]",
    "stages.table_combat.covariates=[age,'sex=F|M']",
)


def write_tables(folder: Path) -> list[Path]:
    """Write three sites' tables, columns in an order of their own, and one of all rows."""
    rng, parts = np.random.default_rng(0), []
    for k, n in enumerate((12, 25, 18)):
        age, sex = rng.uniform(20, 80, n), rng.choice(["F", "M"] if k else ["M"], n)
        values = (1 + k) * rng.standard_normal((n, 4)) + 5 * k + age[:, None] / 10
        frame = pd.DataFrame(values, columns=FEATURES).assign(flat=3.5, age=age, sex=sex)
        frame["participant_id"] = [f"sub-{k}{i:02d}" for i in range(n)]
        frame.loc[2, "csf"] = np.nan
        parts.append(frame.assign(site=f"site{k}"))
        own = parts[-1].drop(columns="site").sample(frac=1, axis=1, random_state=k)
        own.to_csv(folder / f"site{k}.csv", index=False, na_rep="n/a")
    pd.concat(parts).to_csv(folder / "all.csv", index=False, na_rep="n/a")
    return [folder / f"site{k}.csv" for k in range(3)]


def federate(folder: Path, tables: Sequence[Path], plan: Plan) -> list[Record]:
    """Run a plan over sites in this process; return the records."""
    text, names = to_json(plan), tuple(path.stem for path in tables)
    nodes = [
        Node(
            path.stem,
            {
                "site": path.stem,
                "prepared": json.dumps([str(path)]),
                "folder": str(folder / "own" / path.stem),
                "ledger": str(folder / "own" / f"{path.stem}.jsonl"),
            },
        )
        for path in tables
    ]
    for node in nodes:
        Path(node.config["folder"]).mkdir(parents=True)
    roll = simulated_roll("tables", plan, names)
    grid = InProcessGrid(app, nodes, {"plan": text, "roll": roll.to_json()})
    seen: list[Record] = []
    (folder / "run").mkdir()
    run = Run(plan, Arm("federated"), names, names, folder / "run", roll=roll)
    Rounds(run, grid, seen.append).go()
    return seen


@pytest.mark.parametrize("kept", [("age", "sex"), ()])
def test_each_site_ends_with_its_rows_of_the_pooled_harmonization(
    tmp_path: Path, kept: tuple[str, ...]
) -> None:
    """Within 1e-10 of ComBat on all rows in one place, and nothing but sums has left."""
    tables = write_tables(tmp_path)
    settings = SETTINGS if kept else [*SETTINGS, "stages.table_combat.covariates=[]"]
    seen = federate(tmp_path, tables, load(settings).plan)
    assert [r["status"] for r in seen if r["kind"] == "table"] == ["ok"] * 3
    whole = read(tmp_path / "all.csv").frame
    pooled = cohort(whole, Columns("site", covariates=kept, features=FEATURES))
    wanted = harmonize(pooled, ComBat(4, pooled.columns)).values
    for path in tables:
        own = pd.read_csv(tmp_path / "own" / path.stem / f"{path.stem}.harmonized.csv")
        found = own[list(FEATURES)].to_numpy()
        assert np.allclose(found, wanted[pooled.sites == path.stem], atol=1e-10, equal_nan=True)
        before = pd.read_csv(path)
        assert list(own.columns) == list(before.columns)
        assert own["age"].equals(before["age"])
        lines = (tmp_path / "own" / f"{path.stem}.jsonl").read_text().splitlines()
        left = [json.loads(line) for line in lines]
        assert [entry["kind"] for entry in left] == ["sums"] * 4


def test_bent_effects_and_covbat_federate_alike(tmp_path: Path) -> None:
    """Knots and components come from sums too; a later hospital needs the file alone."""
    tables = write_tables(tmp_path)
    more = ("stages.table_combat.smooth=[age]", "stages.table_combat.is_covbat=true")
    federate(tmp_path, tables, load([*SETTINGS, *more]).plan)
    pooled = cohort(
        read(tmp_path / "all.csv").frame,
        Columns("site", covariates=("age", "sex"), features=FEATURES),
    )
    stage = ComBat(4, pooled.columns, smooth=("age",), is_covbat=True)
    wanted = harmonize(pooled, stage).values
    for path in tables:
        own = pd.read_csv(tmp_path / "own" / path.stem / f"{path.stem}.harmonized.csv")
        found = own[list(FEATURES)].to_numpy()
        assert np.allclose(found, wanted[pooled.sites == path.stem], atol=1e-10, equal_nan=True)
    saved = read_combat(tmp_path / "run" / "parameters.npz")
    later = harmonize_later(pooled, saved, n_min=10).values
    assert np.allclose(later, wanted, atol=1e-10, equal_nan=True)


def test_an_identifier_named_by_the_plan_stays_at_the_site(tmp_path: Path) -> None:
    """A plan cannot have a site add up its record numbers, whatever it calls the plan's feature."""
    tables = write_tables(tmp_path)
    for path in tables:
        frame = pd.read_csv(path)
        frame.assign(RID=range(100, 100 + len(frame))).to_csv(path, index=False)
    plan = load([*SETTINGS, "stages.table_combat.features=[left,RID]"]).plan
    with pytest.raises(RoundError, match=r"left out: site0 \(H31: \w.*\)"):
        federate(tmp_path, tables, plan)
    for path in tables:
        ledger = tmp_path / "own" / f"{path.stem}.jsonl"
        kinds = [json.loads(line)["kind"] for line in ledger.read_text().splitlines()]
        assert "sums" not in kinds


def test_a_hospital_joins_later_by_the_file_of_the_run(tmp_path: Path) -> None:
    """It holds no site's own effect, and gives a site what it would have had in the run."""
    federate(tmp_path, write_tables(tmp_path), load(SETTINGS).plan)
    saved = read_combat(tmp_path / "run" / "parameters.npz")
    assert not saved.effects
    frame = read(tmp_path / "all.csv").frame
    late = cohort_like(frame, Columns("site", features=saved.features), saved.kept)
    found = harmonize_later(late, saved, n_min=10)
    for site in ("site0", "site1", "site2"):
        own = tmp_path / "own" / site / f"{site}.harmonized"
        wanted = pd.read_csv(own.with_suffix(".harmonized.csv"))[list(FEATURES)].to_numpy()
        np.testing.assert_array_equal(found.values[late.sites == site], wanted)
        kept = read_combat(own.with_suffix(".harmonized.npz"))
        assert kept.version == saved.version
        assert set(kept.effects) == {site}


def test_masked_sums_of_tables_harmonize_alike(tmp_path: Path) -> None:
    """Secure sums carry ComBat's within fixed point; keys and masks are all that left a table."""
    folders = [tmp_path / name for name in ("clear", "masked")]
    for folder, more in zip(folders, ((), ("secagg.is_on=true",)), strict=True):
        folder.mkdir()
        federate(folder, write_tables(folder), load([*SETTINGS, *more]).plan)
    for site in ("site0", "site1", "site2"):
        name = f"own/{site}/{site}.harmonized.csv"
        clear, masked = (pd.read_csv(folder / name)[list(FEATURES)] for folder in folders)
        assert np.allclose(clear, masked, atol=1e-7, equal_nan=True)
        left = (tmp_path / "masked/own" / f"{site}.jsonl").read_text().splitlines()
        kinds = " ".join(json.loads(line)["kind"] for line in left)
        assert kinds == " ".join(["keys keys sums keys"] * 3 + ["sums"])


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        ({"sex": "X"}, "H05"),
        ({"age": "n/a"}, "H04"),
        ({"left": "many"}, "H11"),
    ],
)
def test_a_table_that_does_not_fit_stays_out(
    tmp_path: Path, broken: dict[str, str], code: str
) -> None:
    """A site says why by a code, before anything has left; no cell crosses the border."""
    tables = write_tables(tmp_path)
    frame = pd.read_csv(tables[1], dtype=str, keep_default_na=False)
    for name, text in broken.items():
        frame.loc[3, name] = text
    frame.to_csv(tables[1], index=False)
    with pytest.raises(RoundError, match=rf"left out: site1 \({code}: \w.*\)"):
        federate(tmp_path, tables, load(SETTINGS).plan)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("rounds.n_rounds=2", r"2 rounds.*\[H25\]"),
        ("target.name=age", r"predicts age.*\[H07\]"),
    ],
)
def test_a_plan_for_tables_neither_trains_nor_keeps_a_target(setting: str, said: str) -> None:
    """What a plan predicts must not be written into its features."""
    with pytest.raises(HarmonizeError, match=said):
        load([*SETTINGS, setting])
