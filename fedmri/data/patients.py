"""Names of subjects that are one patient: grouped by a declared pattern, else only suspected.

A visit often hides in a name: ``MR024780B`` and ``MR024780D`` are two examinations of one patient.
Where the two lie on both sides of a split, a model is tested on whom it was trained on. A pattern
in the settings says what part of a name is the patient. Without one nothing is grouped, for
``A12-01`` may be patient 1 of ward A12, and what looks like a visit is reported.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from fedmri.data.batches.site_data import Split
from fedmri.data.scans import Finding, Scan, ScanTable

MOST_VISITS = 4
"""Names a base, on average, above which the last part of a name counts patients, not visits."""

_WORDS = (
    "visit|v|session|sess|ses|scan|exam|study|mr|mri|timepoint|time|tp|t|month|mo|m|year|yr|y|week|"
    "w|day|d|run|rep|repeat|retest|test|followup|follow|fu|baseline|base|bl|preop|postop|pre|post"
)
_VISIT = re.compile(
    rf"(?P<base>.*\d)(?:[-_. ]*(?:{_WORDS})[-_. ]*\d{{0,3}}|(?<=\d\d\d)[a-z]|[-_. ]+[a-z]|"
    r"[-_. ]+\d{1,3})",
    re.IGNORECASE,
)

_Named = TypeVar("_Named", Scan, Finding)


def patient_of(name: str, pattern: str) -> str:
    """Return group 1 of a pattern that fits the whole name; else the name itself."""
    match = re.fullmatch(pattern, name) if pattern else None
    return (match[1] or name) if match else name


def without_patients(table: ScanTable, gone: Container[str], pattern: str = "") -> ScanTable:
    """Return the table as if some patients had never been in it.

    Args:
        table: What a reader found.
        gone: Names of subjects or of patients; with one name of a patient all go.
        pattern: See ``grouped``.

    Returns:
        The table, with a finding D76 that says how many patients went, and names none.
    """
    names = {scan.subject for scan in table.scans}
    names |= {finding.subject for finding in table.findings if finding.subject}
    left = {patient_of(name, pattern) for name in names if name in gone}
    left |= {patient for name in names if (patient := patient_of(name, pattern)) in gone}
    if not left:
        return table
    scans = tuple(s for s in table.scans if patient_of(s.subject, pattern) not in left)
    kept = [f for f in table.findings if patient_of(f.subject, pattern) not in left]
    reason = f"{len(left)} patients withdrew their consent: they are left out"
    kept.append(Finding("D76", reason, is_excluded=False))
    return replace(table, scans=scans, findings=tuple(kept))


def grouped(table: ScanTable, pattern: str) -> ScanTable:
    """Return the table with each subject named by its patient; an empty pattern changes nothing.

    The old name goes before the session, so that scans of a patient keep names of their own.

    Args:
        table: What a reader found.
        pattern: Regular expression whose group 1 is the patient; names that it does not fit stay.

    Returns:
        The table, with a finding C12 for each site that says how many patients the names are.
    """
    if not pattern:
        return table
    findings = [_named(finding, pattern) for finding in table.findings]
    scans = [_named(scan, pattern) for scan in table.scans]
    names: dict[str, set[str]] = defaultdict(set)
    for scan in table.scans:
        names[scan.site].add(scan.subject)
    for site, own in sorted(names.items()):
        n_fit = sum(re.fullmatch(pattern, name) is not None for name in own)
        n_subjects = len({patient_of(name, pattern) for name in own})
        reason = (
            f"{len(own)} names are {n_subjects} patients: "
            f"data.source.patient_pattern fits {n_fit} of them"
        )
        findings.append(Finding("C12", reason, site, is_excluded=False))
    return replace(table, scans=tuple(scans), findings=tuple(findings))


def _named(item: _Named, pattern: str) -> _Named:
    patient = patient_of(item.subject, pattern)
    if patient == item.subject:
        return item
    session = "-".join(part for part in (item.subject, item.session) if part)
    return replace(item, subject=patient, session=session)


def suspects(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return names that look like visits of one patient, by what they share.

    A visit is a last letter after three digits or a separator, a word such as ``v2`` or
    ``followup``, or a short number after a separator, each after a digit. ``A61A`` and ``A61B``
    are codes of two patients in TCGA. Where most bases have many names, the numbers count
    patients (``site1_001`` to ``site1_040``), and none is suspected.

    Args:
        names: Names of the subjects of one site.

    Returns:
        Two names or more for each base, sorted.
    """
    bases: dict[str, set[str]] = defaultdict(set)
    for name in names:
        match = _VISIT.fullmatch(name)
        bases[(match["base"] if match else name).casefold()].add(name)
    found = {base: tuple(sorted(own)) for base, own in sorted(bases.items()) if len(own) > 1}
    n_named = sum(map(len, found.values()))
    return found if n_named <= MOST_VISITS * len(found) else {}


def suspected(scans: Sequence[Scan]) -> list[Finding]:
    """Return a warning for each group of subjects of a site that may be one patient (C13)."""
    return [finding for finding, _ in _suspected(scans)]


def crossing(scans: Sequence[Scan], places: Mapping[str, tuple[str, Split]]) -> list[Finding]:
    """Return a warning for each suspected group that a partition or a split takes apart (C14).

    Args:
        scans: Scans with the sites that they came from.
        places: Site that trains or tests, and side of the split, by subject.
    """
    findings = []
    for finding, names in _suspected(scans):
        where = {name: places[name] for name in names if name in places}
        if len(set(where.values())) > 1:
            said = (f"{name} in {side} of {site}" for name, (site, side) in where.items())
            reason = f"{', '.join(list(said)[:5])}: if they are one patient, scores are too good"
            findings.append(replace(finding, code="C14", reason=reason))
    return findings


def _suspected(scans: Sequence[Scan]) -> Iterator[tuple[Finding, tuple[str, ...]]]:
    subjects: dict[str, set[str]] = defaultdict(set)
    for scan in scans:
        subjects[scan.site].add(scan.subject)
    for site, own in sorted(subjects.items()):
        for names in suspects(own).values():
            listed = ", ".join(names[:5])
            reason = f"{listed} may be visits of one patient: see data.source.patient_pattern"
            yield Finding("C13", reason, site, names[0], is_excluded=False), names
