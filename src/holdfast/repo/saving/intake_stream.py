"""The bytes of one upload on their way from whoever receives them to the sealing threads.

They are copied into a window; a full window is cut into chunks (in order: where a chunk ends
depends on where it began), and its chunks are hashed and sealed (in any order) while the other
window fills. That both are taken is the back-pressure. What a window leaves undecided at its end
is copied out at once and stands before the next one.

An upload may be many files: a window then holds the end of one, some whole ones, and the beginning
of the next.
"""

from __future__ import annotations

import hashlib
import mmap
import threading
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Protocol

from holdfast.core.errors import ClosedError
from holdfast.repo.format.chunker import MAX_SIZE
from holdfast.repo.futures import running_future

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from holdfast.core.ids import BlobId
    from holdfast.repo.format.chunker import Chunker
    from holdfast.repo.format.crypto import Buffer
    from holdfast.repo.saving.intake_ledger import Account

WINDOW = 4 << 20
WINDOWS = 2
"""For each upload."""
_SPARE = 4
"""Windows that are kept for the next upload; others go back to the system, and so does the memory
that was touched in them.
"""
_LEFT_OVER = 1 << 20
"""Bytes before each window that it keeps. What the one before left over is seldom more, and may be
eight times as much: that goes back to the system, as every window would have touched it in the end.
"""
_FILES = 1024
"""Files in one window, however small they are."""


class WindowPool:
    """Memory for windows: room for what the last one left over (less than one chunk), then the
    window.
    """

    def __init__(self) -> None:
        self._spare: list[memoryview] = []
        self._lock = threading.Lock()

    def take(self) -> memoryview:
        with self._lock:
            if self._spare:
                return self._spare.pop()
        return memoryview(
            mmap.mmap(-1, MAX_SIZE + WINDOW, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        )

    def give_back(self, memory: memoryview, left_over: int) -> None:
        """`left_over`: bytes that stood before the window."""
        if left_over > _LEFT_OVER:
            memory.obj.madvise(mmap.MADV_DONTNEED, 0, MAX_SIZE - _LEFT_OVER)  # type: ignore[attr-defined]
        with self._lock:
            if len(self._spare) < _SPARE:
                self._spare.append(memory)

    def trim(self) -> None:
        with self._lock:
            self._spare.clear()


class StreamFile:
    """A file of a stream: its content becomes the names of its chunks.

    `done` is called once with those names and the size, when all of it was cut, and hashed and
    sealed: in a sealing thread, or in the giver's where the file is empty.
    """

    __slots__ = ("_ended", "_missing", "_parts", "done", "size")

    def __init__(self, done: Callable[[bytes, int], None]) -> None:
        self.done = done
        self.size = 0
        self._ended = False
        self._parts: list[list[BlobId]] = []
        self._missing = 0

    def expect(self, *, last: bool) -> list[BlobId]:
        """Room for the names of the chunks of one window."""
        part: list[BlobId] = []
        self._parts.append(part)
        self._missing += 1
        self._ended = last
        return part

    def fulfilled(self) -> bool:
        """The names of one window are complete; whether those of the whole file are."""
        self._missing -= 1
        return self._ended and not self._missing

    @property
    def blobs(self) -> bytes:
        """The names that are known so far, concatenated."""
        return b"".join([blob for part in list(self._parts) for blob in list(part)])


class _Segment:
    """A piece of a file within a window."""

    __slots__ = ("end", "ended", "file")

    def __init__(self, file: StreamFile, end: int) -> None:
        self.file = file
        self.end = end
        self.ended = False


class Window:
    """One stretch of a stream, in memory that is used again."""

    __slots__ = ("filled", "left_over", "memory", "segments")

    def __init__(self, memory: memoryview) -> None:
        self.memory = memory
        self.left_over = 0
        """Bytes of the one before, in front of it."""
        self.filled = 0
        self.segments: list[_Segment] = []

    @property
    def full(self) -> bool:
        return self.filled == WINDOW or len(self.segments) >= _FILES

    def take(self, view: memoryview, file: StreamFile) -> int:
        """Copies what there is room for; how many bytes."""
        count = min(len(view), WINDOW - self.filled)
        if self.segments and self.segments[-1].file is file:
            segment = self.segments[-1]
        else:
            segment = _Segment(file, self.filled)
            self.segments.append(segment)
        at = MAX_SIZE + self.filled
        self.memory[at : at + count] = view[:count]
        self.filled += count
        segment.end = self.filled
        return count


class Chunk(NamedTuple):
    """A chunk in a window. Its name belongs at the end of `part`."""

    part: list[BlobId]
    content: memoryview


class CutWindow:
    """A window whose chunks are known."""

    __slots__ = ("chunks", "window")

    def __init__(self, window: Window) -> None:
        self.window = window
        self.chunks: list[Chunk] = []


class Admission(Protocol):
    """Who decides how many streams may have windows at a time."""

    def ask(self, stream: Stream) -> bool:
        """True: it may. False: `Stream.admit` or `Stream.fail` will be called."""
        ...


class Stream:
    """One upload's bytes. One thread at a time gives; `fail` may come from any.

    `ready` is told when there is a window for a sealing thread to `begin`. `ended` is called once,
    when nothing of it is in any window any more, with None or why it failed.
    """

    def __init__(
        self,
        pool: WindowPool,
        admission: Admission,
        account: Account,
        *,
        ready: Callable[[Stream], None],
        ended: Callable[[BaseException | None], None],
        digest: bool,
    ) -> None:
        self._pool = pool
        self._admission = admission
        self.account = account
        self._ready = ready
        self._ended = ended
        self._lock = threading.Lock()
        self._file: StreamFile | None = None
        self._filling: Window | None = None
        self._full: deque[Window] = deque()
        self._rest: memoryview | None = None
        self._taken: Future[None] | None = None
        self._windows = 0
        self._telling = 0
        """Windows that are free, and of whose files some are not told yet that they are done."""
        self._asked = self._admitted = False
        self._cutting = False
        self._finishing = False
        self._over = False
        self._carry = b""
        self.failure: BaseException | None = None
        self.digest = hashlib.sha256() if digest else None

    # --- the giver --------------------------------------------------------------------------------

    def begin_file(self, file: StreamFile) -> None:
        assert self._file is None
        self._file = file

    def offer(self, buffer: Buffer) -> Future[None] | None:
        """As `Inflow.offer`."""
        view = memoryview(buffer).cast("B")
        with self._lock:
            self._check()
            assert self._file is not None
            assert self._taken is None
            self._file.size += len(view)
            rest = self._fill(view)
            if rest:
                self._rest = rest
                self._taken = running_future()
            return self._taken

    def end_file(self) -> None:
        with self._lock:
            self._check()
            file, window = self._file, self._filling
            assert file is not None
            assert self._taken is None
            self._file = None
            if file.size:
                assert window is not None
                window.segments[-1].ended = True
        if not file.size:
            file.done(b"", 0)

    def finish(self) -> None:
        """There are no more files: what is left is sealed, and then `ended` is called."""
        with self._lock:
            self._check()
            assert self._file is None
            self._finishing = True
            if self._filling is not None:
                self._hand_over()
            over = self._is_over()
        if over:
            self._ended(None)

    def fail(self, failure: BaseException) -> None:
        """Gives everything back as soon as may be; what comes first counts."""
        with self._lock:
            if self.failure is not None or self._over:
                return
            self.failure = failure
            for window in (self._filling, *self._full):
                if window is not None:
                    self._give_back(window)
            self._full.clear()
            self._filling = self._rest = None
            self._carry = b""
            taken, self._taken = self._taken, None
            over = self._is_over()
        if taken is not None:
            taken.set_exception(failure)
        if over:
            self._ended(failure)

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure
        if self._finishing:
            raise ClosedError("the upload has ended already")

    def _fill(self, view: memoryview) -> memoryview:
        """Copies into windows as far as there are; the rest."""
        assert self._file is not None
        while view:
            if self._filling is not None and self._filling.full:
                self._hand_over()
            if self._filling is None:
                if self._windows >= WINDOWS or not self._may_take_windows():
                    return view
                self._windows += 1
                self._filling = Window(self._pool.take())
            view = view[self._filling.take(view, self._file) :]
        return view

    def _may_take_windows(self) -> bool:
        if not self._asked:
            self._asked = True
            self._admitted = self._admission.ask(self)
        return self._admitted

    def admit(self) -> None:
        """The stream may have windows now."""
        with self._lock:
            self._admitted = True
            taken = self._go_on()
        if taken is not None:
            taken.set_result(None)

    def _go_on(self) -> Future[None] | None:
        """Takes what had to wait; the future to be done where that is all."""
        if self._rest is None or self.failure is not None:
            return None
        self._rest = self._fill(self._rest) or None
        if self._rest is not None:
            return None
        taken, self._taken = self._taken, None
        return taken

    def _hand_over(self) -> None:
        assert self._filling is not None
        self._full.append(self._filling)
        self._filling = None
        if not self._cutting and len(self._full) == 1:
            self._ready(self)

    def _give_back(self, window: Window) -> None:
        self._windows -= 1
        self._pool.give_back(window.memory, window.left_over)

    def _is_over(self) -> bool:
        """Whether nothing is in any window, and every file told, for the first time."""
        finished = self._finishing or self.failure is not None
        if self._over or not finished or self._windows or self._telling:
            return False
        self._over = True
        return True

    # --- the sealing threads ----------------------------------------------------------------------

    def begin(self, chunker: Chunker) -> CutWindow | None:
        """Cuts the next window, while no other thread does; None where the stream has failed."""
        with self._lock:
            if self.failure is not None or not self._full:
                return None
            window = self._full.popleft()
            parts = [each.file.expect(last=each.ended) for each in window.segments]
            self._cutting = True
        cut = CutWindow(window)
        try:
            carry = self._cut(cut, parts, chunker)
        except BaseException as error:
            self.fail(error)
            self.finished(cut)
            raise
        with self._lock:
            self._carry = carry if self.failure is None else b""
            self._cutting = False
            if self._full:
                self._ready(self)
        return cut

    def _cut(self, cut: CutWindow, parts: list[list[BlobId]], chunker: Chunker) -> bytes:
        """Finds the chunks of a window; what is in none of them yet."""
        window, memory, carry = cut.window, cut.window.memory, self._carry
        window.left_over = len(carry)
        start = MAX_SIZE - len(carry)
        memory[start:MAX_SIZE] = carry
        if self.digest is not None:
            self.digest.update(memory[MAX_SIZE : MAX_SIZE + window.filled])
        for segment, part in zip(window.segments, parts, strict=True):
            end = MAX_SIZE + segment.end
            for length in _lengths(chunker, memory[start:end], at_end=segment.ended):
                cut.chunks.append(Chunk(part, memory[start : start + length]))
                start += length
        return bytes(memory[start : MAX_SIZE + window.filled])

    def finished(self, cut: CutWindow) -> None:
        """All chunks of a window are sealed, or the stream has failed: the window is free."""
        with self._lock:
            done = [each.file for each in cut.window.segments if each.file.fulfilled()]
            failed = self.failure is not None
            cut.chunks.clear()
            self._give_back(cut.window)
            self._telling += 1
            taken = self._go_on()
        if taken is not None:
            taken.set_result(None)
        if not failed:
            for file in done:
                file.done(file.blobs, file.size)
        with self._lock:
            self._telling -= 1
            over = self._is_over()
        if over:
            self._ended(self.failure)


def _lengths(chunker: Chunker, view: memoryview, *, at_end: bool) -> Iterator[int]:
    while length := chunker.next_cut(view, at_end=at_end):
        yield length
        view = view[length:]
