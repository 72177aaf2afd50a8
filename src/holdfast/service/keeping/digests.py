"""Digests of a plain file: of the whole and of each of its blocks, so that any range of it can be
authenticated before it is given out (I4).
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from holdfast.core.errors import DamagedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdfast.service.keeping.contract import Buffer

BLOCK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Content:
    """What a file must be. `blocks`: SHA-256 of each MiB; none where the file has one at most."""

    size: int
    sha256: str
    blocks: tuple[str, ...] = ()


class Digester:
    """Fed with content in order."""

    def __init__(self) -> None:
        self.size = 0
        self._whole = hashlib.sha256()
        self._block = self._whole
        self._blocks: list[str] = []

    def update(self, content: Buffer) -> None:
        view = memoryview(content)
        while view:
            room = BLOCK - self.size % BLOCK
            if not self.size % BLOCK and self.size:
                self._end_block()
            piece, view = view[:room], view[room:]
            self._whole.update(piece)
            if self.size >= BLOCK:
                self._block.update(piece)
            self.size += len(piece)

    def _end_block(self) -> None:
        # As long as there is one block only, its digest is that of the whole.
        self._blocks.append(self._block.hexdigest())
        self._block = hashlib.sha256()

    def content(self) -> Content:
        """What was fed so far."""
        whole = self._whole.hexdigest()
        if self.size <= BLOCK:
            return Content(self.size, whole)
        return Content(self.size, whole, (*self._blocks, self._block.hexdigest()))


def pieces(
    descriptor: int, content: Content, what: str, start: int = 0, length: int | None = None
) -> Iterator[memoryview]:
    """The bytes of an open file, each block compared with its digest before any of it is given.

    Raises:
        DamagedError: the file is not what was kept; nothing wrong was given.
        OSError: it cannot be read.
    """
    stop = content.size if length is None else min(start + length, content.size)
    digests = content.blocks or (content.sha256,)
    if os.fstat(descriptor).st_size != content.size:
        raise changed(what)
    if start >= stop and content.size:
        return
    for number in range(start // BLOCK, max(-(-stop // BLOCK), 1)):
        at = number * BLOCK
        block = _read(descriptor, at, min(BLOCK, content.size - at))
        if hashlib.sha256(block).hexdigest() != digests[number]:
            raise changed(what)
        if wanted := memoryview(block)[max(start - at, 0) : stop - at]:
            yield wanted


def _read(descriptor: int, at: int, length: int) -> bytes:
    """Fewer bytes only where the file ends."""
    found = os.pread(descriptor, length, at)
    while len(found) < length and (
        more := os.pread(descriptor, length - len(found), at + len(found))
    ):
        found += more
    return found


def measure(descriptor: int, progress: Callable[[int], None] | None = None) -> Content:
    """Reads an open file from its beginning to its end."""
    digester = Digester()
    buffer = memoryview(bytearray(BLOCK))
    while count := os.preadv(descriptor, [buffer], digester.size):
        digester.update(buffer[:count])
        if progress:
            progress(count)
    return digester.content()


def changed(what: str) -> DamagedError:
    return DamagedError(
        f"{what} is not what was kept: it was changed or damaged on its disk",
        remedy="Bring it back from another copy. Other backups are not touched by this.",
    )
