"""What all parties of a secure sum agree on before it begins."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property

from fedmri.errors import PrivacyError
from fedmri.secagg.masks import is_signed
from fedmri.secagg.messages import Advert
from fedmri.secagg.ring import Slot

LEAST_SITES = 3
"""With two sites, each has the other's values once it has the sum."""

PURPOSE = b"fedmri secure sum 1\n"
"""Goes before what is signed, so that a signature for anything else is none for a secure sum."""


@dataclass(frozen=True)
class SecureSum:
    """One sum over sites, of which the server learns the result alone.

    Each site is to build it from what it approved, not take it from the server.

    Attributes:
        purpose: What the sum is for, such as a plan's SHA-256 and a stage of it.
        number: Rises with every sum of a purpose; a site takes part in each at most once.
        keys: Each site's enrolled EC P-384 key, in OpenSSH form without a comment.
        slots: The arrays that are summed.
        threshold: Sites that must stay to the end, and the fewest in a sum; 0 takes two thirds,
            rounded up. Fewer sites than this cannot give a secret away, not even together.

    Raises:
        PrivacyError: There are fewer than three sites, two have the same key, or the threshold is
            not above half of the sites (P50).
    """

    purpose: str
    number: int
    keys: Mapping[str, str]
    slots: Mapping[str, Slot]
    threshold: int = 0

    def __post_init__(self) -> None:
        n = len(self.keys)
        if n < LEAST_SITES:
            fix = "find more sites, or aggregate without secure aggregation and say so"
            found, want = f"{n} sites", f"{LEAST_SITES} or more"
            raise PrivacyError("P50", "secure sum", found=found, want=want, fix=fix)
        if len({key.strip() for key in self.keys.values()}) < n:
            fix = "ask the coordinator: a party that holds one key twice would count as two sites"
            what, want = "keys of a secure sum", "a key of its own for each site"
            raise PrivacyError("P50", what, found="one key twice", want=want, fix=fix)
        # n / 2 or less would let a server that lies collect both secrets of a site
        if not n < 2 * self.n_needed <= 2 * n:
            fix = "leave the threshold at 0, which takes two thirds"
            what, want = "threshold of a secure sum", f"above {n / 2:g}, up to {n}"
            raise PrivacyError("P50", what, found=f"{self.threshold}", want=want, fix=fix)

    @property
    def n_needed(self) -> int:
        """The threshold as a number of sites."""
        return n_needed(len(self.keys), self.threshold)

    @cached_property
    def sites(self) -> tuple[str, ...]:
        """All sites, in ascending order: a site's place is its row in messages."""
        return tuple(sorted(self.keys))

    @cached_property
    def points(self) -> dict[str, int]:
        """Where a site's shares are taken: its place, counted from 1."""
        return {site: place for place, site in enumerate(self.sites, 1)}

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of all of it: every signature and key of the sum depends on every part."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).digest()

    @cached_property
    def fingerprint(self) -> str:
        """Short form of the names and keys of all sites, to be compared over the telephone.

        The coordinator hands out the keys. One that puts its own in the place of others' takes part
        as these sites, and has the rest of a sum once it holds all but one. Sites that compare
        this would find out.
        """
        text = json.dumps(sorted((site, key.strip()) for site, key in self.keys.items()))
        short = base64.b32encode(hashlib.sha256(text.encode()).digest()[:15]).decode()
        return "-".join(short[i : i + 4] for i in range(0, len(short), 4))

    def signed_text(self, site: str, body: bytes) -> bytes:
        """Return what a site signs in its advert."""
        return PURPOSE + self.digest + body + site.encode()

    def refuse_forged(self, site: str, advert: Advert) -> None:
        """Refuse an advert that the site's enrolled key did not sign for this very sum.

        Raises:
            PrivacyError: It is forged, of another sum, or of no site of this one (P52).
        """
        text = self.signed_text(site, advert.body)
        if site not in self.keys or not is_signed(self.keys[site], advert.signature, text):
            fix = "do not go on; ask the coordinator by another way whether keys were replaced"
            what, want = f"advert of site {site}", "its enrolled key's signature for this sum"
            raise PrivacyError("P52", what, found="another", want=want, fix=fix)

    def require_enough(
        self, n_sites: int, step: str, left_out: Mapping[str, str] | None = None
    ) -> None:
        """Refuse to go on with too few sites.

        Args:
            n_sites: How many are left.
            step: Where the sum stands.
            left_out: The others and why, as a code.

        Raises:
            PrivacyError: Fewer than the threshold are left (P51).
        """
        if n_sites < self.n_needed:
            fix = "begin a new sum once enough sites are online; nothing was learned from this one"
            named = ", ".join(f"{site} ({code})" for site, code in sorted((left_out or {}).items()))
            found = f"{n_sites} of {len(self.keys)} sites" + (named and f"; missing: {named}")
            want = f"{self.n_needed} or more"
            raise PrivacyError("P51", f"secure sum at {step}", found=found, want=want, fix=fix)


@dataclass(frozen=True)
class Roll:
    """Who takes part in the sums of a run, and what they are for; the same on all sides.

    Attributes:
        purpose: What was approved, and the run.
        keys: Each site's enrolled key.
        threshold: See ``SecureSum``.
    """

    purpose: str = ""
    keys: Mapping[str, str] = field(default_factory=dict)
    threshold: int = 0

    def sum(self, number: int, slots: Mapping[str, Slot]) -> SecureSum:
        """Return one sum of the run; raise PrivacyError P50 where it cannot be had."""
        return SecureSum(self.purpose, number, self.keys, slots, self.threshold)

    @property
    def n_needed(self) -> int:
        """Sites that each sum of the run needs."""
        return n_needed(len(self.keys), self.threshold)

    def to_json(self) -> str:
        """Return the text that ``from_json`` reads."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Roll:
        """Return what ``to_json`` wrote."""
        return cls(**json.loads(text))


def n_needed(n_sites: int, threshold: int = 0) -> int:
    """Return how many of the sites a sum needs: the threshold, or two thirds, rounded up."""
    return threshold or -(-2 * n_sites // 3)


def mask_sign(site: str, other: str) -> int:
    """Return the sign that a site gives to its mask with another; the other gives the opposite."""
    return 1 if site < other else -1


def pair_purpose(site: str, other: str) -> str:
    """Return what the key of two sites' mask is derived for, the same for both."""
    return json.dumps(["mask", *sorted((site, other))])
