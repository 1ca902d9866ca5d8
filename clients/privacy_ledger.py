"""The privacy ledger: what every update has cost the site's patients, over all runs together.

A line is written, and on the disk, before its update leaves; lines are chained as those of the
egress ledger. All lines compose, whatever their data fingerprint: a data set with a patient more is
another fingerprint with almost the same patients, and nobody can tell from outside who is in both.
That is conservative for data sets without a common patient. An update that was lost on its way
counts, a round that is trained anew counts anew, and so do forks, folds and searches of settings.
Only the same bits, sent again, are free: who has them learns nothing from a copy.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedmri.clients.ledger import Ledger, entries, unwritable, verify
from fedmri.errors import PrivacyError
from fedmri.files import PRIVATE_FILE, make_private_folder
from fedmri.privacy.accounting import Spent, Steps, spent

Unit = Literal["dp", "dp-site"]
WHOSE: dict[Unit, str] = {"dp": "one patient at this site", "dp-site": "this site as a whole"}


@dataclass(frozen=True)
class Spend:
    """Steps whose update is about to leave.

    Attributes:
        fingerprint: Of the site's data.
        run: Name of the run.
        round: Round that was trained.
        update: SHA-256 of the update, as it leaves.
        noise_multiplier: Of its steps.
        sample_rate: Of its steps.
        n_steps: Steps, empty ones too.
        kind: Whose privacy it is of: a patient's (``dp``), or the whole site's (``dp-site``). One
            is never added to the other.
    """

    fingerprint: str
    run: str
    round: int
    update: str
    noise_multiplier: float
    sample_rate: float
    n_steps: int
    kind: Unit = "dp"

    @property
    def steps(self) -> Steps:
        """What is accounted for."""
        return Steps(self.noise_multiplier, self.sample_rate, self.n_steps)


@dataclass(frozen=True)
class Cap:
    """The most that a patient of the site, or the site, may lose over all that its ledger holds.

    Attributes:
        epsilon: Above 0; infinite to count without refusing.
        delta: That epsilon goes with.
        kind: Whose loss it is, as in ``Spend``.
    """

    epsilon: float
    delta: float
    kind: Unit = "dp"


class PrivacyLedger:
    """A site's account of privacy; several processes may write to it at once.

    Args:
        path: The ledger; made with its folder on first use, for its owner alone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def history(self, fingerprint: str = "", kind: Unit = "dp") -> list[Steps]:
        """Return all steps that left, or those of one data set alone (to show, not to decide).

        Args:
            fingerprint: Of the data set; empty takes all.
            kind: Whose privacy they are of.

        Raises:
            PrivacyError: The ledger was changed (P05) or cut (P06).
        """
        verify(self.path)
        return [
            Steps(line["noise_multiplier"], line["sample_rate"], line["n_steps"])
            for line in entries(self.path)
            if line["kind"] == kind and fingerprint in ("", line["fingerprint"])
        ]

    def spent(self, delta: float, fingerprint: str = "", kind: Unit = "dp") -> Spent:
        """Return what that has cost each patient of this site, or the site as a whole."""
        return spent(self.history(fingerprint, kind), delta)

    def refuse_beyond(self, steps: Steps, cap: Cap) -> Spent:
        """Refuse steps before they are trained, where they would exceed the cap.

        Returns:
            What will have been spent after them.

        Raises:
            PrivacyError: They would (P31).
        """
        history = self.history(kind=cap.kind)
        after = spent([*history, steps], cap.delta)
        if after.epsilon > cap.epsilon:
            before = spent(history, cap.delta)
            raise PrivacyError(
                "P31",
                f"privacy of {WHOSE[cap.kind]} (delta {cap.delta:.3g})",
                found=f"epsilon {before.epsilon:.3f} spent, {after.epsilon:.3f} after this round",
                want=f"{cap.epsilon:g} at most, over all runs",
                fix="end training here, or let the site's privacy officer raise the cap",
            )
        return after

    def reserve(self, entry: Spend, cap: Cap) -> Spent:
        """Write down what is about to leave; when this returns, it is on the disk.

        The same update, bit for bit, is written once.

        Returns:
            What has been spent with it.

        Raises:
            PrivacyError: It would exceed the cap (P31); or the ledger was changed (P05), cut (P06)
                or cannot be written (P07). Nothing may leave then.
        """
        with self._alone():
            key = (entry.kind, entry.update)
            if any((e["kind"], e.get("update")) == key for e in entries(self.path)):
                return self.spent(cap.delta, kind=cap.kind)
            after = self.refuse_beyond(entry.steps, cap)
            Ledger(self.path).append(entry)
            return after

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let no other process write between the look at what was spent and the line."""
        lock = self.path.with_suffix(".lock")
        try:
            make_private_folder(self.path.parent)
            number = os.open(lock, os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
        except OSError as error:
            raise unwritable(self.path, error) from error
        try:
            fcntl.flock(number, fcntl.LOCK_EX)
            yield
        finally:
            os.close(number)
