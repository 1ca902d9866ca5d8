"""What cannot be had together with secure aggregation: whatever looks at one site's values."""

from __future__ import annotations

from collections.abc import Collection

from fedmri.errors import PrivacyError
from fedmri.secagg.secure_sum import LEAST_SITES


def refuse_inspections(inspections: Collection[str]) -> None:
    """Refuse settings that make the server look at single updates.

    Args:
        inspections: Those settings, such as ``rounds.is_late_join_allowed``.

    Raises:
        PrivacyError: There are any (P57); all are named.
    """
    if inspections:
        found = "; ".join(f"{name} looks at single updates" for name in sorted(inspections))
        want = f"{LEAST_SITES} or more sites, and a server that needs only sums"
        fix = "switch these off, or secure aggregation; a site can bound its own update instead"
        raise PrivacyError("P57", "secure aggregation", found=found, want=want, fix=fix)
