"""The server's half of a secure sum: it passes messages on, adds, and takes the masks off."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from fedmri.errors import PrivacyError
from fedmri.secagg.masks import add_masks, agree, derive, public_half
from fedmri.secagg.messages import (
    Advert,
    Inbox,
    Masked,
    Reveal,
    Roster,
    Sealed,
    Survivors,
    unreadable,
)
from fedmri.secagg.ring import decode, n_words
from fedmri.secagg.secure_sum import SecureSum, mask_sign, pair_purpose
from fedmri.secagg.shares import combine


@dataclass(frozen=True)
class Running:
    """What the server holds while masked values arrive.

    Attributes:
        total: Sum of what has arrived, modulo 2^64; written over by every step.
        shared: Sites whose masks may be in it: those that shared.
        added: Sites whose values are in it.
    """

    total: NDArray[np.uint64]
    shared: frozenset[str]
    added: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ServerHalf:
    """What the server does in a secure sum.

    It holds one vector and the one that is being added, whatever the number of sites. A site that
    does not answer in time is left out of what is passed on to the next step, and so can one be
    whose message is refused: ``sum.refuse_forged``, ``refuse_sealed``, ``add`` and
    ``refuse_reveal`` look at one site's message.

    Attributes:
        sum: What all parties agreed on.
        left_out: Code of each site that did not answer a step or was refused, as far as it is
            known: errors name them.
    """

    sum: SecureSum
    left_out: Mapping[str, str] = field(default_factory=dict)

    def roster(self, adverts: Mapping[str, Advert]) -> Roster:
        """Return what all sites are sent, of the adverts of those that answered.

        Raises:
            PrivacyError: An advert is forged (P52), or too few sites answered (P51).
        """
        for site, advert in adverts.items():
            self.sum.refuse_forged(site, advert)
        self.sum.require_enough(len(adverts), "advertise", self.left_out)
        return Roster(dict(adverts))

    def inboxes(self, roster: Roster, sealed: Mapping[str, Sealed]) -> dict[str, Inbox]:
        """Return what each site that shared is sent, of the boxes of all that did.

        Raises:
            PrivacyError: A site of the roster was left out of a site's boxes (P56), or too few
                sites shared (P51).
        """
        for site, message in sealed.items():
            self.refuse_sealed(roster, site, message)
        self.sum.require_enough(len(sealed), "share", self.left_out)
        return {
            site: Inbox({other: sealed[other].boxes[site] for other in sealed if other != site})
            for site in sealed
        }

    def refuse_sealed(self, roster: Roster, site: str, message: Sealed) -> None:
        """Raise PrivacyError P56 where a site does not share with each other one on the roster."""
        others = roster.adverts.keys() - {site}
        if site not in roster.adverts or message.boxes.keys() != others:
            raise unreadable(f"boxes of {site} for others", "one for each on the roster")

    def start(self, inboxes: Mapping[str, Inbox]) -> Running:
        """Return an empty total over the sites that shared."""
        return Running(np.zeros(n_words(self.sum.slots), dtype=np.uint64), frozenset(inboxes))

    def add(self, running: Running, site: str, masked: Masked) -> Running:
        """Add a site's masked values to the total, in place.

        Raises:
            PrivacyError: The site did not share or is in the sum already, or its vector has
                another length or type (P56).
        """
        if site not in running.shared or site in running.added:
            raise unreadable(f"masked values of {site}", "those of a site that shared, once")
        if masked.vector.shape != running.total.shape or masked.vector.dtype != np.uint64:
            found = f"masked values of {masked.vector.dtype} {masked.vector.shape}"
            raise unreadable(found, f"uint64 {running.total.shape}")
        np.add(running.total, masked.vector, out=running.total)
        return replace(running, added=running.added | {site})

    def survivors(self, running: Running) -> Survivors:
        """Return whom the sum is over; nobody can be added any more.

        Raises:
            PrivacyError: They are too few (P51).
        """
        self.sum.require_enough(len(running.added), "mask", self.left_out)
        return Survivors(running.added)

    def unmask(
        self, running: Running, roster: Roster, reveals: Mapping[str, Reveal]
    ) -> dict[str, NDArray[np.float64]]:
        """Take all masks off the total and return the sums, which uses the total up.

        The result is, to the last bit, the sum of what ``encode`` made of each survivor's values.

        Raises:
            PrivacyError: Too few sites revealed shares (P51), a site revealed others than it was
                asked for (P56), or shares give another secret than a site committed to (P58).
        """
        added, dropped = running.added, running.shared - running.added
        for site, reveal in reveals.items():
            self.refuse_reveal(running, site, reveal)
        self.sum.require_enough(len(reveals), "reveal", self.left_out)
        masks = []
        for site in sorted(added):
            seed = self._secret(site, {s: reveals[s].of_seed[site] for s in reveals})
            if seed is None or hashlib.sha256(seed).digest() != roster.adverts[site].commitment:
                raise _no_secret(site)
            masks.append((derive(seed, self.sum.digest, "self"), -1))
        for site in sorted(dropped):
            secret = self._secret(site, {s: reveals[s].of_key[site] for s in reveals})
            if secret is None or public_half(secret) != roster.adverts[site].mask_key:
                raise _no_secret(site)
            masks += self._left_over(site, secret, roster, added)
        add_masks(running.total, masks)
        return decode(running.total, self.sum.slots)

    def refuse_reveal(self, running: Running, site: str, reveal: Reveal) -> None:
        """Raise PrivacyError P56 where a site reveals other shares than it was asked for."""
        dropped = running.shared - running.added
        is_asked = reveal.of_seed.keys() == running.added and reveal.of_key.keys() == dropped
        if not is_asked or site not in running.added:
            raise unreadable(f"shares of {site}", "one of each site that shared, and no other")

    def _secret(self, site: str, shares: Mapping[str, bytes]) -> bytes | None:
        chosen = sorted(shares)[: self.sum.n_needed]
        return combine({self.sum.points[holder]: shares[holder] for holder in chosen})

    def _left_over(
        self, dropped: str, secret: bytes, roster: Roster, added: frozenset[str]
    ) -> list[tuple[bytes, int]]:
        """Return the masks that survivors have with a site whose own are missing in the total."""
        masks = []
        for site in sorted(added):
            public, purpose = roster.adverts[site].mask_key, pair_purpose(site, dropped)
            key = agree(secret, public, self.sum.digest, purpose)
            masks.append((key, -mask_sign(site, dropped)))
        return masks


def _no_secret(site: str) -> PrivacyError:
    fix = "begin a new sum without the site that reveals wrong shares; nothing was learned"
    what, want = f"secret of site {site}", "the one that it committed to"
    return PrivacyError("P58", what, found="another", want=want, fix=fix)
