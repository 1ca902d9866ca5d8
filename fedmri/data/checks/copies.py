"""Images and subjects that are there twice, and which of them stays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from fedmri.data.checks.fingerprint import near_pairs
from fedmri.data.checks.probe import Probe
from fedmri.data.scans import Finding, about
from fedmri.data.target import DataTarget

COPY_CODES = ("D17", "D19", "D20", "D21")


def find_copies(
    probes: Sequence[Probe], target: DataTarget | None, near_distance: int, *, is_excluded: bool
) -> list[Finding]:
    """Find subjects in two sites, and images that two subjects share.

    Two scans are copies when they share a file, or an image of one modality whose fingerprints
    are near, mirrored ones too; scans of one patient never count. Copies of copies are copies. Of
    a group, the scans of the subject that comes first by site, subject and session stay, unless
    the group has two different targets (classes or values): then none stays. Label maps are not
    compared.

    Args:
        probes: Scans that can be used, in the order of the table.
        target: What is to be predicted.
        near_distance: Bits of 256 by which near copies may differ.
        is_excluded: Whether copies are left out, or only reported.

    Returns:
        Findings D17, D19, D20 and D21.
    """
    findings = _in_two_sites(probes, is_excluded=is_excluded)
    gone = {(f.site, f.subject) for f in findings if f.is_excluded}
    rest = [p for p in probes if (p.scan.site, p.scan.subject) not in gone]
    for group in copied(rest, near_distance):
        members = [rest[index] for index in group]
        findings += _in_group(members, target, is_excluded=is_excluded)
    return findings


def copied(probes: Sequence[Probe], near_distance: int) -> list[list[int]]:
    """Return the places of scans that are copies of each other, a list a group."""
    pairs = _exact_pairs(probes) | _near_pairs(probes, near_distance)
    return _groups(len(probes), pairs)


def _in_two_sites(probes: Sequence[Probe], *, is_excluded: bool) -> list[Finding]:
    """Find patients at two sites: only names that count at both can tell."""
    sites: dict[tuple[str, str], set[str]] = defaultdict(set)
    for probe in probes:
        sites[probe.scan.patient].add(probe.scan.site)
    findings = []
    for scan in (probe.scan for probe in probes):
        first = min(sites[scan.patient])
        if scan.site != first:
            reason = f"subject {scan.subject} is also in {first}"
            findings.append(about(scan, "D17", reason, is_excluded=is_excluded))
    return findings


def _exact_pairs(probes: Sequence[Probe]) -> set[tuple[int, int]]:
    """Pair every scan with the first one of another subject that has the same file."""
    places: dict[bytes, list[int]] = defaultdict(list)
    for index, probe in enumerate(probes):
        for view in probe.views.values():
            places[view.digest].append(index)
    return {
        (indices[0], other)
        for indices in places.values()
        for other in indices[1:]
        if probes[indices[0]].scan.patient != probes[other].scan.patient
    }


def _near_pairs(probes: Sequence[Probe], distance: int) -> set[tuple[int, int]]:
    groups: dict[tuple[str, int], list[int]] = defaultdict(list)
    for index, probe in enumerate(probes):
        for modality, view in probe.views.items():
            groups[modality, len(view.bits)].append(index)
    pairs: set[tuple[int, int]] = set()
    for (modality, _), indices in groups.items():
        bits = np.stack([probes[index].views[modality].bits for index in indices])
        found = ((indices[i], indices[j]) for i, j in near_pairs(bits, distance))
        pairs |= {(i, j) for i, j in found if probes[i].scan.patient != probes[j].scan.patient}
    return pairs


def _groups(n_scans: int, pairs: set[tuple[int, int]]) -> list[list[int]]:
    if not pairs:
        return []
    from scipy.sparse import coo_array  # slow to import, and copies are few
    from scipy.sparse.csgraph import connected_components

    rows, columns = np.array(sorted(pairs)).T
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(n_scans, n_scans))
    _, labels = connected_components(graph, directed=False)
    groups: dict[int, list[int]] = defaultdict(list)
    for index, label in enumerate(labels.tolist()):
        groups[label].append(index)
    return [group for group in groups.values() if len(group) > 1]


def _cells(member: Probe, columns: Sequence[str]) -> str:
    return " and ".join(member.scan.columns.get(name, "") for name in columns)


def _in_group(
    members: Sequence[Probe], target: DataTarget | None, *, is_excluded: bool
) -> list[Finding]:
    columns = target.columns if target else ()
    values = sorted({_cells(member, columns) for member in members})
    if len(values) > 1:
        name = " and ".join(columns)
        reason = f"one of {len(members)} copies with different {name}: {', '.join(values)}"
        return [about(m.scan, "D21", reason, is_excluded=is_excluded) for m in members]
    first = members[0].scan
    findings = []
    seen = {view.digest for view in members[0].views.values()}
    for member in members[1:]:
        digests = {view.digest for view in member.views.values()}
        if member.scan.patient != first.patient:
            code = "D19" if digests & seen else "D20"
            how = "the same bytes as" if code == "D19" else "nearly the same or a mirrored image as"
            reason = f"{how} one of a group whose first is {first.key} of {first.site or 'no site'}"
            findings.append(about(member.scan, code, reason, is_excluded=is_excluded))
        seen |= digests
    return findings
