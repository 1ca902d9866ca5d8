"""Which nodes are online, by site; waiting until enough are."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from flwr.serverapp import Grid

from fedmri.errors import RoundError

log = logging.getLogger("fedmri.server")

POLL_S = 0.5


@dataclass(frozen=True)
class Present:
    """A node that is online: its id, and since when."""

    node_id: int
    since: str


@runtime_checkable
class MailingGrid(Protocol):
    """A grid that asks some sites by letters: they count as there, and their silence says nothing.

    Attributes:
        mailed: These sites.
    """

    mailed: frozenset[str]


def mailed(grid: Grid) -> frozenset[str]:
    """Return the sites that are asked by letters."""
    return grid.mailed if isinstance(grid, MailingGrid) else frozenset()


def present(grid: Grid) -> dict[str, Present]:
    """Return the nodes that are online, by site, in ascending order of site."""
    nodes: Sequence[Any] = list(grid.get_nodes())
    named = {
        node.name or str(node.node_id): Present(node.node_id, node.last_activated_at)
        for node in nodes
    }
    return dict(sorted(named.items()))


def wait_for_sites(grid: Grid, names: Sequence[str], n_least: int, timeout_s: float) -> None:
    """Wait until enough sites are online.

    Args:
        grid: Flower's grid.
        names: Sites that count; empty counts all.
        n_least: How many are enough.
        timeout_s: Longest wait.

    Raises:
        RoundError: They did not come (R40).
    """
    deadline, said = time.monotonic() + timeout_s, ""
    while True:
        there = present(grid)
        online = [name for name in names or there if name in there]
        if len(online) >= n_least:
            return
        if time.monotonic() > deadline:
            break
        if said != (said := ", ".join(online) or "none"):
            log.info("waiting for %d sites; online: %s", n_least, said)
        time.sleep(POLL_S)
    absent = ", ".join(sorted(set(names) - set(online))) or "others"
    found = f"{len(online)} ({', '.join(online) or 'none'}) after {timeout_s:.0f} s"
    fix = f"ask {absent} to start `fedmri client`, then resume; or lower rounds.min_sites"
    raise RoundError("R40", "sites online", found=found, want=f"{n_least} or more", fix=fix)
