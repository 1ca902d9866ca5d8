"""Entries of the first model that no round brings to a site, sent to each site once.

Who has the seed has them, unless the model starts from a file of weights that the server alone has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fedmri.round import Weights
from fedmri.wire import START


@dataclass
class FirstValues:
    """The entries, and the sites that keep them.

    Attributes:
        values: Nothing, where the seed is enough.
        kept_by: Sites that have answered an order with them, and none with an error since.
    """

    values: Weights = field(default_factory=dict)
    kept_by: set[str] = field(default_factory=set)

    def beside(self, sites: Iterable[str]) -> Mapping[str, Weights]:
        """Return what goes beside a model: the entries, unless all of these sites keep them."""
        return {START: self.values} if self.values and not self.kept_by.issuperset(sites) else {}

    def note(self, site: str, *, is_sent: bool, is_answered: bool) -> None:
        """Note what became of an order at a site: one that failed may have lost what it kept."""
        if not is_answered:
            self.kept_by.discard(site)
        elif is_sent:
            self.kept_by.add(site)
