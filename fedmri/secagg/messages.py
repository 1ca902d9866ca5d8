"""What travels in a secure sum, as frozen values and as named arrays and back.

Shapes follow from the number of sites ``n`` and of words alone, whoever takes part: a row for each
site in ascending order of name, and ``present``, which says which rows hold anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedmri.errors import PrivacyError
from fedmri.secagg.masks import N_HALF, N_KEY
from fedmri.secagg.shares import N_SHARE

SecureArrays: TypeAlias = dict[str, NDArray[np.uint8] | NDArray[np.uint64]]
"""Arrays of bytes, and one of words."""

Sites: TypeAlias = tuple[str, ...]

N_ADVERT = 3 * N_KEY + 2 * N_HALF
N_BOX = 2 * N_SHARE + 16
"""Bytes of an advert, and of two shares with the tag of their encryption."""


@dataclass(frozen=True)
class Advert:
    """A site's public keys for one sum.

    Attributes:
        share_key: X25519 key that shares to this site are encrypted with, 32 bytes.
        mask_key: X25519 key that its masks with others come from, 32 bytes.
        commitment: SHA-256 of the seed of its own mask.
        signature: By the site's enrolled key, over the sum, its name and the above; 96 bytes.
    """

    share_key: bytes
    mask_key: bytes
    commitment: bytes
    signature: bytes

    @property
    def body(self) -> bytes:
        """What is signed, without sum and name."""
        return self.share_key + self.mask_key + self.commitment

    def to_arrays(self) -> SecureArrays:
        """Return ``advert``, shape ``(192,)``."""
        return {"advert": np.frombuffer(self.body + self.signature, dtype=np.uint8)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Advert:
        """Return what ``to_arrays`` made arrays of; raise PrivacyError P56."""
        return cls.from_bytes(_array(arrays, "advert", (N_ADVERT,)).tobytes())

    @classmethod
    def from_bytes(cls, text: bytes) -> Advert:
        """Return the advert of its 192 bytes."""
        cuts = (0, N_KEY, 2 * N_KEY, 3 * N_KEY, N_ADVERT)
        return cls(*(text[start:end] for start, end in pairwise(cuts)))


@dataclass(frozen=True)
class Roster:
    """Every site that is there, with its advert."""

    adverts: Mapping[str, Advert]

    def to_arrays(self, sites: Sites) -> SecureArrays:
        """Return ``roster``, shape ``(n, 192)``, and ``present``, shape ``(n,)``."""
        rows = {site: advert.body + advert.signature for site, advert in self.adverts.items()}
        return _table("roster", rows, sites, N_ADVERT)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], sites: Sites) -> Roster:
        """Return what ``to_arrays`` made arrays of; raise PrivacyError P56."""
        rows = _rows("roster", arrays, sites, N_ADVERT)
        return cls({site: Advert.from_bytes(row) for site, row in rows.items()})


@dataclass(frozen=True)
class Sealed:
    """A site's boxes: its shares, by the site that alone can open them."""

    boxes: Mapping[str, bytes]

    def to_arrays(self, sites: Sites) -> SecureArrays:
        """Return ``boxes``, shape ``(n, 82)``, and ``present``, shape ``(n,)``."""
        return _table("boxes", self.boxes, sites, N_BOX)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], sites: Sites) -> Sealed:
        """Return what ``to_arrays`` made arrays of; raise PrivacyError P56."""
        return cls(_rows("boxes", arrays, sites, N_BOX))


@dataclass(frozen=True)
class Inbox:
    """The boxes for one site, by the site that sealed them; it takes them out of ``Boxes``."""

    boxes: Mapping[str, bytes]


@dataclass(frozen=True)
class Boxes:
    """What all sites that shared sealed, to be sent to all of them alike.

    A site takes its own out: nobody can open another's, and who shared with whom is no secret.
    """

    sealed: Mapping[str, Sealed]

    def to_arrays(self, sites: Sites) -> SecureArrays:
        """Return ``boxes``, shape ``(n, n, 82)`` by sender and holder, and ``present``."""
        rows = [self.sealed.get(site, Sealed({})).to_arrays(sites)["boxes"] for site in sites]
        present = np.array([site in self.sealed for site in sites], dtype=np.uint8)
        return {
            "boxes": np.stack([_bytes("boxes", row, row.shape) for row in rows]),
            "present": present,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], sites: Sites) -> Boxes:
        """Return what ``to_arrays`` made arrays of; raise PrivacyError P56."""
        n = len(sites)
        rows = arrays.get("boxes", np.zeros(0))
        if rows.shape != (n, n, N_BOX):
            raise unreadable(f"boxes of shape {rows.shape}", f"{(n, n, N_BOX)}")
        flat = {**arrays, "boxes": rows.reshape(n, n * N_BOX)}
        each = _rows("boxes", flat, sites, n * N_BOX)
        return cls({site: Sealed(_cut(site, row, sites)) for site, row in each.items()})

    def of(self, site: str) -> Inbox:
        """Return the boxes for one site."""
        return Inbox({s: m.boxes[site] for s, m in self.sealed.items() if s != site})


def _cut(sender: str, row: bytes, sites: Sites) -> dict[str, bytes]:
    cuts = {site: row[i * N_BOX : (i + 1) * N_BOX] for i, site in enumerate(sites)}
    return {site: box for site, box in cuts.items() if site != sender}


@dataclass(frozen=True)
class Masked:
    """A site's values in fixed point under all masks, shape ``(n_words,)``."""

    vector: NDArray[np.uint64]

    def to_arrays(self) -> SecureArrays:
        """Return ``masked``, the vector itself."""
        return {"masked": self.vector}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], n_words: int) -> Masked:
        """Return what ``to_arrays`` made arrays of; raise PrivacyError P56."""
        value = arrays.get("masked")
        if arrays.keys() != {"masked"} or value is None:
            raise unreadable(f"arrays {sorted(arrays)}", "masked")
        if value.dtype != np.uint64 or value.shape != (n_words,):
            raise unreadable(f"{value.dtype} {value.shape}", f"uint64 {(n_words,)}")
        return cls(value.view(np.uint64))


@dataclass(frozen=True)
class Survivors:
    """The sites whose values are in the sum."""

    sites: frozenset[str]

    def to_arrays(self, sites: Sites) -> SecureArrays:
        """Return ``present``, shape ``(n,)``."""
        return {"present": np.array([site in self.sites for site in sites], dtype=np.uint8)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], sites: Sites) -> Survivors:
        """Return what ``to_arrays`` made arrays of; raise PrivacyError P56."""
        present = _array(arrays, "present", (len(sites),))
        return cls(frozenset(s for s, is_in in zip(sites, present, strict=True) if is_in))


@dataclass(frozen=True)
class Reveal:
    """What lets the server take masks off the sum: of each site one share, never both.

    Attributes:
        of_seed: Shares of the seeds of those in the sum.
        of_key: Shares of the mask keys of those who dropped out after sharing.
    """

    of_seed: Mapping[str, bytes]
    of_key: Mapping[str, bytes]

    def to_arrays(self, sites: Sites) -> SecureArrays:
        """Return ``shares``, shape ``(n, 33)``, and ``present``: 1 is of a seed, 2 of a key."""
        arrays = _table("shares", {**self.of_seed, **self.of_key}, sites, N_SHARE)
        for place, site in enumerate(sites):
            arrays["present"][place] += site in self.of_key
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], sites: Sites) -> Reveal:
        """Return what ``to_arrays`` made arrays of; raise PrivacyError P56."""
        rows = _rows("shares", arrays, sites, N_SHARE)
        kinds = dict(zip(sites, _bytes("present", arrays["present"], (len(sites),)), strict=True))
        of_seed, of_key = ({s: r for s, r in rows.items() if kinds[s] == k} for k in (1, 2))
        return cls(of_seed, of_key)


def unreadable(found: str, want: str) -> PrivacyError:
    """Return the error of a message that is none (P56)."""
    fix = "run the same plan and version of fedmri on all sides"
    return PrivacyError("P56", "message of a secure sum", found=found, want=want, fix=fix)


def _table(name: str, rows: Mapping[str, bytes], sites: Sites, width: int) -> SecureArrays:
    table = np.zeros((len(sites), width), dtype=np.uint8)
    present = np.zeros(len(sites), dtype=np.uint8)
    for place, site in enumerate(sites):
        if site in rows:
            table[place], present[place] = np.frombuffer(rows[site], dtype=np.uint8), 1
    return {name: table, "present": present}


def _rows(
    name: str, arrays: Mapping[str, NDArray[np.generic]], sites: Sites, width: int
) -> dict[str, bytes]:
    if arrays.keys() != {name, "present"}:
        raise unreadable(f"arrays {sorted(arrays)}", f"{name} and present")
    table = _bytes(name, arrays[name], (len(sites), width))
    present = _bytes("present", arrays["present"], (len(sites),))
    return {s: table[place].tobytes() for place, s in enumerate(sites) if present[place]}


def _array(
    arrays: Mapping[str, NDArray[np.generic]], name: str, shape: tuple[int, ...]
) -> NDArray[np.uint8]:
    if arrays.keys() != {name}:
        raise unreadable(f"arrays {sorted(arrays)}", name)
    return _bytes(name, arrays[name], shape)


def _bytes(name: str, value: NDArray[np.generic], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    if value.dtype != np.uint8 or value.shape != shape:
        raise unreadable(f"{name} of {value.dtype} {value.shape}", f"uint8 {shape}")
    return np.ascontiguousarray(value).view(np.uint8)
