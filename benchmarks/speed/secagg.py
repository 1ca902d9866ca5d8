"""What secure aggregation costs beside adding plain updates, in time and bytes.

    python benchmarks/speed/secagg.py

A plain round is what the server does of it: n float32 vectors are added, weighted, in float64. A
secure round is all four steps of all parties, one after another in this process: a site's seconds
and the server's are told apart, since sites work side by side. In one of two rounds a site drops
out after sharing, the dearest moment. No training, no network.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec

from fedmri.secagg.masks import ssh_text
from fedmri.secagg.messages import Boxes
from fedmri.secagg.ring import Slot, weighted, weighted_mean, weighted_slots
from fedmri.secagg.secure_sum import SecureSum
from fedmri.secagg.server_half import ServerHalf
from fedmri.secagg.site_half import SiteHalf

SIZES = {"0.06 M": 60_000, "10 M": 10_000_000}
N_SITES = (5, 20)
N_REPEATS = 3


@dataclass
class Cost:
    """Seconds of the server and of all sites together, and bytes that one site sends and gets."""

    server_s: float = 0.0
    sites_s: float = 0.0
    n_bytes: dict[str, int] = field(default_factory=dict)


class Clock:
    """Adds the seconds of a block to a party's."""

    def __init__(self, cost: Cost, party: str) -> None:
        self.cost, self.party = cost, party

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        spent = time.perf_counter() - self.start
        setattr(self.cost, self.party, getattr(self.cost, self.party) + spent)


def vector(place: int, n: int) -> np.ndarray:
    """Return a site's update."""
    return np.random.default_rng(place).normal(size=n).astype(np.float32)


def plain(n_sites: int, n: int) -> Cost:
    """Return the cost of a weighted mean of updates in clear."""
    cost = Cost(n_bytes={"up": 4 * n})
    total = np.zeros(n)
    for place in range(n_sites):
        update = vector(place, n)
        with Clock(cost, "server_s"):
            total += np.float64(1 + place) * update
    with Clock(cost, "server_s"):
        total /= n_sites * (n_sites + 1) / 2
    return cost


def size(arrays: dict[str, np.ndarray]) -> int:
    """Return the bytes of a message's arrays."""
    return sum(value.nbytes for value in arrays.values())


def parties(n_sites: int, n: int) -> tuple[SecureSum, dict[str, SiteHalf]]:
    """Return a sum and the halves of its sites."""
    keys = {f"site{i:02d}": ec.generate_private_key(ec.SECP384R1()) for i in range(n_sites)}
    public = {site: ssh_text(key.public_key()) for site, key in keys.items()}
    secure_sum = SecureSum("benchmark", 1, public, weighted_slots({"model": Slot((n,))}))
    return secure_sum, {site: SiteHalf(secure_sum, site, key) for site, key in keys.items()}


def secure(n_sites: int, n: int, n_dropped: int) -> Cost:
    """Return the cost of the same mean, of sums that hide every update."""
    secure_sum, halves = parties(n_sites, n)
    server, sites, cost = ServerHalf(secure_sum), secure_sum.sites, Cost()
    states, adverts, sealed, reveals = {}, {}, {}, {}
    for site in sites:
        with Clock(cost, "sites_s"):
            states[site], adverts[site] = halves[site].advertise(0)
    with Clock(cost, "server_s"):
        roster = server.roster(adverts)
    for site in sites:
        with Clock(cost, "sites_s"):
            states[site], sealed[site] = halves[site].share(states[site], roster)
    with Clock(cost, "server_s"):
        inboxes = server.inboxes(roster, sealed)
        running = server.start(inboxes)
    for place, site in enumerate(sites[: n_sites - n_dropped]):
        update = vector(place, n)
        with Clock(cost, "sites_s"):
            values = weighted({"model": update}, 1 + place)
            states[site], masked = halves[site].mask(states[site], inboxes[site], values)
        with Clock(cost, "server_s"):
            running = server.add(running, site, masked)
    survivors = server.survivors(running)
    for site in sorted(survivors.sites):
        with Clock(cost, "sites_s"):
            states[site], reveals[site] = halves[site].reveal(states[site], survivors)
    with Clock(cost, "server_s"):
        weighted_mean(server.unmask(running, roster, reveals))
    first = sites[0]
    up = (adverts[first].to_arrays(), sealed[first].to_arrays(sites), masked.to_arrays())
    down = (roster.to_arrays(sites), Boxes(sealed).to_arrays(sites), survivors.to_arrays(sites))
    cost.n_bytes["up"] = sum(map(size, up)) + size(reveals[first].to_arrays(sites))
    cost.n_bytes["down"] = sum(map(size, down))
    return cost


def best(costs: list[Cost]) -> Cost:
    """Return the repeat that took the least time."""
    return min(costs, key=lambda cost: cost.server_s + cost.sites_s)


def main() -> None:
    """Print a line for each size and number of sites, and for each with a site that drops out."""
    print(
        "parameters sites dropped | plain s | server s  x plain | a site s | bytes up x plain, down"
    )
    for label, n in SIZES.items():
        for n_sites in N_SITES:
            for n_dropped in (0, 1):
                pairs = [
                    (plain(n_sites, n), secure(n_sites, n, n_dropped)) for _ in range(N_REPEATS)
                ]
                bare, hidden = best([a for a, _ in pairs]), best([b for _, b in pairs])
                print(
                    f"{label:>10} {n_sites:5} {n_dropped:7} | {bare.server_s:7.4f} |"
                    f" {hidden.server_s:8.4f} {hidden.server_s / bare.server_s:8.1f} |"
                    f" {hidden.sites_s / n_sites:8.4f} |"
                    f" {hidden.n_bytes['up']:9} {hidden.n_bytes['up'] / bare.n_bytes['up']:7.2f},"
                    f" {hidden.n_bytes['down']}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
