"""What a site approves is, to the byte, what the coordinator signed and what runs."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from fedmri.agreement.signed_plan import SignedPlan, sign_plan
from fedmri.errors import NetworkError
from fedmri.plan import Plan
from fedmri.tasks.kinds.regression import Regression
from fedmri.training.settings import TrainConfig

PLAN = Plan(Regression("age"))


def key_pair(seed: int) -> tuple[bytes, str]:
    """Return private and public half of a coordinator's key, PEM both."""
    key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private, public.decode()


PRIVATE, PUBLIC = key_pair(1)
SIGNED = sign_plan(PLAN, PRIVATE)


def edited(change: dict[str, Any]) -> str:
    """Return the signed text with some settings of the plan changed, as canonical as it was."""
    values = json.loads(SIGNED.text)
    values["plan"] |= change
    return json.dumps(values, sort_keys=True, separators=(",", ":"))


def test_a_signed_plan_arrives_as_it_was_sent() -> None:
    """Through JSON and back it verifies, has its hash, and holds the plan."""
    arrived = SignedPlan.from_json(SIGNED.to_json())
    arrived.verify(PUBLIC)
    assert (arrived.plan, arrived.sha256) == (PLAN, SIGNED.sha256)


def test_the_same_plan_is_signed_with_the_same_bytes() -> None:
    """A plan that is submitted twice needs one approval."""
    assert sign_plan(PLAN, PRIVATE) == SIGNED


def test_a_whole_number_where_a_fraction_is_wanted_changes_nothing() -> None:
    """A plan made in Python with lr=1 is read back from its text whole."""
    plan = replace(PLAN, train=TrainConfig(lr=1))
    assert sign_plan(plan, PRIVATE).plan == plan


@given(st.data())
def test_no_changed_character_keeps_the_signature(data: st.DataObject) -> None:
    """Whichever character of the text is replaced, by whatever, it is not signed any more."""
    place = data.draw(st.integers(0, len(SIGNED.text) - 1))
    other = data.draw(st.characters(codec="utf-8").filter(lambda c: c != SIGNED.text[place]))
    text = SIGNED.text[:place] + other + SIGNED.text[place + 1 :]
    with pytest.raises(NetworkError, match="N02"):
        replace(SIGNED, text=text).verify(PUBLIC)


def test_another_key_is_not_the_coordinator() -> None:
    """Who holds a key of their own can sign, and is refused."""
    private, _ = key_pair(2)
    with pytest.raises(NetworkError, match=r"signature of another text or key.*N02"):
        sign_plan(PLAN, private).verify(PUBLIC)


@pytest.mark.parametrize("signature", ["", "!", "AAAA", SIGNED.signature[:-4]])
def test_a_broken_signature_is_a_wrong_one(signature: str) -> None:
    """No text that stands for a signature ends in anything but a refusal."""
    with pytest.raises(NetworkError, match="N02"):
        replace(SIGNED, signature=signature).verify(PUBLIC)


def test_a_signature_for_something_else_is_none_for_a_plan() -> None:
    """A text that the key signed for another purpose cannot be passed off as a plan."""
    import base64

    key = serialization.load_pem_private_key(PRIVATE, None)
    assert isinstance(key, Ed25519PrivateKey)
    bare = base64.b64encode(key.sign(SIGNED.text.encode())).decode()
    with pytest.raises(NetworkError, match="N02"):
        replace(SIGNED, signature=bare).verify(PUBLIC)


def test_a_change_of_the_plan_is_another_hash() -> None:
    """What was approved by its hash does not stretch to a plan that differs in one setting."""
    assert replace(SIGNED, text=edited({"seed": 1})).sha256 != SIGNED.sha256


@pytest.mark.parametrize(
    "change", [{"max_epsilon": 1.0}, {"seed": "many"}, {"name": 1}, {"target": {}}]
)
def test_a_plan_that_would_be_read_otherwise_is_refused(change: dict[str, Any]) -> None:
    """A setting that this version would leave out or misread is not what was signed."""
    with pytest.raises(NetworkError, match=r"install fedmri .*N03"):
        _ = replace(SIGNED, text=edited(change)).plan


def test_a_plan_in_another_order_is_refused() -> None:
    """One plan has one text, so that one plan has one hash."""
    text = json.dumps(json.loads(SIGNED.text), indent=1)
    with pytest.raises(NetworkError, match="N03"):
        _ = replace(SIGNED, text=text).plan


@pytest.mark.parametrize("text", ["", "[]", "{", '{"plan":{}}', "[" * 100_000])
def test_what_is_no_plan_is_refused(text: str) -> None:
    """Whatever a message holds instead of a plan has an error code."""
    with pytest.raises(NetworkError, match="N01"):
        _ = replace(SIGNED, text=text).plan


@pytest.mark.parametrize(
    "text", ["", "[]", '{"text":"a"}', '{"text":1,"signature":2}', b"\x8b\xff\0", b'"\xe9"']
)
def test_what_is_no_signed_plan_is_refused(text: str | bytes) -> None:
    """Whatever a message holds instead of text and signature has an error code."""
    with pytest.raises(NetworkError, match="N01"):
        SignedPlan.from_json(text)


def test_another_kind_of_key_signs_nothing() -> None:
    """The authority's key or a torn file in place of the coordinator's is named as such."""
    with pytest.raises(NetworkError, match="N05"):
        sign_plan(PLAN, b"torn")
