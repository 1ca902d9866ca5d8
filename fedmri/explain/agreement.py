"""Whether hospitals agree on where a model looks: their aggregates side by side."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.stats import chi2

from fedmri.errors import UsageError
from fedmri.evaluate.estimate import Estimate
from fedmri.evaluate.hospitals.random_effects import RandomEffects, on_scale, random_effects
from fedmri.reports.statistics.spread import careful_quantile


@dataclass(frozen=True)
class Agreement:
    """What hospitals' summaries say of one method.

    Attributes:
        method: Its name.
        shares: Share of its maps in lesions, by hospital.
        gains: The same less that of the untrained network.
        trusted: Whether its maps change under random weights, by hospital, in words.
    """

    method: str
    shares: Mapping[str, Estimate]
    gains: Mapping[str, Estimate]
    trusted: Mapping[str, str]

    @property
    def together(self) -> RandomEffects | None:
        """The mean gain over hospitals; None where fewer than three have an interval.

        Source:
            ``fedmri.evaluate.hospitals.random_effects``.
        """
        known = [one for one in self.gains.values() if one.has_interval]
        # an interval of a difference is symmetric: its half is the error times this quantile
        errors = [(one.high - one.low) / 2 / careful_quantile(one.n_subjects - 1) for one in known]
        found = on_scale([one.value for one in known], errors, "identity") if known else None
        return None if found is None else random_effects(found)

    @property
    def p_alike(self) -> float:
        """How often hospitals that are alike differ so much: p of Cochran's Q; NaN if unknown."""
        found = self.together
        return math.nan if found is None else float(chi2.sf(found.q, found.n_hospitals - 1))


def agreement_of(paths: Sequence[Path]) -> tuple[Agreement, ...]:
    """Return what summaries of hospitals say together, a method at a time.

    Args:
        paths: ``summary.json`` of each hospital, in a file that is named for the hospital.

    Raises:
        UsageError: One cannot be read, is of fewer than five patients or of another model, or two
            files have one name (U87).
    """
    found = {path.stem: _read(path) for path in paths}
    if len(found) < len(paths):
        raise _refused("summaries", "two files of one name", "a name for each hospital")
    models = {summary["model_sha256"] for summary in found.values()}
    if len(models) > 1:
        raise _refused("summaries", f"{len(models)} models", "one model")
    methods = dict.fromkeys(name for summary in found.values() for name in summary["methods"])
    return tuple(_agreement(method, found) for method in methods)


def _agreement(method: str, found: Mapping[str, Any]) -> Agreement:
    own = {name: one["methods"][method] for name, one in found.items() if method in one["methods"]}
    return Agreement(
        method,
        {name: _estimate(one["share_in_mask"]) for name, one in own.items()},
        {name: _estimate(one["gain_over_untrained"]) for name, one in own.items()},
        {name: str(one["under_random_weights"]) for name, one in own.items()},
    )


def _read(path: Path) -> dict[str, Any]:
    """Return a summary; every number that is used is looked at, for it comes from elsewhere."""
    try:
        summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        is_fit = summary["is_fit_to_leave"] is True
        _ = str(summary["model_sha256"]), [_agreement(m, {"": summary}) for m in summary["methods"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _refused(f"summary {path}", f"{error!r}", "summary.json of fedmri explain") from error
    if not is_fit:
        raise _refused(f"summary {path}", "fewer than five patients", "five or more")
    return summary


def _estimate(shown: Mapping[str, Any]) -> Estimate:
    value, low, high = (
        math.nan if shown[key] is None else float(shown[key]) for key in ("value", "low", "high")
    )
    return Estimate(value, low, high, int(shown["n_subjects"]))


def _refused(what: str, found: str, want: str) -> UsageError:
    fix = "give summary.json of each hospital, each in a file that is named for it"
    return UsageError("U87", what, found=found, want=want, fix=fix)
