"""What a site let secure sums reveal: the same values over other sites would give a site away.

A sum over A, B and C and one of the same values over A and B have C's values as their difference.
Whether values are the same is read off them, and off what they were computed for. What the server
calls them, and the run, say nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmri.errors import PrivacyError
from fedmri.machine.files import append_line, whole_lines
from fedmri.privacy.stream import Stream, key_for
from fedmri.secagg.ring import BLOCK

N_BUCKETS = 256
LIKE = 0.2
"""Distance of two vectors, over the longer one, below which they count as the same values. Updates
of two rounds of a run are 0.2 (one step of plain SGD) to 1.7 (AdamW) apart."""


@dataclass(frozen=True)
class Subject:
    """What a sum was of.

    Attributes:
        kind: Sort of values: ``update``, ``embeddings`` or ``sums before the rounds``.
        of: Digest of what decides the values, without round, step or name.
        sketch: The values themselves, made short: see ``sketch_of``; empty where ``of`` says all.
    """

    kind: str = ""
    of: str = ""
    sketch: tuple[float, ...] = ()

    @classmethod
    def of_fields(cls, fields: Mapping[str, Any]) -> Subject:
        """Return it from its fields, as JSON made them."""
        return cls(**{**fields, "sketch": tuple(fields["sketch"])})

    @property
    def fields(self) -> dict[str, Any]:
        """What ``of_fields`` takes: ``asdict`` would copy each number of the sketch."""
        return {"kind": self.kind, "of": self.of, "sketch": self.sketch}

    def is_like(self, other: Subject) -> bool:
        """Tell whether a sum of one tells what a sum of the other does."""
        if self.kind != other.kind:
            return False
        if self.of == other.of:
            return True
        mine, theirs = np.array(self.sketch), np.array(other.sketch)
        if not mine.size or mine.shape != theirs.shape:
            return False
        longer = max(float(np.linalg.norm(mine)), float(np.linalg.norm(theirs)))
        return bool(np.linalg.norm(mine - theirs) < LIKE * longer)


def sketch_of(values: Mapping[str, NDArray[Any]], secret: bytes) -> tuple[float, ...]:
    """Return a vector as sums of its numbers under random signs, in few buckets.

    Distances stay within about a tenth. The signs are the site's own: no server can make two
    vectors whose sketches are alike and that are not.

    Source:
        Charikar, Chen and Farach-Colton 2004, doi:10.1016/S0304-3975(03)00400-6.
    """
    flat = np.concatenate([np.ravel(values[name]) for name in sorted(values)])
    stream, found = Stream(key_for(secret, "sketch")), np.zeros(N_BUCKETS)
    for start in range(0, flat.size, BLOCK):
        part = flat[start : start + BLOCK]
        block = np.zeros(-(-part.size // N_BUCKETS) * N_BUCKETS)
        np.multiply(part, stream.signs(part.size), out=block[: part.size])
        found += block.reshape(-1, N_BUCKETS).sum(axis=0)
    return tuple(found.tolist())


@dataclass(frozen=True)
class _Line:
    subject: Subject
    sites: tuple[str, ...]


@dataclass(frozen=True)
class Revealed:
    """All sums of a plan that a site let be revealed, on its disk.

    Attributes:
        path: File of them, a line each; made on first use, for its owner alone.
    """

    path: Path

    def refuse_other(self, subject: Subject, sites: frozenset[str]) -> None:
        """Refuse a sum of values that were revealed over other sites.

        Of two sums over subsets of n sites, each above half of them, no difference is large enough
        to be a sum over as many: so only the very same sites will do.

        Raises:
            PrivacyError: They were (P54).
        """
        for line in self._lines():
            if line.subject.is_like(subject) and set(line.sites) != sites:
                fix = "let the sites of the first sum come back, then resume the run"
                found = f"the sites {', '.join(sorted(sites))}"
                want = f"{', '.join(line.sites)}, over which the same was revealed before"
                what = f"second sum of the same values ({subject.kind})"
                raise PrivacyError("P54", what, found=found, want=want, fix=fix)

    def keep(self, subject: Subject, sites: frozenset[str]) -> None:
        """Write down what is about to be revealed; when this returns, it is on the disk."""
        line = _Line(subject, tuple(sorted(sites)))
        if line in self._lines():
            return
        append_line(self.path, {"subject": line.subject.fields, "sites": line.sites})

    def _lines(self) -> Iterator[_Line]:
        for line in whole_lines(self.path):
            yield _Line(Subject.of_fields(line["subject"]), tuple(line["sites"]))
