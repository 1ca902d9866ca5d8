"""Patient numbers of DICOM headers, held against the folders that name the subjects."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set

from fedmri.data.dicom.choice import Series
from fedmri.data.scans import Finding
from fedmri.data.settings import SourceConfig

Who = tuple[str, str]

PLACEHOLDER = re.compile(
    r"|anon\w*|unknown|none|null|n/?a|removed|patient|test|de-?id\w*|pseudo\w*|[x0?*.\s-]+", re.I
)
MIN_SHARED = 2
MIN_FOLDERS = 3
"""Folders of a site from which on a number that most of them share names nobody."""


def is_number(text: str) -> bool:
    """Tell whether a patient number may name a person, rather than hide one."""
    return not PLACEHOLDER.fullmatch(text.strip())


def patients_of(
    subjects: Mapping[Who, Sequence[Series]], config: SourceConfig
) -> tuple[dict[Who, str], list[Finding]]:
    """Return the name of the patient of each subject's folder.

    Folders of a site with one patient number are one patient, named as the first of them. A number
    that most folders of a site share is a placeholder, unless name and day of birth are one as
    well; so is a number of folders that differ in these. A folder with two numbers is left out.

    Args:
        subjects: Series by site and folder.
        config: Its ``patient_numbers`` may say to believe the folders alone.

    Returns:
        Name by site and folder, without the folders that are left out, and findings.
    """
    if config.patient_numbers == "ignore":
        return {who: who[1] for who in subjects}, []
    numbers = {who: _numbers(series) for who, series in subjects.items()}
    persons = {who: _persons(series) for who, series in subjects.items()}
    findings: list[Finding] = []
    patients: dict[Who, str] = {}
    for site in sorted({site for site, _ in subjects}):
        own = {who: found for who, found in numbers.items() if who[0] == site}
        more, said = _of_site(site, own, persons)
        patients |= more
        findings += [*said, *_same_person(site, own, persons, more)]
    return patients, [*findings, *_at_two_sites(numbers, patients)]


def _numbers(series: Sequence[Series]) -> set[str]:
    found = {one.patient.strip().upper() for each in series for one in each.slices}
    return {number for number in found if is_number(number)}


def _persons(series: Sequence[Series]) -> frozenset[str]:
    return frozenset(one.person for each in series for one in each.slices)


def _of_site(
    site: str, numbers: Mapping[Who, set[str]], persons: Mapping[Who, frozenset[str]]
) -> tuple[dict[Who, str], list[Finding]]:
    folders: dict[str, list[Who]] = defaultdict(list)
    for who in sorted(numbers):
        for number in numbers[who]:
            folders[number].append(who)
    patients: dict[Who, str] = {}
    findings: list[Finding] = []
    for who in numbers:
        if len(numbers[who]) > 1:
            findings.append(_two_numbers(who, len(numbers[who])))
        else:
            patients[who] = who[1]
    for sharing in folders.values():
        same = [who for who in sharing if who in patients]
        if len(same) < MIN_SHARED:
            continue
        if _is_placeholder({persons[who] for who in same}, len(same), len(numbers)):
            reason = (
                f"{len(same)} of {len(numbers)} folders of {site} have one patient number: it is "
                "taken for a placeholder, and each folder for a patient. If they are one patient, "
                "put them into one folder"
            )
            findings.append(Finding("D60", reason, site, is_excluded=False))
        else:
            patients |= dict.fromkeys(same, same[0][1])
            findings.append(_joined(same))
    return patients, findings


def _is_placeholder(persons: Set[frozenset[str]], n_sharing: int, n_folders: int) -> bool:
    """Whether one number is that of several people, as name and day of birth say, or else most."""
    nobody = frozenset({""})
    if nobody not in persons:
        return len(persons) > 1
    return n_sharing >= MIN_FOLDERS and 2 * n_sharing > n_folders


def _joined(same: Sequence[Who]) -> Finding:
    site, first = same[0]
    names = ", ".join(name for _, name in same[1:])
    reason = (
        f"{names} and {first} have one patient number: they are one patient, {first}, and stay on "
        "one side of the split. If not, set data.source.patient_numbers=ignore"
    )
    return Finding("D60", reason, site, first, is_excluded=False)


def _same_person(
    site: str,
    numbers: Mapping[Who, set[str]],
    persons: Mapping[Who, frozenset[str]],
    patients: Mapping[Who, str],
) -> list[Finding]:
    """Warn of folders with one name and day of birth, and several patient numbers."""
    folders: dict[frozenset[str], list[str]] = defaultdict(list)
    for who in sorted(numbers):
        if who in patients and len(persons[who]) == 1 and "" not in persons[who]:
            folders[persons[who]].append(patients[who])
    several = [sorted(set(names)) for names in folders.values() if len(set(names)) > 1]
    # what most folders of a site say is what an anonymiser wrote
    told = [names for names in several if 2 * len(names) <= len(numbers)]
    return [
        Finding(
            "D60",
            f"{', '.join(names)} have one name and day of birth, and {len(names)} patient numbers: "
            "they count as different patients. If they are one, put them into one folder, or name "
            "a column that says so in data.source.key_column",
            site,
            names[0],
            is_excluded=False,
        )
        for names in told
    ]


def _two_numbers(who: Who, n_numbers: int) -> Finding:
    reason = (
        f"{who[1]} holds files of {n_numbers} patient numbers. Give each patient a folder, or set "
        "data.source.patient_numbers=ignore if they are pseudonyms of one patient"
    )
    return Finding("D60", reason, *who)


def _at_two_sites(numbers: Mapping[Who, set[str]], patients: Mapping[Who, str]) -> list[Finding]:
    """Say that sites share numbers: they count by site, as hospitals give them."""
    sites: dict[str, set[str]] = defaultdict(set)
    shared_by: dict[str, int] = defaultdict(int)
    for who in patients:
        for number in numbers[who]:
            sites[number].add(who[0])
            shared_by[number] += 1
    shared = [found for number, found in sites.items() if len(found) > 1]
    if not shared or max(shared_by.values()) > len(patients) / 2:  # a placeholder
        return []
    reason = (
        f"{len(shared)} patient numbers are in DICOM headers of several sites, such as "
        f"{', '.join(sorted(shared[0]))}: they count as different patients. If they are the same, "
        "name a column that all subject tables share in data.source.key_column"
    )
    return [Finding("D62", reason, is_excluded=False)]
