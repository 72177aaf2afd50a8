"""A regular file, opened for reading."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from holdfast.sources.files.facts import Owners, describe, read_xattrs

if TYPE_CHECKING:
    from holdfast.sources.files.descriptors import Opened

_BLOCK = 512
"""Bytes in a unit of st_blocks, whatever the file system's own block is."""


class FileContent:
    """The content of an open file of that name; see `core.source.Content`."""

    __slots__ = ("_descriptor", "_facts", "_holes", "entry")

    def __init__(self, opened: Opened, name: bytes, owners: Owners) -> None:
        self._descriptor, facts = opened
        self._facts = facts
        self.entry = describe(name, facts, owners)
        # Asking for holes costs as much as reading a small file; who has all blocks has no holes.
        self._holes = facts.st_blocks * _BLOCK < facts.st_size

    def readinto(self, buffer: memoryview, /) -> int:
        return os.readv(self._descriptor, [buffer])

    def skip_hole(self) -> int:
        if not self._holes:
            return 0
        here = os.lseek(self._descriptor, 0, os.SEEK_CUR)
        try:
            data = os.lseek(self._descriptor, here, os.SEEK_DATA)
        except OSError as error:
            # ENXIO: no data from here to the end. Anything else: holes are unknown here.
            data = self._facts.st_size if error.errno == errno.ENXIO else here
        os.lseek(self._descriptor, here, os.SEEK_SET)
        return max(data - here, 0)

    def seek(self, offset: int, /) -> None:
        os.lseek(self._descriptor, offset, os.SEEK_SET)

    def unchanged(self) -> bool:
        before, now = self._facts, os.fstat(self._descriptor)
        return (
            now.st_size == before.st_size
            and now.st_mtime_ns == before.st_mtime_ns
            and now.st_ctime_ns == before.st_ctime_ns
        )

    def xattrs(self) -> list[tuple[bytes, bytes]]:
        return read_xattrs(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)
