"""What a patient has left behind at this site: prepared scans, results, and runs taken part in."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from fedmri.clients.consent.approval import seen_plans
from fedmri.clients.consent.withdrawn import plain_name
from fedmri.clients.egress.ledger import entries
from fedmri.clients.process.home import ClientHome
from fedmri.clients.training.own_data import MANIFEST, PREPARED
from fedmri.clients.training.results import CASES, remove_subjects
from fedmri.data.patients import patient_of
from fedmri.data.preparation.prepared import Prepared, read_site
from fedmri.errors import DataError
from fedmri.trained.file.names import MODEL


@dataclass(frozen=True)
class TakenPart:
    """A run that a patient was part of.

    Attributes:
        plan: Content hash of the plan.
        run: Name of the run.
        n_rounds: Rounds whose update left this site.
    """

    plan: str
    run: str
    n_rounds: int


@dataclass(frozen=True)
class Traces:
    """What a patient has left behind at a site.

    Attributes:
        taken_part: Runs that the patient was part of.
        states: What the site keeps between rounds, and its own models: all depended on the patient.
        files: Files of the patient's own scans, as they were prepared.
        lists: Files that name the patient, and are made anew without.
        results: Folders with results of the patient.
        names: What the patient is called.
    """

    taken_part: tuple[TakenPart, ...]
    states: tuple[Path, ...]
    files: tuple[Path, ...]
    lists: tuple[Path, ...]
    results: tuple[Path, ...]
    names: frozenset[str]

    def remove(self) -> None:
        """Remove the patient's prepared scans and results; state is left to the site's people."""
        for path in (*self.files, *self.lists):
            path.unlink(missing_ok=True)
        for folder in self.results:
            remove_subjects(folder, self.names)


def traces(home: ClientHome, names: frozenset[str]) -> Traces:
    """Return what a patient has left behind in the prepared data of all plans, and of it.

    Args:
        home: The site.
        names: What the patient is called; see ``names_of``.
    """
    plans = set[str]()
    states, files, results = [], [], []
    lists = [path for path in (home.folder / MANIFEST,) if path.exists()]
    for path, prepared in _prepared_with(home, names):
        plans.add(path.parents[1].name)
        own = [folder for folder in sorted(path.parent.iterdir()) if folder.is_dir()]
        kept = [folder / name for folder in own for name in ("state", MODEL)]
        states += [path for path in kept if path.exists()]
        results += [folder for folder in own if (folder / CASES).exists()]
        for scan in prepared.scans:
            if plain_name(scan.subject) in names:
                files += sorted(scan.image.parent.glob(f"{scan.image.stem}*"))
        lists += [path, *sorted(path.parents[1].glob("*.tsv"))]
    return Traces(
        taken_part=tuple(_taken_part(home, plans)),
        states=tuple(states),
        files=tuple(dict.fromkeys(files)),
        lists=tuple(dict.fromkeys(lists)),
        results=tuple(results),
        names=names,
    )


def names_of(home: ClientHome, subject: str) -> frozenset[str]:
    """Return what a patient is called: as given, and by the patterns of the site and its plans.

    A pattern makes the names of visits one patient, and any of these names may be given.
    """
    name, plans = plain_name(subject), [signed.plan for signed in seen_plans(home)]
    patterns = {plan.data.source.patient_pattern for plan in plans}
    return frozenset(patient_of(name, p) for p in {"", home.config.data.patient_pattern, *patterns})


def _prepared_with(home: ClientHome, names: frozenset[str]) -> Iterator[tuple[Path, Prepared]]:
    """Yield the prepared data that a patient is in; files of another version tell nothing."""
    for path in sorted(home.runs.glob(f"*/*/{PREPARED}")):
        with suppress(DataError):
            prepared = read_site(path)
            if any(plain_name(scan.subject) in names for scan in prepared.scans):
                yield path, prepared


def _taken_part(home: ClientHome, plans: set[str]) -> Iterator[TakenPart]:
    rounds: dict[tuple[str, str], set[int]] = defaultdict(set)
    for entry in entries(home.ledger):
        if entry["kind"] == "update" and entry.get("plan") in plans:
            rounds[entry["plan"], entry["run"]].add(entry["round"])
    for (plan, run), found in sorted(rounds.items()):
        yield TakenPart(plan, run, len(found))


def for_coordinator(site: str, taken_part: tuple[TakenPart, ...]) -> str:
    """Return what a coordinator may be told, as JSON: counts of rounds, and no name."""
    return json.dumps({"site": site, "withdrawn_from": [asdict(one) for one in taken_part]})
