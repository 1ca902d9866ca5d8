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
import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal

from fedmri.clients.egress.ledger import Ledger, entries, head_file, unwritable, verify
from fedmri.errors import PrivacyError
from fedmri.machine.files import PRIVATE_FILE, make_private_folder, write_whole
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


REMEDY = "call `fedmri client renew-account`: what was spent before is carried over"
CARRIED = "carried over"
Total = tuple[Unit, float, float]
"""What steps are added up by: whose privacy, noise multiplier and sample rate."""


class PrivacyLedger:
    """A site's account of privacy; several processes may write to it at once.

    What it comes to is written down in a second place. A ledger that holds less, for it was moved
    away or taken from an old backup, is no account.

    Args:
        path: The ledger; made with its folder on first use, for its owner alone.
        account: The second place; None has none.
    """

    def __init__(self, path: Path, account: Path | None = None) -> None:
        self.path, self._account = path, account

    def history(self, fingerprint: str = "", kind: Unit = "dp") -> list[Steps]:
        """Return all steps that left, or those of one data set alone (to show, not to decide).

        Args:
            fingerprint: Of the data set; empty takes all.
            kind: Whose privacy they are of.

        Raises:
            PrivacyError: The ledger was changed (P05) or cut (P06).
        """
        verify(self.path, REMEDY)
        self._refuse_less()
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
            self._keep()
            return after

    def renew(self) -> Path | None:
        """Begin a new ledger that holds what was spent before; return where the old one lies now.

        For a ledger that was changed, cut or lost: of both places, and of all lines that can be
        read, the most counts.
        """
        with self._alone():
            totals = self._totals()
            for key, n_steps in self._known().items():
                totals[key] = max(totals.get(key, 0), n_steps)
            moved = None
            if self.path.exists():
                moved = next(
                    place
                    for place in (self.path.with_suffix(f".old-{n}.jsonl") for n in count(1))
                    if not place.exists()
                )
                self.path.rename(moved)
            head_file(self.path).unlink(missing_ok=True)
            for (kind, noise, rate), n_steps in sorted(totals.items()):
                update = f"{CARRIED} {kind} {noise!r} {rate!r}"
                entry = Spend("", CARRIED, 0, update, noise, rate, n_steps, kind)
                Ledger(self.path).append(entry)
            self._keep()
            return moved

    def _totals(self) -> dict[Total, int]:
        """Return the steps of all lines that can be read."""
        found: Counter[Total] = Counter()
        for line in entries(self.path):
            if line["kind"] in WHOSE:
                key = line["kind"], float(line["noise_multiplier"]), float(line["sample_rate"])
                found[key] += int(line["n_steps"])
        return dict(found)

    def _known(self) -> dict[Total, int]:
        """Return the steps in the second place; none where there is none."""
        if self._account is None or not self._account.exists():
            return {}
        try:
            rows = json.loads(self._account.read_text(encoding="utf-8"))
            return {(kind, float(noise), float(rate)): int(n) for kind, noise, rate, n in rows}
        except (ValueError, TypeError) as error:
            found, want = "a file that cannot be read", "the account that fedmri wrote"
            fix = "take it from the newest backup of the folder keys"
            raise PrivacyError(
                "P06", f"account {self._account}", found=found, want=want, fix=fix
            ) from error

    def _keep(self) -> None:
        """Write what the ledger comes to into the second place."""
        if self._account is not None:
            rows = sorted([*key, n_steps] for key, n_steps in self._totals().items())
            try:
                make_private_folder(self._account.parent)
                write_whole(self._account, json.dumps(rows), PRIVATE_FILE)
            except OSError as error:
                raise unwritable(self._account, error) from error

    def _refuse_less(self) -> None:
        known = self._known()
        totals = self._totals() if known else {}
        less = [key for key, n_steps in known.items() if totals.get(key, 0) < n_steps]
        if less:
            kind, noise, rate = less[0]
            found = f"{totals.get(less[0], 0)} steps of noise {noise:g} at rate {rate:g}"
            want = f"the {known[less[0]]} that were taken"
            fix = f"find out who moved it or put an old one in its place; then {REMEDY}"
            what = f"ledger {self.path} of {WHOSE[kind]}"
            raise PrivacyError("P06", what, found=found, want=want, fix=fix)

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
