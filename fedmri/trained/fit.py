"""How far a scan is from what a model was trained on, told by name and never silently corrected."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fedmri.data.checks.probe import probe_all
from fedmri.data.preparation.cache import open_array
from fedmri.data.preparation.geometry import Grid
from fedmri.data.preparation.prepared import PreparedScan
from fedmri.data.scans import Scan
from fedmri.harmonize.images.nyul import LANDMARKS
from fedmri.plan import Plan
from fedmri.trained.file.model_file import ModelFile
from fedmri.trained.file.ranges import extent_mm, percentiles_of, spacing_mm
from fedmri.trained.inputs import Remark

SLACK = 1.25
"""Factor by which a scan may be beyond the lowest or highest value of training without a word."""
DISTANCE_SLACK, LEAST_DISTANCE = 1.5, 3.0
"""A scan is unlike training where its percentiles are farther from the mean than the farthest
training scan by this factor, and by this many of 100 at least."""
FAR = 15.0
"""The same distance where only the landmarks of training are known."""
HEAD_MM = (100.0, 400.0)
"""Lengths of a field of view that can hold a head."""
AXES = ("left to right", "back to front", "foot to head")


def looked_at(scan: Scan, plan: Plan) -> tuple[list[Remark], list[Remark]]:
    """Open a scan's files; return why it cannot be used, and what is odd about it."""
    [probe] = probe_all([scan], None, plan.data.source.channels)
    gone = [(f.code, f.reason) for f in probe.findings if f.is_excluded]
    told = [(f.code, f.reason) for f in probe.findings if not f.is_excluded]
    ct = [name for name, view in probe.views.items() if view.is_ct]
    told += [("D22", f"{name} looks like CT") for name in ct]
    return gone, told


def misfits(scan: PreparedScan, file: ModelFile) -> Iterator[Remark]:
    """Yield how a prepared scan is unlike those that a model was trained on."""
    modalities = file.card.plan.data.source.channels
    absent = [n for n, there in zip(modalities, scan.present, strict=True) if not there]
    if absent:
        yield "D24", f"{', '.join(absent)} missing: zeros stand in for it"
    if len(scan.shape) == 4:
        yield from _of_grid(scan.geometry.own, file)
    image = open_array(scan.image)
    for number, name in enumerate(modalities):
        if scan.present[number] and (reason := _of_intensities(image[number], number, file)):
            yield "D82", f"{name}: {reason}"


def _of_grid(grid: Grid, file: ModelFile) -> Iterator[Remark]:
    ranges = file.card.ranges
    sizes, lengths = spacing_mm(grid), extent_mm(grid)
    if ranges is None or not ranges.spacing_mm:
        yield from _beyond_plan(sizes, lengths, file.card.plan)
        return
    for axis, mm, (low, high) in zip(AXES, sizes, ranges.spacing_mm, strict=True):
        if not low / SLACK <= mm <= high * SLACK:
            yield "D80", f"voxels of {mm:.3g} mm {axis}, in training {low:.3g} to {high:.3g} mm"
    for axis, mm, (low, high) in zip(AXES, lengths, ranges.extent_mm, strict=True):
        if not low / SLACK <= mm <= high * SLACK:
            yield "D81", f"{mm:.0f} mm {axis}, in training {low:.0f} to {high:.0f} mm"


def _beyond_plan(
    sizes: tuple[float, ...], lengths: tuple[float, ...], plan: Plan
) -> Iterator[Remark]:
    """Yield what can be told without the training scans, of which a deployed run knows nothing."""
    prepare, factor = plan.data.prepare, plan.data.check.spacing_factor
    wanted = prepare.spacing_mm
    is_cut = [prepare.dimension == "3d" or axis != prepare.slice_axis for axis in range(3)]
    for axis, mm, is_resampled in zip(AXES, sizes, is_cut, strict=True):
        if wanted and is_resampled and mm > factor * wanted:
            yield "D80", f"voxels of {mm:.3g} mm {axis}, the model's are {wanted:.3g} mm"
    low, high = HEAD_MM
    longest = sorted(lengths)[1:]
    if min(longest) < low or max(longest) > high:
        shown = " x ".join(f"{mm:.0f}" for mm in lengths)
        yield "D81", f"{shown} mm, which is no whole head ({low:.0f} to {high:.0f} mm)"


def _of_intensities(channel: np.ndarray, number: int, file: ModelFile) -> str:
    """Return how a channel's histogram is unlike that of training, or ``""``."""
    ranges = file.card.ranges
    if ranges is not None and ranges.percentiles[number]:
        usual = np.array(ranges.percentiles[number])
        most = max(DISTANCE_SLACK * ranges.distances[number], LEAST_DISTANCE)
    elif found := [group[LANDMARKS] for group in file.harmonized.values() if LANDMARKS in group]:
        usual, most = found[0][number].numpy(), FAR
    else:
        return ""
    own = percentiles_of(channel)
    if own is None:
        return "no contrast is left of it"
    distance = float(np.abs(own - usual).mean())
    if distance <= most:
        return ""
    return f"its histogram lies {distance:.1f} of 100 from that of training, usual is {most:.1f}"
