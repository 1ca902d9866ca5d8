"""``fedmri data check``: the preflight that every run starts with, alone."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from fedmri.data.bids.data_set import modalities_in
from fedmri.data.checks.check import examine
from fedmri.data.checks.manifest import findings_table, used_by_site, write_manifest
from fedmri.data.dicom.tree import contrasts_in
from fedmri.data.read import layout_of, read
from fedmri.data.scans import ScanTable
from fedmri.data.settings import DataConfig, SourceConfig
from fedmri.data.target import DataTarget


def preflight(data: DataConfig, target: DataTarget | None, manifest: Path) -> ScanTable:
    """Open every scan of a data set and write the manifest.

    Args:
        data: Where it is and what is refused.
        target: What would be predicted; None checks no labels.
        manifest: File that says who is left out and why.

    Raises:
        DataError: There is nothing to check.
    """
    source = data.source
    table = examine(read(source), target, data.check, source.channels, source.declared)
    write_manifest(manifest, table)
    return table


def with_all_modalities(source: SourceConfig) -> SourceConfig:
    """Return the source with every modality that is there, for a look at all of the data set."""
    root = Path(source.path)
    found = modalities_in(root)
    if not found and not source.series and layout_of(source) == "dicom":
        found = contrasts_in(root)
    return replace(source, modalities=found) if found else source


def as_json(table: ScanTable) -> str:
    """Return what a preflight found as JSON."""
    found = [asdict(count) for count in findings_table(table)]
    return json.dumps({"used": used_by_site(table), "findings": found})


def as_tables(table: ScanTable) -> RenderableType:
    """Return what a preflight found for a terminal."""
    sites = Table("site", "used", "of", title="Scans")
    for site, (n_used, n_found) in used_by_site(table).items():
        sites.add_row(escape(site), str(n_used), str(n_found))
    findings = Table(title="Findings", row_styles=["", "dim"])
    for name in ("code", "site", "left out", "warned", "what", "such as"):
        findings.add_column(name, overflow="fold")
    for count in findings_table(table):
        n_warned = count.count - count.n_excluded
        numbers = (str(count.n_excluded), str(n_warned))
        texts = (count.site, *numbers, count.title, count.example)
        findings.add_row(count.code, *(escape(text) for text in texts))
    return Group(sites, findings) if findings.row_count else sites
