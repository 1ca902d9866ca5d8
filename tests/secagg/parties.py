"""Sites and a server that play a secure sum in one process, from seeds."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from numpy.typing import NDArray

from fedmri.secagg.masks import ssh_text
from fedmri.secagg.messages import Advert, Boxes, Inbox, Masked, Reveal, Roster, Sealed, Survivors
from fedmri.secagg.ring import Slot
from fedmri.secagg.secure_sum import SecureSum
from fedmri.secagg.server_half import ServerHalf
from fedmri.secagg.shares import Draw
from fedmri.secagg.site_half import SiteHalf
from fedmri.secagg.state import SiteState

Values = Mapping[str, NDArray[np.generic]]
SLOTS = {"model": Slot((3, 5)), "n": Slot((), 0), "age2": Slot((2,), 32)}


@cache
def private_key(place: int) -> ec.EllipticCurvePrivateKey:
    """Return the enrolled key of the site at a place; the same for all tests."""
    return ec.derive_private_key(1000 + place, ec.SECP384R1())


def draws(seed: int) -> Draw:
    """Return a source of random bytes that a test can run again."""
    return np.random.default_rng(seed).bytes


def names(n_sites: int) -> tuple[str, ...]:
    """Return names of sites, not in ascending order."""
    return tuple(f"site{(i * 7) % n_sites if n_sites % 7 else i}" for i in range(n_sites))


def keys_of(n_sites: int) -> dict[str, str]:
    """Return the enrolled public keys."""
    sites = sorted(names(n_sites))
    return {site: ssh_text(private_key(i).public_key()) for i, site in enumerate(sites)}


def values_of(seed: int) -> dict[str, NDArray[np.generic]]:
    """Return values for ``SLOTS``: weights, a count, and sums as large as those of ComBat."""
    source = np.random.default_rng(seed)
    return {
        "model": source.normal(size=(3, 5)).astype(np.float32),
        "n": np.array(source.integers(1, 500)),
        "age2": source.uniform(1e6, 1e7, size=2),
    }


def rounded(values: Values, slots: Mapping[str, Slot]) -> dict[str, list[int]]:
    """Return values as whole numbers of Python, which never wrap around."""
    return {
        name: [round(float(v) * 2 ** slots[name].fraction_bits) for v in np.ravel(value)]
        for name, value in values.items()
    }


def plain_sum(each: Collection[Values], slots: Mapping[str, Slot]) -> dict[str, list[float]]:
    """Return the sum that the server must find: of rounded values, in whole numbers of Python."""
    parts = [rounded(values, slots) for values in each]
    return {
        name: [
            sum(column) / 2**slot.fraction_bits
            for column in zip(*(p[name] for p in parts), strict=True)
        ]
        for name, slot in slots.items()
    }


def as_lists(sums: Mapping[str, NDArray[np.float64]]) -> dict[str, list[float]]:
    """Return what the server found, to be compared with ``plain_sum``."""
    return {name: np.ravel(value).tolist() for name, value in sums.items()}


@dataclass(frozen=True)
class Dropouts:
    """Sites that are gone from a step on."""

    advertise: frozenset[str] = frozenset()
    share: frozenset[str] = frozenset()
    mask: frozenset[str] = frozenset()
    reveal: frozenset[str] = frozenset()


NOBODY = Dropouts()


@dataclass
class Parties:
    """A secure sum under way: every message goes through its arrays, as on a network."""

    sum: SecureSum
    values: Mapping[str, Values]
    seed: int = 0
    states: dict[str, SiteState] = field(default_factory=dict)
    halves: dict[str, SiteHalf] = field(default_factory=dict)

    @property
    def server(self) -> ServerHalf:
        """The server's half."""
        return ServerHalf(self.sum)

    def site(self, name: str) -> SiteHalf:
        """Return a site's half."""
        if name not in self.halves:
            place = self.sum.points[name]
            draw = draws(100 * self.seed + place)
            self.halves[name] = SiteHalf(self.sum, name, private_key(place - 1), draw)
        return self.halves[name]

    def advertise(self, but: Collection[str] = ()) -> Roster:
        """Return the roster of all sites that answer."""
        adverts = {}
        for name in set(self.sum.sites) - set(but):
            self.states[name], advert = self.site(name).advertise(self.sum.number - 1)
            adverts[name] = Advert.from_arrays(advert.to_arrays())
        arrays = self.server.roster(adverts).to_arrays(self.sum.sites)
        return Roster.from_arrays(arrays, self.sum.sites)

    def share(self, roster: Roster, but: Collection[str] = ()) -> dict[str, Inbox]:
        """Return the inboxes of all sites that answer."""
        sealed = {}
        for name in roster.adverts.keys() - set(but):
            kept = SiteState.from_bytes(self.states[name].to_bytes())
            self.states[name], message = self.site(name).share(kept, roster)
            arrays = message.to_arrays(self.sum.sites)
            sealed[name] = Sealed.from_arrays(arrays, self.sum.sites)
        arrays = Boxes(sealed).to_arrays(self.sum.sites)
        boxes = Boxes.from_arrays(arrays, self.sum.sites)
        inboxes = self.server.inboxes(roster, sealed)
        assert all(inbox == boxes.of(name) for name, inbox in inboxes.items())
        return inboxes

    def mask(self, inboxes: Mapping[str, Inbox], but: Collection[str] = ()) -> dict[str, Masked]:
        """Return the masked values of all sites that answer."""
        masked = {}
        for name in inboxes.keys() - set(but):
            half, state = self.site(name), SiteState.from_bytes(self.states[name].to_bytes())
            self.states[name], message = half.mask(state, inboxes[name], self.values[name])
            masked[name] = Masked.from_arrays(message.to_arrays(), message.vector.size)
        return masked

    def reveal(self, survivors: Survivors, but: Collection[str] = ()) -> dict[str, Reveal]:
        """Return the shares of all sites that answer."""
        reveals = {}
        asked = Survivors.from_arrays(survivors.to_arrays(self.sum.sites), self.sum.sites)
        for name in survivors.sites - set(but):
            kept = SiteState.from_bytes(self.states[name].to_bytes())
            self.states[name], message = self.site(name).reveal(kept, asked)
            arrays = message.to_arrays(self.sum.sites)
            reveals[name] = Reveal.from_arrays(arrays, self.sum.sites)
        return reveals

    def play(self, gone: Dropouts = NOBODY) -> dict[str, NDArray[np.float64]]:
        """Return the sums that the server ends with."""
        roster = self.advertise(gone.advertise)
        inboxes = self.share(roster, gone.share)
        running = self.server.start(inboxes)
        for name, message in self.mask(inboxes, gone.mask).items():
            running = self.server.add(running, name, message)
        reveals = self.reveal(self.server.survivors(running), gone.reveal)
        return self.server.unmask(running, roster, reveals)


def parties(n_sites: int, seed: int = 0, **fields: int) -> Parties:
    """Return sites with random values and a server."""
    each = {name: values_of(100 * seed + i) for i, name in enumerate(sorted(names(n_sites)))}
    secure_sum = SecureSum("a plan", 1, keys_of(n_sites), SLOTS, **fields)
    return Parties(secure_sum, each, seed)
