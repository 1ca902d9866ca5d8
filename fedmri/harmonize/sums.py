"""The door of this room: methods that need nothing of a site but sums over it.

A site's answer is a set of named arrays that are added over sites, and nothing else leaves it. So
every method here works under secure aggregation, where the server learns the total alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from fedmri.errors import HarmonizeError

Arrays = dict[str, NDArray[np.float64]]
"""Named arrays of one message."""

D = TypeVar("D", contravariant=True)


class SumStage(Protocol[D]):
    """A harmonization of ``n_steps`` steps; ``D`` is what a site holds (a table, images).

    In each step every site answers with ``site_sums``, and the server turns their total into what
    it broadcasts next. What ``combine`` returns after the last step are the fitted parameters.
    """

    @property
    def n_steps(self) -> int:
        """How often sites answer."""
        ...

    def site_sums(self, step: int, data: D, shared: Arrays) -> Arrays:
        """Return what a site adds to the total; ``shared`` is what was broadcast, at first empty.

        Names and shapes depend on ``step`` and ``shared`` alone, so that no site shows by them what
        it has.
        """
        ...

    def combine(self, step: int, total: Arrays, shared: Arrays) -> Arrays:
        """Return what is broadcast next; after the last step, the parameters."""
        ...


@runtime_checkable
class Doubting(Protocol):
    """A stage of sums that can tell by one site's sums alone that they cannot be true."""

    def refuse_odd(self, step: int, sums: Arrays) -> None:
        """Raise HarmonizeError for them (H01): that site is left out, and the others go on."""
        ...


def add(parts: Iterable[Arrays]) -> Arrays:
    """Return the plain sum over sites, in the order given.

    Args:
        parts: What each site sent: the same names, each with the same shape.

    Returns:
        The total, in new arrays.

    Raises:
        HarmonizeError: There is no site, or names or shapes differ between sites (H01).
    """
    total: Arrays = {}
    for n_before, part in enumerate(parts):
        if not n_before:
            total = {name: np.array(values, dtype=np.float64) for name, values in part.items()}
            continue
        _refuse_other_form(total, part)
        for name, values in part.items():
            total[name] += values
    if not total:
        fix = "have at least one site take part"
        want = "named arrays of one site or more"
        raise HarmonizeError("H01", "sums over sites", found="none", want=want, fix=fix)
    return total


def run(stage: SumStage[D], sites: Iterable[D]) -> Arrays:
    """Run all steps of a stage over sites that lie in memory, and return the parameters.

    Raises:
        HarmonizeError: Whatever the stage refuses.
    """
    held = list(sites)
    shared: Arrays = {}
    for step in range(stage.n_steps):
        answers = (stage.site_sums(step, data, shared) for data in held)
        shared = stage.combine(step, add(answers), shared)
    return shared


def version(parameters: Arrays) -> str:
    """Return the SHA-256 over names, shapes and little-endian bytes, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(parameters):
        values = np.ascontiguousarray(parameters[name], dtype="<f8")
        head = f"{len(name.encode())}:{name}{values.shape}"
        digest.update(head.encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def _refuse_other_form(total: Arrays, part: Arrays) -> None:
    wanted = {name: values.shape for name, values in total.items()}
    found = {name: np.shape(values) for name, values in part.items()}
    if wanted == found:
        return
    differing = sorted(n for n in wanted | found if wanted.get(n) != found.get(n))
    name = differing[0]
    fix = "give all sites the same settings: features, covariates and levels in the same order"
    raise HarmonizeError(
        "H01",
        f"sum {name!r} of a site",
        found=f"shape {found.get(name, 'missing')}",
        want=f"shape {wanted.get(name, 'missing')} as at the first site",
        fix=fix,
    )
