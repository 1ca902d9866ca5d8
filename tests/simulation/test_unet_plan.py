"""The federated fingerprint is that of the pooled scans, and the plan is nnU-Net's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fedmri.config import load
from fedmri.data.preparation.prepared import read_site
from fedmri.errors import ConfigError, HarmonizeError
from fedmri.harmonize.images.fingerprint import SHAPE, SPACING, TARGET, TENTH, ScanGrid
from fedmri.models.build import build_network
from fedmri.models.planning import (
    MOST_NUMBERS,
    Spacings,
    n_numbers,
    planned,
    target_spacing_mm,
    topology,
)
from fedmri.simulation.unet_plan import fingerprint, plan_unet, training_grids
from fedmri.tasks.kinds.segmentation import Segmentation
from tests.conftest import RunTiny
from tests.harmonize.test_own_table import federate


def sites(sizes: tuple[int, ...], thick: float = 1.0) -> list[list[ScanGrid]]:
    """Return scans of several sites, each with voxels of its own scanner."""
    rng = np.random.default_rng(3)
    found = []
    for n in sizes:
        spacing = rng.uniform(0.4, 1.6, (n, 3)) * (1, 1, thick)
        shape = rng.integers(40, 400, (n, 3)) // (1, 1, max(1, int(thick)))
        found.append(
            [ScanGrid(tuple(s), tuple(map(int, g))) for s, g in zip(spacing, shape, strict=True)]
        )
    return found


@pytest.mark.parametrize("sizes", [(5, 1, 12), (4, 4), (0, 7, 2), (1,)])
@pytest.mark.parametrize("thick", [1.0, 6.0])
def test_medians_over_sites_are_those_of_the_pool(sizes: tuple[int, ...], thick: float) -> None:
    """Odd and even numbers of scans, thick slices, and a site without scans."""
    held = sites(sizes, thick)
    found = fingerprint(held)
    pool = [scan for scans in held for scan in scans]
    spacing = np.array([scan.spacing_mm for scan in pool])
    shape = np.array([scan.shape for scan in pool])
    tenth = np.sort(spacing, axis=0)[int(np.ceil(0.1 * len(pool))) - 1]
    median = np.median(spacing, axis=0)
    pooled = Spacings(tuple(median), tuple(tenth), tuple(np.median(shape, axis=0)))
    target = target_spacing_mm(pooled)
    assert np.allclose(found[SPACING], median, rtol=1e-6)
    assert np.allclose(found[TENTH], tenth, rtol=1e-6)
    assert np.allclose(found[TARGET], target, rtol=1e-6)
    assert np.allclose(found[SHAPE], np.median(shape * spacing / target, axis=0), rtol=2e-6)
    (alone,) = [fingerprint([pool])]
    assert all(np.array_equal(found[name], alone[name]) for name in found)


def test_a_simulations_scans_are_planned_for_by_their_own_grids(run_tiny: RunTiny) -> None:
    """Not by the prepared ones: training scans alone, their axes in the order of the head."""
    folder = run_tiny("a", "simulation.arms=[federated]", "rounds.n_rounds=0")
    held = json.loads((folder / "prepared/sites.json").read_text())["sites"]
    files = [Path(file) for file in held.values()]
    grids = [training_grids(file) for file in files]
    for file, own in zip(files, grids, strict=True):
        scans = [scan for scan in read_site(file).scans if scan.split == "train"]
        assert len(own) == len(scans) > 0
        for grid, scan in zip(own, scans, strict=True):
            order = nib.aff2axcodes(np.array(scan.geometry.own.affine))
            axes = ["RL".find(code) >= 0 for code in order].index(True)
            assert grid.shape[0] == scan.geometry.own.shape[axes]
            assert sorted(grid.shape) == sorted(scan.geometry.own.shape)
    plan = plan_unet(files, 2)
    found = fingerprint(grids)
    assert plan.spacing_mm == tuple(found[TARGET])
    assert all(side % m == 0 for side, m in zip(plan.patch, plan.topology.multiples, strict=True))


ALONE = ("stages=[fingerprint]", "rounds.n_rounds=0", "secagg.is_on=true")


def test_a_deployment_plans_from_masked_counts(
    run_tiny: RunTiny, tiny: Callable[..., list[str]], tmp_path: Path
) -> None:
    """Real orders to real clients, under masks: the settings are those of the simulation's plan."""
    folder = run_tiny("a", "simulation.arms=[federated]", "rounds.n_rounds=0")
    held = json.loads((folder / "prepared/sites.json").read_text())["sites"]
    files = [Path(file) for file in held.values()]
    plan = load(tiny(*ALONE)).plan
    records = federate(tmp_path, files, plan)
    assert [row["status"] for row in records if row["kind"] == "table"] == ["ok"] * len(files)
    unet = plan_unet(files, plan.target.n_outputs)
    mask = ["target.kind=segmentation", "target.name=m", "target.classes=[a]"]
    found = load(mask, tmp_path / "run/unet.yaml").plan
    assert found.data.prepare.shape == unet.patch
    assert found.model == unet.model(found.model.width)  # type: ignore[attr-defined]
    for ledger in (tmp_path / "own").glob("*.jsonl"):
        kinds = {json.loads(line)["kind"] for line in ledger.read_text().splitlines()}
        assert kinds == {"sums", "keys"}


@pytest.mark.parametrize("missing", ["rounds.n_rounds=2", "secagg.is_on=false"])
def test_counts_of_single_scans_never_leave_in_clear(missing: str) -> None:
    """Bins are refined to one scan: the server may see the sum alone."""
    with pytest.raises(ConfigError, match=r"fingerprint.*\[C03\]"):
        load(["experiment=smoke", *ALONE, missing])


def test_no_scan_at_any_site_is_refused() -> None:
    """There is nothing to plan for."""
    with pytest.raises(HarmonizeError, match="H20"):
        fingerprint([[], []])


def test_an_isotropic_cube_is_halved_alike_along_all_axes() -> None:
    """128 is halved five times to 4, with kernels of 3 at every level."""
    found = topology((1.0, 1.0, 1.0), (128, 128, 128))
    assert found.strides == ((1, 1, 1), *[(2, 2, 2)] * 5)
    assert found.kernels == ((3, 3, 3),) * 6
    assert found.multiples == (32, 32, 32)


def test_thick_slices_wait_until_the_plane_is_as_coarse() -> None:
    """nnU-Net's plan for voxels of 5 x 0.7 x 0.7 mm: two levels within the plane first."""
    found = topology((5.0, 0.7, 0.7), (16, 256, 256))
    within, all_axes = (1, 2, 2), (2, 2, 2)
    assert found.strides == ((1, 1, 1), within, within, all_axes, all_axes, within, within)
    assert found.kernels[:3] == ((1, 3, 3), (1, 3, 3), (3, 3, 3))
    assert found.multiples == (4, 64, 64)


@pytest.mark.parametrize(
    ("spacing", "shape"),
    [((1.0, 1.0, 1.0), (170.0, 220.0, 180.0)), ((5.0, 0.7, 0.7), (24.0, 320.0, 320.0))],
)
def test_the_largest_patch_that_fits_is_taken(
    spacing: tuple[float, ...], shape: tuple[float, ...]
) -> None:
    """It lies within the limit; sides are multiples; the network takes it."""
    plan = planned(spacing, shape, 4)
    assert n_numbers(plan.patch, plan.topology, 4) <= MOST_NUMBERS[3]
    assert all(side % m == 0 for side, m in zip(plan.patch, plan.topology.multiples, strict=True))
    tight = planned(spacing, shape, 4, n_numbers(plan.patch, plan.topology, 4) / 2)
    assert np.prod(tight.patch) < np.prod(plan.patch)
    target = Segmentation("m", ("a", "b", "c"))
    build_network(plan.model(4), target=target, n_dims=3, n_channels=2, shape=plan.patch, seed=0)


def test_a_brain_of_1_mm_has_the_patch_that_nnunet_has() -> None:
    """BraTS (1 mm, median 140 x 171 x 137): nnU-Net plans patches of 128^3."""
    assert planned((1.0, 1.0, 1.0), (140.0, 171.0, 137.0), 4).patch == (128, 128, 128)


def test_the_plan_of_medians_over_sites_is_that_of_the_pool() -> None:
    """Sums know a median to some 1e-8, so sides of 128.0000005 voxels are planned for as 128."""
    mm, sides = (1.8, 1.8, 3.6), (128, 128, 32)
    found = fingerprint([[ScanGrid(mm, sides)] * 2, [ScanGrid(mm, sides)]])
    assert tuple(found[SHAPE]) != sides  # or there were nothing to mend
    pooled = planned(mm, sides, 2)
    over_sites = planned(found[TARGET].tolist(), found[SHAPE].tolist(), 2)
    assert (over_sites.patch, over_sites.topology) == (pooled.patch, pooled.topology)
    assert pooled.patch == sides


def test_scans_that_cannot_be_halved_are_refused() -> None:
    """Three levels are the least U-Net."""
    with pytest.raises(ConfigError, match="three levels"):
        planned((1.0, 1.0, 1.0), (9.0, 9.0, 9.0), 2)
