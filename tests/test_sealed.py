"""A letter is for one reader from one writer; its carrier can read, change and forge nothing."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedmri.agreement.sealed import CURVE, MAGIC, N_POINT, address_of, seal, unseal
from fedmri.errors import NetworkError

WRITER = Ed25519PrivateKey.generate()
READER = ec.generate_private_key(CURVE)
TEXT = b"run brain of hospital-a"


def verify(signature: bytes, text: bytes) -> None:
    """Refuse what the writer did not sign."""
    WRITER.public_key().verify(signature, text)


def letter() -> bytes:
    """Return a letter from the writer to the reader."""
    return seal(TEXT, READER.public_key(), WRITER.sign)


def test_the_reader_alone_reads_it() -> None:
    """No word of it is in the file, and no two letters of the same text are alike."""
    first, second = letter(), letter()
    assert unseal(first, READER, verify) == TEXT
    assert TEXT[:5] not in first
    assert first[len(MAGIC) :] != second[len(MAGIC) :]
    with pytest.raises(NetworkError, match=r"\[N40\]"):
        unseal(first, ec.generate_private_key(CURVE), verify)


@pytest.mark.parametrize("place", [0, len(MAGIC) + 5, len(MAGIC) + N_POINT, -1])
def test_one_changed_bit_is_found(place: int) -> None:
    """In the head, in the key, in the text and in its end; a shorter letter too."""
    changed = bytearray(letter())
    changed[place] ^= 1
    for odd in (bytes(changed), letter()[:-1], letter()[:50], b""):
        with pytest.raises(NetworkError, match=r"\[N40\]"):
            unseal(odd, READER, verify)


def test_another_writer_is_found() -> None:
    """Everybody can seal a letter for the reader: who signed it decides."""
    forged = seal(TEXT, READER.public_key(), Ed25519PrivateKey.generate().sign)
    with pytest.raises(NetworkError, match=r"somebody else.*\[N40\]"):
        unseal(forged, READER, verify)


def test_a_letter_cannot_be_sealed_again_for_another() -> None:
    """Who may open a letter takes its signature out, and it is none for a third party."""
    third, taken = ec.generate_private_key(CURVE), list[bytes]()

    def spy(signature: bytes, text: bytes) -> None:
        taken.append(signature)

    unseal(letter(), READER, spy)
    again = seal(TEXT, third.public_key(), lambda _: taken[0])
    with pytest.raises(NetworkError, match=r"somebody else"):
        unseal(again, third, verify)
    with pytest.raises(InvalidSignature):
        verify(taken[0], TEXT)


def test_an_address_is_not_the_key() -> None:
    """It is the same for the same key, and says nothing else."""
    assert address_of(READER.public_key()) == address_of(READER.public_key())
    assert len(address_of(READER.public_key())) == 32
