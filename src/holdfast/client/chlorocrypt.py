"""The encrypted stream of RestBackup's clients, by the names of its library `chlorocrypt`.

A stream is a salt and then blocks of up to 64 KiB, each followed by the HMAC-SHA-256 of all blocks
so far. The blocks together are another salt, an initialisation vector and the content, padded, in
AES-256-CBC. Both keys are stretched from the passphrase.

The format does not authenticate where it ends. A stream whose length is known is therefore held to
it; one that comes through a pipe and was cut right behind a code is noticed by its padding alone,
which lets one in 256 pass.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from io import UnsupportedOperation
from typing import IO, TYPE_CHECKING, Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from holdfast.client.errors import (
    BadMacException,
    DataDamagedException,
    DataTruncatedException,
    RestBackupException,
    SourceChangedException,
    WrongPassphraseException,
)
from holdfast.client.streams import (
    FileObjectReader,
    FileReader,
    MadeStream,
    RewindableSizedInputStream,
    SizedInputStream,
    length_of,
    pieces,
    rewound,
)
from holdfast.core.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.client.streams import Readable

    Passphrase = str | bytes | Secret

__all__ = [
    "MAC_BLOCK_SIZE",
    "AesCbcDecryptingReader",
    "AesCbcEncryptingReader",
    "BadMacException",
    "DataDamagedException",
    "DataTruncatedException",
    "DecryptingReader",
    "EncryptingReader",
    "FileObjectReader",
    "FileReader",
    "MacAddingReader",
    "MacCheckingReader",
    "PaddingAddingReader",
    "PaddingStrippingReader",
    "RestBackupException",
    "RewindableSizedInputStream",
    "SizedInputStream",
    "WrongPassphraseException",
    "decrypt",
    "encrypt",
    "encrypted_length",
    "pbkdf2_256bit",
]

__version__ = "1.8"
"""Of the library whose streams these are."""

MAC_BLOCK_SIZE: Final = 64 * 1024
ROUNDS: Final = 4096

_SALT: Final = 16
_MAC: Final = 32
_BLOCK: Final = 16
_HEAD: Final = 2 * _BLOCK
"""Salt and initialisation vector."""
_RECORD: Final = MAC_BLOCK_SIZE + _MAC
_SHORTEST: Final = _SALT + _HEAD + _BLOCK + _MAC


def pbkdf2_256bit(passphrase: Passphrase, salt: bytes, rounds: int = ROUNDS) -> bytes:
    """A key of 32 bytes. Text counts as its UTF-8, exactly as it is composed."""
    if isinstance(passphrase, Secret):
        passphrase = passphrase.reveal()
    if isinstance(passphrase, str):
        passphrase = passphrase.encode()
    return hashlib.pbkdf2_hmac("sha256", passphrase, salt, rounds, 32)


def encrypted_length(length: int) -> int:
    """Of the stream that so many bytes become."""
    inner = _HEAD + _BLOCK * (length // _BLOCK + 1)
    return _SALT + inner + _MAC * -(-inner // MAC_BLOCK_SIZE)


class _Adding(MadeStream, RewindableSizedInputStream):
    """For what makes streams to be sent: the same bytes again after a rewind."""

    def __init__(self, stream: Readable, stream_length: int | None) -> None:
        rewound(stream)
        super().__init__(stream, stream_length)

    def rewind(self) -> None:
        if not rewound(self.stream):
            raise UnsupportedOperation("this stream can be read only once")
        self._fault = None
        self._begin()


class MacAddingReader(_Adding):
    """Salt, then each block followed by the code of all blocks so far.

    The arguments for tests make the result predictable, which a real one must not be.
    """

    def __init__(
        self,
        stream: Readable,
        passphrase: Passphrase,
        testing_only_salt: bytes | None = None,
        testing_only_key: bytes | None = None,
    ) -> None:
        length = length_of(stream)
        if length is not None:
            length = _SALT + length + _MAC * max(1, -(-length // MAC_BLOCK_SIZE))
        self._salt = testing_only_salt or os.urandom(_SALT)
        self._key = testing_only_key or pbkdf2_256bit(passphrase, self._salt)
        super().__init__(stream, length)

    def _pieces(self) -> Iterator[bytes]:
        mac = hmac.new(self._key, digestmod="sha256")
        yield self._salt
        block = self.stream.read(MAC_BLOCK_SIZE)
        while True:
            mac.update(block)
            yield block + mac.digest()
            if len(block) < MAC_BLOCK_SIZE:
                return
            block = self.stream.read(MAC_BLOCK_SIZE)
            if not block:
                return


class MacCheckingReader(MadeStream):
    """The blocks alone, each given on only when its code was found right.

    Raises:
        WrongPassphraseException: the first code is wrong.
        BadMacException: another one is.
        DataTruncatedException: it ends within a code, or before its length.
        DataDamagedException: it goes on behind its length, or has a code without a block.
    """

    def __init__(
        self, stream: Readable, passphrase: Passphrase, testing_only_key: bytes | None = None
    ) -> None:
        self._length = length = length_of(stream)
        if length is not None:
            length -= _SALT
            length -= _MAC * max(1, -(-length // _RECORD))
            if length < 0:
                raise DataTruncatedException(
                    f"{self._length} bytes are too few for a salt and code"
                )
        salt = stream.read(_SALT)
        if len(salt) < _SALT:
            raise DataTruncatedException("the data ends within its salt")
        self._key = testing_only_key or pbkdf2_256bit(passphrase, salt)
        super().__init__(stream, length)

    def _pieces(self) -> Iterator[bytes]:
        mac = hmac.new(self._key, digestmod="sha256")
        got = _SALT
        while record := self.stream.read(_RECORD):
            self._check(mac, record, first=got == _SALT)
            got += len(record)
            yield record[:-_MAC]
            if len(record) < _RECORD:
                break
        if got == _SALT:
            raise DataTruncatedException("the data ends behind its salt")
        if self._length is not None and got != self._length:
            kind = DataTruncatedException if got < self._length else DataDamagedException
            raise kind(f"the data ends after {got} bytes instead of {self._length}")

    def _check(self, mac: hmac.HMAC, record: bytes, *, first: bool) -> None:
        block, code = record[:-_MAC], record[-_MAC:]
        if len(code) < _MAC:
            raise DataTruncatedException("the data ends within an authentication code")
        mac.update(block)
        if hmac.compare_digest(mac.digest(), code):
            if not block and not first:
                raise DataDamagedException("the data goes on behind its end")
        elif first:
            raise WrongPassphraseException(
                "the passphrase is wrong, or the data is damaged at its beginning"
            )
        else:
            raise BadMacException("the data is damaged: an authentication code is wrong")


class PaddingAddingReader(_Adding):
    """Filled up to a multiple of 16 bytes, by 1 to 16 bytes that each tell how many they are."""

    def __init__(self, stream: Readable) -> None:
        self._length = length = length_of(stream)
        super().__init__(stream, None if length is None else length + _BLOCK - length % _BLOCK)

    def _pieces(self) -> Iterator[bytes]:
        got = 0
        for piece in pieces(self.stream):
            got += len(piece)
            yield piece
        if self._length is not None and got != self._length:
            raise SourceChangedException(
                f"{got} bytes came instead of {self._length}: it changed while it was read"
            )
        count = _BLOCK - got % _BLOCK
        yield bytes([count]) * count


class PaddingStrippingReader(MadeStream):
    """Without that. `len()` is up to 16 too large.

    Only behind a MacCheckingReader: who can tell somebody that padding is wrong, without having
    authenticated it, helps them to decrypt.

    Raises:
        DataDamagedException: there is no padding.
    """

    def __init__(self, stream: Readable) -> None:
        super().__init__(stream, length_of(stream))

    def _pieces(self) -> Iterator[bytes]:
        tail = b""
        for piece in pieces(self.stream):
            tail += piece
            yield tail[:-_BLOCK]
            tail = tail[-_BLOCK:]
        count = tail[-1] if tail else 0
        if not 1 <= count <= _BLOCK or not tail.endswith(bytes([count]) * count):
            raise DataDamagedException("the data does not end in valid padding")
        yield tail[:-count]


class AesCbcEncryptingReader(_Adding):
    """Salt, initialisation vector and the data in AES-256-CBC, which must be whole blocks of 16."""

    def __init__(
        self,
        stream: Readable,
        passphrase: Passphrase,
        testing_only_salt: bytes | None = None,
        testing_only_iv: bytes | None = None,
        testing_only_key: bytes | None = None,
    ) -> None:
        length = length_of(stream)
        if length is not None and length % _BLOCK:
            raise ValueError("the length of the stream is no multiple of 16")
        self._salt = testing_only_salt or os.urandom(_BLOCK)
        self._iv = testing_only_iv or os.urandom(_BLOCK)
        self._key = testing_only_key or pbkdf2_256bit(passphrase, self._salt)
        super().__init__(stream, None if length is None else _HEAD + length)

    def _pieces(self) -> Iterator[bytes]:
        cipher = Cipher(AES(self._key), CBC(self._iv)).encryptor()
        yield self._salt + self._iv
        yield from map(cipher.update, pieces(self.stream))
        try:
            yield cipher.finalize()
        except ValueError as error:
            raise ValueError("the data ends within a block of 16") from error


class AesCbcDecryptingReader(MadeStream):
    """Raises DataTruncatedException where the data ends within its head or a block."""

    def __init__(
        self, stream: Readable, passphrase: Passphrase, testing_only_key: bytes | None = None
    ) -> None:
        length = length_of(stream)
        if length is not None and length < _HEAD:
            raise DataTruncatedException(f"{length} bytes are too few for a salt and a vector")
        head = stream.read(_HEAD)
        if len(head) < _HEAD:
            raise DataTruncatedException("the data ends within its salt and vector")
        self._iv = head[_BLOCK:]
        self._key = testing_only_key or pbkdf2_256bit(passphrase, head[:_BLOCK])
        super().__init__(stream, None if length is None else length - _HEAD)

    def _pieces(self) -> Iterator[bytes]:
        cipher = Cipher(AES(self._key), CBC(self._iv)).decryptor()
        yield from map(cipher.update, pieces(self.stream))
        try:
            yield cipher.finalize()
        except ValueError as error:
            raise DataTruncatedException("the data ends within a block of 16") from error


class EncryptingReader(_Adding):
    """The encrypted stream of what `stream` gives. Its length is known in advance where that of
    `stream` is.
    """

    def __init__(
        self,
        stream: Readable,
        passphrase: Passphrase,
        testing_only_salt: bytes | None = None,
        testing_only_iv: bytes | None = None,
        testing_only_key: bytes | None = None,
    ) -> None:
        padded = PaddingAddingReader(stream)
        ciphered = AesCbcEncryptingReader(
            padded, passphrase, testing_only_salt, testing_only_iv, testing_only_key
        )
        whole = MacAddingReader(ciphered, passphrase, testing_only_salt, testing_only_key)
        super().__init__(whole, whole.stream_length)

    def _pieces(self) -> Iterator[bytes]:
        return pieces(self.stream)


class DecryptingReader(MadeStream):
    """What an encrypted stream holds. `len()` is up to 16 too large.

    The first block is verified when this is made, each other one before it is given on. That it is
    the whole is known at the end, and not before: until then keep apart what was read.

    Raises:
        WrongPassphraseException, DataTruncatedException: see MacCheckingReader; also the length
        is one that no encrypted stream has.
    """

    def __init__(
        self, stream: Readable, passphrase: Passphrase, testing_only_key: bytes | None = None
    ) -> None:
        length = length_of(stream)
        if length is not None and not _possible(length):
            raise DataTruncatedException(
                f"{length} bytes cannot be all of an encrypted stream: it was cut, or is something "
                "else"
            )
        checked = MacCheckingReader(stream, passphrase, testing_only_key)
        plain = AesCbcDecryptingReader(checked, passphrase, testing_only_key)
        stripped = PaddingStrippingReader(plain)
        super().__init__(stripped, stripped.stream_length)

    def _pieces(self) -> Iterator[bytes]:
        return pieces(self.stream)


def _possible(length: int) -> bool:
    rest = (length - _SALT) % _RECORD
    return length >= _SHORTEST and (not rest or (rest > _MAC and not rest % _BLOCK))


def encrypt(passphrase: Passphrase, infile_reader: Readable, outfile: IO[bytes]) -> int:
    """Writes the encrypted stream of what the reader gives; 0, as the original."""
    return _pour(EncryptingReader(infile_reader, passphrase), outfile)


def decrypt(passphrase: Passphrase, infile_reader: Readable, outfile: IO[bytes]) -> int:
    """Writes what an encrypted stream holds, block by block as they are verified; 0.

    Raises:
        DataDamagedException: what was written so far is authentic and not the whole.
    """
    return _pour(DecryptingReader(infile_reader, passphrase), outfile)


def _pour(stream: Readable, outfile: IO[bytes]) -> int:
    outfile.writelines(pieces(stream))
    return 0
