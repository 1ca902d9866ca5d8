"""What every DICOM object of a model says of the model that made it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from highdicom import AlgorithmIdentificationSequence
from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes
from pydicom.uid import UID, generate_uid

from fedmri.trained.file.card import ModelCard

SCHEME = "99FEDMRI"
"""Coding scheme of a model's own classes; names that begin with 99 are private."""
LONGEST_CODE, LONGEST_MEANING = 16, 64
MANUFACTURER = "fedmri"
UTF_8 = "ISO_IR 192"
"""Names of classes may have letters of any language."""


@dataclass(frozen=True)
class Origin:
    """The model behind an object.

    Attributes:
        card: Of the model.
        unit: Unit of a predicted value in UCUM, such as ``a`` for years; ``1`` has none.
    """

    card: ModelCard
    unit: str = "1"

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.card.plan.name[:LONGEST_MEANING]

    @property
    def fingerprint(self) -> str:
        """First digits of the digest of the weights."""
        return self.card.sha256[:16]

    @property
    def device(self) -> UID:
        """Identity of the model as an observer: the same weights are the same device."""
        return generate_uid(entropy_srcs=[self.card.sha256])

    @property
    def equipment(self) -> dict[str, Any]:
        """What every object says of the machine that made it, as highdicom names it."""
        return {
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": self.name,
            "software_versions": version("fedmri"),
            "device_serial_number": self.fingerprint,
            "series_description": self.description,
            "specific_character_set": UTF_8,
        }

    @property
    def description(self) -> str:
        """Description of each series."""
        return f"{self.name} (research only)"[-LONGEST_MEANING:]

    @property
    def algorithm(self) -> AlgorithmIdentificationSequence:
        """Name and version of what segmented."""
        return AlgorithmIdentificationSequence(
            name=self.name,
            family=codes.DCM.ArtificialIntelligence,
            version=self.fingerprint,
            source=MANUFACTURER,
            parameters={"weights": self.card.sha256, "plan": self.card.plan_sha256},
        )


def concept(name: str) -> CodedConcept:
    """Return a private code for a word of a model: a class, or what is predicted."""
    is_code = name.isascii() and len(name) <= LONGEST_CODE and "\\" not in name
    value = name if is_code else hashlib.sha256(name.encode()).hexdigest()[:LONGEST_CODE]
    return CodedConcept(value=value, scheme_designator=SCHEME, meaning=name[:LONGEST_MEANING])
