"""Compression as the format has it: zstd frames that carry their content size, or the bytes as they
are.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import zstandard

from holdfast.core.errors import DamagedError

if TYPE_CHECKING:
    from holdfast.repo.format.crypto import Buffer

MAX_TREE = 512 << 20
"""Largest plaintext that is ever inflated: a tree of some million names. A frame that announces
more is refused (F32).
"""
MAX_DATA = 8 << 20
"""Largest data blob that a chunker of this format makes."""


class Compression(StrEnum):
    """restic's words."""

    AUTO = "auto"
    OFF = "off"
    MAX = "max"
    FASTEST = "fastest"
    BETTER = "better"


_LEVELS = {
    Compression.AUTO: 2,  # as small as restic makes it on mixed data, and a third faster than 3
    Compression.FASTEST: 1,
    Compression.BETTER: 9,
    Compression.MAX: 19,
}


class Codec:
    """Packs and unpacks with warm contexts; belongs to one thread."""

    def __init__(self, compression: Compression = Compression.AUTO) -> None:
        self._compressor = (
            None
            if compression is Compression.OFF
            else zstandard.ZstdCompressor(level=_LEVELS[compression])
        )
        self._decompressor = zstandard.ZstdDecompressor()

    def shrink(self, plaintext: Buffer) -> bytes | None:
        """A frame that is smaller than the plaintext, or None where that cannot be had."""
        if self._compressor is None:
            return None
        frame = self._compressor.compress(plaintext)
        return frame if len(frame) < len(plaintext) else None

    def frame(self, plaintext: Buffer) -> bytes:
        """A frame in any case."""
        return zstandard.ZstdCompressor(level=3).compress(plaintext)

    def inflate(self, frame: Buffer, limit: int) -> bytes:
        """The content of a frame, at most `limit` bytes.

        Raises:
            DamagedError: no frame, cut short, or larger than it may be; found before memory is
            spent on it.
        """
        try:
            size = zstandard.frame_content_size(frame)
            if size > limit:
                raise DamagedError(
                    f"a compressed piece announces {size} bytes; {limit} is the limit"
                )
            if size < 0:
                return self._inflate_unsized(frame, limit)
            return self._decompressor.decompress(frame, max_output_size=limit)
        except zstandard.ZstdError as error:
            raise DamagedError(f"a compressed piece does not decompress: {error}") from error

    def _inflate_unsized(self, frame: Buffer, limit: int) -> bytes:
        with self._decompressor.stream_reader(frame, read_across_frames=False) as reader:
            plaintext = reader.read(limit + 1)
        if len(plaintext) > limit:
            raise DamagedError(f"a compressed piece holds more than {limit} bytes")
        return plaintext
