"""What a caller of an intake holds: an upload of one file, or of many that make one snapshot."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol, Self

from holdfast.core.errors import ClosedError
from holdfast.repo.saving.intake_commit import Finished, Place
from holdfast.repo.saving.intake_ledger import Account
from holdfast.repo.saving.intake_stream import Stream, StreamFile
from holdfast.repo.saving.intake_tree import Growing, Notes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from holdfast.core.ids import BlobId
    from holdfast.repo.format.crypto import Buffer
    from holdfast.repo.saving.intake_sealers import TreeSealer
    from holdfast.repo.saving.intake_values import About, Kept


class Inflow(Protocol):
    """One file on its way in. Belongs to one caller at a time; the bytes may come in any pieces."""

    def offer(self, buffer: Buffer) -> Future[None] | None:
        """Takes all of `buffer` without ever waiting.

        None: it is taken. A future: it is taken once that is done; until then offer nothing more
        and leave the buffer as it is. Raises, and the future fails, as `write` does.
        """
        ...

    def write(self, buffer: Buffer) -> None:
        """Takes all of `buffer`, waiting for room.

        Raises:
            StoreBusyError: not admitted in time: too many uploads are being sealed, or another
            program has the repository for itself.
            StorageFullError, StoreError, VerificationError: something of it could not be stored.
            LockLostError: another program removed what was stored of it; send it again.
            ClosedError: it was abandoned, or the intake was closed.
        """
        ...


class House(Protocol):
    """What uploads need of their intake."""

    def check_open(self) -> None: ...

    def now(self) -> int: ...

    def small_limit(self) -> int: ...

    def open_stream(
        self, upload: Receiving, ended: Callable[[BaseException | None], None], *, digest: bool
    ) -> Stream: ...

    def put_work(self, work: Callable[[TreeSealer], None]) -> None:
        """Has trees sealed in a sealing thread."""
        ...

    def extend(self) -> None:
        """Once more inside the tenure, for the commit."""
        ...

    def commit(self, finished: Finished) -> None: ...

    def settled(self, finished: Finished) -> None:
        """The upload has its answer."""
        ...


class Receiving:
    """What both kinds have in common. `_stream` is there from the moment that sealing begins."""

    def __init__(self, house: House, about: About, place: Place) -> None:
        self._house = house
        self._lock = threading.RLock()
        self._stream: Stream | None = None
        self._failure: BaseException | None = None
        self.account = Account(self.fail)
        self._finished = Finished(about, place, self.account, house.now())
        self._is_finished = False

    @property
    def finishing(self) -> bool:
        """Whether its giver has ended it, and waits for the answer."""
        return self._is_finished

    def blobs(self) -> Iterator[bytes]:
        """Data blobs that it relies on so far, concatenated, in parts."""
        raise NotImplementedError

    def fail(self, error: BaseException) -> None:
        """Ends it, from any thread; what comes first counts."""
        if self._failure is None:
            self._failure = error
        if self._stream is not None:
            self._stream.fail(error)
        self._finished.fail(error)

    def abandon(self) -> None:
        """Gives everything back, at any moment and from any thread; nothing is kept but blobs that
        a retry finds and prune removes. Once it was ended to be kept, does nothing.
        """
        with self._lock:
            if self._is_finished:
                return
        self.fail(ClosedError("the upload was abandoned"))

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._is_finished:
            raise ClosedError("the upload has ended already")
        self._house.check_open()

    def _opened(self, *, digest: bool) -> Stream:
        if self._stream is None:
            self._stream = self._house.open_stream(self, self._ended, digest=digest)
        return self._stream

    def _ended(self, failure: BaseException | None) -> None:
        """Nothing of it is in a window any more."""
        if failure is not None:
            self._finished.fail(failure)
        elif self._is_finished:
            self._complete()

    def _complete(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()


class Upload(Receiving):
    """One file that becomes one snapshot: an `Inflow`. Leaving it as a context manager without
    having called `finish` abandons it.
    """

    def __init__(self, house: House, about: About, place: Place) -> None:
        super().__init__(house, about, place)
        self._small = bytearray()
        self._file = StreamFile(self._content_known)
        self.size = 0
        """Bytes taken so far."""

    def offer(self, buffer: Buffer) -> Future[None] | None:
        """See `Inflow`."""
        with self._lock:
            self._check()
            count = memoryview(buffer).nbytes
            self.size += count
            if self._stream is None and self.size <= self._house.small_limit():
                self._small += buffer
                return None
            if self._stream is None:
                self._opened(digest=True).begin_file(self._file)
            if self._small:
                self._small += buffer
                buffer, self._small = self._small, bytearray()
            return self._opened(digest=True).offer(buffer)

    def write(self, buffer: Buffer) -> None:
        """See `Inflow`."""
        taken = self.offer(buffer)
        if taken is not None:
            taken.result()

    def finish(self) -> Future[Kept]:
        """Ends the content. The future is done when packs, index and snapshot are durable and
        `before_answer` returned; until then nothing may be acknowledged to anyone. Raises, and the
        future fails, as `write` does.
        """
        with self._lock:
            self._check()
            self._is_finished = True
            stream = self._stream
            if stream is None:
                self._finished.body = bytes(self._small)
                self._small = bytearray()
                self._house.commit(self._finished)
        if stream is not None:
            stream.end_file()
            stream.finish()
        return self._finished.future

    def blobs(self) -> Iterator[bytes]:
        yield self._file.blobs

    def _content_known(self, blobs: bytes, size: int) -> None:
        self._finished.content, self._finished.size = blobs, size

    def _complete(self) -> None:
        assert self._stream is not None
        assert self._stream.digest is not None
        self._finished.sha256 = self._stream.digest.digest()
        self._house.commit(self._finished)


class TreeFile:
    """A file of a tree: an `Inflow`. Leaving it as a context manager ends its content; leaving it
    by an exception leaves the session unable to commit.
    """

    def __init__(self, session: TreeSession, stream: Stream) -> None:
        self._session = session
        self._stream = stream
        self._open = True

    def offer(self, buffer: Buffer) -> Future[None] | None:
        """See `Inflow`."""
        self._session.check()
        if not self._open:
            raise ClosedError("the file has ended already")
        taken = self._stream.offer(buffer)
        self._session.size += memoryview(buffer).nbytes
        return taken

    def write(self, buffer: Buffer) -> None:
        """See `Inflow`."""
        taken = self.offer(buffer)
        if taken is not None:
            taken.result()

    def end(self) -> None:
        """The content is complete; again is well."""
        if self._open:
            self._open = False
            self._stream.end_file()
            self._session.ended_file()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, *_: object) -> None:
        if error is None:
            self.end()
        else:
            self._session.fail(ClosedError("a file of the upload broke off"))


class TreeSession(Receiving):
    """Files, directories and links, given one after another in any order, that become one snapshot.

    Paths are bytes, relative, with slashes: b"docs/a.txt". Each component is checked: none is
    empty, ".", "..", longer than 255 bytes, or holds NUL. Directories that are not given
    themselves get a plain entry. A name that is given again replaces the earlier one, but a
    directory and something else cannot share a name: nothing is ever written through a link.

    One caller at a time. Leaving it as a context manager without having called `commit` abandons
    it.
    """

    def __init__(self, house: House, about: About, place: Place) -> None:
        super().__init__(house, about, place)
        self._notes = Notes()
        self._time = house.now() if about.time is None else about.time
        self._file_is_open = False
        self._unsettled: set[StreamFile] = set()
        self.size = 0
        """Bytes of content so far."""
        self.entries = 0

    def check(self) -> None:
        self._check()

    def file(self, path: bytes, *, mode: int = 0o644, mtime: int | None = None) -> TreeFile:
        """Begins a file; the one before must have ended. `mode`: permission bits; `mtime` in
        nanoseconds, the session's time where None.

        Raises:
            NameRefusedError: the path is not one that may be kept.
            As `Inflow.write`, where the session has failed.
        """
        self._check()
        if self._file_is_open:
            raise ClosedError("the file before has not ended")
        noted = self._notes.file(path, mode, self._time if mtime is None else mtime)

        def done(blobs: bytes, size: int) -> None:
            noted(blobs, size)
            with self._lock:
                self._unsettled.discard(file)

        file = StreamFile(done)
        with self._lock:
            self._unsettled.add(file)
        stream = self._opened(digest=False)
        stream.begin_file(file)
        self._file_is_open = True
        self.entries += 1
        return TreeFile(self, stream)

    def ended_file(self) -> None:
        self._file_is_open = False

    def directory(self, path: bytes, *, mode: int = 0o755, mtime: int | None = None) -> None:
        """Raises as `file`."""
        self._check()
        self._notes.directory(path, mode, self._time if mtime is None else mtime)
        self.entries += 1

    def symlink(self, path: bytes, target: bytes, *, mtime: int | None = None) -> None:
        """`target` may say anything; it is kept, never followed. Raises as `file`."""
        self._check()
        self._notes.symlink(path, target, self._time if mtime is None else mtime)
        self.entries += 1

    def copy(self, path: bytes, earlier: bytes) -> None:
        """Another name for a file that this session was given before, as a tar's hard link. Raises
        as `file`; that there was none shows in `commit`.
        """
        self._check()
        self._notes.copy(path, earlier)
        self.entries += 1

    def commit(self) -> Future[Kept]:
        """Ends the upload: as `Upload.finish`. The future may also fail with NameRefusedError: a
        directory and something else have one name, or a copy is one of nothing.
        """
        with self._lock:
            self._check()
            if self._file_is_open:
                raise ClosedError("a file has not ended")
            stream = self._opened(digest=False)
            self._is_finished = True
        stream.finish()
        return self._finished.future

    def blobs(self) -> Iterator[bytes]:
        with self._lock:
            unsettled = list(self._unsettled)
        for file in unsettled:
            yield file.blobs
        yield from self._notes.blobs()

    def _complete(self) -> None:
        self._house.put_work(self._grow)

    def _grow(self, sealer: TreeSealer) -> None:
        """In a sealing thread, inside: it stays inside until the commit, so that nothing that the
        trees rely on can go meanwhile.
        """

        def seal(tree: BlobId, document: bytes) -> None:
            sealer.seal_tree(tree, document, self.account)

        finished = self._finished
        if finished.future.done():
            self._house.settled(finished)
            return
        try:
            grown = Growing(self._notes, self._time, seal, sealer.attend).grow()
        except Exception as error:  # noqa: BLE001  the upload fails with it; others go on
            self.fail(error)
            self._house.settled(finished)
            return
        finished.tree, finished.sha256 = grown.tree, grown.digest
        finished.size, finished.files = grown.size, grown.files
        finished.folders = grown.folders
        finished.inside = True
        self._house.extend()
        self._house.commit(finished)
