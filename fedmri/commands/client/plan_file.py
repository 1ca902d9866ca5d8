"""The plan of a file, as a site's commands take it: YAML, or signed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from fedmri.agreement.signed_plan import SignedPlan
    from fedmri.clients.process.home import ClientHome
    from fedmri.plan import Plan


def plan_of(home: ClientHome, path: Path) -> Plan:
    """Return the plan of a file; a signed one must be the coordinator's, once the site joined."""
    from fedmri.config import load

    return load([], path).plan if path.suffix != ".json" else signed_of(home, path).plan


def signed_of(home: ClientHome, path: Path) -> SignedPlan:
    """Return the signed plan of a file, verified once the site joined.

    Raises:
        NetworkError: It is none (N01), or the coordinator did not sign it (N02).
    """
    from fedmri.agreement.signed_plan import SignedPlan

    signed = SignedPlan.from_json(path.read_bytes())
    if home.consortium_file.exists():
        signed.verify(home.consortium.coordinator)
    return signed


def plan_and_text(home: ClientHome, path: Path) -> tuple[Plan, str, int]:
    """Return a plan, what its people would read before consenting, and its sites with secure sums.

    A plan that nobody has signed yet is read as if it were: only its sites are not known.
    """
    from fedmri.agreement.signed_plan import unsigned
    from fedmri.clients.consent.plan_text import describe

    signed = signed_of(home, path) if path.suffix == ".json" else unsigned(plan_of(home, path))
    return signed.plan, describe(signed, home.config.policy), len(signed.sites)
