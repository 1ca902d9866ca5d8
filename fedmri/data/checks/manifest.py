"""What was used and what was left out, as a file and as tables; stays at the site."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from fedmri.data.scans import Finding, ScanTable
from fedmri.errors import CODES
from fedmri.machine.files import write_unsynced

HEADER = ("site", "subject", "session", "code", "excluded", "reason")


@dataclass(frozen=True)
class FindingCount:
    """How often something was found at a site.

    Attributes:
        code: Error code.
        title: What the code means.
        site: Site concerned, or ``""``.
        count: Findings.
        n_excluded: Scans left out because of it.
        example: Reason of the first one; may name files: local only.
    """

    code: str
    title: str
    site: str
    count: int
    n_excluded: int
    example: str


def used_by_site(table: ScanTable) -> dict[str, tuple[int, int]]:
    """Return by site how many scans are used, and how many were found."""
    used = Counter(scan.site for scan in table.scans)
    sites = sorted({*table.n_found, *used})
    return {site: (used[site], table.n_found.get(site, used[site])) for site in sites}


def findings_table(table: ScanTable) -> list[FindingCount]:
    """Return findings counted by code and site, sorted by code and site."""
    groups: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in table.findings:
        groups[finding.code, finding.site].append(finding)
    return [
        FindingCount(
            code,
            CODES[code],
            site,
            len(found),
            len({(f.subject, f.session) for f in found if f.is_excluded}),
            found[0].reason,
        )
        for (code, site), found in sorted(groups.items())
    ]


def write_manifest(path: Path, table: ScanTable) -> None:
    """Write a TSV with a line for every used scan and for every finding.

    Args:
        path: File to write; replaced whole or not at all.
        table: What ``check`` or ``examine`` returned.
    """
    used = [(s.site, s.subject, s.session, "", "no", "") for s in table.scans]
    found = [
        (f.site, f.subject, f.session, f.code, "yes" if f.is_excluded else "no", f.reason)
        for f in table.findings
    ]
    lines = ["\t".join(_plain(cell) for cell in row) for row in [HEADER, *sorted(used + found)]]
    write_unsynced(path, "\n".join(lines) + "\n")


def _plain(cell: str) -> str:
    """Keep a cell on its line and in UTF-8, whatever a file was named."""
    return "".join(letter if letter.isprintable() else " " for letter in cell)
