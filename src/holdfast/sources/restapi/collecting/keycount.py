"""Counting how many different keys there are among millions, in flat memory."""

from __future__ import annotations

import tempfile
from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

_PARTS = 64
_BLOCK = 4096
"""Keys of one part that are kept before they go to disk: 32 KiB."""


class KeyCount:
    """Takes hashes of 64 bits. They are sorted into parts by their low bits; a part is compared
    alone.
    """

    def __init__(self) -> None:
        self._fresh = [array("Q") for _ in range(_PARTS)]
        self._blocks: list[list[int]] = [[] for _ in range(_PARTS)]
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the count

    def add(self, key: Hashable) -> None:
        mark = hash((key.__class__, key)) & 0xFFFFFFFFFFFFFFFF  # the hash of a number is itself
        part = mark % _PARTS
        fresh = self._fresh[part]
        fresh.append(mark)
        if len(fresh) == _BLOCK:
            self._blocks[part].append(self._file.seek(0, 2))
            self._file.write(fresh.tobytes())
            self._fresh[part] = array("Q")

    def distinct(self) -> int:
        return sum(self._distinct_in(part) for part in range(_PARTS))

    def close(self) -> None:
        self._file.close()

    def _distinct_in(self, part: int) -> int:
        marks = set(self._fresh[part])
        for offset in self._blocks[part]:
            self._file.seek(offset)
            block = array("Q")
            block.frombytes(self._file.read(_BLOCK * block.itemsize))
            marks.update(block)
        return len(marks)
