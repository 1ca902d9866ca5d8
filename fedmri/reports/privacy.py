"""What a run cost its patients: the accountant's upper bound beside an audit's lower one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

DASH = "\N{EN DASH}"
HEAD = (
    "Arm, seed and site",
    "Epsilon spent, at most",
    "Delta",
    "Epsilon, at least (audit)",
    "Together",
)
CAPTION = "Privacy loss of one patient at one site, over all rounds"
BROKEN = "BROKEN: the audit shows more than may have been lost"


@dataclass(frozen=True)
class SitePrivacy:
    """Privacy loss of any one patient of a site, as the site reported it.

    Attributes:
        arm: Training that it is of.
        seed: Its seed.
        site: Whose patients.
        epsilon: The accountant's upper bound after the last round, over all runs that the site's
            account holds.
        delta: What it goes with; NaN where it was not told.
        at_least: Lower bound from an attack on the final model; NaN where none was measured.
    """

    arm: str
    seed: int
    site: str
    epsilon: float
    delta: float = math.nan
    at_least: float = math.nan

    @property
    def is_broken(self) -> bool:
        """Whether the bounds exclude each other: then the guarantee does not hold."""
        return self.at_least > self.epsilon

    @property
    def verdict(self) -> str:
        """What both bounds say together, in words."""
        if self.is_broken:
            return BROKEN
        return "not audited" if math.isnan(self.at_least) else "no contradiction"


def privacy_of(records: Iterable[Mapping[str, Any]]) -> tuple[SitePrivacy, ...]:
    """Return the privacy loss by arm, seed and site; empty where a run has no such guarantee.

    Args:
        records: Of rounds, with the metrics ``epsilon`` and ``delta``, and of tests.
    """
    spent: dict[tuple[str, int, str], tuple[int, Mapping[str, Any]]] = {}
    audited: dict[tuple[str, int, str], float] = {}
    for record in records:
        key = str(record.get("arm")), int(record.get("seed", 0)), str(record.get("site"))
        if record["kind"] == "round" and "epsilon" in record:
            number = int(record.get("round", 0))
            if key not in spent or spent[key][0] <= number:
                spent[key] = number, record
        elif record["kind"] == "test":
            metrics = record.get("metrics") or {}
            audited[key] = _number(metrics.get("epsilon_at_least"))
    return tuple(
        SitePrivacy(
            *key,
            _number(record["epsilon"]),
            _number(record.get("delta")),
            audited.get(key, math.nan),
        )
        for key, (_, record) in sorted(spent.items())
    )


def privacy_table(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the head, the rows, the caption and the names of broken rows, for a page."""
    found = privacy_of(records)
    return {
        "privacy_head": HEAD,
        "privacy_rows": [_row(one) for one in found],
        "privacy_broken": [_name(one) for one in found if one.is_broken],
        "privacy_caption": CAPTION,
    }


def _row(one: SitePrivacy) -> list[str]:
    numbers = _shown(one.epsilon, ".3f"), _shown(one.delta, ".2g"), _shown(one.at_least, ".3f")
    return [_name(one), *numbers, one.verdict]


def _name(one: SitePrivacy) -> str:
    return f"{one.arm}, seed {one.seed}: {one.site}"


def _number(value: object) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else math.nan  # type: ignore[arg-type]  # just seen


def _shown(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else DASH
