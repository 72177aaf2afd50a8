from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.errors import DamagedError
from holdfast.repo.format.crypto import OVERHEAD, Cipher, Key

KEY = Key.from_bytes(bytes(range(64)))


@given(st.binary(max_size=5000))
def test_sealed_opens_to_what_was_sealed(plaintext):
    """What is sealed opens again, and is longer by the overhead."""
    cipher = Cipher(KEY)
    sealed = cipher.seal(plaintext)
    assert len(sealed) == len(plaintext) + OVERHEAD
    assert cipher.open(sealed) == plaintext
    room = bytearray(len(sealed))
    assert cipher.open_into(memoryview(sealed), memoryview(room)) == len(plaintext)
    assert room[: len(plaintext)] == plaintext


def test_every_flipped_bit_is_noticed():
    """I4: no single altered bit of a sealed piece opens."""
    cipher = Cipher(KEY)
    sealed = bytearray(cipher.seal(b"the quick brown fox"))
    for position in range(len(sealed)):
        for bit in range(8):
            sealed[position] ^= 1 << bit
            with pytest.raises(DamagedError):
                cipher.open(bytes(sealed))
            sealed[position] ^= 1 << bit
    assert cipher.open(bytes(sealed)) == b"the quick brown fox"


@pytest.mark.parametrize("length", [0, 1, (256 << 10) - 1, 256 << 10, (256 << 10) + 1, 700_000])
def test_what_a_piece_holds_is_compared_to_its_last_byte(length):
    """F10: only the very plaintext is what a piece opens to; an altered piece is damage."""
    cipher = Cipher(KEY)
    plaintext = os.urandom(length)
    sealed = bytearray(cipher.seal(plaintext))
    assert cipher.opens_to(memoryview(sealed), plaintext)
    assert not cipher.opens_to(memoryview(sealed), plaintext + b"x")
    if length:
        assert not cipher.opens_to(memoryview(sealed), plaintext[:-1] + bytes([plaintext[-1] ^ 1]))
        assert not cipher.opens_to(memoryview(sealed), plaintext[:-1])
    sealed[-1] ^= 1
    with pytest.raises(DamagedError):
        cipher.opens_to(memoryview(sealed), plaintext)


@pytest.mark.parametrize("length", range(OVERHEAD))
def test_too_short_is_damage(length):
    """I4: a piece without room for iv and mac is refused, not read."""
    with pytest.raises(DamagedError):
        Cipher(KEY).open(bytes(length))


def test_another_key_does_not_open():
    """I4: data of another repository fails authentication."""
    sealed = Cipher(KEY).seal(b"secret")
    with pytest.raises(DamagedError):
        Cipher(Key.generate()).open(sealed)


def test_a_key_does_not_show_itself():
    """The key's digits appear in no representation."""
    assert KEY.encrypt.hex() not in repr(KEY)
    assert str(KEY.encrypt) not in repr(KEY)


def test_two_seals_of_one_plaintext_differ():
    """Each seal takes a fresh iv."""
    cipher = Cipher(KEY)
    assert cipher.seal(b"same") != cipher.seal(b"same")
