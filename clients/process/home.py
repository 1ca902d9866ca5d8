"""A site's folder: where everything lies, and what the site decided."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from fedmri.agreement.consortium import Consortium, read_consortium
from fedmri.clients.consent.hours import Hours
from fedmri.clients.consent.policy import SitePolicy
from fedmri.data.settings import CheckConfig, SourceConfig
from fedmri.machine.files import make_private_folder, write_private
from fedmri.settings.file import read_home

N_SECRET = 32
NOT_JOINED = "this-site"
"""Name of a site that has none yet: its data can be used before it joins anything."""


@dataclass(frozen=True)
class SiteConfig:
    """Settings of a site, ``site.yaml``. A plan never sees them and cannot change them.

    Attributes:
        data: Where the scans are and what their tables call things.
        check: What the preflight refuses.
        policy: The site's limits on plans.
        device: Where to train, such as ``cuda:1``; empty leaves it to the plan.
        features: Table for plans that harmonize tables of features; empty where there is none.
        train_hours: When the site answers orders, by the machine's own clock, such as
            ``19:00-06:00``. An order that comes at another time waits. Empty answers at any time.
        notify: Command that gets a short text as its last word. It is run when a plan waits, an
            update was left out, a certificate ends soon, or the site was revoked. The text names no
            patient and no file.
    """

    data: SourceConfig = field(default_factory=SourceConfig)
    check: CheckConfig = field(default_factory=CheckConfig)
    policy: SitePolicy = field(default_factory=SitePolicy)
    device: str = ""
    features: str = ""
    train_hours: str = ""
    notify: str = ""

    def __post_init__(self) -> None:
        Hours.of(self.train_hours)


def short_name(run: str) -> str:
    """Return the name of a run as one of files: who made it is not trusted with a path."""
    return hashlib.sha256(run.encode()).hexdigest()[:16]


class ClientHome:
    """A folder that ``fedmri client init`` made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.settings_file = self.folder / "site.yaml"
        self.key = self.folder / "keys/site.key"
        self.public_key = self.folder / "keys/site.pub"
        self.consortium_file = self.folder / "consortium.json"
        self.plans = self.folder / "plans"
        self.approvals = self.folder / "approvals.jsonl"
        self.refusals = self.folder / "refusals.jsonl"
        self.messages = self.folder / "messages.jsonl"
        self.letters = self.folder / "letters.jsonl"
        self.ledger = self.folder / "ledger/egress.jsonl"
        self.privacy_ledger = self.folder / "ledger/privacy.jsonl"
        self.leakage_ledger = self.folder / "ledger/leakage.jsonl"
        self.privacy_account = self.folder / "keys/privacy.account.json"
        self.secret = self.folder / "keys/privacy.secret"
        self.withdrawn = self.folder / "keys/withdrawn.jsonl"
        self.runs = self.folder / "runs"
        self.cache = self.folder / "cache"
        self.logs = self.folder / "logs"

    @cached_property
    def config(self) -> SiteConfig:
        """The settings, read once; a relative data path counts from the folder.

        Raises:
            UsageError: The folder is not a site's (U21).
            ConfigError: A setting cannot be used (C01, C02, C04).
        """
        config = read_home(self.settings_file, SiteConfig, "site", "client")
        if config.features:
            table = self.folder / Path(config.features).expanduser()
            config = replace(config, features=str(table))
        if not config.data.path:  # the embedded data set
            return config
        path = self.folder / Path(config.data.path).expanduser()
        return replace(config, data=replace(config.data, path=str(path)))

    def scorings(self, plan: str, run: str) -> Path:
        """Return the file of what the models of a run scored here."""
        return self.runs / plan / "scorings" / f"{short_name(run)}.jsonl"

    def own_secret(self) -> Path:
        """Return the file of what the site's noise comes from; it is made on first use."""
        if not self.secret.exists():
            make_private_folder(self.secret.parent)
            write_private(self.secret, os.urandom(N_SECRET))
        return self.secret

    @property
    def site(self) -> str:
        """Name in the consortium, or ``this-site`` before the site has joined one."""
        return self.consortium.site if self.consortium_file.exists() else NOT_JOINED

    @cached_property
    def consortium(self) -> Consortium:
        """What the coordinator gave; raise NetworkError N04 where there is nothing yet."""
        return read_consortium(self.consortium_file)
