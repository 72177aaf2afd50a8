"""Uploaded files on their way into a tree: an archive becomes the files that it holds, anything
else is one file of its own.

An archive is what both its name and its first bytes say is one. A name alone may be wrong, and
content alone would take documents apart that only happen to be packed: `.docx`, `.jar`, `.sql.gz`.
"""

from __future__ import annotations

import re
import tempfile
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from holdfast.core.errors import ClosedError
from holdfast.repo.futures import running_future
from holdfast.repo.saving.intake_archives import SNIFF, Limits, Packing, sniff
from holdfast.repo.saving.intake_pipe import BytePipe
from holdfast.service.ground import new_uid
from holdfast.service.keeping.disk import told
from holdfast.service.keeping.flow import Flow
from holdfast.service.keeping.naming import beside, shortened

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from holdfast.service.keeping.contract import Buffer, IncomingFile, IncomingTree

__all__ = ["Limits", "Part", "limits_for"]

_ENDINGS: Final = (
    ".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".tbz", ".tar.zst",
    ".tzst",
)  # fmt: skip
_UNFIT: Final = re.compile(r"[\x00-\x1f\x7f/]")
_LEAST_FREE: Final = 256 << 20
_FREE_ELSEWHERE: Final = 64 << 30
"""Where a pool does not tell how much room it has."""
_LARGEST: Final = 1 << 50
_writers = ThreadPoolExecutor(2, "unpack-zip")


def limits_for(room: int | None) -> Limits:
    """What an archive may inflate to in a pool with so many bytes free.

    Folders of real people hold files of zeros and logs that repeat themselves, which inflate a
    thousand times; no proportion tells them from a bomb, only what they take. So up to half of the
    room nobody asks for the proportion, and what goes beyond may be a hundred times what was sent.
    """
    free = _FREE_ELSEWHERE if room is None else max(room // 2, _LEAST_FREE)
    return Limits(total=_LARGEST, free=free)


class _Way(Protocol):
    def offer(self, piece: Buffer) -> Future[None] | None: ...

    def end(self) -> frozenset[bytes]:
        """Waits until all of it is in the tree; the topmost names that it has there."""
        ...

    def abandon(self) -> Future[None]:
        """Done when nothing of it is at work in the tree any more."""
        ...


class Part:
    """One uploaded file. `offer` never blocks; the next part may begin when the future of `end` is
    done.

    `taken`: topmost names that earlier files of the upload have; those of this one are added. A
    plain file whose name is taken gets one beside it, and only the first file may be unpacked, so
    that no file takes the place of another.
    """

    def __init__(
        self, tree: IncomingTree, name: str, *, scratch: Path, limits: Limits, taken: set[bytes]
    ) -> None:
        self._tree = tree
        self._name = shortened(_UNFIT.sub("_", name))
        self._scratch = scratch
        self._limits = limits
        self._taken = taken
        self._head = bytearray()
        self._way: _Way | None = None
        self._work = _nothing()
        """what a thread does for it"""
        self._over = False

    def offer(self, piece: Buffer) -> Future[None] | None:
        """A future where the caller must wait for it before the next piece."""
        if self._way is not None:
            return self._way.offer(piece)
        self._head += piece
        if len(self._head) < SNIFF:
            return None
        self._work = _in_thread(self._open)
        return self._work

    def end(self) -> Future[None]:
        """Done when all of it is in the tree. Fails with ArchiveRefusedError where it is an archive
        that cannot be taken.
        """
        self._work = _in_thread(self._end)
        return self._work

    def abandon(self) -> Future[None]:
        """Done when nothing of it is at work in the tree any more: a tree has one giver at a time,
        also where it is abandoned.
        """
        self._over = True
        if self._way is not None:
            self._way.abandon()
        left: Future[None] = running_future()

        def leave(_: Future[None]) -> None:
            stopped = self._way.abandon() if self._way is not None else _nothing()
            stopped.add_done_callback(lambda _: left.set_result(None))

        self._work.add_done_callback(leave)
        return left

    def _open(self) -> _Way:
        """Files before it may have to be written first."""
        if self._over:
            raise ClosedError("the upload was abandoned")
        way = self._way = self._chosen()
        head, self._head = self._head, bytearray()
        wait = way.offer(head)
        if wait is not None:
            wait.result()
        return way

    def _chosen(self) -> _Way:
        packing = sniff(bytes(self._head[:SNIFF]))
        is_archive = packing is not None and self._name.lower().endswith(_ENDINGS)
        if not is_archive or self._taken:
            name = self._name
            if name.encode() in self._taken:
                name = beside(name, new_uid())
            return _Plain(self._tree, name)
        if packing is Packing.ZIP:
            return _Zip(self._tree, self._scratch, self._limits)
        return _Tar(self._tree, self._limits)

    def _end(self) -> None:
        way = self._way or self._open()
        self._taken |= way.end()


class _Plain:
    """A file under its own name."""

    def __init__(self, tree: IncomingTree, name: str) -> None:
        self._path = name.encode()
        self._file: IncomingFile = tree.file(self._path)

    def offer(self, piece: Buffer) -> Future[None] | None:
        return self._file.offer(piece)

    def end(self) -> frozenset[bytes]:
        self._file.end()
        return frozenset({self._path})

    def abandon(self) -> Future[None]:
        """The tree is abandoned with it."""
        return _nothing()


class _Tar:
    """A tar, compressed or not, unpacked as it comes."""

    def __init__(self, tree: IncomingTree, limits: Limits) -> None:
        self._pipe = BytePipe()
        self._tops: frozenset[bytes] = frozenset()

        def unpack() -> None:
            with self._pipe:
                received = tree.unpack(self._pipe, limits)  # type: ignore[arg-type]  # reads as a BinaryIO does
                self._tops = received.tops

        self._done = _in_thread(unpack)

    def offer(self, piece: Buffer) -> Future[None] | None:
        try:
            wait = self._pipe.offer(piece)
        except ClosedError:
            return self._done
        return None if wait is None else self._with_reason(wait)

    def _with_reason(self, wait: Future[None]) -> Future[None]:
        """That nobody reads any more is no reason: why not, the reader knows."""
        result: Future[None] = running_future()

        def settle(done: Future[None]) -> None:
            error = done.exception()
            if isinstance(error, ClosedError) and done is not self._done:
                self._done.add_done_callback(settle)
            elif error is None:
                result.set_result(None)
            else:
                result.set_exception(error)

        wait.add_done_callback(settle)
        return result

    def end(self) -> frozenset[bytes]:
        self._pipe.end()
        self._done.result()
        return self._tops

    def abandon(self) -> Future[None]:
        self._pipe.fail(ConnectionError("the upload broke off"))
        return self._done


class _Zip:
    """A zip has its list at its end, so it rests in a nameless file until that has come."""

    def __init__(self, tree: IncomingTree, scratch: Path, limits: Limits) -> None:
        with told("unpack a zip"):
            scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115  closed at the end
        self._flow = Flow(_writers, self._write)
        self._tree = tree
        self._limits = limits

    def _write(self, piece: memoryview) -> None:
        with told("unpack a zip"):
            self._file.write(piece)

    def offer(self, piece: Buffer) -> Future[None] | None:
        return self._flow.offer(piece)

    def end(self) -> frozenset[bytes]:
        self._flow.end().result()
        with self._file:
            with told("unpack a zip"):
                self._file.seek(0)
            return self._tree.unpack(self._file, self._limits).tops

    def abandon(self) -> Future[None]:
        def close(_: Future[None]) -> None:
            with suppress(OSError):  # of a disk that is full: what was not written is not wanted
                self._file.close()

        stopped = self._flow.stop()
        stopped.add_done_callback(close)
        return stopped


def _nothing() -> Future[None]:
    done: Future[None] = Future()
    done.set_result(None)
    return done


def _in_thread(act: Callable[[], object]) -> Future[None]:
    """Whoever waits may go away; the thread goes on to its end."""
    done: Future[None] = running_future()

    def run() -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001  handed to whoever waits
            done.set_exception(error)
        else:
            done.set_result(None)

    threading.Thread(target=run, name="unpack", daemon=True).start()
    return done
