"""Temperature and coverage as the sums of a consortium give them, in the form of a simulation's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedmri.evaluate.proportions import share_of
from fedmri.evaluate.reliability.by_sums import WAYS, gain_over_sites
from fedmri.reports.reliability.coverage import Coverage
from fedmri.reports.reliability.temperature import AS_IT_IS, BY_HOSPITAL, FOR_ALL, Tempered
from fedmri.reports.statistics.weighted import Array

HOW = dict(zip(WAYS, (AS_IT_IS, FOR_ALL, BY_HOSPITAL), strict=True))


@dataclass(frozen=True)
class SummedReliability:
    """What hospitals' sums say of one model.

    Attributes:
        label: The model.
        sites: Hospitals that were asked, in the order of the sums.
        temperature: Of all hospitals; 0 for none.
        limit: Of sets or intervals; below 0 for none.
        sums: Over the test patients of each hospital, each of shape ``(n_sites,)``.
    """

    label: str
    sites: Sequence[str]
    temperature: float
    limit: float
    sums: Mapping[str, Array]

    @classmethod
    def of(cls, label: str, record: Mapping[str, Any]) -> SummedReliability:
        """Return what a record of a run has."""
        found = record["reliability"]
        sums = {name: np.array(values) for name, values in found["sums"].items()}
        sites = sorted(record["sites"])
        return cls(label, sites, float(found["temperature"]), float(found["limit"]), sums)

    @property
    def is_of_classes(self) -> bool:
        """Whether answers are classes; else they are values."""
        return "right" in self.sums

    @property
    def n(self) -> int:
        """Test patients."""
        return int(self.sums["n"].sum())

    @property
    def mean_confidence(self) -> float:
        """Mean probability of the called class, as it is."""
        return self._mean("confidence_plain")

    @property
    def share_right(self) -> float:
        """Share of patients who were called right."""
        return self._mean("right")

    def temperatures(self) -> Iterator[Tempered]:
        """Yield calibration as it is and under temperatures; nothing where there is none."""
        if not (self.is_of_classes and self.temperature and self.n):
            return
        used = {"plain": 1.0, "common": self.temperature, "own": math.nan}
        for way, value in used.items():
            is_plain = way == "plain"
            yield Tempered(
                *(self.label, HOW[way], value, value),
                n_own=int(self.sums["has_own_temperature"].sum()) if way == "own" else 0,
                n_validation=0 if is_plain else int(self.sums["n_validated"].sum()),
                ece=math.nan,
                null=math.nan,
                brier=self._mean(f"brier_{way}"),
                gained=None if is_plain else gain_over_sites(self.sums, way),
                n_subjects=self.n,
            )

    def coverages(self) -> Iterator[Coverage]:
        """Yield coverage over all hospitals and at each that sent sums."""
        if self.limit < 0 or not self.n:
            return
        yield self._coverage("", np.ones(len(self.sites), dtype=np.bool_))
        for place, site in enumerate(self.sites):
            if self.sums["n"][place]:
                yield self._coverage(site, np.arange(len(self.sites)) == place)

    def _coverage(self, site: str, rows: np.ndarray[Any, np.dtype[np.bool_]]) -> Coverage:
        total = {name: float(values[rows].sum()) for name, values in self.sums.items()}
        n = total["n"]
        return Coverage(
            self.label,
            site,
            n_validation=int(total["n_validated"]),
            common=share_of(int(total["held"]), int(n)),
            own=share_of(int(total["held_own"]), int(n)),
            common_size=total["size"] / n,
            own_size=total["size_own"] / n,
            is_own=bool(total["has_own_limit"]),
            is_of_classes=self.is_of_classes,
        )

    def _mean(self, name: str) -> float:
        return float(self.sums[name].sum()) / self.n
