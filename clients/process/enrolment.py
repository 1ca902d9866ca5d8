"""Making a site's folder, and joining a consortium with it."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedmri.agreement.consortium import Consortium, read_consortium, refuse_folder_in_use
from fedmri.clients.process.home import ClientHome
from fedmri.clients.process.keys import make_key_pair, public_half
from fedmri.data.settings import SourceConfig
from fedmri.errors import DataError, NetworkError, told
from fedmri.machine.files import make_private_folder, write_whole

SETTINGS = """\
# Settings of this site. They stay here, no plan can change them, and the policy wins over any plan.
# A line that begins with # is not read; the values shown in such lines are the defaults.

data:
  # Folder of the scans; a relative one counts from the folder of this file.
  path: {path}
  # auto, bids, images (site/class/*.png) or dicom
  layout: {layout}
  # Column of participants.tsv that names the site, where the table holds several.
  site_column: {site_column}
  # Secret behind the names of patients whom only DICOM headers name. Keep a copy: with another
  # secret the same patient gets another name.
  patient_key: {patient_key}

check:
  # Share of the scans that may be left out before nothing is trained at all.
  # max_excluded: 0.2
  # Copies of a scan: refuse stops with the list, exclude keeps one of each, warn only says so.
  # duplicates: refuse
  # Subjects that are never used.
  # exclude: []

policy:
  # Patients that must be behind an update, and behind a reported metric.
  # min_subjects_train: 5
  # min_subjects_reported: 5
  # Kinds of task and networks that may be trained; empty allows all.
  # tasks: []
  # models: []
  # Most rounds of one plan, most privacy loss of a patient over all plans, largest norm at which
  # gradients must be clipped; 0 sets no limit.
  # max_rounds: 0
  # max_epsilon: 0
  # max_site_epsilon: 0
  # max_clip_grad_norm: 0
  # Whether a plan must hide this site's updates from the server by secure sums.
  # is_secagg_required: false
  # Largest norm of what a round may change in all parameters together; 0 sets no limit.
  # max_update_norm: 0
  # How much the attacks of the leakage meter may make of an update before it stays: 0 does not
  # measure, 1 measures and lets all out. Rounds from one measurement to the next, and its cost.
  # max_leakage: 0
  # leakage_every: 1
  # leakage_steps: 100
  # max_scorings: 200
  # score_digits: 3
  # Days that an approval lasts; 0 for ever.
  # approval_days: 365
  # Whether plans within these limits run without anybody having approved them.
  # is_approval_automatic: false
  # Plans approved by this file, by their hash.
  # approved: []
  # Whether the coordinator may read why this site refuses a run.
  # is_reason_told: false

# Table of features, a subject a row, for plans that harmonize tables.
# features: table.csv

# When this site answers orders, by its own clock; an order at another time waits.
# train_hours: "19:00-06:00"

# Command that is run with a short text as its last word: a plan waits, an update was left out,
# a certificate ends soon, or the site was revoked. The text names no patient and no file.
# notify: /usr/local/bin/tell-the-team

# Where to train, such as cuda:0 or cpu; empty leaves it to the plan.
device: {device}
"""


@dataclass(frozen=True)
class Join:
    """What ``join`` did: the consortium, and whether the site had another address for it."""

    consortium: Consortium
    is_update: bool


def make_home(folder: Path, data: SourceConfig, device: str = "") -> ClientHome:
    """Make a site's folder: key pair, settings, and nothing of the data.

    Args:
        folder: A folder that is missing or empty.
        data: Where the scans are and what their tables call things.
        device: Where to train; empty leaves it to the plan.

    Raises:
        UsageError: The folder holds something (U20).
        DataError: There is no folder with scans at the path (D04).
    """
    refuse_folder_in_use(folder)
    path = Path(data.path).expanduser().absolute()
    if not path.is_dir():
        fix = "name the folder with --data; it can be changed in site.yaml later"
        raise DataError("D04", f"data {path}", found="no folder", want="a folder", fix=fix)
    home = ClientHome(folder)
    for made in (home.folder, home.plans, home.ledger.parent, home.runs, home.cache, home.logs):
        make_private_folder(made)
    make_key_pair(home.key, home.public_key)
    values = {
        "path": str(path),
        "layout": data.layout,
        "site_column": data.site_column,
        "patient_key": secrets.token_hex(16),
        "device": device,
    }
    quoted = {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}
    write_whole(home.settings_file, SETTINGS.format(**quoted), 0o600)
    return home


def join(home: ClientHome, file: Path) -> Join:
    """Store the enrolment that the coordinator sent.

    An enrolment of the same consortium may follow another, as when the server has moved.

    Raises:
        UsageError: The folder is not a site's (U21).
        NetworkError: The file is none, was made for another key, or is of another consortium than
            the one that the site is in (N04); or the site's own key cannot be used (N06).
    """
    _ = home.config
    consortium = read_consortium(file)
    own = public_half(home.key)
    if consortium.public_key != own:
        fix = f"send the coordinator {home.public_key} and ask for the file made from it"
        found, want = "one for another key", "one for the key of this folder"
        raise NetworkError("N04", f"enrolment {file}", found=found, want=want, fix=fix)
    _refuse_broken_keys(consortium, file)
    is_update = home.consortium_file.exists()
    if is_update:
        _refuse_other(read_consortium(home.consortium_file), consortium, file)
    write_whole(home.consortium_file, consortium.to_json())
    return Join(consortium, is_update)


def _refuse_broken_keys(consortium: Consortium, file: Path) -> None:
    try:
        x509.load_pem_x509_certificate(consortium.ca.encode())
        key = serialization.load_pem_public_key(consortium.coordinator.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        found = told(error)
        raise _broken_keys(file, found) from error
    if not isinstance(key, Ed25519PublicKey):
        raise _broken_keys(file, f"a coordinator's key of type {type(key).__name__}")


def _broken_keys(file: Path, found: str) -> NetworkError:
    fix = "ask the coordinator to send it again, as a file and not as text"
    want = "the authority's certificate and the coordinator's Ed25519 key"
    return NetworkError("N04", f"enrolment {file}", found=found, want=want, fix=fix)


def _refuse_other(old: Consortium, new: Consortium, file: Path) -> None:
    if (new.fingerprint, new.site) != (old.fingerprint, old.site):
        found = f"site {new.site} of consortium {new.fingerprint}"
        want = f"site {old.site} of consortium {old.fingerprint}"
        fix = "make a folder for the other consortium with `fedmri client init`"
        raise NetworkError("N04", f"enrolment {file}", found=found, want=want, fix=fix)
