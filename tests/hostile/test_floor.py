"""Sums one cell of which is of one patient: what that patient has is in none of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from flwr.app import Context, RecordDict

from fedmri.clients.app import guard_of
from fedmri.clients.training.protection.private import Guard
from fedmri.clients.training.site import Site
from fedmri.config import load
from fedmri.errors import HarmonizeError
from fedmri.harmonize.embeddings.embedding_stage import Embeddings, PooledMoments
from fedmri.harmonize.images.moments import MEAN, SCALE, Moments
from fedmri.harmonize.images.quantiles import EDGES, N_BINS, OCTAVES, Quantiles
from fedmri.harmonize.sums import Arrays, add, run
from fedmri.plan import to_json
from fedmri.stages.floor import MOST, bounded, by_class, in_large_cells
from fedmri.stages.stage import Made
from fedmri.wire import SumsOrder
from tests.clients.conftest import MakeSite

FLOOR = 5
FEATURES = ("left", "right", "csf")
Frame = pd.DataFrame


def frame(n: int = 30) -> Frame:
    """Return a site's table."""
    rng = np.random.default_rng(0)
    table = Frame(rng.standard_normal((n, 3)) + 5, columns=FEATURES)
    table["participant_id"] = [f"sub-{i:02d}" for i in range(n)]
    return table.assign(age=rng.uniform(20, 80, n), sex=["F", "M"] * (n // 2), flag=0.0)


def rare_level(table: Frame) -> Frame:
    """Return it with a level that the first patient alone has."""
    return table.assign(sex=["X", *table["sex"][1:]])


def rare_flag(table: Frame) -> Frame:
    """Return it with a number that is another for the first patient alone."""
    return table.assign(flag=[1.0, *table["flag"][1:]])


def rare_feature(table: Frame) -> Frame:
    """Return it with a feature that the first patient alone has."""
    return table.assign(csf=[table["csf"][0], *[np.nan] * (len(table) - 1)])


def lone_gap(table: Frame) -> Frame:
    """Return it with a feature that the first patient alone lacks."""
    return table.assign(csf=[np.nan, *table["csf"][1:]])


def repeated_patient(table: Frame) -> Frame:
    """Return it with a rare level in six rows, all of one patient."""
    six = table.assign(sex=["X"] * 6 + table["sex"].tolist()[6:])
    return six.assign(participant_id=["sub-00"] * 6 + table["participant_id"].tolist()[6:])


ATTACKS: dict[str, tuple[Callable[[Frame], Frame], tuple[str, ...], str]] = {
    "a level of one patient": (rare_level, ("sex=F|M|X",), "left"),
    "a flag of one patient": (rare_flag, ("flag",), "left"),
    "a feature of one patient": (rare_feature, ("age",), "csf"),
    "a feature that one patient lacks": (lone_gap, ("age",), "age"),
    "a level in six rows of one patient": (repeated_patient, ("sex=F|M|X",), "right"),
}


def table_site(table: Frame, covariates: tuple[str, ...], folder: Path, n_least: int) -> Site:
    """Return a site with a table."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "own.csv"
    table.to_csv(path, index=False, na_rep="n/a")
    named = ",".join(f"'{text}'" for text in covariates)
    plan = load([
        *("experiment=smoke", "rounds.n_rounds=0", f"stages.table_combat.covariates=[{named}]"),
        f"stages.table_combat.features=[{','.join(FEATURES)}]",
    ]).plan  # fmt: skip
    guard = Guard(bytes(32), folder / "privacy.jsonl", n_least=n_least)
    return Site("a", to_json(plan), [path], folder, guard)


def sums_of(table: Frame, covariates: tuple[str, ...], folder: Path, n_least: int) -> list[Arrays]:
    """Return a site's sums in all steps of a fit with another site, which has all levels."""
    levels = ["F", "M", "X"] * 20 if "sex=F|M|X" in covariates else ["F", "M"] * 30
    whole = frame(60).assign(flag=[0.0, 1.0] * 30, sex=levels)
    other = table_site(whole, covariates, folder / "other", 0)
    site = table_site(table, covariates, folder, n_least)
    stage = site.plan.stages[0].fit(Made(site.plan))
    assert stage is not None
    found: list[Arrays] = []
    shared: Arrays = {}
    for step in range(stage.n_steps):
        order = SumsOrder(step, {n: torch.from_numpy(v) for n, v in shared.items()})
        answers = [
            {name: value.numpy() for name, value in one.sums(order).arrays.items()}
            for one in (site, other)
        ]
        found.append(answers[0])
        shared = stage.combine(step, add(answers), shared)
    return found


def are_alike(one: list[Arrays], two: list[Arrays]) -> bool:
    """Tell whether all sums of all steps are the same."""
    return all(
        np.array_equal(a[name], b[name], equal_nan=True)
        for a, b in zip(one, two, strict=True)
        for name in a
    )


@pytest.mark.parametrize("name", ATTACKS)
def test_what_one_patient_has_is_in_no_sum_of_a_table(name: str, tmp_path: Path) -> None:
    """Whatever the patient's value, all sums of all steps are the same; they used to tell it."""
    change, covariates, column = ATTACKS[name]
    table = change(frame())
    other = table.copy()
    is_mine = other["participant_id"] == "sub-00"
    other.loc[is_mine, column] = other.loc[is_mine, column] + 3.25
    for n_least, is_hidden in ((FLOOR, True), (0, False)):
        pair = [sums_of(one, covariates, tmp_path / "own", n_least) for one in (table, other)]
        assert are_alike(*pair) == is_hidden


def test_a_table_without_small_cells_loses_nothing(tmp_path: Path) -> None:
    """The sums of an honest table are those of all of its rows."""
    covariates = ("age", "sex=F|M")
    pair = [sums_of(frame(), covariates, tmp_path / str(n), n) for n in (0, FLOOR)]
    assert are_alike(*pair)


def test_a_class_of_few_patients_is_in_no_moment() -> None:
    """One patient with the third class, in nine slices: its images used to leave as its moments."""
    labels = torch.tensor([0.0] * 20 + [1.0] * 20 + [2.0] * 9)
    patients = [*range(20), *range(20, 40), *[99] * 9]
    values = torch.randn(49, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    stage = PooledMoments(4, n_groups=3)
    own = by_class(Embeddings("a", values, labels), patients, FLOOR)
    sums = stage.site_sums(0, own, {})
    assert sums["n_examples"].tolist() == [20, 20, 0]
    assert not sums["first"][2].any()
    assert not sums["second"][2].any()


@pytest.mark.parametrize("size", [1e3, 1e9, 1e150, float("inf"), float("nan")])
def test_weights_that_single_out_a_patient_do_not_get_their_embedding(size: float) -> None:
    """Crafted weights make one patient's embedding drown the sum: it counts as ten at most."""
    values = torch.randn(20, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    usual = float(torch.linalg.vector_norm(values, dim=1).median())
    values[7] *= size
    patients = [number // 2 for number in range(20)]  # of two slices each
    own = bounded(Embeddings("a", values, torch.zeros(20)), patients)
    lengths = torch.linalg.vector_norm(own.values, dim=1)
    assert float(lengths[7]) <= 2 * MOST * usual
    others = [number for number in range(20) if number != 7]
    assert torch.equal(own.values[others], values[others])


def test_weights_that_silence_all_but_a_patient_get_nothing() -> None:
    """Where all others answer 0, so does the one."""
    values = torch.zeros(20, 4, dtype=torch.float64)
    values[7] = 3.0
    own = bounded(Embeddings("a", values, torch.zeros(20)), list(range(20)))
    assert not own.values.any()


def test_usual_embeddings_keep_their_bits() -> None:
    """Nothing of an honest network comes near the bound."""
    values = torch.randn(500, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    own = Embeddings("a", values.relu(), torch.zeros(500))
    assert torch.equal(bounded(own, list(range(500))).values, own.values)


def test_cells_count_patients_and_not_rows() -> None:
    """Five rows of one patient are one patient."""
    cells, patients = ["a"] * 5 + ["b"] * 5, [0, 0, 0, 0, 0, 1, 2, 3, 4, 5]
    assert in_large_cells(cells, patients, 5).tolist() == [False] * 5 + [True] * 5
    assert in_large_cells(cells, patients, 1).all()
    assert in_large_cells([], [], 5).tolist() == []


@pytest.mark.parametrize("setting", ["harmonize=nyul", "harmonize=zscore", "harmonize=robust"])
def test_a_modality_of_few_patients_is_in_no_sum(
    make_site: MakeSite, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the second modality one patient has an image; no landmark, mean or count is of it."""
    scaling = () if setting == "harmonize=nyul" else ("data.prepare.scaling=none",)
    site = make_site(setting, *scaling)
    data = site.view.data
    first = [np.array(voxels) for voxels in data.scans("train")]
    n_channels = len(first[0])

    def scans(_self: object, split: str) -> object:
        assert split == "train"
        for number, voxels in enumerate(first):
            copy = np.array(voxels)
            if number:  # all but one patient lack the last modality
                copy[-1] = 0
            yield copy

    monkeypatch.setattr(type(data), "scans", scans)
    bare = site.sums(SumsOrder(0, {})).arrays
    site.view.guard = Guard(bytes(32), Path("none"), n_least=2)
    floored = site.sums(SumsOrder(0, {})).arrays
    for name, values in floored.items():
        told = np.asarray(values)[n_channels - 1]
        assert not np.any(told) or name == "n_skipped", name
    assert any(np.any(np.asarray(values)[n_channels - 1]) for values in bare.values())


def edges(low: float, high: float, n_channels: int = 1) -> Arrays:
    """Return bins of the server's choice."""
    return {EDGES: np.broadcast_to(np.linspace(low, high, N_BINS + 1), (n_channels, 3, N_BINS + 1))}


@pytest.mark.parametrize(
    ("step", "shared"),
    [
        (1, edges(100.0, 101.0)),
        (1, edges(0.5, 2.0)),
        (1, {EDGES: np.sort(np.random.default_rng(0).uniform(1, 2, (1, 3, N_BINS + 1)))}),
        (1, {EDGES: np.zeros((1, 3, 5))}),
        (1, {}),
        (2, edges(1.0, 1.0 + 1e-6)),
        (2, edges(1.0, 2.0)),
        (2, {EDGES: np.full((1, 3, N_BINS + 1), np.nan)}),
    ],
)
def test_bins_are_those_of_the_plan(step: int, shared: Arrays) -> None:
    """Bins anywhere else would count single voxels."""
    image = np.random.default_rng(0).uniform(1, 200, (1, 4, 4, 4)).astype(np.float32)
    with pytest.raises(HarmonizeError, match=r"edges of bins.*\[H21\]"):
        Quantiles(1).site_sums(step, [image], shared)


def test_honest_bins_pass() -> None:
    """All steps of a fit, over images of all scales and signs, take their own bins."""
    rng = np.random.default_rng(0)
    for scale in (1e-6, 1.0, 3e7):
        images = [(rng.standard_normal((2, 6, 6, 6)) * scale).astype(np.float32) for _ in range(4)]
        found = run(Quantiles(2), [images[:2], images[2:]])
        assert np.isfinite(found["quantiles"]).all()
    assert len(OCTAVES) == N_BINS + 1


@pytest.mark.parametrize(
    ("step", "shared"),
    [
        (1, {SCALE: np.array([1e-300])}),
        (1, {SCALE: np.array([3.0])}),
        (1, {}),
        (2, {SCALE: np.array([2.0]), MEAN: np.array([np.nan])}),
        (2, {SCALE: np.array([2.0])}),
    ],
)
def test_a_scale_is_a_power_of_two(step: int, shared: Arrays) -> None:
    """Another would make a sum too large by one patient's voxels: a bit, asked for freely."""
    image = np.ones((1, 4, 4, 4), np.float32)
    with pytest.raises(HarmonizeError, match=r"scale and mean.*\[H21\]"):
        Moments(1).site_sums(step, [image], shared)


def test_the_sites_floor_reaches_its_sums(tmp_path: Path) -> None:
    """What site.yaml says of an update holds for each cell of a sum."""
    told: dict[str, bool | float | int | str] = {"site": "a", "n_min_update": 7}
    told["folder"] = str(tmp_path)
    assert guard_of(Context(1, 2, told, RecordDict(), {})).n_least == 7
