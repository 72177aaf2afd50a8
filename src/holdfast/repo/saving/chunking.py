"""Cutting large files: read window by window into shared memory, cut into chunks there, hashed and
stored by workers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.repo.format.chunker import MIN_SIZE
from holdfast.repo.format.pack import BlobKind
from holdfast.repo.format.zeros import ZERO_BLOB
from holdfast.repo.saving.sealing import WINDOW

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.core.ids import BlobId
    from holdfast.core.source import Content
    from holdfast.repo.format.chunker import Chunker
    from holdfast.repo.saving.known import KnownBlobs
    from holdfast.repo.saving.sealing import Crew


class ChunkNames:
    """The names of a file's chunks, which become known in the order in which workers finish."""

    def __init__(self) -> None:
        self._parts: list[list[BlobId]] = []
        self._missing = 0
        self._then: Callable[[list[BlobId]], None] | None = None

    def add(self, blobs: list[BlobId]) -> None:
        self._parts.append(blobs)

    def expect(self, count: int) -> Callable[[list[BlobId]], None]:
        """Room for the names of the next `count` chunks; what is returned fills it."""
        part: list[BlobId] = []
        self._parts.append(part)
        self._missing += count

        def known(blobs: list[BlobId]) -> None:
            part.extend(blobs)
            self._missing -= len(blobs)
            self._settle()

        return known

    def when_known(self, then: Callable[[list[BlobId]], None]) -> None:
        """Calls `then` with all names, once nothing more is expected and the last has come."""
        self._then = then
        self._settle()

    def _settle(self) -> None:
        if not self._missing and self._then is not None:
            then, self._then = self._then, None
            then([blob for part in self._parts for blob in part])


class Cutter:
    """Cuts one file after the other. `turn` is told how many bytes each window took: a long file
    stops neither the workers nor the progress.
    """

    def __init__(
        self, chunker: Chunker, crew: Crew, known: KnownBlobs, turn: Callable[[int], None]
    ) -> None:
        self._chunker = chunker
        self._crew = crew
        self._known = known
        self._turn = turn

    def cut(self, content: Content) -> tuple[ChunkNames, int]:
        """Gives all of a file to the workers, at most as many bytes as it had when it was opened (a
        stream, which had none: to its end). The names to come, and the bytes read.

        Raises:
            OSError: it cannot be read to the end.
        """
        names = ChunkNames()
        limit = content.entry.size
        position = 0  # of the first byte that is in no chunk yet
        rest = b""  # bytes from there that are read already
        ended = False
        while not ended:
            skipped = self._pass_over_hole(content, names, position, len(rest))
            if skipped:
                position += skipped
                rest = b""
                self._turn(skipped)
            used, rest, ended = self._cut_window(
                content, names, rest, limit - position if limit else None
            )
            position += used
            self._turn(used)
        return names, position

    def _cut_window(
        self, content: Content, names: ChunkNames, rest: bytes, left: int | None
    ) -> tuple[int, bytes, bool]:
        """One window: how many bytes are in its chunks, what it leaves over, and whether the file
        ended.

        `left`: bytes of the file from the beginning of `rest`, None where that is not known.
        """
        slot, memory = self._crew.take_slot()
        try:
            memory[: len(rest)] = rest
            end = len(rest) + WINDOW if left is None else min(len(rest) + WINDOW, left)
            filled, ended = _read(content, memory, len(rest), end)
            ended = ended or filled == left
            pieces, used = self._cut_pieces(memory[:filled], at_end=ended)
            rest = bytes(memory[used:filled])
        except BaseException:
            self._crew.give_slot_back(slot)
            raise
        if pieces:
            self._crew.hash_window(slot, pieces, names.expect(len(pieces)))
        else:
            self._crew.give_slot_back(slot)
        return used, rest, ended

    def _cut_pieces(self, window: memoryview, *, at_end: bool) -> tuple[list[tuple[int, int]], int]:
        """Chunks of a window as (offset, length), and where the last one ends."""
        pieces = []
        start = 0
        while start < len(window):
            length = self._chunker.next_cut(window[start:], at_end=at_end)
            if length is None:
                break
            pieces.append((start, length))
            start += length
        return pieces, start

    def _pass_over_hole(
        self, content: Content, names: ChunkNames, position: int, carried: int
    ) -> int:
        """Passes over a hole at `position` in whole chunks of zeros, without reading them; how many
        bytes.

        The first such chunk of a repository is read like any other, so that it is stored.
        """
        if not content.skip_hole():
            return 0
        content.seek(position)
        chunks = content.skip_hole() // MIN_SIZE
        if chunks and self._known.has(ZERO_BLOB, BlobKind.DATA):
            names.add([ZERO_BLOB] * chunks)
            content.seek(position + chunks * MIN_SIZE)
            return chunks * MIN_SIZE
        content.seek(position + carried)
        return 0


def _read(content: Content, memory: memoryview, filled: int, end: int) -> tuple[int, bool]:
    """Fills memory up to `end`; how far it is filled, and whether the file ended before."""
    while filled < end:
        count = content.readinto(memory[filled:end])
        if not count:
            return filled, True
        filled += count
    return filled, False
