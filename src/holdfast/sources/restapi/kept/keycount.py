"""Counting how many different keys there are among millions, in flat memory."""

from __future__ import annotations

import tempfile
from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

_PARTS = 64
_BITS = 64 - 6
_BLOCK = 1 << 14
"""Keys that are kept before they go to disk; less than a megabyte while they are sorted."""


class KeyCount:
    """Takes hashes of 64 bits. They are sorted into parts by their high bits; a part is compared
    alone.
    """

    def __init__(self) -> None:
        self._fresh = array("q")
        self._blocks: list[list[tuple[int, int]]] = [[] for _ in range(_PARTS)]
        """Of each part: where marks lie in the file, and how many."""
        self._count: int | None = 0
        """How many there are, as long as none was added since."""
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the count

    def add(self, keys: Iterable[Hashable]) -> None:
        # with its class, since the hash of a number is itself, and 1 and 1.0 are not the same key
        self._count = None
        self._fresh.extend([hash((key.__class__, key)) for key in keys])
        if len(self._fresh) >= _BLOCK:
            for part, marks in enumerate(_parted(self._fresh)):
                self._blocks[part].append((self._file.seek(0, 2), len(marks)))
                self._file.write(marks.tobytes())
            self._fresh = array("q")

    def distinct(self) -> int:
        if self._count is None:
            fresh = _parted(self._fresh)
            self._count = sum(self._distinct_in(part, fresh[part]) for part in range(_PARTS))
        return self._count

    def close(self) -> None:
        self._file.close()

    def _distinct_in(self, part: int, fresh: array[int]) -> int:
        marks = set(fresh)
        for offset, count in self._blocks[part]:
            self._file.seek(offset)
            block = array("q")
            block.frombytes(self._file.read(count * block.itemsize))
            marks.update(block)
        return len(marks)


def _parted(marks: array[int]) -> list[array[int]]:
    """The marks by their high bits."""
    rising = array("q", sorted(marks))
    lowest = -(1 << 63)
    bounds = [bisect_left(rising, lowest + (part << _BITS)) for part in range(_PARTS)]
    ends = [*bounds[1:], len(rising)]
    return [rising[start:end] for start, end in zip(bounds, ends, strict=True)]
