"""Patients whose truth is another one at another visit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from fedmri.data.scans import Finding, Scan
from fedmri.data.target import DataTarget, first_alike
from fedmri.round import Truth


def changing(scans: Sequence[Scan], target: DataTarget) -> list[Finding]:
    """Say at which sites the truth of patients changes between visits (D34).

    Each visit is learned with its own truth. A patient is scored once, at the visits that have the
    truth of the first.
    """
    if target.label_map:
        return []
    truths: dict[tuple[str, str], list[Truth]] = defaultdict(list)
    for scan in sorted(scans, key=lambda scan: scan.key):
        truths[scan.site, scan.subject].append(target.truth(scan))
    changed: dict[str, list[str]] = defaultdict(list)
    for (site, subject), own in sorted(truths.items()):
        if not all(first_alike(own)):
            changed[site].append(subject)
    return [
        Finding(
            "D34",
            f"{target.name} of {len(subjects)} subjects, such as sub-{subjects[0]}, changes "
            "between visits: each is scored at the visits that have the value of the first",
            site,
            is_excluded=False,
        )
        for site, subjects in changed.items()
    ]
