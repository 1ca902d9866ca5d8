"""A site's own scans, checked and prepared as a plan asks: the same bits as in a simulation."""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable
from dataclasses import replace
from pathlib import Path

from fedmri.clients.process.home import SiteConfig
from fedmri.data.batches.site_data import Split
from fedmri.data.batches.split import refuse_leaks, split_subjects
from fedmri.data.checks.check import enforce, examine
from fedmri.data.checks.manifest import write_manifest
from fedmri.data.patients import crossing
from fedmri.data.preparation.prepare import prepare_scans
from fedmri.data.preparation.prepared import LABEL_LOSSES, read_site, write_label_losses, write_site
from fedmri.data.read import read
from fedmri.data.scans import ScanTable
from fedmri.errors import DataError, HarmonizeError, UsageError
from fedmri.machine.files import PRIVATE_FILE, write_whole
from fedmri.plan import Plan

log = logging.getLogger("fedmri.client")

MANIFEST = "manifest.tsv"
PREPARED = "prepared.json"


def prepare_own(  # noqa: PLR0913  # what is prepared, for what, from what and where to
    config: SiteConfig,
    plan: Plan,
    site: str,
    cache: Path,
    folder: Path,
    gone: Container[str] = (),
) -> Path:
    """Read, check, split and prepare the site's scans for a plan; return the file of the result.

    The file lies in a folder that is named by the fingerprint of the data, beside no other file of
    other data: what a site keeps between rounds belongs there, so that it is never continued with
    after patients came, went or changed.

    Args:
        config: Where the scans are and what is refused; the plan has no say in it.
        plan: Target, modalities, split and preparation.
        site: Name in the consortium; all scans are its.
        cache: Folder of prepared scans.
        folder: The plan's folder; the manifest of who is left out and why goes there.
        gone: Patients who withdrew their consent.

    Raises:
        UsageError: The site's settings name no data (U30).
        DataError: The data cannot be trained on; the manifest says why.
        ConfigError: They cannot be prepared as the plan asks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = checked_own(config, plan, site, folder / MANIFEST, gone)
    enforce(table, config.check)
    splits = split_subjects(table.scans, plan.target, plan.data.split, plan.seed)
    places = {scan.subject: (site, splits[scan.subject]) for scan in table.scans}
    taken_apart = crossing(table.scans, places)
    if taken_apart:
        log.warning("%s [C14]", taken_apart[0].reason)
    prepared = prepare_scans(table.scans, plan.target, plan.data, splits, cache)
    if prepared.findings or taken_apart:
        left_out = prepared.left_out(table.scans)
        used = tuple(scan for scan in table.scans if scan.key not in left_out)
        told = (*table.findings, *taken_apart, *prepared.findings)
        table = replace(table, scans=used, findings=told)
        write_manifest(folder / MANIFEST, table)
    if not prepared.scans:
        found = f"none; {prepared.findings[0].reason}"
        fix = f"read {folder / MANIFEST}, then correct the data"
        raise DataError("D01", "prepared scans", found=found, want="1 or more", fix=fix)
    refuse_leaks(prepared.examples, prepared.contents)
    write_label_losses(folder / LABEL_LOSSES, prepared.scans)
    path = folder / prepared.fingerprint[:16] / PREPARED
    _log_change(folder, path)
    write_site(path, prepared)
    return path


def own_features(config: SiteConfig, folder: Path, gone: Container[str] = ()) -> Path:
    """Return the site's table of features, or a copy without the rows of those who withdrew.

    Args:
        config: Where the table is.
        folder: The plan's folder; a copy goes there.
        gone: Patients who withdrew their consent.

    Raises:
        HarmonizeError: There is none (H26), or nobody can tell whose its rows are (H40).
    """
    path = Path(config.features)
    if not config.features or not path.is_file():
        what, want = "features in site.yaml", "the path of a table"
        found, fix = repr(config.features), "set features: to a CSV or TSV file, a subject a row"
        raise HarmonizeError("H26", what, found=found, want=want, fix=fix)
    if not gone:
        return path
    from fedmri.harmonize.combat.own_table import without_subjects  # pandas is slow to import

    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / path.name, without_subjects(path, gone), PRIVATE_FILE)
    return folder / path.name


def checked_own(
    config: SiteConfig, plan: Plan, site: str, manifest: Path, gone: Container[str] = ()
) -> ScanTable:
    """Open every scan of the site and write the manifest, without stopping at what is wrong.

    Raises:
        UsageError: The site's settings name no data (U30).
        DataError: There is nothing to check.
    """
    if not config.data.path:
        want, fix = "the folder of its scans", "set data.path in site.yaml"
        raise UsageError("U30", "data of the site", found="no path", want=want, fix=fix)
    wanted = plan.data.source
    source = replace(
        config.data,
        modalities=wanted.modalities,
        missing=wanted.missing,
        key_column=config.data.key_column or wanted.key_column,
        patient_pattern=config.data.patient_pattern or wanted.patient_pattern,
        drawn=config.data.drawn or wanted.drawn,
        visits=wanted.visits,
        visit_time=config.data.visit_time or wanted.visit_time,
        site=config.data.site or site,
    )
    table = _renamed(read(source, gone), site)
    table = examine(table, plan.target, config.check, wanted.channels, wanted.declared)
    write_manifest(manifest, table)
    return table


def n_subjects(table: ScanTable, plan: Plan) -> dict[Split, int]:
    """Return how many of the site's patients would train, validate and test."""
    splits = split_subjects(table.scans, plan.target, plan.data.split, plan.seed)
    return _counted(splits.values())


def n_prepared(path: Path) -> dict[Split, int]:
    """Return how many patients of prepared data train, validate and test."""
    splits = {scan.subject: scan.split for scan in read_site(path).scans}
    return _counted(splits.values())


def _counted(splits: Iterable[Split]) -> dict[Split, int]:
    counts: dict[Split, int] = {"train": 0, "val": 0, "test": 0}
    for split in splits:
        counts[split] += 1
    return counts


def _renamed(table: ScanTable, site: str) -> ScanTable:
    """Return the table as of one site: whatever its own tables call it, the consortium's name."""
    scans = sorted(
        (replace(scan, site=site) for scan in table.scans),
        key=lambda scan: (scan.subject, scan.session),
    )
    findings = tuple(replace(finding, site=site) for finding in table.findings)
    return ScanTable(tuple(scans), findings, {site: sum(table.n_found.values())})


def _log_change(folder: Path, path: Path) -> None:
    others = [old for old in folder.glob(f"*/{PREPARED}") if old != path]
    if others and not path.exists():
        log.warning("the data changed since %s: state kept so far is not continued", others[-1])
