"""What a site keeps between the steps of a secure sum, and its form as bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fedmri.secagg.messages import Advert, Roster, unreadable

Stage = Literal["advertised", "shared", "masked", "revealed"]
STAGES: tuple[Stage, ...] = ("advertised", "shared", "masked", "revealed")
NOBODY = Roster({})


@dataclass(frozen=True)
class SiteState:
    """What a site must keep between two steps: in memory, or in a private file for as long.

    A step may be taken from a state once: throw it away for the one that the step returned. Whoever
    gets hold of a state before the site has masked can take the masks off its values.

    Attributes:
        stage: Last step taken.
        advert: What the site advertised.
        share_secret: Secret half of its share key.
        mask_secret: Secret half of its mask key; emptied once it has masked.
        seed: What its own mask comes from; emptied once it has masked.
        roster: Who is there.
        shares: For each site that shared: its shares of mask key and seed, 33 bytes each.
        survivors: Whose seeds it has revealed a share of.
    """

    stage: Stage
    advert: Advert
    share_secret: bytes = field(repr=False)
    mask_secret: bytes = field(repr=False)
    seed: bytes = field(repr=False)
    roster: Roster = NOBODY
    shares: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    survivors: frozenset[str] = frozenset()

    def to_bytes(self) -> bytes:
        """Return the state for a private file; it holds secrets."""
        values = {
            "stage": self.stage,
            "advert": _hex(self.advert),
            "secrets": [self.share_secret.hex(), self.mask_secret.hex(), self.seed.hex()],
            "roster": {site: _hex(advert) for site, advert in self.roster.adverts.items()},
            "shares": {site: pair.hex() for site, pair in self.shares.items()},
            "survivors": sorted(self.survivors),
        }
        return json.dumps(values).encode()

    @classmethod
    def from_bytes(cls, text: bytes) -> SiteState:
        """Return the state that ``to_bytes`` wrote.

        Raises:
            PrivacyError: It is something else (P56).
        """
        try:
            values: dict[str, Any] = json.loads(text)
            stage = STAGES[STAGES.index(values["stage"])]
            share_secret, mask_secret, seed = map(bytes.fromhex, values["secrets"])
            roster = Roster({site: _advert(row) for site, row in values["roster"].items()})
            shares = {site: bytes.fromhex(pair) for site, pair in values["shares"].items()}
            survivors = frozenset(values["survivors"])
            advert = _advert(values["advert"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise unreadable(f"a state that is none ({error})", "one of to_bytes") from error
        return cls(stage, advert, share_secret, mask_secret, seed, roster, shares, survivors)


def _hex(advert: Advert) -> str:
    return (advert.body + advert.signature).hex()


def _advert(text: str) -> Advert:
    return Advert.from_bytes(bytes.fromhex(text))
