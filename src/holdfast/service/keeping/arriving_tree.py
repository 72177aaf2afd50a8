"""Files on their way into a plain pool that make one backup together: a folder under
`.holdfast/tmp`, with its list.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO, Final, Self, cast

from holdfast.core.entries import Kind
from holdfast.core.errors import ClosedError, NameRefusedError
from holdfast.repo.saving.intake_archives import receive
from holdfast.repo.saving.intake_tree import check_path
from holdfast.service.keeping.arriving import Sealed, discard, tmp_parts
from holdfast.service.keeping.digests import Digester
from holdfast.service.keeping.disk import claim, explained, told, write_all
from holdfast.service.keeping.flow import WINDOW, Flow
from holdfast.service.keeping.lists import ListWriter, Member, list_parts, members, tree_digest
from holdfast.service.keeping.naming import safe_uid

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from holdfast.repo.saving.intake import TreeSession
    from holdfast.repo.saving.intake_archives import Limits, Received
    from holdfast.service.keeping.arriving import Yard
    from holdfast.service.keeping.contract import Buffer, Kept, Order

_UNFINISHED: Final = 8
"""Files whose content is given but not yet on the disk; more wait."""


class FolderTree:
    """See `contract.IncomingTree`; also a `TreeSession` for what unpacks archives."""

    def __init__(self, yard: Yard, order: Order) -> None:
        self._yard = yard
        self._order = order
        self._uid = safe_uid(order.uid)
        self._folders: dict[bytes, Member] = {}
        self._others: dict[bytes, Member | None] = {}
        """files and links; None while the content of a file comes"""
        self._replaced = False
        self._file: FolderTreeFile | None = None
        # Files end in worker threads: what follows is theirs, too.
        self._lock = threading.Lock()
        self._unfinished: set[Future[None]] = set()
        self._failure: BaseException | None = None
        self._over = False
        self._result: Future[Kept] | None = None
        self._descriptor = -1
        try:
            with told("begin an upload"):
                self._descriptor = self._make_top()
                self._list = ListWriter(yard.root, self._uid)
        except BaseException:
            discard(yard.root, self._uid)
            self._release()
            raise

    def _make_top(self) -> int:
        *above, name = tmp_parts(self._uid)
        with self._yard.root.folder(above, create=True) as tmp:
            self._yard.root.disk.make_folder(tmp, name)
            top = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=tmp)
        claim(top)
        return top

    # --- taking in --------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Bytes of content of the files that have ended."""
        with self._lock:
            found = list(self._others.values())
        return sum(each.content.size for each in found if each and each.content)

    @property
    def entries(self) -> int:
        return len(self._folders) + len(self._others)

    def file(self, path: bytes, *, mode: int = 0o644, mtime: int | None = None) -> FolderTreeFile:
        parts = self._make_ready(path)
        self._wait_for(_UNFINISHED)
        with told(f"keep {_shown(path)}"), self._above(parts) as above:
            descriptor = self._yard.root.disk.create(above, parts[-1])
        self._set(path, None)
        self._file = FolderTreeFile(
            self, self._yard, descriptor, Member(path, Kind.FILE, mode, self._when(mtime))
        )
        return self._file

    def directory(self, path: bytes, *, mode: int = 0o755, mtime: int | None = None) -> None:
        parts = check_path(path)
        self._check_open()
        with told(f"keep {_shown(path)}"):
            self._make_way(parts)
        self._folders[path] = Member(path, Kind.DIR, mode, self._when(mtime))

    def symlink(self, path: bytes, target: bytes, *, mtime: int | None = None) -> None:
        parts = self._make_ready(path)
        with told(f"keep {_shown(path)}"), self._above(parts) as above:
            self._yard.root.disk.symlink(above, parts[-1], target)
        self._add(Member(path, Kind.SYMLINK, 0o777, self._when(mtime), target=target))

    def copy(self, path: bytes, earlier: bytes) -> None:
        """Another name for a file that was given before. Raises NameRefusedError."""
        self._wait_for(0)
        found = self._others.get(earlier)
        if found is None or found.kind is not Kind.FILE:
            raise NameRefusedError(f"{_shown(path)} is a link to {_shown(earlier)}: there is none")
        if path == earlier:
            return
        parts, others = self._make_ready(path), check_path(earlier)
        with told(f"keep {_shown(path)}"), self._above(others) as here, self._above(parts) as there:
            self._yard.root.disk.link(here, others[-1], there, parts[-1])
        self._add(replace(found, path=path))

    def unpack(self, archive: BinaryIO, limits: Limits) -> Received:
        return receive(archive, cast("TreeSession", self), limits)  # it adds, it never commits

    def _when(self, mtime: int | None) -> int:
        return self._order.received if mtime is None else mtime

    def _above(self, parts: Sequence[bytes]) -> AbstractContextManager[int]:
        return self._yard.root.folder((*tmp_parts(self._uid), *parts[:-1]))

    def _make_ready(self, path: bytes) -> Sequence[bytes]:
        """For a new file or link: folders above it, and nothing in its place."""
        parts = check_path(path)
        self._check_open()
        if path in self._folders:
            raise NameRefusedError(f"{_shown(path)} is a directory and a file at once")
        with told(f"keep {_shown(path)}"):
            self._make_way(parts[:-1])
            if path in self._others:
                self._wait_for(0)
                self._replaced = True
                with self._above(parts) as above:
                    self._yard.root.disk.unlink(above, parts[-1])
        return parts

    def _make_way(self, parts: Sequence[bytes]) -> None:
        for end in range(1, len(parts) + 1):
            path = b"/".join(parts[:end])
            if path in self._others:
                raise NameRefusedError(f"{_shown(path)} is a file and a directory at once")
            if path not in self._folders:
                with self._above(parts[:end]) as above:
                    self._yard.root.disk.make_folder(above, parts[end - 1])
                self._folders[path] = Member(path, Kind.DIR, 0o755, self._order.received)

    def _check_open(self) -> None:
        self._raise_failure()
        if self._over or (self._file is not None and not self._file.over):
            raise ClosedError("the upload is over, or the file before has not ended")

    def _wait_for(self, left: int) -> None:
        """Until at most so many files are unfinished."""
        while True:
            with self._lock:
                waiting = set(self._unfinished)
            if len(waiting) <= left:
                break
            wait(waiting, return_when=FIRST_COMPLETED)
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _set(self, path: bytes, member: Member | None) -> None:
        with self._lock:
            self._others[path] = member

    def _add(self, member: Member) -> None:
        with self._lock:
            self._others[member.path] = member
            self._list.add(member)

    # --- files, as they end -----------------------------------------------------------------------

    def begun(self, file: Future[None]) -> None:
        with self._lock:
            self._unfinished.add(file)

    def ended(self, file: Future[None], member: Member | None, error: BaseException | None) -> None:
        """A file is on the disk, or will not be."""
        if member is not None:
            try:
                self._add(member)
            except OSError as trouble:
                error = explained(trouble, f"keep {_shown(member.path)}")
        with self._lock:
            self._failure = self._failure or error
            self._unfinished.discard(file)
            last = self._over and not self._unfinished
        file.set_result(None)
        if last:
            self._end()

    # --- the end ----------------------------------------------------------------------------------

    def amend(self, *, manual: bool) -> None:
        self._order = replace(self._order, manual=manual)

    def finish(self) -> Future[Kept]:
        result: Future[Kept] = Future()
        with self._lock:
            if self._over:
                result.set_exception(ClosedError("the upload is over"))
                return result
            self._over, self._result = True, result
            ready = not self._unfinished
        if self._file is not None and not self._file.over:
            self._failure = self._failure or ClosedError("the last file has not ended")
            self._file.stop()
        elif ready:
            try:
                self._yard.workers.submit(self._end)
            except RuntimeError:  # they have been sent home
                self._failure = self._failure or ClosedError("the pool is being closed")
                self._end()
        return result

    def abandon(self) -> None:
        with self._lock:
            if self._over:
                return
            self._over = True
            self._failure = self._failure or ClosedError("the upload was abandoned")
            ready = not self._unfinished
        if self._file is not None and not self._file.over:
            self._file.stop()
        elif ready:
            self._discard()

    def _end(self) -> None:
        """After the last file, in a worker."""
        if self._result is None:
            self._discard()
            return
        try:
            self._raise_failure()
            with told(f"keep {self._order.name}"):
                self._settle_folders()
                self._end_list()
            self._yard.commit(self._sealed(self._result))
        except BaseException as error:  # noqa: BLE001  handed to whoever waits
            self._discard()
            self._result.set_exception(error)

    def _sealed(self, result: Future[Kept]) -> Sealed:
        whole = [member for member in self._others.values() if member is not None]
        lines = (member.digest_line() for member in (*whole, *self._folders.values()))
        return Sealed(
            order=self._order,
            size=self.size,
            files=sum(member.kind is Kind.FILE for member in whole),
            sha256=tree_digest(lines),
            tree=True,
            result=result,
            release=self._release,
        )

    def _settle_folders(self) -> None:
        """Modes and times, the deepest first, and their names onto the disk."""
        root = self._yard.root
        for path in sorted(self._folders, key=lambda path: path.count(b"/"), reverse=True):
            folder = self._folders[path]
            with root.folder((*tmp_parts(self._uid), *path.split(b"/"))) as descriptor:
                os.fchmod(descriptor, (folder.mode & 0o777) | 0o700)
                os.utime(descriptor, ns=(folder.mtime, folder.mtime))
                root.disk.sync(descriptor)
        root.disk.sync(self._descriptor)

    def _end_list(self) -> None:
        for folder in self._folders.values():
            self._list.add(folder)
        self._list.end()
        self._list.close()
        if self._replaced:
            self._write_list_anew()

    def _write_list_anew(self) -> None:
        """Without what was replaced: of two lines about one path, the later holds."""
        root, uid = self._yard.root, self._uid
        newest = {member.path: member for member in members(root, uid)}
        anew = ListWriter(root, f"{uid}.new")
        try:
            for member in newest.values():
                anew.add(member)
            anew.end()
        finally:
            anew.close()
        *above, name = list_parts(uid)
        with root.folder(above) as lists:
            root.disk.rename(lists, list_parts(f"{uid}.new")[-1], lists, name)
            root.disk.sync(lists)

    def _discard(self) -> None:
        self._list.close()
        discard(self._yard.root, self._uid)
        discard(self._yard.root, f"{self._uid}.new")
        self._release()

    def _release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()


class FolderTreeFile:
    """See `contract.IncomingFile`; also a `TreeFile` for what unpacks archives."""

    def __init__(self, tree: FolderTree, yard: Yard, descriptor: int, member: Member) -> None:
        self._tree = tree
        self._yard = yard
        self._descriptor = descriptor
        self._member = member
        self._digester = Digester()
        self._flow = Flow(yard.workers, self._take)
        self._finished: Future[None] = Future()
        self._window = memoryview(b"")
        self._turn = threading.Lock()
        self.over = False
        tree.begun(self._finished)

    def _take(self, piece: memoryview) -> None:
        try:
            write_all(self._yard.root.disk, self._descriptor, piece)
        except OSError as error:
            os.ftruncate(self._descriptor, 0)  # a full disk gets its room back at once
            raise explained(error, f"keep {_shown(self._member.path)}") from error
        self._digester.update(piece)

    def offer(self, piece: Buffer) -> Future[None] | None:
        return self._flow.offer(piece)

    def write(self, piece: Buffer) -> None:
        self._flow.write(piece)

    def window(self) -> memoryview:
        """Room to be filled from its beginning."""
        self._window = self._window or memoryview(bytearray(WINDOW))
        return self._window

    def filled(self, count: int) -> None:
        self.write(self._window[:count])

    def end(self) -> None:
        if self._is_first():
            self._flow.end().add_done_callback(self._close_later)

    def stop(self) -> None:
        """Its content will not come. From any thread, again too: its descriptor is closed once, as
        another file's may have the same number then.
        """
        if self._is_first():
            self._flow.stop().add_done_callback(
                lambda _: self._close(ClosedError("it was abandoned"))
            )

    def _is_first(self) -> bool:
        with self._turn:
            first, self.over = not self.over, True
        return first

    def _close_later(self, ended: Future[None]) -> None:
        try:
            self._yard.workers.submit(self._close, ended.exception())
        except RuntimeError:  # they have been sent home
            self._close(ClosedError("the pool is being closed"))

    def _close(self, error: BaseException | None) -> None:
        member = None
        try:
            if error is None:
                member = replace(self._member, content=self._digester.content())
                os.fchmod(self._descriptor, (member.mode & 0o777) | 0o600)
                os.utime(self._descriptor, ns=(member.mtime, member.mtime))
                self._yard.root.disk.sync(self._descriptor)
        except OSError as trouble:
            member, error = None, explained(trouble, f"keep {_shown(self._member.path)}")
        os.close(self._descriptor)
        self._tree.ended(self._finished, member, error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.end()
        else:
            self.stop()


def _shown(path: bytes) -> str:
    return repr(path.decode("utf-8", "backslashreplace"))
