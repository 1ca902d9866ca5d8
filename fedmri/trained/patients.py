"""Whose scan an input is: names of files and folders, and what they cannot tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fedmri.data.bids.bids_file import BidsFile, parse

if TYPE_CHECKING:
    from fedmri.trained.inputs import Input, Remark


def home_of(path: Path) -> Path | None:
    """Return the folder within which a file's subject is one person; None without a BIDS name."""
    (subject, _), file = parse(path)
    if file is None:
        return None
    place = path.absolute()
    for folder in place.parents:
        if folder.name == f"sub-{subject}":
            return folder.parent.resolve()
    return place.parent.resolve()


def named_once(found: Iterable[Input]) -> tuple[list[Input], list[Remark]]:
    """Return the scans without those of the very same files, and a note about each of these."""
    kept: dict[frozenset[Path], Input] = {}
    notes: list[Remark] = []
    for one in found:
        files = frozenset(path.resolve() for path in one.scan.images.values())
        if files in kept:
            notes.append(("D29", f"{one.name} was named twice: it is predicted on once"))
        else:
            kept[files] = one
    return list(kept.values()), notes


def named_apart(found: Iterable[Input]) -> list[Input]:
    """Return the scans with a name of its own for each, whatever the case of its letters.

    Equal names of two inputs, or of subjects in two data sets, are not known to be one patient. So
    the second becomes another one.
    """
    kept: dict[str, Input] = {}
    people: dict[str, tuple[str, Path | None]] = {}
    for one in found:
        home = home_of(next(iter(one.scan.images.values())))
        named, number, why = one, 1, ""
        while reason := _taken(named, home, kept, people):
            number, why = number + 1, why or reason
            subject = f"{one.scan.subject}x{number}"
            name = one.name.replace(f"sub-{one.scan.subject}", f"sub-{subject}", 1)
            remarks = (*one.remarks, ("D62", f"{why}: this one counts as another patient"))
            scan = replace(one.scan, subject=subject)
            named = replace(one, scan=scan, name=name, remarks=remarks)
        kept[named.name.casefold()] = named
        people[named.scan.subject.casefold()] = named.scan.subject, home
    return list(kept.values())


def _taken(
    one: Input,
    home: Path | None,
    kept: Mapping[str, Input],
    people: Mapping[str, tuple[str, Path | None]],
) -> str:
    """Return why a name cannot be this input's, or ``""``; disks may not know cases apart."""
    subject = one.scan.subject
    if other := kept.get(one.name.casefold()):
        return f"another input is called {other.name}"
    known, its_home = people.get(subject.casefold(), (subject, home))
    if its_home != home:
        return f"another folder has a patient called sub-{subject}"
    if known != subject:
        return f"another patient's name differs from sub-{subject} by the case of letters alone"
    return ""


def doubts_of(named: Mapping[str, Path]) -> list[Remark]:
    """Return what file names say against the modalities that a person gave, or one patient."""
    parsed = {name: parse(path) for name, path in named.items()}
    told: list[Remark] = [
        ("D24", f"{file.path.name} is not named as {name}, as which it was given")
        for name, (_, file) in parsed.items()
        if file is not None and not file.matches(name)
    ]
    who = sorted({"_".join(filter(None, key)) for key, file in parsed.values() if file is not None})
    if len(who) > 1:
        told.append(("D62", f"files of {', '.join(who)} were given as one scan"))
    return told


def by_patient(
    sessions: Mapping[tuple[str, str], Sequence[BidsFile]], modalities: Sequence[str]
) -> list[tuple[tuple[str, str], list[BidsFile], tuple[Remark, ...]]]:
    """Return files of one session that belong together, and what is to be said of it.

    Folders may hold a modality each. Where two folders hold the same one, they are data sets with
    patients of their own.
    """
    found: list[tuple[tuple[str, str], list[BidsFile], tuple[Remark, ...]]] = []
    for who, files in sorted(sessions.items()):
        homes: dict[Path | None, list[BidsFile]] = {}
        for file in files:
            homes.setdefault(home_of(file.path), []).append(file)
        held = [{m for m in modalities for f in each if f.matches(m)} for each in homes.values()]
        if len(set().union(*held)) < sum(map(len, held)):
            found += [(who, each, ()) for each in homes.values()]
            continue
        shown = ", ".join(f.path.name for f in files)
        remark = ("D62", f"{shown} lie in several folders and count as one patient's")
        found.append((who, list(files), (remark,) if len(homes) > 1 else ()))
    return found
