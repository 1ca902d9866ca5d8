"""Checked scans to prepared scans in the cache; what fails here is found and left out."""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from fedmri.data.batches.site_data import Split
from fedmri.data.batches.slices import slice_indices, slice_stride
from fedmri.data.checks.erased import erased_labels
from fedmri.data.checks.label_loss import LabelLoss, label_loss
from fedmri.data.covariates import entries_of
from fedmri.data.files.nifti import Volume
from fedmri.data.files.placing import LABEL, placed_together
from fedmri.data.files.volume import read_image, read_label
from fedmri.data.preparation.cache import (
    CachedScan,
    content_hash,
    digest,
    load_entry,
    open_array,
    settings_fingerprint,
    site_settings,
    slicing_fingerprint,
    store_entry,
)
from fedmri.data.preparation.native import Native
from fedmri.data.preparation.prepared import Prepared, PreparedScan
from fedmri.data.preparation.side_by_side import side_by_side
from fedmri.data.preparation.transforms import Opened, PreparedArrays, prepare_arrays
from fedmri.data.scans import Finding, Scan
from fedmri.data.settings import DataConfig, PrepareConfig, SourceConfig
from fedmri.data.target import DataTarget, LabelMap, map_of, no_truth
from fedmri.errors import ConfigError, DataError, FedmriError, told
from fedmri.machine.files import PRIVATE_FILE, write_unsynced

CACHE_REFUSED = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
"""What a disk answers that takes no more files."""


def prepare_scans(
    scans: Sequence[Scan],
    target: DataTarget | None,
    config: DataConfig,
    splits: Mapping[str, Split],
    cache: Path,
) -> Prepared:
    """Prepare scans, or find them prepared in the cache.

    Args:
        scans: Checked scans of one site or of several.
        target: What is to be learned or scored; only some tasks read label maps. None asks for
            images alone: no label, class or value is looked for.
        config: Its ``prepare`` is read, and of ``source`` the modalities, ``missing`` and
            the covariates.
        splits: Side of every patient (see ``split_subjects``).
        cache: Root of the cache, shared by all sites and experiments.

    Returns:
        Prepared scans, and findings. A scan has a warning whose label is clipped (D48) or became
        air (D49), or loses more than 1 % of its voxels or a whole lesion (D50). A scan is left out
        without target or label map (D16) or modality (D24), with a file that cannot be read (the
        codes of ``load_image``), with too few slices (D42), or for a reason that a library gives
        (D45).

    Raises:
        ConfigError: Pictures are to be volumes (C03).
    """
    settings = _settings(target, config)
    prepared: list[PreparedScan] = []
    findings: list[Finding] = []
    for scan in sorted(scans, key=lambda scan: (scan.site, scan.subject, scan.key)):
        try:
            one = _prepare(scan, target, config, splits[scan.subject], cache / settings)
            prepared.append(one)
            warnings = erased_labels(one, config.prepare)
            if one.loss is not None and one.loss.is_worth_a_warning:
                warnings.append(("D50", one.loss.sentence))
            findings += [_found(scan, *warning, is_excluded=False) for warning in warnings]
        except DataError as error:
            notes = "; ".join([str(error), *getattr(error, "__notes__", ())])
            findings.append(_found(scan, error.code, notes))
        except (OSError, ValueError, RuntimeError, ArithmeticError, MemoryError) as error:
            # SimpleITK and TorchIO say with these what they cannot do with a geometry.
            if isinstance(error, OSError) and error.errno in CACHE_REFUSED:
                raise  # no fault of the scan: none could be stored
            findings.append(_found(scan, "D45", told(error)))
    of_site = site_settings(target, config.prepare, config.source)
    return Prepared(tuple(prepared), tuple(findings), of_site, cache)


def fill_cache(
    scans: Sequence[Scan],
    target: DataTarget | None,
    config: DataConfig,
    cache: Path,
    n_workers: int,
) -> None:
    """Prepare scans side by side, so that ``prepare_scans`` finds them in the cache.

    A cache with scans of these settings is left as it is, for most of them will be there. What
    fails here fails again in ``prepare_scans``, which tells of it.
    """
    if not (cache / _settings(target, config)).exists():
        one = partial(_try_to_prepare, target=target, config=config, cache=cache)
        with suppress(BrokenExecutor):  # such as for want of memory: one by one there is more
            side_by_side(one, scans, n_workers)


def _try_to_prepare(
    scan: Scan, *, target: DataTarget | None, config: DataConfig, cache: Path
) -> None:
    with suppress(OSError, FedmriError):
        prepare_scans([scan], target, config, {scan.subject: "test"}, cache)


def _settings(target: DataTarget | None, config: DataConfig) -> str:
    return settings_fingerprint(target, config.prepare, config.source.channels)


def _found(scan: Scan, code: str, reason: str, *, is_excluded: bool = True) -> Finding:
    said = f"{scan.key}: {reason}"
    return Finding(code, said, scan.site, scan.subject, scan.session, is_excluded)


def _prepare(
    scan: Scan, target: DataTarget | None, config: DataConfig, split: Split, folder: Path
) -> PreparedScan:
    value = math.nan if target is None else target.truth(scan)
    images = image_files(scan, config.source)
    label_map = None if target is None else target.label_map
    label_map = label_map and map_of(scan, label_map)
    label = None if label_map is None else _label_file(scan, label_map)
    contents = [content_hash(path) if path else "" for path in images]
    named = [*contents, content_hash(label) if label else "", *scan.meanings]
    key = digest("/".join(named))[:32]
    entry = load_entry(folder, key)
    if entry is None:
        n_each = len(config.source.modalities)
        visits = [images[i : i + n_each] for i in range(0, len(images), n_each)]
        arrays = _built(visits, _labelled(label, label_map), config.prepare)
        entry = store_entry(folder, key, arrays)
    slices, spacing_mm = _slices(entry, config.prepare)
    place = (folder, f"{key}.loss-{slicing_fingerprint(config.prepare)}")
    return PreparedScan(
        site=scan.site,
        subject=scan.subject,
        scan=scan.key,
        split=split,
        image=entry.image,
        label=entry.label,
        shape=entry.shape,
        slices=slices,
        target=value,
        present=tuple(path is not None for path in images),
        spacing_mm=spacing_mm,
        contents=tuple(content for content in contents if content),
        mirror_axis=_mirror_axis(entry, config.prepare),
        geometry=entry.geometry,
        truth=entry.truth,
        loss=_loss(entry, slices, len(label_map.classes) if label_map else 0, place),
        covariates=entries_of(config.source.declared, scan),
    )


def _loss(
    entry: CachedScan, slices: tuple[int, ...] | None, n_classes: int, place: tuple[Path, str]
) -> LabelLoss | None:
    """Return what is lost of the label map, as the cache knows it or measured."""
    if entry.label is None or entry.truth is None:
        return None
    file = place[0] / f"{place[1]}.json"
    try:
        return LabelLoss.from_json(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        native = Native(entry.geometry, slices, entry.truth)
        loss = label_loss(open_array(entry.label), native, n_classes)
        write_unsynced(file, json.dumps(vars(loss)), PRIVATE_FILE)
        return loss


def image_files(scan: Scan, source: SourceConfig) -> list[Path | None]:
    """Return the image file of each modality, None for one that may be missing.

    Raises:
        DataError: Too few of them are there (D24).
    """
    images = [scan.images.get(name) for name in source.channels]
    last = images[-len(source.modalities) :]
    is_enough = any(last) if source.missing == "zero" else all(images)
    if not is_enough:
        found, fix = ", ".join(scan.images) or "none", "set data.source.missing to zero"
        want = ", ".join(source.channels)
        raise DataError("D24", "modalities", found=found, want=want, fix=fix)
    return images


def _label_file(scan: Scan, label_map: LabelMap) -> Path:
    """Return the file of the label map that is needed."""
    if label_map.name not in scan.labels:
        raise no_truth(f"labels {', '.join(scan.labels) or 'none'}", label_map.name)
    return scan.labels[label_map.name]


def _labelled(label: Path | None, label_map: LabelMap | None) -> tuple[Path, LabelMap] | None:
    return None if label is None or label_map is None else (label, label_map)


def _built(
    visits: Sequence[Sequence[Path | None]],
    labelled: tuple[Path, LabelMap] | None,
    config: PrepareConfig,
) -> PreparedArrays:
    """Return a scan; of several visits each is prepared by itself, and one without images is 0."""
    *earlier, last = visits
    arrays = _visit(last, labelled, config)
    if not earlier:
        return arrays
    before = [
        _visit(images, None, config).image if any(images) else np.zeros_like(arrays.image)
        for images in earlier
    ]
    return replace(arrays, image=np.concatenate([*before, arrays.image]))


def _visit(
    images: Sequence[Path | None],
    labelled: tuple[Path, LabelMap] | None,
    config: PrepareConfig,
) -> PreparedArrays:
    read = {str(number): _open(path, read_image) for number, path in enumerate(images) if path}
    if labelled:
        label, label_map = labelled
        read[LABEL] = _open(label, lambda path: read_label(path, label_map))
    placed = {name: Opened(v.voxels, v.affine) for name, v in placed_together(read).items()}
    opened = [placed.get(str(number)) for number in range(len(images))]
    return prepare_arrays(opened, placed.get(LABEL), config)


def _open(path: Path, read: Callable[[Path], Volume]) -> Volume:
    try:
        return read(path)
    except DataError as error:
        error.add_note(f"in {path}")
        raise


def _slices(
    entry: CachedScan, config: PrepareConfig
) -> tuple[tuple[int, ...] | None, tuple[float, ...]]:
    is_picture, is_3d = len(entry.shape) == 3, config.dimension == "3d"
    if is_picture and is_3d:
        fix = "set data.prepare.dimension to 2d"
        found = "pictures, and prepare.dimension 3d"
        raise ConfigError("C03", "data set", found=found, want="volumes", fix=fix)
    if is_picture or is_3d:
        return None, entry.spacing_mm
    n_total = entry.shape[1]
    through, *plane = entry.spacing_mm
    stride = slice_stride(n_total, config.n_slices)
    return slice_indices(n_total, config), (through * stride, *plane)


def _mirror_axis(entry: CachedScan, config: PrepareConfig) -> int | None:
    """Return which spatial axis runs left to right: columns of a picture, x of a volume."""
    if len(entry.shape) == 3:
        return 1
    if config.dimension == "3d":
        return 0
    return None if config.slice_axis == 0 else 0
