"""Streams that are unpacked as they come, and refused where they inflate out of proportion."""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from enum import Enum
from typing import Any, Protocol

import zstandard

from holdfast.core.errors import ArchiveRefusedError

FREE = 64 << 10
"""Bytes that any stream may inflate to, where nobody says otherwise."""
_STEP = 32 << 10
_FIRST_FEED, _MOST_FEED = 256, 64 << 10
_MEMORY = 256 << 20
"""That a decoder may take; for xz and zstd the packer decides how much it needs."""
_GZIP_WINDOW = 31


class Compression(Enum):
    GZIP = "gzip"
    XZ = "xz"
    BZIP2 = "bzip2"
    ZSTD = "zstd"


class _Decoder(Protocol):
    """One member of a stream, as `bz2.BZ2Decompressor`."""

    def decompress(self, data: bytes, max_length: int) -> bytes: ...

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...


class _Gzip:
    def __init__(self) -> None:
        self._inner = zlib.decompressobj(_GZIP_WINDOW)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.eof and not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data


class _Zstd:
    """zstandard unpacks all that it is given at once; in small pieces that is little."""

    _PIECE = 128

    def __init__(self) -> None:
        self._inner = zstandard.ZstdDecompressor(max_window_size=_MEMORY).decompressobj()
        self._fed = b""
        self._ready = b""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        self._fed += data
        while self._fed and len(self._ready) < max_length and not self._inner.eof:
            piece, self._fed = self._fed[: self._PIECE], self._fed[self._PIECE :]
            self._ready += self._inner.decompress(piece)
        out, self._ready = self._ready[:max_length], self._ready[max_length:]
        return out

    @property
    def eof(self) -> bool:
        return self._inner.eof and not self._ready

    @property
    def needs_input(self) -> bool:
        return not self._inner.eof and not self._fed and not self._ready

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data + self._fed


def _decoder(compression: Compression) -> _Decoder:
    if compression is Compression.GZIP:
        return _Gzip()
    if compression is Compression.BZIP2:
        return bz2.BZ2Decompressor()
    if compression is Compression.XZ:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)
    return _Zstd()


class Inflated(io.RawIOBase):
    """The content of a compressed stream, all its members one after the other.

    Raises:
        ArchiveRefusedError: it is damaged or cut short, or more than `free` bytes came out, and
        more than `ratio` times what went in.
    """

    def __init__(
        self, source: io.RawIOBase, compression: Compression, *, ratio: int, free: int = FREE
    ) -> None:
        super().__init__()
        self._source = source
        self._compression = compression
        self._ratio = ratio
        self._free = free
        self._decoder = _decoder(compression)
        self._given = self._got = 0
        self._leftover = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, room: Any, /) -> int:
        room = memoryview(room).cast("B")
        while not self._ended:
            piece = self._next(min(len(room), _STEP))
            if piece:
                self._got += len(piece)
                if self._got > self._free and self._got > self._ratio * self._given:
                    raise ArchiveRefusedError(
                        f"the archive inflates to more than {self._ratio} times its size"
                    )
                room[: len(piece)] = piece
                return len(piece)
        return 0

    def _next(self, most: int) -> bytes:
        """Some more; b"" where that takes another try, or there is no more."""
        if self._decoder.eof:
            self._next_member()
            return b""
        name = self._compression.value
        fed = b""
        if self._decoder.needs_input:
            fed, self._leftover = self._leftover or self._feed(), b""
            if not fed:
                raise ArchiveRefusedError(f"the {name} stream is cut short")
        try:
            return self._decoder.decompress(fed, most)
        except (OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
            raise ArchiveRefusedError(f"the {name} stream is damaged: {error}") from error

    def _feed(self) -> bytes:
        """Little at first: what a few bytes inflate to is bounded by that."""
        fed = self._source.read(min(max(_FIRST_FEED, self._given // 8), _MOST_FEED)) or b""
        self._given += len(fed)
        return fed

    def _next_member(self) -> None:
        """Behind one there may be padding, then the next."""
        rest = self._decoder.unused_data.lstrip(b"\0")
        while not rest:
            fed = self._feed()
            if not fed:
                self._ended = True
                return
            rest = fed.lstrip(b"\0")
        self._decoder = _decoder(self._compression)
        self._leftover = rest
