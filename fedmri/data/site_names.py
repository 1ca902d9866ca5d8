"""Names of sites as tables and folders write them: one name for one site, and a word of doubt."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from fedmri.data.scans import Finding, ScanTable
from fedmri.machine.delimited import blurred, tidied

RESERVED = re.compile(r"(external:|pooled$)", re.IGNORECASE)
"""What fedmri itself calls a site that is only tested on, and the holder of all data."""


def one_name_each(names: Iterable[str]) -> dict[str, str]:
    """Return the name of the site that each spelling stands for.

    Spellings are the same where they differ in the form of Unicode, in spaces at the ends or
    doubled, or as ``1`` and ``1.0`` where both are there. A name that fedmri uses itself is
    changed.

    Args:
        names: All spellings of a data set.
    """
    tidy = {name: tidied(name) for name in names}
    there = set(tidy.values())
    found = {}
    for name, plain in tidy.items():
        whole = re.sub(r"^(\d+)\.0+$", r"\1", plain)
        known = whole if whole in there else plain
        found[name] = f"site {known}" if RESERVED.match(known) else known
    return found


def with_one_name_each(table: ScanTable) -> ScanTable:
    """Return a table with one name for each site, and findings about how it was written.

    What was surely one site becomes one (D72). What is probably one, such as ``Site 1`` and
    ``site_01``, stays apart with a warning (D71).
    """
    spelled = {scan.site for scan in table.scans} | {f.site for f in table.findings}
    names = one_name_each(spelled - {""}) | {"": ""}
    if not names.keys() - {""}:
        return table
    scans = tuple(
        replace(scan, site=names[scan.site], scope=names.get(scan.scope, scan.scope))
        for scan in table.scans
    )
    findings = [replace(finding, site=names[finding.site]) for finding in table.findings]
    findings += [*_merged(names), *_alike(Counter(scan.site for scan in scans))]
    return replace(table, scans=scans, findings=tuple(findings))


def _merged(names: Mapping[str, str]) -> list[Finding]:
    spellings: dict[str, list[str]] = defaultdict(list)
    for written, name in sorted(names.items()):
        spellings[name].append(written)
    return [
        Finding("D72", f"{_shown(written)} is written {name!r}", name, is_excluded=False)
        for name, written in sorted(spellings.items())
        if written != [name]
    ]


def _alike(n_scans: Mapping[str, int]) -> list[Finding]:
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(n_scans):
        groups[blurred(name)].append(name)
    return [
        Finding(
            "D71",
            f"{' and '.join(f'{n!r} ({n_scans[n]} scans)' for n in names)} may be one site",
            names[0],
            is_excluded=False,
        )
        for names in groups.values()
        if len(names) > 1
    ]


def _shown(written: list[str]) -> str:
    return " and ".join(ascii(name) for name in written)
