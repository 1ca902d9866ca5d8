"""What was found on disk, before anything is opened: scans, and findings about them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from unicodedata import normalize


@dataclass(frozen=True)
class Scan:
    """One imaging session of one subject: the files that are read together.

    Attributes:
        site: Institution, or ``""`` where the source does not say.
        subject: Patient. All scans of a subject stay on one side of every split.
        session: Session label (BIDS ``ses-``), or the file's stem in a folder of 2D images;
            ``""`` where there is only one.
        images: File (or DICOM series folder) by modality, such as ``{"FLAIR": Path(…)}``.
        labels: Mask or label map by derivative name, such as ``{"mask": Path(…)}``.
        columns: Row of the subject table, as text in NFC; missing values are ``""``.
        images_of: Images by modality that a label belongs to, by its name, where these are not
            ``images``: another run, say.
        unpaired: Why a label that is there is given to no image, by its name.
        scope: Where the subject's name counts: at a site that numbers its own patients, the name of
            the site; ``""`` where the name is one patient's wherever it appears.
        drawn: Classes that its hospital draws in label maps; None draws all.
        meanings: What values of its label map mean, as ``VALUE:CLASS``, where its data set has
            others than the plan says; empty takes the plan's.
    """

    site: str
    subject: str
    session: str
    images: Mapping[str, Path]
    labels: Mapping[str, Path] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    images_of: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)
    unpaired: Mapping[str, str] = field(default_factory=dict)
    scope: str = ""
    drawn: tuple[str, ...] | None = None
    meanings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # of two ways to write an umlaut, a Mac takes the one that nobody types
        pairs = ((normalize("NFC", k), normalize("NFC", v)) for k, v in self.columns.items())
        object.__setattr__(self, "columns", dict(pairs))

    def with_images_of(self, label: str) -> Scan:
        """Return the scan with the images that a label was drawn on."""
        return replace(self, images=self.images_of.get(label, self.images))

    @property
    def patient(self) -> tuple[str, str]:
        """Who it is: equal names of two scopes are two patients."""
        return self.scope, self.subject

    @property
    def key(self) -> str:
        """Name that is unique in a data set."""
        return f"{self.subject}_{self.session}" if self.session else self.subject


@dataclass(frozen=True)
class Finding:
    """Something that the preflight has to say about a scan, a site or the data set.

    Attributes:
        code: Error code, a key of ``fedmri.errors.CODES``.
        reason: What was found and what was wanted, in one sentence; may name files: local only.
        site: Site concerned, or ``""``.
        subject: Subject concerned, or ``""``.
        session: Session concerned, or ``""``.
        is_excluded: Whether the scan is left out because of it; else it is a warning.
    """

    code: str
    reason: str
    site: str = ""
    subject: str = ""
    session: str = ""
    is_excluded: bool = True


def about(scan: Scan, code: str, reason: str, *, is_excluded: bool = True) -> Finding:
    """Return a finding about a scan."""
    return Finding(code, reason, scan.site, scan.subject, scan.session, is_excluded)


@dataclass(frozen=True)
class ScanTable:
    """Scans of a data set and what is known to be wrong with it.

    Attributes:
        scans: Scans that may be used, sorted by site, subject and session.
        findings: Findings so far, in the same order.
        n_found: Scans found by site before any was excluded.
    """

    scans: tuple[Scan, ...]
    findings: tuple[Finding, ...] = ()
    n_found: Mapping[str, int] = field(default_factory=dict)


def number(text: str) -> float:
    """Return a cell as a number; NaN where it is none.

    Python alone reads ``4_5`` as 45.
    """
    try:
        return math.nan if "_" in text else float(text)
    except ValueError:
        return math.nan
