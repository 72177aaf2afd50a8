"""Holes: zeros that take no room on the disk."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from holdfast.repo.format.zeros import ZERO_PIECE, is_zero

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAGE = 4096


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
