"""The page that judges a simulation's harmonization of images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmri.data.batches.examples import PreparedSite, open_site
from fedmri.data.batches.site_data import Split, Voxels
from fedmri.errors import HarmonizeError
from fedmri.harmonize.cautions import Caution
from fedmri.harmonize.judging.decodability import Decodability, ProbeSettings, Samples, decodability
from fedmri.harmonize.sums import Arrays, SumStage, add, version
from fedmri.plan import Plan
from fedmri.reports.pages.before_after import BeforeAfter, Feature, Table, write_page
from fedmri.reports.summary import Summary
from fedmri.reports.text.words import number, span
from fedmri.simulation.sites import StudySites
from fedmri.stages.account import NothingLeaves
from fedmri.stages.registry import STAGES
from fedmri.stages.stage import AtSite, ImageChange, Made, Place, Stage

PAGE = "harmonization.html"
SHARES = np.arange(0.5, 100, 1)
"""Percentiles by which an image is drawn: each counts the same, however many voxels it has."""
PROBED = slice(4, None, 5)
"""Those of them that the probe sees: 20 for each modality."""
N_VOXELS = 50_000
"""Most voxels of a head that its percentiles are taken of, evenly spaced."""
N_PERMUTATIONS = 99
SPLITS: tuple[Split, ...] = ("train", "val", "test")

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Images:
    """Percentiles of the heads of all images.

    Attributes:
        before: Shape ``(n, C, 100)``; NaN where a modality is missing.
        after: The same, harmonized.
        sites: Site of each image, shape ``(n,)``.
        subjects: Patient of each image, told apart between sites, shape ``(n,)``.
    """

    before: Array
    after: Array
    sites: NDArray[np.str_]
    subjects: NDArray[np.str_]


def image_page(plan: Plan, folder: Path, summary: Summary) -> Path | None:
    """Write the page, if the plan harmonizes images.

    Args:
        plan: What was learned.
        folder: Run folder of a finished simulation.
        summary: Its results.

    Returns:
        The page, or None where images were not harmonized.
    """
    stage = next((one for one in plan.stages if one.place is Place.IMAGES), None)
    if stage is None:
        return None
    made, method = Made(plan), STAGES.name_of(stage)
    sums = stage.fit(made)
    assert sums is not None, "a stage of images is fitted"
    found = StudySites.read(folder / "prepared" / "sites.json")
    members = {name: _opened(plan, path) for name, path in found.sites.items()}
    external = {name: _opened(plan, path) for name, path in found.external.items()}
    parameters = _fitted(stage, sums, plan, members)
    change = stage.image_change(made, parameters)
    assert change is not None, "a stage of images changes them"
    images = _measured({**members, **external}, change)
    sides, cautions = _told(images, plan.seed)
    how = f"{method}, fitted by sums over the training scans of all members"
    counts = ", ".join(f"{s} ({(images.sites == s).sum()})" for s in np.unique(images.sites))
    if stage.noise:
        how += "; here without the noise that the plan's own landmarks have"
    facts = (
        ("Method", how),
        ("Sites (images)", counts),
        ("Version of the parameters", version(parameters)),
        ("Seed", str(plan.seed)),
    )
    tables = (*((_site_table(*sides),) if sides else ()), _task_table(method, summary))
    title = f"Images of {len(members) + len(external)} sites, harmonized by {method}"
    told = tuple((caution.code, caution.text) for caution in cautions)
    features = _features(plan.data.source.channels, images)
    drawn = (
        "All modalities: voxels of the head (not 0) of all splits, each image counting the same."
    )
    shown = BeforeAfter(title, _lead(sides), facts, told, tables, features, drawn)
    write_page(folder / PAGE, shown)
    return folder / PAGE


def _opened(plan: Plan, path: Path) -> PreparedSite:
    return open_site([path], plan.target, plan.data)


def _fitted(
    stage: Stage, sums: SumStage[Any], plan: Plan, members: Mapping[str, PreparedSite]
) -> Arrays:
    """Return what a stage fits over sites that lie in memory, without its noise."""
    sites = [AtSite(name, plan, site, NothingLeaves()) for name, site in members.items()]
    shared: Arrays = {}
    for step in range(sums.n_steps):
        total = add(stage.own_sums(at, step, shared) for at in sites)
        shared = sums.combine(step, total, shared)
    return shared


def _measured(sites: Mapping[str, PreparedSite], change: ImageChange) -> Images:
    before, after, names, subjects = [], [], [], []
    for name, site in sites.items():
        for split in SPLITS:
            scans = [scan for scan in site.prepared.scans if scan.split == split]
            for scan, voxels in zip(scans, site.scans(split), strict=True):
                head = voxels != 0
                changed = change(f"{name}/{scan.scan}", voxels, voxels)
                before.append(_percentiles(voxels, head))
                after.append(_percentiles(changed, head))
                names.append(name)
                subjects.append(f"{name}/{scan.subject}")
    return Images(np.array(before), np.array(after), np.array(names), np.array(subjects))


def _percentiles(voxels: Voxels, head: NDArray[np.bool_]) -> Array:
    """Return percentiles of each channel's head, shape ``(C, 100)``."""
    out = np.full((len(voxels), len(SHARES)), np.nan)
    for channel, (values, inside) in enumerate(zip(voxels, head, strict=True)):
        own = values[inside]
        if own.size:
            out[channel] = np.percentile(own[:: -(-own.size // N_VOXELS)], SHARES)
    return out


def _told(
    images: Images, seed: int
) -> tuple[tuple[Decodability, Decodability] | None, tuple[Caution, ...]]:
    nothing = np.zeros((len(images.sites), 0))
    probe = ProbeSettings(N_PERMUTATIONS, seed)
    try:
        before, after = (
            decodability(
                Samples(
                    side[..., PROBED].reshape(len(side), -1), images.sites, images.subjects, nothing
                ),
                probe,
            )
            for side in (images.before, images.after)
        )
    except HarmonizeError as error:
        return None, (Caution(error.code, f"Site decodability: not measured. {error}"),)
    return (before, after), ()


def _lead(sides: tuple[Decodability, Decodability] | None) -> str:
    if sides is None:
        return "The images were harmonized; how well the site can be told was not measured."
    before, after = sides
    return (
        f"A linear probe named the site of {before.accuracy:.0%} of images before and of "
        f"{after.accuracy:.0%} after; always naming the largest site is right about "
        f"{before.largest_share:.0%}."
    )


def _site_table(before: Decodability, after: Decodability) -> Table:
    rows = tuple(
        (name, *(f"{v:.3f}" for v in (s.accuracy, s.largest_share, s.balanced, s.p_value)))
        for name, s in (("Before", before), ("After", after))
    )
    caption = (
        "How often a linear probe names the site of a patient that it was not trained on (5 folds "
        f"by patient, {before.n_permutations} permutations), from 20 percentiles of an image's "
        "head by modality. Images of all splits are in it, test patients too. A site that cannot "
        "be told gives the share of the largest site, or less."
    )
    if before.n_left_out:
        caption += f" {before.n_left_out} images of sites of fewer than 5 patients are left out."
    head = ("", "Accuracy", "Largest site's share", "Mean over sites", "p")
    return Table("Can the site be told?", caption, head, rows)


def _task_table(method: str, summary: Summary) -> Table:
    title, head = "The task at left-out sites", ("", f"{summary.metric} (95 % interval)")
    rows = tuple(
        (f"{row.label}, {site}", f"{number(estimate.value)} ({span(estimate)})")
        for row in summary.rows
        if row.group.is_left_out and not row.group.is_reference
        for site, metrics in row.by_site.items()
        for name, estimate in metrics.items()
        if name == summary.metric
    )
    if not rows:
        caption = (
            "Not measured: no site was left out of training. Run the study again with "
            "simulation.protocol=loso, once as it is and once with harmonize=none."
        )
        return Table(title, caption, head, ())
    caption = (
        f"After harmonization by {method}; each site was in no fit and no training. "
        "For the metric before, run the same command with harmonize=none."
    )
    return Table(title, caption, head, rows)


def _features(modalities: tuple[str, ...], images: Images) -> tuple[Feature, ...]:
    def by_site(values: Array) -> dict[str, Array]:
        return {str(s): values[images.sites == s].ravel() for s in np.unique(images.sites)}

    return tuple(
        Feature(
            name,
            by_site(images.before[:, k]),
            by_site(images.after[:, k]),
        )
        for k, name in enumerate(modalities)
    )
