"""All strategies by name: the files of the folders beside this one, and installed ones."""

from __future__ import annotations

from fedmri.parts import Registry
from fedmri.round import Strategy

STRATEGIES = Registry[Strategy](
    "strategy",
    "fedmri.strategies",
    ("averaging", "adaptive", "personal", "robust"),
    "fedmri.strategies",
)
