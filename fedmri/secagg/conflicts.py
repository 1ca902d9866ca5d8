"""What cannot be had together with secure aggregation: whatever looks at one site's values."""

from __future__ import annotations

from collections.abc import Collection

from fedmri.errors import PrivacyError
from fedmri.secagg.secure_sum import LEAST_SITES

SUMS_ONLY = frozenset(
    {
        *("fedavg", "fedprox", "fedbn", "silobn", "moon", "ditto", "fedper", "fedrep"),
        "lgfedavg",
        *("fedavgm", "fedadam", "fedyogi", "fedadagrad"),
    }
)
"""Strategies whose server needs the sites' weighted mean alone. Any other needs each update: robust
rules compare them, the cyclic one passes them on, and SCAFFOLD, FedDyn and FedNova keep or undo
something of each site."""


def conflict(strategy: str, n_sites: int, inspections: Collection[str] = ()) -> PrivacyError | None:
    """Return why a plan cannot have secure aggregation; None where it can.

    Args:
        strategy: Name of the strategy.
        n_sites: Sites that will take part; 0 where this is not known yet.
        inspections: Settings that make the server look at single updates, such as
            ``rounds.max_norm_ratio`` (R41).

    Returns:
        An error to be raised (P57), with all that is in conflict.
    """
    reasons = [f"{name} looks at single updates" for name in sorted(inspections)]
    if strategy not in SUMS_ONLY:
        reasons.insert(0, f"strategy {strategy} needs each site's update")
    if 0 < n_sites < LEAST_SITES:
        reasons.append(f"{n_sites} sites")
    if not reasons:
        return None
    want = f"{LEAST_SITES} or more sites, and a server that needs only sums"
    fix = "switch these off, or secure aggregation; a site can bound its own update instead"
    return PrivacyError("P57", "secure aggregation", found="; ".join(reasons), want=want, fix=fix)


def refuse_conflicts(strategy: str, n_sites: int, inspections: Collection[str] = ()) -> None:
    """Raise the PrivacyError of ``conflict`` where there is one (P57)."""
    error = conflict(strategy, n_sites, inspections)
    if error is not None:
        raise error
