"""Subject tables of a DICOM tree: one in each site's folder, or one in the root."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fedmri.data.bids.tables import Row, SubjectTable, read_table, rows_by
from fedmri.data.scans import Finding
from fedmri.data.settings import SourceConfig
from fedmri.errors import DataError

TABLE = "participants.tsv"
KEY = "participant_id"
Who = tuple[str, str]


def subject_rows(
    root: Path, subjects: Sequence[Who], config: SourceConfig
) -> tuple[dict[Who, Row], list[Finding]]:
    """Return the row of each subject's folder.

    Args:
        root: Top of the tree.
        subjects: Site and folder of each subject.
        config: Its ``site_column`` may tell apart equal names in the root's table.

    Returns:
        Rows by site and folder, and findings. A row whose name fits folders of several sites is
        nobody's: those subjects are left out.

    Raises:
        DataError: The table in the root cannot be used (D05); that of a site leaves out its own.
    """
    rows: dict[Who, Row] = {}
    findings: list[Finding] = []
    sites = sorted({site for site, _ in subjects})
    for site in [] if config.site else sites:
        path = root / site / TABLE
        own = [who for who in subjects if who[0] == site]
        if path.exists():
            try:
                found, said = _rows(read_table(path, KEY))
            except DataError as error:  # whose site alone it concerns
                findings += [Finding("D05", str(error), *who) for who in own]
                continue
            rows |= {who: found[name] for who in own if (name := _named(who[1], found))}
            findings += [replace(finding, site=site) for finding in said]
    if (root / TABLE).exists():
        of_root, said = _root_rows(read_table(root / TABLE, KEY), subjects, config)
        rows = {**of_root, **rows}
        findings += [f for f in said if (f.site, f.subject) not in rows]
    return rows, findings


def _root_rows(
    table: SubjectTable, subjects: Sequence[Who], config: SourceConfig
) -> tuple[dict[Who, Row], list[Finding]]:
    if config.site_column in table.columns and not config.site:
        rows: dict[Who, Row] = {}
        findings: list[Finding] = list(table.findings)
        for site in sorted({site for site, _ in subjects}):
            own = tuple(row for row in table.rows if row[config.site_column] == site)
            found, said = _rows(SubjectTable(table.columns, own))
            who_of = [who for who in subjects if who[0] == site]
            rows |= {who: found[name] for who in who_of if (name := _named(who[1], found))}
            findings += [replace(finding, site=site) for finding in said]
        return rows, findings
    found, said = _rows(table)
    n_sites = Counter(name for _, name in subjects)
    rows = {}
    for who in subjects:
        name = _named(who[1], found)
        if name and n_sites[who[1]] > 1:
            reason = (
                f"the row of {who[1]} may be that of {n_sites[who[1]]} sites: add a column "
                f"{config.site_column!r}, or give each site's folder a participants.tsv"
            )
            said.append(Finding("D28", reason, *who))
        elif name:
            rows[who] = found[name]
    return rows, said


def _rows(table: SubjectTable) -> tuple[dict[str, Row], list[Finding]]:
    rows, findings = rows_by(table, KEY)
    named = [replace(f, subject=f.subject.removeprefix("sub-")) for f in findings]
    plain = {unicodedata.normalize("NFC", k).removeprefix("sub-"): v for k, v in rows.items()}
    return plain, [*table.findings, *named]


def _named(folder: str, rows: dict[str, Row]) -> str:
    """Return the name under which a table has a folder, with or without ``sub-``."""
    name = unicodedata.normalize("NFC", folder).removeprefix("sub-")
    return name if name in rows else ""
