"""Covariates: what a network reads of a patient's row in the table, beside the image."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from fedmri.data.scans import Finding, Scan, number
from fedmri.errors import require

_WANT = "COLUMN:CENTRE/SCALE with numbers, or COLUMN:LEVEL|LEVEL"


@dataclass(frozen=True)
class Covariate:
    """A column of the subject table, as a plan declares it: all sites encode it alike.

    Attributes:
        name: Column.
        centre: Number that becomes 0. A missing number is taken for it.
        scale: Difference that becomes 1.
        levels: Values of a column of categories; empty for a column of numbers.
    """

    name: str
    centre: float = 0.0
    scale: float = 1.0
    levels: tuple[str, ...] = ()

    @classmethod
    def declared(cls, text: str) -> Covariate:
        """Return the covariate of a text, ``COLUMN:CENTRE/SCALE`` or ``COLUMN:LEVEL|LEVEL``.

        Raises:
            ConfigError: The text is neither (C01).
        """
        name, _, rest = text.partition(":")
        levels = tuple(level.strip() for level in rest.split("|"))
        is_named = bool(name.strip())
        if len(levels) > 1:
            is_clear = all(levels) and len({*levels}) == len(levels)
            require(is_named and is_clear, "source.covariates", text, _WANT)
            return cls(name.strip(), levels=levels)
        centre, scale = (number(part) for part in (*rest.split("/"), "", "")[:2])
        is_scale = math.isfinite(centre) and 0 < scale < math.inf and rest.count("/") == 1
        require(is_named and is_scale, "source.covariates", text, _WANT)
        return cls(name.strip(), centre, scale)

    @property
    def n_entries(self) -> int:
        """How many numbers it becomes."""
        return (len(self.levels) or 1) + 1

    def entries(self, text: str) -> tuple[float, ...]:
        """Return a cell as numbers: what it says, and 1 in the last where it says nothing.

        A number is standardised, and a level is 1 in its place. A missing one is 0 everywhere: a
        number's centre, and none of the levels.
        """
        if self.levels:
            said = tuple(float(text == level) for level in self.levels)
            return (*said, 1.0 - sum(said))
        value = number(text)
        is_known = math.isfinite(value)
        return ((value - self.centre) / self.scale if is_known else 0.0, float(not is_known))


def entries_of(covariates: Iterable[Covariate], scan: Scan) -> tuple[float, ...]:
    """Return all numbers of a scan's row, in the order of the covariates."""
    return tuple(
        value
        for covariate in covariates
        for value in covariate.entries(scan.columns.get(covariate.name, ""))
    )


def with_known(
    scans: Sequence[Scan], covariates: Sequence[Covariate]
) -> tuple[list[Scan], list[Finding]]:
    """Return scans without the cells that cannot be true, and how many there are by site.

    Cells are judged as those of a target are: words and numbers that stand for a missing value,
    impossible ages, levels that the plan does not declare. A site is judged by its own rows alone,
    so a simulation and a deployment find the same.

    Args:
        scans: Scans of one site or of several; the order is kept.
        covariates: Columns that are read.

    Returns:
        The scans, and a warning for each column of a site that is not known of all (D79).
    """
    by_site: dict[str, list[Scan]] = defaultdict(list)
    for scan in scans:
        by_site[scan.site].append(scan)
    gone: dict[tuple[str, str, str], dict[str, str]] = defaultdict(dict)
    findings = []
    for site, own in sorted(by_site.items()):
        for covariate in covariates:
            faults = _faults(own, covariate)
            for one in faults:
                gone[one.site, one.subject, one.session][covariate.name] = ""
            if faults:
                reason = f"{covariate.name} is not known of {len(faults)} of {len(own)} scans"
                reason = f"{reason}, such as: {faults[0].reason}"
                findings.append(Finding("D79", reason, site, is_excluded=False))
    known = [
        replace(scan, columns={**scan.columns, **gone[scan.site, scan.subject, scan.session]})
        for scan in scans
    ]
    return known, findings


def _faults(scans: Sequence[Scan], covariate: Covariate) -> list[Finding]:
    from fedmri.data.checks.target_values import without_class, without_number

    if covariate.levels:
        return [f for scan in scans for f in without_class(scan, covariate.name, covariate.levels)]
    return without_number(scans, covariate.name)
