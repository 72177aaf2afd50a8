"""Packs: many sealed blobs in one file, with a sealed header at the end that names them.

    blob 1 | blob 2 | ... | sealed header | length of the sealed header, 4 bytes little-endian

A blob is verified (authenticated, opened, inflated, compared) the moment it was sealed, before
anything is uploaded: faulty memory or a faulty codec must not reach a repository (F10).
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.errors import DamagedError, VerificationError
from holdfast.core.ids import ID_SIZE, BlobId, PackId
from holdfast.repo.format.codec import MAX_DATA, MAX_TREE
from holdfast.repo.format.crypto import OVERHEAD
from holdfast.store.contract import FileKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.repo.format.codec import Codec
    from holdfast.repo.format.crypto import Buffer, Cipher
    from holdfast.store.contract import Store

DEFAULT_PACK_SIZE = 16 << 20
MIN_PACK_SIZE, MAX_PACK_SIZE = 4 << 20, 128 << 20
MAX_HEADER = 16 << 20
_LENGTH = struct.Struct("<I")
_PLAIN = struct.Struct("<BI32s")
_COMPRESSED = struct.Struct("<BII32s")
ENTRY, COMPRESSED_ENTRY = _PLAIN.size, _COMPRESSED.size
"""Bytes of the entry that a header has for a blob."""
HEADER_FRAME = OVERHEAD + _LENGTH.size
"""Bytes of a header besides its entries, the length field behind it included."""


class BlobKind(IntEnum):
    DATA = 0
    TREE = 1

    @property
    def word(self) -> str:
        return self.name.lower()


class PackedBlob(NamedTuple):
    """Where a blob lies within its pack. `raw_length` is that of the plaintext if it is compressed,
    else 0.
    """

    id: BlobId
    kind: int
    offset: int
    length: int
    raw_length: int


def plaintext_limit(kind: int) -> int:
    return MAX_TREE if kind == BlobKind.TREE else MAX_DATA


@dataclass(frozen=True, slots=True)
class StoredPack:
    """A pack that is durable."""

    id: PackId
    size: int
    blobs: Sequence[PackedBlob]


def _memory(size: int) -> memoryview:
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


class PackBuffer:
    """A pack in the making, in memory that is used again for the next one."""

    def __init__(
        self, cipher: Cipher, codec: Codec, *, compress: bool = True, capacity: int = 0
    ) -> None:
        self._cipher = cipher
        self._codec = codec
        self._compress = compress
        # Memory that is not touched is not there: room for a last large blob costs nothing. Of the
        # allocator it would come touched, and go back to it.
        self._bytes = _memory((capacity or DEFAULT_PACK_SIZE) + MAX_DATA + (1 << 20))
        self.blobs: list[PackedBlob] = []
        self.size = 0

    def _room(self, length: int) -> memoryview:
        """The next `length` bytes of the buffer."""
        if self.size + length > len(self._bytes):  # only a huge tree: views keep us from resizing
            grown = _memory(self.size + length + (length >> 2))
            grown[: self.size] = self._bytes[: self.size]
            self._bytes = grown
        return self._bytes[self.size : self.size + length]

    def add(self, blob: BlobId, kind: int, plaintext: Buffer) -> PackedBlob:
        """Compresses where it pays, seals, verifies.

        Raises:
            VerificationError: what was sealed does not open to the plaintext.
        """
        frame = self._codec.shrink(plaintext) if self._compress else None
        body = plaintext if frame is None else frame
        room = self._room(len(body) + OVERHEAD)
        self._cipher.seal_into(body, room)
        self._verify(room, plaintext, compressed=frame is not None)
        packed = PackedBlob(
            blob, int(kind), self.size, len(room), 0 if frame is None else len(plaintext)
        )
        self._keep(packed)
        return packed

    def add_sealed(self, blob: BlobId, kind: int, sealed: Buffer, raw_length: int) -> PackedBlob:
        """Takes over a blob that is sealed under the same key already, and was verified by the
        caller.
        """
        self._room(len(sealed))[:] = sealed
        packed = PackedBlob(blob, int(kind), self.size, len(sealed), raw_length)
        self._keep(packed)
        return packed

    def _keep(self, packed: PackedBlob) -> None:
        self.blobs.append(packed)
        self.size += packed.length

    def _verify(self, sealed: memoryview, plaintext: Buffer, *, compressed: bool) -> None:
        try:
            if compressed:
                frame = self._cipher.open(sealed)
                opened = self._codec.inflate(frame, len(plaintext))
                same = len(opened) == len(plaintext) and opened.startswith(plaintext)
            else:
                same = self._cipher.opens_to(sealed, plaintext)
        except DamagedError as error:
            raise VerificationError(f"a sealed blob does not open: {error.message}") from error
        if not same:
            raise VerificationError("a sealed blob does not open to what was read")

    def finish(self) -> memoryview:
        """Seals the header behind the blobs. What it returns, the whole pack, is valid until the
        buffer is cleared.
        """
        header = self._cipher.seal(encode_header(self.blobs))
        self._room(len(header))[:] = header
        self.size += len(header)
        self._room(_LENGTH.size)[:] = _LENGTH.pack(len(header))
        self.size += _LENGTH.size
        return self._bytes[: self.size]

    def clear(self) -> None:
        """Empties the buffer and keeps its memory."""
        self.blobs = []
        self.size = 0


def store_pack(store: Store, content: memoryview, blobs: Sequence[PackedBlob]) -> StoredPack:
    """Names a finished pack and stores it, durable before it returns."""
    name = hashlib.sha256(content)
    store.put(FileKind.PACK, name.hexdigest(), content)
    return StoredPack(PackId(name.digest()), len(content), tuple(blobs))


def encode_header(blobs: Sequence[PackedBlob]) -> bytes:
    return b"".join(
        _COMPRESSED.pack(blob.kind + 2, blob.length, blob.raw_length, blob.id)
        if blob.raw_length
        else _PLAIN.pack(blob.kind, blob.length, blob.id)
        for blob in blobs
    )


def header_size(blobs: Sequence[PackedBlob]) -> int:
    """Bytes that the header of a pack with these blobs takes at its end, length field included."""
    return HEADER_FRAME + sum(COMPRESSED_ENTRY if b.raw_length else ENTRY for b in blobs)


def decode_header(header: bytes) -> list[PackedBlob]:
    """Blobs that an opened header names, in their order.

    Raises:
        DamagedError: it is no header.
    """
    blobs = []
    position = offset = 0
    while position < len(header):
        code = header[position]
        form = _PLAIN if code < 2 else _COMPRESSED  # noqa: PLR2004  2 and 3 are the compressed kinds
        if code > 3 or len(header) - position < form.size:  # noqa: PLR2004
            raise DamagedError("the header of a pack is damaged")
        if form is _PLAIN:
            _, length, blob = form.unpack_from(header, position)
            raw_length = 0
        else:
            _, length, raw_length, blob = form.unpack_from(header, position)
        blobs.append(PackedBlob(BlobId(blob), code & 1, offset, length, raw_length))
        offset += length
        position += form.size
    return blobs


def read_header_length(tail: bytes, pack_size: int) -> int:
    """Length of the sealed header from the last four bytes of a pack.

    Raises:
        DamagedError: it cannot be that.
    """
    length: int = _LENGTH.unpack(tail)[0]
    if not OVERHEAD + _PLAIN.size <= length <= min(MAX_HEADER, pack_size - _LENGTH.size):
        raise DamagedError(f"a pack of {pack_size} bytes announces a header of {length} bytes")
    return length


LENGTH_FIELD = _LENGTH.size
assert _PLAIN.size == 5 + ID_SIZE
