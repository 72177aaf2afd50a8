"""Giving content out, for servers: files and ranges of files as pieces, read ahead by a few shared
threads.

Every piece was authenticated and has the digest of its name (I4). A repository that was pruned
meanwhile is noticed: the index is brought up to date, and the reader goes on.
"""

from __future__ import annotations

import io
import threading
from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from holdfast.core.errors import (
    ClosedError,
    DamagedError,
    StoreError,
    UnreadableError,
    UsageError,
)
from holdfast.core.ids import SHORT_ID, BlobId
from holdfast.repo.browsing.walk import resolve
from holdfast.repo.format.codec import MAX_DATA
from holdfast.repo.format.crypto import OVERHEAD
from holdfast.repo.format.pack import BlobKind
from holdfast.repo.format.zeros import ZERO_BLOB, ZERO_PIECE, zero_piece
from holdfast.repo.futures import running_future
from holdfast.repo.processes import keep_freed_memory
from holdfast.store.contract import FileKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from holdfast.repo.blobs.index import Location
    from holdfast.repo.format.tree import Node
    from holdfast.repo.repository import Repository

AHEAD = 4
"""Most batches that are read before they are asked for."""
MEMORY = 64 << 20
"""Bytes that all readers of a pool together may hold read ahead; beyond, each holds the one batch
that it gives next.
"""
_BATCH_NEAR, _BATCH_FAR = 1 << 20, 4 << 20
_BATCH_BLOBS = 256
"""A batch ends with the blob that makes it so large. Most blobs are a batch by themselves, unless
each request takes its time.
"""
_GAP = 64 << 10
_SPAN = 16 << 20
"""Blobs of a batch that lie that close together in a pack are read at once, that many bytes."""
_MAX_SEALED = MAX_DATA + (1 << 20)


class Wanted(NamedTuple):
    """A blob, with whatever its reader wants back together with its content."""

    tag: Any
    blob: BlobId | None
    """None: nothing is to be read, the tag only has its place in the order"""
    place: Location | None = None

    @property
    def length(self) -> int:
        if self.place is None:
            return ZERO_PIECE if self.blob == ZERO_BLOB else 0
        return self.place.raw_length or self.place.length - OVERHEAD


class ReadPool:
    """The reading threads of one repository in one process, shared by all its readers."""

    def __init__(
        self, repository: Repository, *, threads: int | None = None, memory: int = MEMORY
    ) -> None:
        """`threads`: where None two, or as many as the connections to a distant store."""
        keep_freed_memory()
        properties = repository.store.properties
        count = threads or (2 if properties.local else max(properties.connections, 2))
        self.repository = repository
        self.memory = memory
        self.batch_bytes = _BATCH_NEAR if properties.local else _BATCH_FAR
        self._pool = ThreadPoolExecutor(count, "give-blobs")
        self._lock = threading.Lock()
        self._held = 0

    def close(self) -> None:
        """Ends the threads; readers that are still open raise ClosedError."""
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- looking up -------------------------------------------------------------------------------

    def load_tree(self, tree: BlobId) -> list[Node]:
        """As `Repository.load_tree`, also where the repository was pruned since."""
        try:
            return self.repository.load_tree(tree)
        except UnreadableError:
            self.repository.refresh_index()
            return self.repository.load_tree(tree)

    def wanted(self, tag: Any, blob: BlobId) -> Wanted:
        """Where a blob lies.

        Raises:
            UnreadableError: the index does not know it, or says what cannot be.
        """
        if blob == ZERO_BLOB:
            return Wanted(tag, blob)
        place = self.repository.index.find(blob, BlobKind.DATA)
        if place is None:
            self.repository.refresh_index()
            place = self.repository.index.find(blob, BlobKind.DATA)
            if place is None:
                raise UnreadableError(f"blob {blob.hex()[:SHORT_ID]} is missing from the index")
        if place.length > _MAX_SEALED or place.raw_length > MAX_DATA:
            raise UnreadableError(f"the index claims {place.length} bytes for a single blob")
        return Wanted(tag, blob, place)

    # --- reading ----------------------------------------------------------------------------------

    def submit(self, wanted: Sequence[Wanted], size: int) -> Future[list[bytes]]:
        try:
            future = self._pool.submit(self._read, wanted)
        except RuntimeError as error:
            raise ClosedError("the server is shutting down") from error
        with self._lock:
            self._held += size
        return future

    def has_room(self, size: int) -> bool:
        return self._held + size <= self.memory

    def release(self, size: int) -> None:
        with self._lock:
            self._held -= size

    def _read(self, wanted: Sequence[Wanted]) -> list[bytes]:
        """The content of each, in one of the threads."""
        contents: list[bytes] = []
        for run in _runs(wanted):
            contents += self._read_run(run)
        return contents

    def _read_run(self, run: Sequence[Wanted]) -> Iterator[bytes]:
        first, last = run[0].place, run[-1].place
        if first is None or last is None:
            yield bytes(zero_piece()) if run[0].blob == ZERO_BLOB else b""
            return
        start = first.offset
        try:
            length = last.offset + last.length - start
            sealed = memoryview(
                self.repository.store.get_range(FileKind.PACK, first.pack.hex(), start, length)
            )
        except StoreError:
            sealed = None  # a pack that is gone, or one bad sector: each is read alone
        for each in run:
            assert each.place is not None
            at = each.place.offset - start
            yield self._open(each, None if sealed is None else sealed[at : at + each.place.length])

    def _open(self, wanted: Wanted, sealed: memoryview | None) -> bytes:
        blob, place = wanted.blob, wanted.place
        assert blob is not None
        assert place is not None
        content = None
        if sealed is not None:
            try:
                content = self.repository.open_blob(blob, BlobKind.DATA, sealed, place.raw_length)
            except DamagedError:
                pass  # it may lie elsewhere as well; if not, that tells of it
        if content is None:
            content = self._read_anywhere(blob)
        if len(content) != wanted.length:
            raise UnreadableError(
                f"blob {blob.hex()[:SHORT_ID]} has {len(content)} bytes, "
                f"and the index says {wanted.length}"
            )
        return content

    def _read_anywhere(self, blob: BlobId) -> bytes:
        try:
            return self.repository.load_blob(blob, BlobKind.DATA)
        except UnreadableError:
            self.repository.refresh_index()
            return self.repository.load_blob(blob, BlobKind.DATA)


def _runs(wanted: Sequence[Wanted]) -> Iterator[list[Wanted]]:
    """Blobs that lie one behind the other in a pack, to be read at once."""
    run: list[Wanted] = []
    for each in wanted:
        if run and not _follows(run, each):
            yield run
            run = []
        run.append(each)
    if run:
        yield run


def _follows(run: Sequence[Wanted], each: Wanted) -> bool:
    first, last, place = run[0].place, run[-1].place, each.place
    if first is None or last is None or place is None or place.pack != last.pack:
        return False
    gap = place.offset - last.offset - last.length
    return 0 <= gap <= _GAP and place.offset + place.length - first.offset <= _SPAN


class _Batch(NamedTuple):
    wanted: list[Wanted]
    size: int
    future: Future[list[bytes]]


class ReadAhead:
    """What is wanted, in order, in batches that are read before they are asked for: one of them
    while the consumer is slower than the repository, up to AHEAD while it waits. For one consumer
    at a time.
    """

    def __init__(self, pool: ReadPool, wanted: Iterable[Wanted]) -> None:
        self._pool = pool
        self._wanted = iter(wanted)
        self._planned: tuple[list[Wanted], int] | None = None
        self._ahead: deque[_Batch] = deque()
        self._target = 2
        self._closed = False

    def next(self) -> list[tuple[Any, bytes]] | None:
        """The next batch: tags and contents; None at the end.

        Raises:
            UnreadableError: a blob is in no place whole. Nothing else comes then.
            ClosedError: the pool was closed.
        """
        try:
            self._fill()
            return self._take()
        except BaseException:
            self.close()
            raise

    def ask(self) -> Future[list[tuple[Any, bytes]] | None]:
        """As `next`, for who may not wait."""
        answer: Future[list[tuple[Any, bytes]] | None] = running_future()

        def give(_: object) -> None:
            try:
                answer.set_result(self.next())
            except BaseException as error:  # noqa: BLE001  handed to who asked
                answer.set_exception(error)

        try:
            self._fill()
        except BaseException as error:  # noqa: BLE001  handed to who asked
            self.close()
            answer.set_exception(error)
            return answer
        if self._ahead:
            self._ahead[0].future.add_done_callback(give)
        else:
            give(None)
        return answer

    def close(self) -> None:
        """Drops what was read ahead. Again is well."""
        self._closed = True
        while self._ahead:
            batch = self._ahead.popleft()
            batch.future.cancel()
            self._pool.release(batch.size)

    def _take(self) -> list[tuple[Any, bytes]] | None:
        if self._closed or not self._ahead:
            self._closed = True
            return None
        batch = self._ahead[0]
        waits = not batch.future.done()
        try:
            contents = batch.future.result()
        except CancelledError as error:
            raise ClosedError("the server is shutting down") from error
        self._ahead.popleft()
        self._pool.release(batch.size)
        if waits:
            self._target = min(self._target + 1, AHEAD)
        elif all(each.future.done() for each in self._ahead):
            self._target = max(self._target - 1, 1)
        self._fill()
        tags = (each.tag for each in batch.wanted)
        return list(zip(tags, contents, strict=True))

    def _fill(self) -> None:
        while not self._closed and len(self._ahead) < self._target:
            if self._planned is None:
                self._planned = _plan(self._wanted, self._pool.batch_bytes)
            wanted, size = self._planned
            if not wanted or (self._ahead and not self._pool.has_room(size)):
                return
            self._ahead.append(_Batch(wanted, size, self._pool.submit(wanted, size)))
            self._planned = None


def _plan(wanted: Iterator[Wanted], enough: int) -> tuple[list[Wanted], int]:
    """The next batch, and the bytes in it."""
    batch: list[Wanted] = []
    size = 0
    for each in wanted:
        batch.append(each)
        size += each.length
        if size >= enough or len(batch) >= _BATCH_BLOBS:
            break
    return batch, size


class Pieces:
    """Bytes in order, each piece at most one blob (8 MiB). For one consumer at a time.

    Reads ahead: one piece while the consumer is slower than the repository, up to AHEAD while it
    waits. Close it when leaving early; at its end it is closed.
    """

    def __init__(self, ahead: ReadAhead, skip: int, length: int) -> None:
        self._ahead = ahead
        self._skip = skip
        self._left = length
        self._ready: deque[bytes] = deque()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        """Raises UnreadableError where a blob is in no place whole: nothing else comes then."""
        while not self._ready:
            if not self._left:
                self.close()
                raise StopIteration
            self._cut(self._ahead.next())
        return self._ready.popleft()

    def ask(self) -> Future[bytes]:
        """The next piece for who may not wait; b"" at the end. Ask again when it is done."""
        answer: Future[bytes] = running_future()
        if self._ready or not self._left:
            answer.set_result(next(self, b""))
            return answer

        def give(batch: Future[list[tuple[Any, bytes]] | None]) -> None:
            try:
                self._cut(batch.result())
                answer.set_result(next(self, b""))
            except BaseException as error:  # noqa: BLE001  handed to who asked
                answer.set_exception(error)

        self._ahead.ask().add_done_callback(give)
        return answer

    def close(self) -> None:
        self._ready.clear()
        self._left = 0
        self._ahead.close()

    def _cut(self, batch: list[tuple[Any, bytes]] | None) -> None:
        """Makes pieces of a batch: without what comes before the range, and what after."""
        if batch is None:
            raise ClosedError("nobody reads this any more")
        for _, content in batch:
            piece = content
            if self._skip or len(piece) > self._left:
                piece = content[self._skip : self._skip + self._left]
                self._skip = 0
            self._left -= len(piece)
            if piece:
                self._ready.append(piece)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FileStream:
    """One file of a snapshot. Holds nothing that would need closing; safe for threads."""

    def __init__(self, pool: ReadPool, node: Node) -> None:
        self._pool = pool
        self.node = node
        self._blobs = list(node.blobs())
        self._ends = array("Q")
        """Where each blob ends in the file."""
        end = 0
        for blob in self._blobs:
            end += pool.wanted(None, blob).length
            self._ends.append(end)
        self.size = end
        """Bytes, exactly as many as `pieces` gives."""

    def pieces(self, start: int = 0, stop: int | None = None) -> Pieces:
        """The content from byte `start` up to and without `stop` (None: the end).

        Raises:
            ValueError: not 0 <= start <= stop <= size.
        """
        stop = self.size if stop is None else stop
        check_range(start, stop, self.size)
        first = bisect_right(self._ends, start)
        before = self._ends[first - 1] if first else 0
        blobs = self._blobs[first : bisect_left(self._ends, stop) + 1] if stop > start else []
        wanted = (self._pool.wanted(None, blob) for blob in blobs)
        return Pieces(ReadAhead(self._pool, wanted), start - before, stop - start)

    def as_file(self) -> io.BufferedReader:
        """The content as a file that can seek. It raises what `pieces` does."""
        return io.BufferedReader(_RawFile(self), 128 << 10)


def check_range(start: int, stop: int, size: int) -> None:
    """Raises ValueError where that is no range of so many bytes."""
    if not 0 <= start <= stop <= size:
        raise ValueError(f"there are no bytes from {start} to {stop} of {size}")


class _RawFile(io.RawIOBase):
    def __init__(self, stream: FileStream) -> None:
        super().__init__()
        self._stream = stream
        self._position = 0
        self._pieces: Pieces | None = None
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._stream.size}
        position = max(base[whence] + offset, 0)
        ahead = position - self._position
        if 0 <= ahead <= len(self._rest):
            self._rest = self._rest[ahead:]
        else:
            self._stop()
        self._position = position
        return position

    def readinto(self, room: Any, /) -> int:
        if not self._rest:
            if self._position >= self._stream.size:
                return 0
            if self._pieces is None:
                self._pieces = self._stream.pieces(self._position)
            self._rest = memoryview(next(self._pieces))
        room = memoryview(room).cast("B")
        part = self._rest[: len(room)]
        room[: len(part)] = part
        self._rest = self._rest[len(part) :]
        self._position += len(part)
        return len(part)

    def _stop(self) -> None:
        self._rest = memoryview(b"")
        if self._pieces is not None:
            self._pieces.close()
            self._pieces = None

    def close(self) -> None:
        if not self.closed:
            self._stop()
        super().close()


def open_file(pool: ReadPool, tree: BlobId, path: bytes) -> FileStream:
    """The file that `path` leads to in the snapshot with this tree.

    Raises:
        PathNotFoundError: nowhere.
        UsageError: it is no file.
        DamagedError, UnreadableError: a tree on the way, or the file's list, cannot be read.
    """
    found = resolve(pool, tree, path)
    if found.node is None or found.node.type != "file":
        shown = path.decode("utf-8", "backslashreplace")
        raise UsageError(f"{shown!r} is no file")
    return FileStream(pool, found.node)


def open_node(pool: ReadPool, node: Node) -> FileStream:
    """The file of a node of a tree. Raises as `open_file`."""
    if node.type != "file":
        raise UsageError(f"{node.name!r} is no file")
    return FileStream(pool, node)
