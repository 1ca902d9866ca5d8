"""Names of BIDS files: what they say, which modality they are, and which files belong together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FREE = frozenset({"run", "acq", "rec"})
"""Entities that a file may have beyond those that its modality names."""

SHARED = ("acq", "ce", "rec", "dir", "run", "echo", "flip", "inv", "mt", "part", "chunk", "trc")
"""Entities that say of which image a label is; ``space`` is compared beside them."""

NATIVE = frozenset({"orig", "native", "individual", "scanner", "subject"})
"""Values of ``space`` that mean the image's own."""

LABEL_SUFFIXES = frozenset({"mask", "dseg"})
NAME = re.compile(
    r"sub-(?P<subject>[A-Za-z0-9]+)(?:_ses-(?P<session>[A-Za-z0-9]+))?"
    r"(?P<entities>(?:_[A-Za-z]+-[A-Za-z0-9+]+)*)_(?P<suffix>[A-Za-z0-9]+)"
    r"\.(?P<ending>(?i:nii|nii\.gz|img|img\.gz|mgz|mgh|nrrd|mha|mhd|mnc))"
)
"""Formats beside NIfTI are known so that the preflight can name them."""


@dataclass(frozen=True)
class BidsFile:
    """An image file and what its name says.

    Attributes:
        path: The file.
        entities: Entities between session and suffix, by key.
        suffix: Last part of the name, such as ``T1w``.
        is_nifti: Whether the name ends as that of a NIfTI file.
    """

    path: Path
    entities: Mapping[str, str]
    suffix: str
    is_nifti: bool = True

    def matches(self, modality: str) -> bool:
        """Tell whether this is the modality, by the rule of ``fedmri.data.bids.data_set``."""
        suffix, pairs = parts_of(modality)
        bound = {k: v for k, v in self.entities.items() if k not in FREE or k in pairs}
        return suffix == self.suffix and bound == dict(pairs)

    @property
    def rank(self) -> tuple[int, int, str]:
        """What is taken first: few entities, then a low run, then the name."""
        run = self.entities.get("run", "0")
        return len(self.entities), int(run) if run.isdigit() else 0, self.path.name

    @property
    def names(self) -> frozenset[str]:
        """Names by which a label is asked for: with all, with its own and without entities."""
        own = [f"{key}-{value}" for key, value in self.entities.items()]
        alone = [name for name in own if name.split("-")[0] not in {*SHARED, "space", "mod"}]
        return frozenset({self.suffix, *("_".join([*each, self.suffix]) for each in (own, alone))})

    def is_of(self, image: BidsFile) -> bool:
        """Tell whether a label with this name may be one of an image.

        What both name must agree (``run-1`` and ``run-01`` do), and what the label alone names is
        another image's: but for the first run, and for a space that is the image's own.
        """
        if self.entities.get("mod", image.suffix) != image.suffix:
            return False
        mine, its = _shared(self), _shared(image)
        its.setdefault("run", "1")
        is_same = all(value == its.get(key) for key, value in mine.items())
        return is_same and self._is_in_space_of(image)

    def is_exactly_of(self, image: BidsFile) -> bool:
        """Tell whether label and image name the same entities of those that they share."""
        return self.is_of(image) and _shared(self) == _shared(image)

    def _is_in_space_of(self, image: BidsFile) -> bool:
        mine, its = self.entities.get("space", ""), image.entities.get("space", "")
        is_own = not its and mine.lower() in {*NATIVE, image.suffix.lower()}
        return not mine or mine == its or is_own


def parts_of(modality: str) -> tuple[str, Mapping[str, str]]:
    """Return suffix and entities of a modality such as ``ce-gadolinium_T1w``."""
    *wanted, suffix = modality.split("_")
    return suffix, dict(entity.split("-", 1) for entity in wanted if "-" in entity)


def parse(path: Path) -> tuple[tuple[str, str], BidsFile | None]:
    """Return subject and session of a file, and the file; None where its name is no image's."""
    match = NAME.fullmatch(path.name)
    if match is None:
        return ("", ""), None
    pairs = [part.split("-", 1) for part in match["entities"].split("_") if part]
    file = BidsFile(path, dict(pairs), match["suffix"], match["ending"].lower().startswith("nii"))
    return (match["subject"], match["session"] or ""), file


def _shared(file: BidsFile) -> dict[str, str]:
    found = {key: file.entities[key] for key in SHARED if key in file.entities}
    return {k: str(int(v)) if v.isdecimal() and v.isascii() else v for k, v in found.items()}
