"""A plan with the coordinator's signature: what a site approves is, to the byte, what it runs."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import TypeAdapter, ValidationError

from fedmri.agreement.consortium import installed_version
from fedmri.errors import ConfigError, FedmriError, NetworkError, told
from fedmri.parts import OF_PARTS
from fedmri.plan import Plan, from_dict, to_dict, to_json
from fedmri.secagg.secure_sum import Roll

PURPOSE = b"fedmri plan 1\n"
"""Goes before the signed text, so that a signature for anything else is none for a plan."""


@dataclass(frozen=True)
class SignedPlan:
    """A plan as canonical JSON, and the signature of that text.

    Attributes:
        text: ``{"fedmri": version, "plan": {...}, "sites": {...}}``, keys sorted, no spaces;
            ``sites`` is there where the plan has secure sums.
        signature: Ed25519 signature (RFC 8032) of ``PURPOSE`` and the text, in base64.
    """

    text: str
    signature: str

    @property
    def sha256(self) -> str:
        """SHA-256 of the text: what sites approve. Another byte is another plan."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def plan(self) -> Plan:
        """The plan, all of it.

        Raises:
            NetworkError: The text holds no plan (N01), or one that this version of fedmri reads
                with something left out or added (N03).
        """
        values = self._values
        try:
            plan = from_dict(values["plan"])
        except (ValidationError, FedmriError) as error:
            if isinstance(error, ConfigError) and error.code in OF_PARTS:
                raise  # it says which distribution is wanted
            found = told(error)
            raise self._other_version(found) from error
        if _canonical(plan, self.version, self.sites) != self.text:
            raise self._other_version("settings that this version does not know, or not in order")
        return plan

    @property
    def sites(self) -> dict[str, str]:
        """Enrolled key of each site that takes part in secure sums; empty without them."""
        found = self._values.get("sites", {})
        if not isinstance(found, dict) or not all(type(v) is str for v in found.values()):
            raise _unreadable("sites without keys in it")
        return dict(found)

    @property
    def version(self) -> str:
        """Version of fedmri that the plan was signed with; raise NetworkError N01."""
        return str(self._values["fedmri"])

    def verify(self, public_key: str) -> None:
        """Refuse a text that the owner of the key did not sign.

        Args:
            public_key: The coordinator's Ed25519 key, PEM.

        Raises:
            NetworkError: The signature is not the key's of this text, or not readable (N02).
        """
        try:
            key = serialization.load_pem_public_key(public_key.encode())
            if not isinstance(key, Ed25519PublicKey):
                raise _wrong_signature(f"a key of type {type(key).__name__}")
            key.verify(
                base64.b64decode(self.signature, validate=True), PURPOSE + self.text.encode()
            )
        except InvalidSignature:
            raise _wrong_signature("the signature of another text or key") from None
        except (binascii.Error, ValueError, UnsupportedAlgorithm) as error:
            raise _wrong_signature(told(error)) from error

    def roll(self, run: str) -> Roll:
        """Return who takes part in the secure sums of a run, the same on all sides."""
        threshold = self.plan.secagg.threshold
        return Roll(f"plan {self.sha256} run {run}", self.sites, threshold)

    def to_json(self) -> str:
        """Return the text that ``from_json`` reads."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> SignedPlan:
        """Return what ``to_json`` wrote; nothing is verified yet.

        Raises:
            NetworkError: It is something else (N01).
        """
        try:
            return TypeAdapter(cls).validate_json(text)
        except ValidationError as error:
            raise _unreadable(str(error.errors()[0]["msg"])) from None

    @property
    def _values(self) -> dict[str, Any]:
        try:
            values = json.loads(self.text)
        except (ValueError, RecursionError) as error:
            raise _unreadable(type(error).__name__) from error
        if not isinstance(values, dict) or set(values) - {"sites"} != {"fedmri", "plan"}:
            raise _unreadable("no fedmri and plan in it")
        return values

    def _other_version(self, found: str) -> NetworkError:
        want = f"a plan that fedmri {installed_version()} takes whole"
        fix = f"install fedmri {self.version}, with which it was signed, or have it signed anew"
        what = f"signed plan {self.sha256[:12]}"
        return NetworkError("N03", what, found=found, want=want, fix=fix)


def sign_plan(plan: Plan, private_key: bytes, sites: Mapping[str, str] | None = None) -> SignedPlan:
    """Return the plan with its signature; the same plan, version and key give the same bytes.

    Args:
        plan: What is signed.
        private_key: The coordinator's Ed25519 key, PEM without a password.
        sites: Enrolled keys of the sites, where the plan has secure sums.

    Raises:
        NetworkError: The key is of another kind (N05).
    """
    try:
        key = serialization.load_pem_private_key(private_key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _no_signing_key(type(error).__name__) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_signing_key(type(key).__name__)
    text = _canonical(_as_received(plan), installed_version(), sites or {})
    return SignedPlan(text, base64.b64encode(key.sign(PURPOSE + text.encode())).decode())


def unsigned(plan: Plan) -> SignedPlan:
    """Return a plan as it would be signed, without the signature: to be read, not to be run."""
    return SignedPlan(_canonical(_as_received(plan), installed_version(), {}), "")


def _as_received(plan: Plan) -> Plan:
    return from_dict(json.loads(to_json(plan)))  # 1 where a float is wanted becomes 1.0


def _canonical(plan: Plan, version: str, sites: Mapping[str, str]) -> str:
    values = {"fedmri": version, "plan": to_dict(plan)} | ({"sites": dict(sites)} if sites else {})
    return json.dumps(values, sort_keys=True, separators=(",", ":"))


def _unreadable(found: str) -> NetworkError:
    fix = "have the coordinator sign and submit the plan again"
    return NetworkError("N01", "signed plan", found=found, want="text and signature", fix=fix)


def _wrong_signature(found: str) -> NetworkError:
    want = "the signature of the consortium's coordinator"
    fix = "do not train on it; ask the coordinator by another way whether the plan is theirs"
    return NetworkError("N02", "signature of the plan", found=found, want=want, fix=fix)


def _no_signing_key(found: str) -> NetworkError:
    fix = "restore coordinator.key from the backup of the server's folder"
    return NetworkError("N05", "signing key", found=found, want="an Ed25519 key, PEM", fix=fix)
