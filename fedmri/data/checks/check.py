"""The preflight: every file is opened before anything is trained on it."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import replace

import numpy as np

from fedmri.data.checks.copies import COPY_CODES, find_copies
from fedmri.data.checks.manifest import used_by_site
from fedmri.data.checks.probe import Probe, probe_all
from fedmri.data.checks.visits import changing
from fedmri.data.covariates import Covariate, with_known
from fedmri.data.patients import suspected
from fedmri.data.read import finding_order
from fedmri.data.scans import Finding, Scan, ScanTable, about
from fedmri.data.settings import CheckConfig
from fedmri.data.target import DataTarget
from fedmri.errors import CODES, DataError

log = logging.getLogger("fedmri.data")

CHOSEN = frozenset({*COPY_CODES, "D22", "D31"})  # left out by a setting, not for a fault
SAID = ("D67", "D79")  # a manifest alone would not be read in time
MIN_SITE = 3  # scans of a site before a median says anything


def check(
    table: ScanTable, target: DataTarget, config: CheckConfig, modalities: Sequence[str]
) -> ScanTable:
    """Open every file and leave out what cannot be trained on; stop where too little is left.

    Args:
        table: What ``read`` found.
        target: What is to be predicted.
        config: What is refused.
        modalities: Modalities that are used.

    Returns:
        Scans that may be used, and all findings.

    Raises:
        DataError: No scan is left (D01), a site lost too many (D02) or all (D64), there are
            copies and ``duplicates`` is ``refuse`` (D03), or a name to exclude is not clear (D65).
    """
    examined = examine(table, target, config, modalities)
    enforce(examined, config)
    return examined


def examine(
    table: ScanTable,
    target: DataTarget | None,
    config: CheckConfig,
    modalities: Sequence[str],
    covariates: Sequence[Covariate] = (),
) -> ScanTable:
    """Open every file and say what is wrong, without stopping: what ``check`` does first.

    Args:
        table: What ``read`` found.
        target: What is to be predicted; None looks at no labels.
        config: What is refused. Under ``refuse``, copies are left out as under ``exclude``.
        modalities: Modalities that are used.
        covariates: Columns that the network reads beside the image; an unknown cell is emptied.

    Returns:
        Scans that may be used, and all findings.
    """
    if target and (label_map := target.label_map):
        table = replace(table, scans=tuple(s.with_images_of(label_map.name) for s in table.scans))
    scans, findings = _without_listed(table.scans, config.exclude)
    findings += target.findings(scans) if target else []
    scans, missing = with_known(scans, covariates)
    findings += missing
    probes = probe_all(scans, target, modalities)
    findings += [finding for probe in probes for finding in probe.findings]
    probes = _left(probes, findings)
    findings += _ct_findings(probes, is_excluded=config.is_ct_excluded)
    findings += _geometry_findings(probes, config.spacing_factor)
    probes = _left(probes, findings)
    is_excluded = config.duplicates != "warn"
    findings += find_copies(probes, target, config.near_distance, is_excluded=is_excluded)
    probes = _left(probes, findings)
    findings += _of_sites(probes, target) if target else []
    findings += changing([probe.scan for probe in probes], target) if target else []
    findings += suspected([probe.scan for probe in probes])
    ordered = tuple(sorted([*table.findings, *findings], key=finding_order))
    examined = replace(table, scans=tuple(probe.scan for probe in probes), findings=ordered)
    said = _lost_by_choice(examined, config.max_excluded)
    return replace(examined, findings=tuple(sorted([*ordered, *said], key=finding_order)))


def enforce(table: ScanTable, config: CheckConfig) -> None:
    """Stop where too little is left, or where copies are not to be tolerated.

    Args:
        table: What ``examine`` returned.
        config: How much may be lost.

    Raises:
        DataError: As ``check`` says.
    """
    for finding in table.findings:
        if finding.code in SAID:
            log.warning("%s [%s]", finding.reason, finding.code)
    causes = _counted(f.code for f in table.findings if f.is_excluded)
    if not table.scans:
        first = next((f.reason for f in table.findings if f.is_excluded), "no scan")
        fix = "read the manifest, then correct the data or its settings"
        found = f"none ({causes}; such as: {first})"
        raise DataError("D01", "usable scans", found=found, want="1 or more", fix=fix)
    _enforce_share(table, config.max_excluded)
    _enforce_sites(table)
    copies = [f for f in table.findings if f.code in COPY_CODES]
    if config.duplicates == "refuse" and copies:
        raise DataError(
            "D03",
            "data set",
            found=_counted(f.code for f in copies)
            + f", at {_counted(f.site or 'no site' for f in copies)}",
            want="each patient and each image once",
            fix="read the manifest and clean the data, or keep one copy of each by "
            "data.check.duplicates=exclude",
        )


def _enforce_share(table: ScanTable, max_excluded: float) -> None:
    lost = _lost(table, {*CODES} - CHOSEN)
    said = []
    counts = used_by_site(table)
    n_all = sum(n_found for _, n_found in counts.values())
    for site, (_, n_found) in counts.items():
        codes = lost[site].values()
        # a scan of no known site is no other site's loss, until most scans are so
        is_without = not site and len(counts) > 1
        n_allowed = max(max_excluded, 0.5) * n_all if is_without else max_excluded * n_found
        if len(codes) > n_allowed:
            said.append(f"{site or 'no site'} lost {len(codes)} of {n_found} ({_counted(codes)})")
    if said:
        want = f"at most {max_excluded:.0%} lost at a site"
        fix = "read the manifest and put it right, or raise data.check.max_excluded"
        raise DataError("D02", "scans", found="; ".join(said), want=want, fix=fix)


def _enforce_sites(table: ScanTable) -> None:
    """Refuse to go on without a whole site: nobody would miss it in a table of the others."""
    lost = _lost(table, {*CODES})
    said = [
        f"{site or 'no site'} lost all of its {n_found} ({_counted(lost[site].values())})"
        for site, (n_used, n_found) in used_by_site(table).items()
        # scans of no known site are no site that could be missed, where others are known
        if (site or len(table.n_found) == 1) and n_found and not n_used
        if {*lost[site].values()} != {"D31"}
    ]
    if said:
        raise DataError(
            "D64",
            "sites",
            found="; ".join(said),
            want="scans of each site",
            fix="read the manifest and put it right, or name the sites to use in data.source.sites",
        )


def _lost_by_choice(table: ScanTable, max_excluded: float) -> list[Finding]:
    """Say which sites lose more by a setting than they may lose by faults."""
    lost = _lost(table, CHOSEN - {"D31"})  # who lists subjects knows that they are gone
    return [
        Finding(
            "D67",
            f"{site or 'no site'} goes on with {n_used} of {n_found} scans: "
            f"{_counted(lost[site].values())} are left out by settings",
            site,
            is_excluded=False,
        )
        for site, (n_used, n_found) in used_by_site(table).items()
        if len(lost[site]) > max_excluded * n_found
    ]


def _lost(table: ScanTable, codes: Set[str]) -> dict[str, dict[tuple[str, str], str]]:
    """Return by site the scans that were left out for certain reasons, and the reason."""
    lost: dict[str, dict[tuple[str, str], str]] = defaultdict(dict)
    for finding in table.findings:
        if finding.is_excluded and finding.code in codes:
            lost[finding.site][finding.subject, finding.session] = finding.code
    return lost


def _counted(names: Iterable[str], n_most: int = 4) -> str:
    most = Counter(names).most_common(n_most)
    titles = [f"{CODES[name]} [{name}]" if name in CODES else name for name, _ in most]
    return ", ".join(f"{count} x {title}" for title, (_, count) in zip(titles, most, strict=True))


def _left(probes: Iterable[Probe], findings: Iterable[Finding]) -> tuple[Probe, ...]:
    gone = {(f.site, f.subject, f.session) for f in findings if f.is_excluded}
    return tuple(
        probe
        for probe in probes
        if (probe.scan.site, probe.scan.subject, probe.scan.session) not in gone
    )


def _without_listed(
    scans: Sequence[Scan], listed: Sequence[str]
) -> tuple[list[Scan], list[Finding]]:
    """Leave out who is listed, as ``subject`` or, where sites share names, ``site/subject``.

    Raises:
        DataError: A name without a site fits patients of several sites (D65).
    """
    sites: dict[str, set[str]] = defaultdict(set)
    for scan in scans:
        if scan.subject in listed:
            sites[scan.subject].add(scan.scope)
    shared = sorted(name for name, found in sites.items() if len(found) > 1)
    if shared:
        name, at = shared[0], sorted(sites[shared[0]])
        found = f"{name}, a name at {', '.join(at)}"
        raise DataError(
            "D65",
            "data.check.exclude",
            found=found,
            want="names that fit one patient each",
            fix=f"write {' or '.join(f'{site}/{name}' for site in at[:3])}",
        )
    is_gone = [bool({s.subject, f"{s.site}/{s.subject}"} & {*listed}) for s in scans]
    kept = [scan for scan, gone in zip(scans, is_gone, strict=True) if not gone]
    gone_ones = [scan for scan, gone in zip(scans, is_gone, strict=True) if gone]
    return kept, [about(s, "D31", "listed in data.check.exclude") for s in gone_ones]


def _ct_findings(probes: Iterable[Probe], *, is_excluded: bool) -> list[Finding]:
    return [
        about(probe.scan, "D22", f"{modality} looks like CT", is_excluded=is_excluded)
        for probe in probes
        for modality, view in probe.views.items()
        if view.is_ct
    ]


def _geometry_findings(probes: Iterable[Probe], factor: float) -> list[Finding]:
    """Compare each volume with the others of its site and modality."""
    groups: dict[tuple[str, str], list[Probe]] = defaultdict(list)
    for probe in probes:
        for modality, view in probe.views.items():
            if len(view.shape) == 3:
                groups[probe.scan.site, modality].append(probe)
    findings = []
    for (_, modality), members in groups.items():
        if len(members) < MIN_SITE:
            continue
        views = [member.views[modality] for member in members]
        middle = np.median([view.spacing_mm for view in views], axis=0)
        common = Counter(view.axes for view in views).most_common(1)[0][0]
        for member, view in zip(members, views, strict=True):
            ratio = float(np.max(np.maximum(view.spacing_mm / middle, middle / view.spacing_mm)))
            if ratio > factor or view.axes != common:
                shown = " x ".join(f"{length:.2g}" for length in view.spacing_mm)
                usual = " x ".join(f"{length:.2g}" for length in middle)
                reason = f"{modality} is {shown} mm {view.axes}, the site {usual} mm {common}"
                findings.append(about(member.scan, "D13", reason, is_excluded=False))
    return findings


def _of_sites(probes: Iterable[Probe], target: DataTarget) -> list[Finding]:
    """Return what the task finds odd about each site as a whole."""
    groups: dict[str, list[Probe]] = defaultdict(list)
    for probe in probes:
        groups[probe.scan.site].append(probe)
    return [
        finding
        for site, own in sorted(groups.items())
        for finding in target.site_findings(site, [p.scan for p in own], [p.classes for p in own])
    ]
