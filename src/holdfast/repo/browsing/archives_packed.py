"""Compressing a stream in two threads, as one gzip member or one xz stream that every decoder
reads: chunks of a mebibyte are compressed apart and joined as those formats allow.
"""

from __future__ import annotations

import lzma
import struct
import zlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from holdfast.core.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from concurrent.futures import Future

CHUNK = 1 << 20
FIRST = 64 << 10
"""The first chunk is small, so that something comes soon."""
_THREADS = 2
_AHEAD = 3


class Packer(Protocol):
    """One stream. `pack` may run in any thread, everything else in that of the consumer."""

    def begin(self) -> bytes: ...

    def pack(self, chunk: bytes, before: bytes) -> bytes:
        """A chunk compressed; `before` ends with what came before it."""
        ...

    def join(self, chunk: bytes, packed: bytes) -> bytes:
        """What stands for the next chunk in the stream."""
        ...

    def end(self) -> bytes: ...


def packed(pieces: Generator[bytes, None, None], packer: Packer) -> Generator[bytes, None, None]:
    """`pieces` compressed. They are closed with it."""
    yield packer.begin()
    under_way: deque[tuple[bytes, Future[bytes]]] = deque()
    before = b""
    threads = ThreadPoolExecutor(_THREADS, "pack-archive")
    try:
        for chunk in _chunks(pieces):
            under_way.append((chunk, threads.submit(packer.pack, chunk, before)))
            before = chunk
            if len(under_way) >= _AHEAD:
                first, done = under_way.popleft()
                yield packer.join(first, done.result())
        for first, done in under_way:
            yield packer.join(first, done.result())
        yield packer.end()
    except RuntimeError as error:  # the interpreter takes no more work
        raise ClosedError("the server is shutting down") from error
    finally:
        threads.shutdown(cancel_futures=True)
        pieces.close()


def _chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest: list[bytes] = []
    size, enough = 0, FIRST
    for piece in pieces:
        rest.append(piece)
        size += len(piece)
        if size < enough:
            continue
        whole = memoryview(b"".join(rest))
        while len(whole) >= enough:
            yield bytes(whole[:enough])
            whole, enough = whole[enough:], CHUNK
        rest, size = [bytes(whole)], len(whole)
    if size:
        yield b"".join(rest)


class Gzip:
    """RFC 1952. Each chunk is deflated with the 32 KiB before it as a dictionary, and ends at a
    byte.
    """

    _HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    _EMPTY_LAST_BLOCK = b"\x03\0"
    _WINDOW = 32 << 10
    _RAW = -15

    def __init__(self, level: int) -> None:
        self._level = level
        self._crc = self._size = 0

    def begin(self) -> bytes:
        return self._HEADER

    def pack(self, chunk: bytes, before: bytes) -> bytes:
        deflater = zlib.compressobj(
            self._level, zlib.DEFLATED, self._RAW, zdict=before[-self._WINDOW :]
        )
        return deflater.compress(chunk) + deflater.flush(zlib.Z_SYNC_FLUSH)

    def join(self, chunk: bytes, packed: bytes) -> bytes:
        self._crc = zlib.crc32(chunk, self._crc)
        self._size += len(chunk)
        return packed

    def end(self) -> bytes:
        return self._EMPTY_LAST_BLOCK + struct.pack("<2I", self._crc, self._size & 0xFFFF_FFFF)


class Xz:
    """The .xz file format 1.1: one stream, a block for each chunk, checked by CRC-32. What cannot
    be compressed, as most of what is backed up in archives, is stored as it is: finding that out by
    LZMA takes a second for each few mebibytes.
    """

    _FLAGS = b"\0\1"
    _FILTERS = ({"id": lzma.FILTER_LZMA2, "preset": 0},)
    _LZMA2 = b"\x21\1\x0c"
    """with a dictionary of 256 KiB, which is that of preset 0"""
    _SIZES_ARE_GIVEN = 0xC0

    def __init__(self) -> None:
        self._records = bytearray()
        self._blocks = 0

    def begin(self) -> bytes:
        return b"\xfd7zXZ\0" + self._FLAGS + _crc32(self._FLAGS)

    def pack(self, chunk: bytes, before: bytes) -> bytes:  # noqa: ARG002  blocks stand alone
        if not _shrinks(chunk):
            return _lzma2_stored(chunk)
        return lzma.compress(chunk, lzma.FORMAT_RAW, filters=list(self._FILTERS))

    def join(self, chunk: bytes, packed: bytes) -> bytes:
        header = bytes([self._SIZES_ARE_GIVEN])
        header += _number(len(packed)) + _number(len(chunk)) + self._LZMA2
        header += bytes(-(len(header) + 1) % 4)
        header = bytes([(len(header) + 1) // 4]) + header
        header += _crc32(header)
        check = _crc32(chunk)
        self._blocks += 1
        self._records += _number(len(header) + len(packed) + len(check)) + _number(len(chunk))
        return header + packed + bytes(-len(packed) % 4) + check

    def end(self) -> bytes:
        index = b"\0" + _number(self._blocks) + bytes(self._records)
        index += bytes(-len(index) % 4)
        index += _crc32(index)
        back = struct.pack("<I", len(index) // 4 - 1) + self._FLAGS
        return index + _crc32(back) + back + b"YZ"


_SAMPLE = 32 << 10
_WORTH = 0.9
"""Headers of a tar alone make some tenth of small files."""


def _shrinks(chunk: bytes) -> bool:
    """Whether some of it, from its beginning, middle and end, does."""
    middle = len(chunk) // 2
    sample = chunk[:_SAMPLE] + chunk[middle : middle + _SAMPLE] + chunk[-_SAMPLE:]
    return len(zlib.compress(sample, 1)) < len(sample) * _WORTH


_LZMA2_CHUNK = 64 << 10
_LZMA2_FIRST, _LZMA2_NEXT, _LZMA2_END = b"\1", b"\2", b"\0"


def _lzma2_stored(content: bytes) -> bytes:
    """Uncompressed chunks of LZMA2."""
    parts = []
    for at in range(0, len(content), _LZMA2_CHUNK):
        piece = content[at : at + _LZMA2_CHUNK]
        parts += [_LZMA2_NEXT if at else _LZMA2_FIRST, struct.pack(">H", len(piece) - 1), piece]
    return b"".join([*parts, _LZMA2_END])


def _crc32(content: bytes) -> bytes:
    return struct.pack("<I", zlib.crc32(content))


def _number(value: int) -> bytes:
    """Seven bits in each byte, the lowest first."""
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004  seven bits
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
