"""A site's half of a secure sum: four steps, each from its state to the next and a message."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from fedmri.errors import PrivacyError
from fedmri.secagg.masks import add_masks, agree, derive, public_half, sign, ssh_text
from fedmri.secagg.messages import Advert, Inbox, Masked, Reveal, Roster, Sealed, Survivors
from fedmri.secagg.ring import encode
from fedmri.secagg.secure_sum import SecureSum, mask_sign, pair_purpose
from fedmri.secagg.shares import N_SECRET, N_SHARE, Draw, split
from fedmri.secagg.state import SiteState, Stage

NONCE = bytes(12)
"""Of every box: the key of a box is derived for it alone."""


@dataclass(frozen=True)
class SiteHalf:
    """What a site does in a secure sum.

    Attributes:
        sum: What all parties agreed on.
        site: Name of this site.
        key: Its enrolled private key.
        draw: Source of random bytes.
    """

    sum: SecureSum
    site: str
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    draw: Draw = secrets.token_bytes

    def advertise(self, last_number: int) -> tuple[SiteState, Advert]:
        """Make the keys of this sum and sign them.

        Args:
            last_number: Number of the last sum of this purpose that the site advertised for; -1
                before the first. Write the new one to the disk before the advert leaves.

        Raises:
            PrivacyError: The sum is not a new one (P54), or this site's enrolled key is not in it
                (P52).
        """
        if self.sum.number <= last_number:
            raise _again("advertise", f"sum {self.sum.number}", f"one after {last_number}")
        if self.sum.keys.get(self.site, "").strip() != ssh_text(self.key.public_key()):
            fix = "do not go on; ask the coordinator why it hands out another key for this site"
            what, want = f"key of site {self.site} in a secure sum", "the one in its own folder"
            raise PrivacyError("P52", what, found="another", want=want, fix=fix)
        share_secret, mask_secret, seed = (self.draw(N_SECRET) for _ in range(3))
        commitment = hashlib.sha256(seed).digest()
        body = Advert(public_half(share_secret), public_half(mask_secret), commitment, b"").body
        signature = sign(self.key, self.sum.signed_text(self.site, body))
        advert = Advert.from_bytes(body + signature)
        return SiteState("advertised", advert, share_secret, mask_secret, seed), advert

    def share(self, state: SiteState, roster: Roster) -> tuple[SiteState, Sealed]:
        """Split this site's secrets among all, each share in a box for its holder alone.

        Raises:
            PrivacyError: The step was taken already (P54), too few sites are there (P51), an
                advert is forged, this site's own is another, or two hold the same key (P52).
        """
        _require_stage(state, "advertised", "share")
        self._refuse_false(state, roster)
        points = [self.sum.points[site] for site in roster.adverts]
        parts = [
            split(secret, points, self.sum.n_needed, self.draw)
            for secret in (state.mask_secret, state.seed)
        ]
        pairs = {
            site: b"".join(part[self.sum.points[site]] for part in parts) for site in roster.adverts
        }
        own = pairs.pop(self.site)
        new = replace(state, stage="shared", roster=roster, shares={self.site: own})
        boxes = {site: self._seal(new, site, pair) for site, pair in pairs.items()}
        return new, Sealed(boxes)

    def mask(
        self, state: SiteState, inbox: Inbox, values: Mapping[str, NDArray[np.generic]]
    ) -> tuple[SiteState, Masked]:
        """Put the values under this site's own mask and one with each site that shared.

        Raises:
            PrivacyError: The step was taken already (P54), too few sites shared (P51), a box was
                changed (P53), or a value cannot be summed (P55).
        """
        _require_stage(state, "shared", "mask")
        strays = inbox.boxes.keys() - state.roster.adverts.keys() | inbox.boxes.keys() & {self.site}
        if strays:
            raise _again("mask", f"a box of {min(strays)}", "boxes of the others on the roster")
        self.sum.require_enough(len(inbox.boxes) + 1, "mask")
        opened = {site: self._open(state, site, box) for site, box in inbox.boxes.items()}
        vector = encode(values, self.sum.slots, len(self.sum.keys))
        masks = [(derive(state.seed, self.sum.digest, "self"), 1)]
        for other in sorted(opened):
            public = state.roster.adverts[other].mask_key
            purpose = pair_purpose(self.site, other)
            key = agree(state.mask_secret, public, self.sum.digest, purpose)
            masks.append((key, mask_sign(self.site, other)))
        add_masks(vector, masks)
        shares = {**state.shares, **opened}
        new = replace(state, stage="masked", mask_secret=b"", seed=b"", shares=shares)
        return new, Masked(vector)

    def reveal(self, state: SiteState, survivors: Survivors) -> tuple[SiteState, Reveal]:
        """Give a share of the seed of each site in the sum, and of the key of each other one.

        Asked again for the same survivors, it gives the same answer.

        Raises:
            PrivacyError: The server asks for a share of both secrets of a site, or for a sum
                without this site's values (P54), or of too few sites (P51).
        """
        if state.stage == "revealed" and state.survivors != survivors.sites:
            raise _again("reveal", "other survivors than before", "the same")
        if state.stage != "revealed":
            _require_stage(state, "masked", "reveal")
        if not {self.site} <= survivors.sites <= state.shares.keys():
            want = "this site and others that shared"
            raise _again("reveal", f"survivors {sorted(survivors.sites)}", want)
        self.sum.require_enough(len(survivors.sites), "reveal")
        of_seed, of_key = {}, {}
        for site, pair in state.shares.items():
            if site in survivors.sites:
                of_seed[site] = pair[N_SHARE:]
            else:
                of_key[site] = pair[:N_SHARE]
        new = replace(state, stage="revealed", survivors=survivors.sites)
        return new, Reveal(of_seed, of_key)

    def _refuse_false(self, state: SiteState, roster: Roster) -> None:
        adverts = roster.adverts
        for site, advert in adverts.items():
            self.sum.refuse_forged(site, advert)
        keys = {key for a in adverts.values() for key in (a.share_key, a.mask_key)}
        if adverts.get(self.site) != state.advert or len(keys) != 2 * len(adverts):
            fix = "do not go on; ask the coordinator by another way what its server runs"
            want = "this site's own advert, and different keys"
            raise PrivacyError("P52", "roster of a sum", found="others", want=want, fix=fix)
        self.sum.require_enough(len(adverts), "share")

    def _seal(self, state: SiteState, to: str, pair: bytes) -> bytes:
        key, context = self._box(state, to, (self.site, to))
        return AESGCM(key).encrypt(NONCE, pair, context)

    def _open(self, state: SiteState, sender: str, box: bytes) -> bytes:
        key, context = self._box(state, sender, (sender, self.site))
        try:
            return AESGCM(key).decrypt(NONCE, box, context)
        except InvalidTag:
            fix = "begin a new sum; if it happens again, ask the coordinator what changes messages"
            what, want = f"box of site {sender}", "one that it sealed for this site and roster"
            raise PrivacyError("P53", what, found="another", want=want, fix=fix) from None

    def _box(self, state: SiteState, other: str, way: tuple[str, str]) -> tuple[bytes, bytes]:
        """Return the key of a box and what is authenticated with it: sum, way and roster."""
        adverts = state.roster.adverts
        # sites that were shown different rosters cannot open each other's boxes
        seen = b"".join(adverts[s].body for s in sorted(adverts))
        names = json.dumps([*way, *sorted(adverts)])
        public = adverts[other].share_key
        key = agree(state.share_secret, public, self.sum.digest, json.dumps(["box", *way]))
        return key, hashlib.sha256(seen + names.encode()).digest()


def _require_stage(state: SiteState, stage: Stage, step: str) -> None:
    if state.stage != stage:
        raise _again(step, f"a site that has {state.stage}", f"one that has {stage}")


def _again(step: str, found: str, want: str) -> PrivacyError:
    fix = "begin a new sum; if it happens again, ask the coordinator what its server runs"
    return PrivacyError("P54", f"secure sum at {step}", found=found, want=want, fix=fix)
