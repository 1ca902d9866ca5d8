"""Which files of a session are read together: an image for each modality, and labels of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fedmri.data.bids.bids_file import BidsFile, parts_of
from fedmri.data.scans import Finding, Scan

Choice = dict[str, BidsFile]
"""An image for each modality."""


@dataclass(frozen=True)
class Session:
    """The files of a session that may be read.

    Attributes:
        files: Images that are each modality, those that are taken first in front.
        labels: Masks and label maps, by each name that they can be asked for.
    """

    files: Mapping[str, Sequence[BidsFile]]
    labels: Mapping[str, Sequence[BidsFile]] = field(default_factory=dict)

    @property
    def first(self) -> Choice:
        """The images that are taken where no label decides."""
        return {modality: files[0] for modality, files in self.files.items() if files}

    def scan(self, subject: str, session: str) -> tuple[Scan, list[Finding]]:
        """Return the session as a scan, and a warning for each modality that several files are.

        A label is given with the images that it belongs to (``Scan.images_of``). Where it fits
        none of them, or several that its name does not tell apart, it is given to no image and the
        scan says why (``Scan.unpaired``).
        """
        first, labels = self.first, dict[str, BidsFile]()
        choices: dict[str, Choice] = {}
        unpaired: dict[str, str] = {}
        for name, files in sorted(self.labels.items()):
            pair = self._pair(files)
            if isinstance(pair, str):
                unpaired[name] = pair
            else:
                labels[name], choices[name] = pair
        paths = {modality: file.path for modality, file in first.items()}
        images_of = {
            name: {modality: file.path for modality, file in choice.items()}
            for name, choice in choices.items()
            if choice != first
        }
        places = {name: file.path for name, file in labels.items()}
        scan = Scan("", subject, session, paths, places, {}, images_of, unpaired)
        return scan, self._choices_told(first, choices)

    def _pair(self, labels: Sequence[BidsFile]) -> tuple[BidsFile, Choice] | str:
        """Return the one label that fits, with its images, or why there is none."""
        found: list[tuple[BidsFile, Choice]] = []
        reasons: list[str] = []
        for label in sorted(labels, key=lambda label: label.rank):
            choice = self._images_of(label)
            if isinstance(choice, str):
                reasons.append(choice)
            else:
                found.append((label, choice))
        if not found:
            return "; ".join(reasons)
        best = min((choice for _, choice in found), key=_rank)
        fitting = [label for label, choice in found if choice == best]
        if len(fitting) > 1:
            names = ", ".join(_shown(label) for label in fitting)
            return f"{len(fitting)} files of this name fit the same image: {names}"
        return fitting[0], best

    def _images_of(self, label: BidsFile) -> Choice | str:
        """Return the images that a label belongs to, or why it belongs to none."""
        chosen = self.first
        is_placed = False
        for modality, files in self.files.items():
            fitting = [file for file in files if label.is_of(file)]
            if len(fitting) > 1:
                fitting = [file for file in fitting if label.is_exactly_of(file)] or fitting
            if len(fitting) > 1:
                names = ", ".join(file.path.name for file in fitting)
                return f"{label.path.name} fits {len(fitting)} files of {modality}: {names}"
            if fitting:
                chosen[modality], is_placed = fitting[0], True
        if not is_placed:
            names = ", ".join(f.path.name for files in self.files.values() for f in files)
            return f"{label.path.name} names another run, space or acquisition than {names}"
        return chosen

    def _choices_told(self, first: Choice, choices: Mapping[str, Choice]) -> list[Finding]:
        findings = []
        for modality, files in self.files.items():
            if len(files) < 2:
                continue
            reason = f"{len(files)} files are {modality}: {first[modality].path.name} is taken"
            for name, choice in choices.items():
                if choice[modality] != first[modality] and "/" not in name:
                    reason += f", and {choice[modality].path.name} for the label {name}"
            findings.append(Finding("D25", reason, is_excluded=False))
        return findings


def by_modality(
    files: Sequence[BidsFile], modalities: Sequence[str]
) -> tuple[dict[str, list[BidsFile]], list[Finding]]:
    """Return the files that are each modality, each file for one modality only.

    A file that is several modalities goes to the one that names most of its entities, then to the
    first. A modality that is left without a file is told by name (D56).
    """
    found = {
        modality: sorted((f for f in files if f.matches(modality)), key=lambda f: f.rank)
        for modality in modalities
    }
    owner = {
        file.path: max((m for m in modalities if file in found[m]), key=_n_entities)
        for file in files
        if any(file in matching for matching in found.values())
    }
    kept = {m: [f for f in matching if owner[f.path] == m] for m, matching in found.items()}
    findings = []
    for modality, matching in found.items():
        if matching and not kept[modality]:
            file = matching[0]
            names = " and ".join(m for m in modalities if file in found[m])
            reason = f"{file.path.name} is {names}: it counts as {owner[file.path]} alone"
            findings.append(Finding("D56", reason, is_excluded=False))
    return kept, findings


def _n_entities(modality: str) -> int:
    return len(parts_of(modality)[1])


def _rank(choice: Choice) -> list[tuple[int, int, str]]:
    return [file.rank for file in choice.values()]


def _shown(label: BidsFile) -> str:
    """Return a label with its pipeline, for files of two may have one name."""
    parents = [path.name for path in label.path.parents]
    place = parents.index("derivatives") if "derivatives" in parents else 0
    return f"{parents[place - 1]}/{label.path.name}" if place else label.path.name
