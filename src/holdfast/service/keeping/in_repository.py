"""Backups in a restic repository whose key the server holds: one snapshot each, which carries all
facts as tags, with the content below a folder that has the target's name.

    restic snapshots             2026-01-31 02:00:00  holdfast  /nightly
    restic dump ... /nightly/db.sql
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, Final

from holdfast.core.entries import Kind
from holdfast.core.errors import (
    DamagedError,
    HoldfastError,
    InvalidError,
    ObjectNotFoundError,
    PathNotFoundError,
    StoreError,
    UnreadableError,
)
from holdfast.core.ids import ObjectId
from holdfast.repo.browsing.archives import archive
from holdfast.repo.browsing.reading import BlobReader
from holdfast.repo.browsing.streaming import ReadPool, open_node
from holdfast.repo.browsing.walk import resolve, subtree_of, walk
from holdfast.repo.saving.intake import (
    UNFINISHED,
    About,
    Intake,
    IntakePlan,
    remove_unfinished,
)
from holdfast.repo.saving.intake_archives import receive
from holdfast.repo.upkeep.forget import retag
from holdfast.service.keeping.arriving import check_size
from holdfast.service.keeping.contract import Kept, Listed, Verified
from holdfast.service.keeping.facts import (
    closing_tags,
    folder_of,
    forgotten_tags,
    found_in,
    is_backup,
    tags_of,
)
from holdfast.service.keeping.folder_archives import check_format
from holdfast.service.keeping.made import Made
from holdfast.service.keeping.naming import file_name
from holdfast.store.contract import FileKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from holdfast.core.ids import BlobId
    from holdfast.core.records import Backup
    from holdfast.repo.browsing.streaming import FileStream
    from holdfast.repo.browsing.walk import Trees
    from holdfast.repo.format.tree import Node
    from holdfast.repo.repository import Repository
    from holdfast.repo.saving.intake import Kept as Stored
    from holdfast.repo.saving.intake import Measured, TreeFile, TreeSession, Upload
    from holdfast.repo.saving.intake_archives import Limits, Received
    from holdfast.service.keeping.contract import (
        Buffer,
        FoundBackup,
        Incoming,
        IncomingFile,
        IncomingTree,
        Order,
        Outgoing,
        Recorder,
    )

__all__ = ["RepositoryKeeper", "tags_of"]

HOST: Final = "holdfast"
"""As which the server's own snapshots say they were made."""
_FOLDERS: Final = 16
"""Folders whose names are remembered."""


class RepositoryKeeper:
    """`repository_id` is the number of the repository's row, given back in every `Kept`. No thread
    is started before the first upload, or before content is read.
    """

    def __init__(
        self,
        repository: Repository,
        repository_id: int,
        record: Recorder,
        *,
        plan: IntakePlan | None = None,
    ) -> None:
        self.repository = repository
        self.repository_id = repository_id
        self._record = record
        self._plan = plan
        self._guard = threading.Lock()
        self._intake_made: Intake | None = None
        self._readers_made: ReadPool | None = None
        self._folders: OrderedDict[BlobId, Mapping[bytes, Node]] = OrderedDict()

    @property
    def _intake(self) -> Intake:
        with self._guard:
            if self._intake_made is None:
                self._intake_made = Intake(
                    self.repository, plan=self._plan, before_answer=self._before_answer
                )
            return self._intake_made

    @property
    def _readers(self) -> ReadPool:
        with self._guard:
            if self._readers_made is None:
                self._readers_made = ReadPool(self.repository)
            return self._readers_made

    # --- taking in --------------------------------------------------------------------------------

    def begin(self, order: Order) -> Incoming:
        expected = _Expected(order)
        name, folder = (os.fsencode(file_name(text)) for text in (order.name, order.target.name))
        upload = self._intake.begin(
            name, expected.about(), folder=folder, mtime=order.received, mode=0o600
        )
        return _Arriving(upload, expected, self.repository_id)

    def begin_tree(self, order: Order) -> IncomingTree:
        expected = _Expected(order)
        folder = os.fsencode(file_name(order.target.name))
        session = self._intake.begin_tree(expected.about(), folder=folder)
        return _ArrivingTree(session, expected, self.repository_id)

    def _before_answer(self, group: Sequence[Stored]) -> Mapping[ObjectId, HoldfastError]:
        """In the committing thread."""
        orders = {stored.snapshot: _order_of(stored) for stored in group}
        refused = self._record(
            [(orders[each.snapshot], _kept(each, self.repository_id)) for each in group]
        )
        return {
            snapshot: refused[order.uid]
            for snapshot, order in orders.items()
            if order.uid in refused
        }

    # --- giving back ------------------------------------------------------------------------------

    def open(self, backup: Backup) -> Outgoing:
        node = self._only_file(self._content_of(backup))
        return _Giving(open_node(self._readers, node), backup.received)

    def _only_file(self, tree: BlobId) -> Node:
        nodes = self._readers.load_tree(tree)
        while len(nodes) == 1 and nodes[0].type == str(Kind.DIR):
            nodes = self._readers.load_tree(subtree_of(nodes[0]))
        if len(nodes) != 1 or nodes[0].type != str(Kind.FILE):
            raise InvalidError("the backup has several files", remedy="Name one, or an archive.")
        return nodes[0]

    def _content_of(self, backup: Backup) -> BlobId:
        """The tree that holds what was given. Raises ObjectNotFoundError."""
        snapshot = self.repository.load_snapshot(ObjectId(backup.snapshot))
        folder = folder_of(snapshot)
        if not folder:
            return snapshot.tree
        found = resolve(self._readers, snapshot.tree, b"/" + os.fsencode(folder))
        if found.tree is None:
            raise DamagedError(f"the snapshot of {backup.name} does not hold what it says")
        return found.tree

    def archive(self, backup: Backup, format_: str, *, top: str = "") -> Outgoing:
        form = check_format(format_)
        tree = self._content_of(backup)

        def make() -> Iterator[Buffer]:
            return archive(self._readers, tree, form, top=os.fsencode(top))

        return Made(make, modified=backup.received)

    def entries(self, backup: Backup) -> Iterator[Listed]:
        for step in walk(self._readers, self._content_of(backup)):
            entry = step.node.entry()
            yield Listed(
                path=os.fsdecode(step.path[1:]),
                kind=str(entry.kind),
                size=entry.size if entry.kind is Kind.FILE else 0,
                modified=entry.mtime,
                mode=entry.mode & 0o7777,
                link=os.fsdecode(entry.linktarget or b""),
            )

    def open_path(self, backup: Backup, path: str) -> Outgoing:
        *folders, name = os.fsencode(path.strip("/")).split(b"/")
        tree = self._content_of(backup)
        for each in folders:
            found = self._nodes_of(tree).get(each)
            if found is None or found.type != str(Kind.DIR):
                raise PathNotFoundError(f"the backup has no file {path!r}")
            tree = subtree_of(found)
        node = self._nodes_of(tree).get(name)
        if node is None or node.type != str(Kind.FILE):
            raise PathNotFoundError(f"the backup has no file {path!r}")
        return _Giving(open_node(self._readers, node), node.entry().mtime)

    def _nodes_of(self, tree: BlobId) -> Mapping[bytes, Node]:
        """By name. The last ones are remembered: files of one folder are often opened in a row."""
        with self._guard:
            known = self._folders.get(tree)
            if known is not None:
                self._folders.move_to_end(tree)
                return known
        found: dict[bytes, Node] = {}
        for node in self._readers.load_tree(tree):
            found.setdefault(node.raw_name(), node)
        with self._guard:
            self._folders[tree] = found
            if len(self._folders) > _FOLDERS:
                self._folders.popitem(last=False)
        return found

    # --- moving and deleting ----------------------------------------------------------------------

    def rename(self, backup: Backup, path: str) -> str:
        del backup, path
        return ""

    def move(self, backup: Backup, *, recycled: bool) -> None:
        """The recycle bin is no place in a repository: the catalog knows what is in it."""

    def forget(self, backup: Backup) -> None:
        """Its snapshot stays, and says so: stock restic still lists and restores it."""
        try:
            snapshot = self.repository.load_snapshot(ObjectId(backup.snapshot))
        except ObjectNotFoundError:
            return
        tags = forgotten_tags(snapshot)
        retag(self.repository, [snapshot], lock=None, set_tags=tags)

    def delete(self, backup: Backup) -> None:
        """Its snapshot goes at once; bytes that nothing else needs go with the next prune."""
        try:
            self.repository.store.remove(FileKind.SNAPSHOT, backup.snapshot)
        except ObjectNotFoundError:
            return

    # --- proof ------------------------------------------------------------------------------------

    def verify(self, backup: Backup, progress: Callable[[int], None]) -> Verified:
        """Every blob is read: its MAC and its SHA-256. Where several places have it, one good one
        is enough: it can be read.
        """
        self.repository.refresh_index()
        proof = _Proof(self.repository, self._readers, progress)
        try:
            tree = self._content_of(backup)
        except (DamagedError, UnreadableError, StoreError, PathNotFoundError) as error:
            return Verified(False, 0, (f"{backup.name}: {error.message}",))
        return proof.of(tree)

    # --- what is there ----------------------------------------------------------------------------

    def found(self) -> Iterator[FoundBackup]:
        """Snapshots that cannot be read are passed over: `check` names them. What a dead process
        has left of uploads under way is tidied up by the way.
        """
        for snapshot in self.repository.snapshots([]):
            if is_backup(snapshot):
                yield found_in(snapshot, self.repository_id)
            elif UNFINISHED in snapshot.tags:
                remove_unfinished(self.repository, [snapshot])

    def close(self) -> None:
        """Ends the threads; uploads on their way are abandoned."""
        with self._guard:
            intake, self._intake_made = self._intake_made, None
            readers, self._readers_made = self._readers_made, None
        if intake is not None:
            intake.close()
        if readers is not None:
            readers.close()


@dataclass(slots=True)
class _Expected:
    """What an upload will be; `order` may be amended until its end."""

    order: Order

    def about(self) -> About:
        folder = file_name(self.order.target.name)
        return About(
            host=HOST,
            username=HOST,
            time=self.order.received,
            paths=(f"/{folder}",),
            closing_tags=self._tags,
            context=self,
        )

    def _tags(self, measured: Measured) -> list[str]:
        return [
            *tags_of(self.order),
            *closing_tags(
                folder=file_name(self.order.target.name),
                size=measured.size,
                files=measured.files,
                sha256=measured.sha256.hex(),
            ),
        ]


def _order_of(stored: Stored) -> Order:
    assert isinstance(stored.context, _Expected)
    return stored.context.order


def _kept(stored: Stored, repository_id: int) -> Kept:
    return Kept(
        size=stored.size,
        stored=stored.stored,
        files=stored.files,
        sha256=stored.sha256.hex(),
        repository_id=repository_id,
        snapshot=stored.snapshot,
    )


def _translated(stored: Future[Stored], repository_id: int) -> Future[Kept]:
    result: Future[Kept] = Future()

    def settle(done: Future[Stored]) -> None:
        error = done.exception()
        if error is None:
            result.set_result(_kept(done.result(), repository_id))
        else:
            result.set_exception(error)

    stored.add_done_callback(settle)
    return result


class _Arriving:
    """See `contract.Incoming`."""

    def __init__(self, upload: Upload, expected: _Expected, repository_id: int) -> None:
        self._upload = upload
        self._expected = expected
        self._repository_id = repository_id

    def offer(self, piece: Buffer) -> Future[None] | None:
        return self._upload.offer(piece)

    def write(self, piece: Buffer) -> None:
        self._upload.write(piece)

    def amend(self, *, manual: bool) -> None:
        self._expected.order = replace(self._expected.order, manual=manual)

    def finish(self) -> Future[Kept]:
        try:
            check_size(self._expected.order, self._upload.size)
        except InvalidError as error:
            self._upload.abandon()
            failed: Future[Kept] = Future()
            failed.set_exception(error)
            return failed
        return _translated(self._upload.finish(), self._repository_id)

    def abandon(self) -> None:
        self._upload.abandon()


class _ArrivingTree:
    """See `contract.IncomingTree`."""

    def __init__(self, session: TreeSession, expected: _Expected, repository_id: int) -> None:
        self._session = session
        self._expected = expected
        self._repository_id = repository_id

    def file(self, path: bytes, *, mode: int = 0o644, mtime: int | None = None) -> IncomingFile:
        file: TreeFile = self._session.file(path, mode=mode, mtime=mtime)
        return file

    def directory(self, path: bytes, *, mode: int = 0o755, mtime: int | None = None) -> None:
        self._session.directory(path, mode=mode, mtime=mtime)

    def symlink(self, path: bytes, target: bytes, *, mtime: int | None = None) -> None:
        self._session.symlink(path, target, mtime=mtime)

    def unpack(self, archive: BinaryIO, limits: Limits) -> Received:
        return receive(archive, self._session, limits)

    def amend(self, *, manual: bool) -> None:
        self._expected.order = replace(self._expected.order, manual=manual)

    def finish(self) -> Future[Kept]:
        return _translated(self._session.commit(), self._repository_id)

    def abandon(self) -> None:
        self._session.abandon()


class _Giving:
    """One file, see `contract.Outgoing`."""

    def __init__(self, stream: FileStream, modified: int) -> None:
        self._stream = stream
        self.size: int | None = stream.size
        self.modified = modified

    def pieces(self, start: int = 0, length: int | None = None) -> Iterator[Buffer]:
        size = self._stream.size
        stop = size if length is None else min(start + length, size)
        with self._stream.pieces(min(start, stop), stop) as pieces:
            yield from pieces


class _Proof:
    """One reading of all that a tree names."""

    def __init__(
        self, repository: Repository, trees: Trees, progress: Callable[[int], None]
    ) -> None:
        self._repository = repository
        self._trees = trees
        self._reader = BlobReader(repository)
        self._progress = progress
        self._bytes = 0
        self._damaged: list[str] = []

    def of(self, tree: BlobId) -> Verified:
        def unreadable(path: bytes, error: HoldfastError) -> None:
            self._damaged.append(f"{os.fsdecode(path)}: {error.message}")

        try:
            for step in walk(self._trees, tree, unreadable=unreadable):
                self._read(step.path, step.node)
        finally:
            self._reader.close()
        return Verified(not self._damaged, self._bytes, tuple(self._damaged))

    def _read(self, path: bytes, node: Node) -> None:
        size = 0
        try:
            for blob in node.blobs():
                count = self._size_of(blob)
                size += count
                self._bytes += count
                self._progress(count)
        except (DamagedError, UnreadableError, StoreError) as error:
            self._damaged.append(f"{os.fsdecode(path)}: {error.message}")
            return
        if node.type == str(Kind.FILE) and size != node.size:
            self._damaged.append(f"{os.fsdecode(path)}: it has {size} bytes, not {node.size}")

    def _size_of(self, blob: BlobId) -> int:
        """Bytes of a blob that was read whole and right."""
        try:
            return len(self._reader.read(blob))
        except UnreadableError:
            # A prune may have moved it since the index was looked at.
            self._repository.refresh_index()
            self._reader.close()
            self._reader = BlobReader(self._repository)
            return len(self._reader.read(blob))
