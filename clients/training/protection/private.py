"""What a site needs to train its patients privately: a secret, an account and a cap."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fedmri.clients.egress.digests import update_digest
from fedmri.clients.egress.gate import Gate
from fedmri.clients.egress.ledger import entries
from fedmri.clients.egress.privacy_ledger import Cap, PrivacyLedger, Spend
from fedmri.clients.egress.revealed import sketch_of
from fedmri.clients.training.protection.secure import Membership
from fedmri.errors import PrivacyError
from fedmri.privacy.accounting import Spent, Steps
from fedmri.privacy.dp_sgd import PrivateSteps
from fedmri.privacy.settings import PrivacyConfig, SiteNoiseConfig
from fedmri.privacy.site_level import round_cost
from fedmri.privacy.stream import Stream, key_for
from fedmri.round import Weights

MOST_DELTA = 1e-3
"""Under a site's own cap on what it loses as a whole; a plan cannot choose a larger one."""


@dataclass(frozen=True)
class Guard:
    """What a site needs for a plan with differential privacy or secure aggregation.

    Attributes:
        secret: What noise and draw come from, never sent. Whoever has it can take the noise away.
        ledger: File of what was spent, over all runs of this site.
        max_epsilon: The site's own cap over all of them; 0 leaves it to the plan.
        run: Name of the run.
        membership: What the site takes part in secure sums with.
        gate: What the site asks of an update besides, whatever the plan.
        max_scorings: Scorings of one run that the site gives; 0 leaves it to the plan.
        account: Second place of what was spent; None in a simulation.
        scorings: File of the scorings of the run, whatever data they were of; None in a simulation.
        n_least: Patients that must be behind each cell of a sum; see ``stages.floor``.
        max_site_epsilon: The site's own cap on what it loses as a whole; 0 leaves it to the plan.
    """

    secret: bytes
    ledger: Path
    max_epsilon: float = 0.0
    run: str = ""
    membership: Membership = field(default_factory=Membership)
    gate: Gate = field(default_factory=Gate)
    max_scorings: int = 0
    max_site_epsilon: float = 0.0
    n_least: int = 0
    account: Path | None = None
    scorings: Path | None = None

    def sketch(self, values: Mapping[str, NDArray[Any]]) -> tuple[float, ...]:
        """Return a short form of values, by which alike ones are known; see ``sketch_of``."""
        return sketch_of(values, self.secret)

    def refuse_scoring(self) -> None:
        """Refuse scores, which have no noise, where the site has a cap on epsilon.

        Raises:
            PrivacyError: It has (P16).
        """
        if self.max_epsilon:
            what, found = "scores of this site's patients", "no noise on them"
            want = f"nothing without noise beside policy.max_epsilon {self.max_epsilon:g}"
            fix = "nothing is lost: the run goes on without this site's scores"
            raise PrivacyError("P16", what, found=found, want=want, fix=fix)

    def steps(self, config: PrivacyConfig, order: str, phase: str) -> PrivateSteps:
        """Return where a phase's batches and gradients come from.

        Args:
            config: The plan's noise and clip norm.
            order: Digest of the order: another order gives other noise.
            phase: Name of the phase.
        """
        return PrivateSteps(config, key_for(self.secret, order, phase))

    def refuse_beyond(self, steps: Steps, config: PrivacyConfig, n_subjects: int) -> None:
        """Refuse steps that would spend more than the plan or the site allows.

        Raises:
            PrivacyError: They would (P31), or the ledger was changed or cut (P05, P06).
        """
        PrivacyLedger(self.ledger, self.account).refuse_beyond(steps, self._cap(config, n_subjects))

    def reserve(self, spend: Spend, config: PrivacyConfig, n_subjects: int) -> Spent:
        """Write down what leaves and what it costs, before it does; return all that was spent."""
        is_site = spend.kind == "dp-site"
        cap = self._site_cap(config.site) if is_site else self._cap(config, n_subjects)
        return PrivacyLedger(self.ledger, self.account).reserve(spend, cap)

    def has_spent(self) -> bool:
        """Tell whether this site's patients were trained on in the run."""
        lines = entries(self.ledger)
        own = (line for line in lines if line["kind"] == "dp" and line["run"] == self.run)
        return any(line["round"] for line in own)  # sums before the rounds train nobody

    def site_stream(self, order: str, released: Weights) -> Stream:
        """Return the noise that hides the site, or its patients, in a release.

        Args:
            order: Digest of the order.
            released: What the noise is put on. It is part of the key: the same noise on two
                releases would show their difference without any.
        """
        return Stream(key_for(self.secret, order, "site noise", update_digest(released, {})))

    def refuse_site_beyond(self, config: SiteNoiseConfig) -> None:
        """Refuse a release that would spend more of the site's own privacy than the plan allows.

        Raises:
            PrivacyError: It would (P31), or the ledger was changed or cut (P05, P06).
        """
        PrivacyLedger(self.ledger, self.account).refuse_beyond(
            round_cost(config), self._site_cap(config)
        )

    def delta_of(self, config: PrivacyConfig, n_subjects: int) -> float:
        """Return the delta of a plan's guarantee here.

        Under the site's own cap a plan cannot choose a larger one than the usual: next to a delta
        of one half, any epsilon is small.
        """
        usual = replace(config, delta=0).delta_of(n_subjects)
        most = usual if self.max_epsilon else 1.0
        return min(config.delta_of(n_subjects), most)

    def _cap(self, config: PrivacyConfig, n_subjects: int) -> Cap:
        caps = [cap for cap in (config.max_epsilon, self.max_epsilon) if cap]
        return Cap(min(caps, default=float("inf")), self.delta_of(config, n_subjects))

    def _site_cap(self, config: SiteNoiseConfig) -> Cap:
        caps = [cap for cap in (config.max_epsilon, self.max_site_epsilon) if cap]
        most = MOST_DELTA if self.max_site_epsilon else 1.0
        return Cap(min(caps, default=float("inf")), min(config.delta, most), "dp-site")


def simulated_secret(site: str) -> bytes:
    """Return the secret of a simulated site: it can be repeated, and protects nobody."""
    return hashlib.sha256(f"simulated site {site}".encode()).digest()
