"""A hospital with data of its own, a plan, and a coordinator who signs it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedmri.agreement.consortium import Consortium
from fedmri.agreement.signed_plan import SignedPlan, sign_plan
from fedmri.clients.egress.gate import Gate
from fedmri.clients.process.home import ClientHome
from fedmri.clients.training.own_data import prepare_own
from fedmri.clients.training.protection.private import Guard
from fedmri.clients.training.site import Site
from fedmri.config import load
from fedmri.plan import Plan, to_json

OWN = "site02"
"""The hospital of the shared data set that these tests play."""

Sign = Callable[..., SignedPlan]
MakeSite = Callable[..., Site]


@pytest.fixture
def own_scans(hospitals: Path, tmp_path: Path) -> Path:
    """Return a BIDS folder with the patients of one hospital, which its own table calls HOME."""
    folder = tmp_path / "own"
    header, *rows = (hospitals / "participants.tsv").read_text().splitlines()
    others = [row.split("\t")[0] for row in rows if f"\t{OWN}\t" not in row]
    shutil.copytree(hospitals, folder, ignore=shutil.ignore_patterns(*others))
    own = [row.replace(f"\t{OWN}\t", "\tHOME\t") for row in rows if f"\t{OWN}\t" in row]
    (folder / "participants.tsv").write_text("\n".join([header, *own, ""]))
    return folder


@pytest.fixture
def plan(tiny: Callable[..., list[str]]) -> Plan:
    """Return a plan that takes a second."""
    return load(tiny()).plan


@pytest.fixture
def coordinator() -> Ed25519PrivateKey:
    """Return the coordinator's key."""
    return Ed25519PrivateKey.generate()


@pytest.fixture
def sign(coordinator: Ed25519PrivateKey) -> Sign:
    """Return a function that signs plans as the coordinator does."""
    secret = coordinator.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return lambda plan, sites=None: sign_plan(plan, secret, sites)


@pytest.fixture
def home(own_scans: Path, coordinator: Ed25519PrivateKey, tmp_path: Path) -> ClientHome:
    """Return the folder of a hospital that has joined."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "site.yaml").write_text(f"data:\n  path: {own_scans}\n")
    public = coordinator.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    enrolment = Consortium(OWN, "localhost:9443", "ca", public.decode(), "key", "0")
    (folder / "consortium.json").write_text(enrolment.to_json())
    return ClientHome(folder)


@pytest.fixture
def make_site(
    home: ClientHome, tiny: Callable[..., list[str]], cache: Path, tmp_path: Path
) -> MakeSite:
    """Return a function that opens the hospital's data as a site of a plan, with a gate."""

    def make(*settings: str, gate: Gate | None = None) -> Site:
        plan = load(tiny(*settings)).plan
        prepared = prepare_own(home.config, plan, OWN, cache, tmp_path / "plan")
        guard = Guard(bytes(32), tmp_path / "privacy.jsonl", gate=gate or Gate())
        return Site(OWN, to_json(plan), [prepared], tmp_path / "run", guard)

    return make
