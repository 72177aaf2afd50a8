"""Holes: zeros that take no room on the disk."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from holdfast.core.ids import BlobId
from holdfast.repo.codec import MAX_DATA

if TYPE_CHECKING:
    from collections.abc import Iterator

ZERO_PIECE = 512 << 10
"""A blob of at least this size that is all zeros becomes a hole. Long runs of zeros are cut into
blobs of just this size.
"""
_PAGE = 4096
_ZEROS = bytes(MAX_DATA)
ZERO_BLOB = BlobId(hashlib.sha256(memoryview(_ZEROS)[:ZERO_PIECE]).digest())
"""Its name tells all of its content, so that it need not be read."""


def zero_piece() -> memoryview:
    """The content of ZERO_BLOB."""
    return memoryview(_ZEROS)[:ZERO_PIECE]


def is_zero(content: memoryview) -> bool:
    if content.obj is _ZEROS:
        return True
    if content and (content[0] or content[-1]):
        return False
    return _ZEROS.startswith(content)  # compares with memcmp, a memoryview does item by item


def write_at(
    descriptor: int,
    content: memoryview,
    offset: int,
    *,
    holes: bool = True,
    every_zero: bool = False,
) -> None:
    """Writes into a new file, leaving out what is to be a hole.

    `every_zero` leaves out each page of zeros, not only whole blobs of them.
    """
    if not holes:
        _write(descriptor, content, offset)
    elif len(content) >= ZERO_PIECE and is_zero(content):
        return
    elif every_zero:
        for start, end in _filled(content, offset):
            _write(descriptor, content[start:end], offset + start)
    else:
        _write(descriptor, content, offset)


def _write(descriptor: int, content: memoryview, offset: int) -> None:
    while content:
        count = os.pwrite(descriptor, content, offset)
        content = content[count:]
        offset += count


def _filled(content: memoryview, offset: int) -> Iterator[tuple[int, int]]:
    """Runs of pages of the file that are not all zeros, as positions in `content`."""
    start = position = 0
    while position < len(content):
        end = min(position + _PAGE - (offset + position) % _PAGE, len(content))
        if is_zero(content[position:end]):
            if start < position:
                yield start, position
            start = end
        position = end
    if start < position:
        yield start, position
