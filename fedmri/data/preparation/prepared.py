"""What preparation hands on: scans in the cache, and the one small file that lists a site's."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from fedmri.data.batches.site_data import Example, Split
from fedmri.data.checks.label_loss import LabelLoss
from fedmri.data.preparation.cache import digest
from fedmri.data.preparation.geometry import Geometry
from fedmri.data.preparation.native import Native
from fedmri.data.scans import Finding, Scan
from fedmri.errors import DataError, told
from fedmri.machine.files import PRIVATE_FILE, write_unsynced
from fedmri.round import Truth

FORMAT = 3
LABEL_LOSSES = "label_losses.tsv"
LOSS_HEADER = (
    *("site", "subject", "scan", "split", "voxels", "lost_voxels"),
    *("lesions", "lost_lesions", "ceiling_dice", "lost_share"),
)


@dataclass(frozen=True)
class PreparedScan:
    """A scan in the cache; its slices are examples, or it is one.

    Attributes:
        site: Institution.
        subject: Patient.
        scan: Key of the scan.
        split: Side of the split.
        image: ``.npy`` file, float32.
        label: ``.npy`` file of the label map, uint8, or None.
        shape: Shape of the image, ``(C, D, H, W)`` or ``(C, H, W)``.
        slices: Positions along ``D`` that are used, or None where the scan is one example.
        target: What is true of the scan; NaN where its label map has it.
        present: Whether each modality was there.
        spacing_mm: Distance of neighbouring voxels; along ``D`` that of neighbouring *used*
            slices, so that stacked predictions are measured right.
        contents: SHA-256 of the image files that are there, in the order of the modalities.
        mirror_axis: Spatial axis of an example that runs left to right, or None.
        geometry: The way from the scan's own grid to the prepared one.
        truth: ``.npz`` file of the label map on its own grid, or None.
        loss: What preparation loses of the label map; None where there is none.
        covariates: Numbers of the scan's row, as ``fedmri.data.covariates`` encodes them.
    """

    site: str
    subject: str
    scan: str
    split: Split
    image: Path
    label: Path | None
    shape: tuple[int, ...]
    slices: tuple[int, ...] | None
    target: Truth
    present: tuple[bool, ...]
    spacing_mm: tuple[float, ...]
    contents: tuple[str, ...]
    mirror_axis: int | None
    geometry: Geometry
    truth: Path | None
    loss: LabelLoss | None
    covariates: tuple[float, ...] = ()

    @property
    def order(self) -> tuple[str, str, str]:
        """What scans are sorted by."""
        return self.site, self.subject, self.scan

    @property
    def identity(self) -> str:
        """What decides the examples, wherever the cache lies."""
        parts = (*self.order, self.split, self.image.stem, self.slices, repr(self.target))
        return repr((*parts, self.covariates) if self.covariates else parts)

    def examples(self) -> Iterator[Example]:
        """Yield the examples of the scan, in order."""
        own = self.truth and Native(self.geometry, self.slices, self.truth)
        for index in (None,) if self.slices is None else self.slices:
            yield Example(
                site=self.site,
                subject=self.subject,
                scan=self.scan,
                split=self.split,
                image=self.image,
                label=self.label,
                slice_index=index,
                target=self.target,
                present=self.present,
                spacing_mm=self.spacing_mm,
                own=own or None,
                mirror_axis=self.mirror_axis,
            )


@dataclass(frozen=True)
class Prepared:
    """Scans that came through preparation, and what is to be said about the others.

    Attributes:
        scans: Prepared scans, sorted by site, subject and key.
        findings: One for each scan that could not be prepared, and warnings about others.
        settings: Fingerprint of target, preparation and library versions.
        cache: Root of the cache.
    """

    scans: tuple[PreparedScan, ...]
    findings: tuple[Finding, ...]
    settings: str
    cache: Path

    @property
    def examples(self) -> tuple[Example, ...]:
        """All examples of all splits, in the order of the scans."""
        return tuple(example for scan in self.scans for example in scan.examples())

    def left_out(self, scans: Iterable[Scan]) -> set[str]:
        """Return the keys of those of the scans that could not be prepared."""
        return {scan.key for scan in scans} - {scan.scan for scan in self.scans}

    @property
    def contents(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """SHA-256 of each scan's image files, by site and key: for ``refuse_leaks``."""
        return {(scan.site, scan.scan): scan.contents for scan in self.scans}

    @cached_property
    def is_pooled(self) -> bool:
        """Whether there are scans of several sites."""
        return len({scan.site for scan in self.scans}) > 1

    @property
    def fingerprint(self) -> str:
        """SHA-256 over contents, preparation and split, wherever the cache lies."""
        return digest("\n".join([self.settings, *(scan.identity for scan in self.scans)]))


def write_site(path: Path, prepared: Prepared) -> None:
    """Write the prepared scans of a site as one small JSON file, which ``open_site`` opens.

    Args:
        path: File to write; its folder is made.
        prepared: Scans of the site. Their arrays stay in the cache: files are named relative to
            its root, which is named once.
    """
    root = prepared.cache.resolve()
    site = {
        "format": FORMAT,
        "fingerprint": prepared.fingerprint,
        "settings": prepared.settings,
        "cache": str(root),
        "scans": [_row(scan, root) for scan in prepared.scans],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(site, indent=0, ensure_ascii=False, allow_nan=False)
    write_unsynced(path, text, PRIVATE_FILE)


def write_label_losses(path: Path, scans: Iterable[PreparedScan]) -> None:
    """Write what preparation loses of each scan's label map, as a TSV; nothing without label maps.

    Args:
        path: File to write; replaced whole or not at all.
        scans: Prepared scans of a site or of several.
    """
    rows = [
        (*scan.order, scan.split, *vars(scan.loss).values(), scan.loss.share)
        for scan in sorted(scans, key=lambda scan: scan.order)
        if scan.loss is not None
    ]
    if rows:
        lines = ["\t".join(map(str, row)) for row in [LOSS_HEADER, *rows]]
        write_unsynced(path, "\n".join([*lines, ""]), PRIVATE_FILE)


def _row(scan: PreparedScan, root: Path) -> dict[str, Any]:
    files = {"image": scan.image, "label": scan.label, "truth": scan.truth}
    names = {name: file and str(file.resolve().relative_to(root)) for name, file in files.items()}
    parts = {"geometry": scan.geometry.to_json(), "loss": scan.loss and vars(scan.loss)}
    return {**vars(scan), **names, **parts, "target": _as_json(scan.target)}


def read_site(path: Path) -> Prepared:
    """Read a file that ``write_site`` wrote.

    Raises:
        DataError: The file is missing, damaged or of another version (D43).
    """
    try:
        site = json.loads(path.read_text(encoding="utf-8"))
        if site["format"] != FORMAT:
            raise ValueError(f"format {site['format']}")
        root = Path(site["cache"])
        scans = tuple(_scan(row, root) for row in site["scans"])
        prepared = Prepared(scans, (), site["settings"], root)
        if prepared.fingerprint != site["fingerprint"]:
            raise ValueError("a table that does not match its fingerprint")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise unusable_site(path, told(error)) from error
    return prepared


def _scan(row: Mapping[str, Any], root: Path) -> PreparedScan:
    if row["split"] not in get_args(Split):
        raise ValueError(f"split {row['split']!r}")
    names = ("image", "label", "truth")
    files = {name: None if row[name] is None else root / row[name] for name in names}
    parts = {
        "geometry": Geometry.from_json(row["geometry"]),
        "loss": row["loss"] and LabelLoss.from_json(row["loss"]),
    }
    lists = ("shape", "slices", "present", "spacing_mm", "contents", "covariates")
    tuples = {name: row[name] if row[name] is None else tuple(row[name]) for name in lists}
    return PreparedScan(**{**row, **files, **tuples, **parts, "target": _truth(row["target"])})


def _as_json(truth: Truth) -> Any:
    """Return a truth without NaN, which JSON does not have."""
    if isinstance(truth, tuple):
        return [_as_json(value) for value in truth]
    return None if math.isnan(truth) else truth


def _truth(value: Any) -> Truth:
    if isinstance(value, list):
        return tuple(math.nan if one is None else float(one) for one in value)
    return math.nan if value is None else float(value)


def unusable_site(path: Path, found: str) -> DataError:
    """Return the error about a site file that cannot be trained on."""
    return DataError(
        "D43",
        f"prepared site {path}",
        found=found,
        want="the file that this version wrote with these settings",
        fix="prepare the data again",
    )


def union(parts: Sequence[Prepared]) -> Prepared:
    """Return the scans of several sites as one."""
    scans = sorted((scan for part in parts for scan in part.scans), key=lambda scan: scan.order)
    findings = tuple(finding for part in parts for finding in part.findings)
    return Prepared(tuple(scans), findings, parts[0].settings, parts[0].cache)
