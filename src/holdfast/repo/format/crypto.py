"""Sealing: AES-256 in counter mode and Poly1305-AES over the ciphertext (restic design document,
"Keys, Encryption and MAC").

A sealed piece is `iv (16) + ciphertext + mac (16)`. A `Cipher` keeps OpenSSL contexts warm: a new
context costs 11 us, a reset one 0.3. It belongs to one thread.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher as OpenSslCipher
from cryptography.hazmat.primitives.ciphers import algorithms, modes
from cryptography.hazmat.primitives.poly1305 import Poly1305

from holdfast.core.errors import DamagedError

IV_SIZE = 16
MAC_SIZE = 16
OVERHEAD = IV_SIZE + MAC_SIZE
_SLICE = 256 << 10
"""Stays in the cache of a processor while it is opened and compared."""

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True, repr=False)
class Key:
    """The master key of a repository, or the one stretched from a password. Never shown."""

    encrypt: bytes
    """32 bytes"""
    mac_k: bytes
    """16 bytes"""
    mac_r: bytes
    """16 bytes, not clamped: OpenSSL does that"""

    @classmethod
    def generate(cls) -> Key:
        return cls.from_bytes(os.urandom(64))

    @classmethod
    def from_bytes(cls, raw: bytes) -> Key:
        """From the 64 bytes that scrypt gives: 32 encrypt, 16 k, 16 r."""
        return cls(encrypt=raw[:32], mac_k=raw[32:48], mac_r=raw[48:64])


class Cipher:
    """Seals and opens with one key, in one thread."""

    def __init__(self, key: Key) -> None:
        self._mac_r = key.mac_r
        # One block, encrypted once for each nonce: what Poly1305-AES is defined with.
        self._nonce_cipher = OpenSslCipher(algorithms.AES(key.mac_k), modes.ECB()).encryptor()  # noqa: S305  one block
        self._stream = OpenSslCipher(
            algorithms.AES(key.encrypt), modes.CTR(bytes(IV_SIZE))
        ).encryptor()
        self._slice = bytearray()

    def _tag(self, iv: bytes, ciphertext: memoryview) -> bytes:
        return Poly1305.generate_tag(self._mac_r + self._nonce_cipher.update(iv), ciphertext)

    def seal_into(self, plaintext: Buffer, out: memoryview) -> None:
        """Seals into `out`, whose length is that of the plaintext plus OVERHEAD."""
        iv = os.urandom(IV_SIZE)
        out[:IV_SIZE] = iv
        body = out[IV_SIZE:-MAC_SIZE]
        self._stream.reset_nonce(iv)
        self._stream.update_into(plaintext, body)
        out[-MAC_SIZE:] = self._tag(iv, body)

    def seal(self, plaintext: Buffer) -> bytes:
        out = bytearray(len(plaintext) + OVERHEAD)
        self.seal_into(plaintext, memoryview(out))
        return bytes(out)

    def _authenticated(self, sealed: memoryview) -> tuple[bytes, memoryview]:
        if len(sealed) < OVERHEAD:
            raise DamagedError("a sealed piece is too short to be one")
        iv = bytes(sealed[:IV_SIZE])
        body = sealed[IV_SIZE:-MAC_SIZE]
        if not hmac.compare_digest(self._tag(iv, body), sealed[-MAC_SIZE:]):
            raise DamagedError("stored data failed authentication: it is damaged or was altered")
        return iv, body

    def open_into(self, sealed: memoryview, out: memoryview) -> int:
        """Opens into `out`; the number of bytes written.

        Raises:
            DamagedError: the piece was not sealed with this key, or was altered; nothing of it is
            in `out`.
        """
        iv, body = self._authenticated(sealed)
        self._stream.reset_nonce(iv)
        return self._stream.update_into(body, out)

    def open(self, sealed: Buffer) -> bytes:
        """As `open_into`, into new bytes."""
        iv, body = self._authenticated(memoryview(sealed))
        self._stream.reset_nonce(iv)
        return self._stream.update(body)

    def opens_to(self, sealed: memoryview, plaintext: Buffer) -> bool:
        """Whether that is what the piece holds; it is never opened as a whole.

        Raises:
            DamagedError: as `open_into`.
        """
        iv, body = self._authenticated(sealed)
        if len(body) != len(plaintext):
            return False
        self._slice = self._slice or bytearray(_SLICE)
        self._stream.reset_nonce(iv)
        whole, room = memoryview(plaintext), memoryview(self._slice)
        for start in range(0, len(body), _SLICE):
            length = self._stream.update_into(body[start : start + _SLICE], room)
            # startswith compares with memcmp, memoryview == does not
            if not self._slice.startswith(whole[start : start + length]):
                return False
        return True
