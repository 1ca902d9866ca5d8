"""The head that tells sites apart by embeddings: a site keeps its own, and it never leaves."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fedmri.harmonize.sums import Arrays
from fedmri.round import Weights

SITES = "sites"
"""Array that tells which row is whose; a number a site."""
N_HIDDEN, RATE = 32, 1e-3


def site_number(name: str) -> int:
    """Return a number of 48 bits that stands for a site's name and fits a float64 exactly."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")


def site_numbers(names: Sequence[str]) -> Arrays:
    """Return what sites find their own row by."""
    return {SITES: torch.tensor([site_number(n) for n in sorted(names)]).double().numpy()}


def place_of(name: str, sites: Tensor) -> int:
    """Return a site's row; -1 where it has none."""
    found = (sites == site_number(name)).nonzero()
    return int(found[0, 0]) if len(found) else -1


def domain_head(n_features: int, sites: Tensor, kept: Weights, seed: int) -> nn.Module:
    """Return the head that a site kept, or a new one where the sites are others.

    Args:
        n_features: Of an embedding.
        sites: Numbers of the K sites.
        kept: What ``kept_of`` returned after the round before; empty before the first.
        seed: Of new weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        head = nn.Sequential(
            nn.Linear(n_features, N_HIDDEN), nn.ReLU(), nn.Linear(N_HIDDEN, len(sites))
        )
    if SITES in kept and torch.equal(kept[SITES], sites):
        head.load_state_dict({name: v for name, v in kept.items() if name != SITES})
    return head


def kept_of(head: nn.Module, sites: Tensor) -> Weights:
    """Return what a site keeps of its head until the next round."""
    values = {name: value.detach().cpu().clone() for name, value in head.state_dict().items()}
    return {**values, SITES: sites.clone()}
