"""Patients who withdrew their consent: barred from every later plan and round of this site.

The list of them must not be a list of patients: it holds keyed hashes. Whoever has the list and not
the site's secret cannot tell who is on it.
"""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fedmri.clients.process.home import ClientHome
from fedmri.errors import PrivacyError
from fedmri.machine.files import append_line, whole_lines


@dataclass(frozen=True)
class Withdrawn:
    """Who withdrew, by keyed hash.

    Attributes:
        path: File of them, a line each, for its owner alone.
        secret: Key of the hashes: the site's own, never sent.
    """

    path: Path
    secret: bytes

    @classmethod
    def of(cls, home: ClientHome) -> Withdrawn:
        """Return who withdrew at a site.

        Raises:
            PrivacyError: The list was made with another secret, so nobody can tell (P17).
        """
        secret = home.secret.read_bytes() if home.secret.exists() else b""
        found = cls(home.withdrawn, secret)
        if found and "" not in found:
            fix = "restore keys/privacy.secret from the backup, or have the patients named again"
            what, want = f"list {home.withdrawn}", "one by the secret of this site"
            raise PrivacyError("P17", what, found="hashes by another secret", want=want, fix=fix)
        return found

    @property
    def version(self) -> str:
        """What changes with every patient who withdraws."""
        return hashlib.sha256(" ".join(sorted(self._hashes)).encode()).hexdigest()

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def __contains__(self, subject: object) -> bool:
        return self._hash(str(subject)) in self._hashes

    def add(self, subject: str) -> None:
        """Write down that a patient withdrew; when this returns, it is on the disk."""
        for name in ("", subject):  # nobody is called "": it shows which secret the list is by
            if name not in self:
                append_line(self.path, {"subject": self._hash(name)})
                vars(self).pop("_hashes", None)  # to be read anew

    @cached_property
    def _hashes(self) -> frozenset[str]:
        return frozenset(str(line.get("subject")) for line in whole_lines(self.path))

    def _hash(self, subject: str) -> str:
        text = f"withdrawn {plain_name(subject)}"
        return hmac.new(self.secret, text.encode(), hashlib.sha256).hexdigest()


def plain_name(subject: str) -> str:
    """Return the name of a patient as it is compared, however a file or a person spells it."""
    return unicodedata.normalize("NFC", subject.strip()).removeprefix("sub-")
