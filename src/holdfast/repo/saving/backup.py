"""Backing up: a source's steps become trees, its files blobs, and at the very end there is a
snapshot.

One process scans, compares with the parent snapshot, cuts large files and writes trees; workers
(`sealing`) read, hash, compress, seal and store. Order of commitment: packs durable, then the
index, then the snapshot. A run that ends before leaves blobs that the next run finds and uses.
"""

from __future__ import annotations

import errno
import os
import queue
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from holdfast.core.entries import Kind
from holdfast.core.errors import (
    InterruptedByUserError,
    SourceError,
    SourceMissingError,
)
from holdfast.core.outcome import Outcome
from holdfast.core.source import UP, Found, Problem
from holdfast.repo.format.chunker import Chunker
from holdfast.repo.format.codec import Codec
from holdfast.repo.format.gotext import format_time, parse_time
from holdfast.repo.format.snapshot import Snapshot, SnapshotFile, Summary
from holdfast.repo.format.tree import Node, node_text
from holdfast.repo.objects import Objects
from holdfast.repo.room import keep_room
from holdfast.repo.saving.chunking import Cutter
from holdfast.repo.saving.directories import Directories, Directory
from holdfast.repo.saving.emptied import BareRoots
from holdfast.repo.saving.known import KnownBlobs
from holdfast.repo.saving.packer import Packer
from holdfast.repo.saving.reconcile import distrusted_packs
from holdfast.repo.saving.sealing import (
    BATCH_BYTES,
    BATCH_FILES,
    BATCH_PATHS,
    SMALL_FILE,
    Crew,
    Facts,
    Sealed,
    SealingPlan,
    SmallFile,
    entry_from,
    facts_of,
)
from holdfast.store.dry import DryStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.core.entries import Entry
    from holdfast.core.ids import BlobId
    from holdfast.core.source import Content, Source
    from holdfast.repo.format.pack import StoredPack
    from holdfast.repo.lock import Lock
    from holdfast.repo.repository import Repository
    from holdfast.repo.saving.directories import Before

_PUMP_EVERY = 64
"""Steps of the scan between two looks at what the workers have sent."""
_INDEX_EVERY = 300.0
"""Seconds after which stored packs are indexed, so that an interrupted run is worth something."""
_TREE_PACK_SIZE = 4 << 20
_TRIES = 3
_NOT_THERE = {os.strerror(errno.ENOENT), os.strerror(errno.ENOTDIR)}
_READ_AGAIN = 256 << 20
"""A larger file that changed while it was read is kept as it was read: reading it again takes long,
and it changes again.
"""


@dataclass(frozen=True, slots=True)
class BackupOptions:
    hostname: str = ""
    username: str = ""
    uid: int = 0
    gid: int = 0
    tags: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    time: int | None = None
    """Wall clock of the snapshot in nanoseconds; now where None."""
    parent: Snapshot | None = None
    """Files that are as they were in this snapshot are not read again."""
    ignore_inode: bool = False
    ignore_ctime: bool = False
    with_atime: bool = False
    allow_empty: bool = False
    """A root without files that held some in the parent is meant, and so is an empty snapshot."""
    skip_if_unchanged: bool = False
    dry_run: bool = False
    program_version: str = ""
    sealing: SealingPlan = field(default_factory=SealingPlan)


@dataclass(slots=True)
class Counts:
    """How far a run is. Bytes are those of file content."""

    files_new: int = 0
    files_changed: int = 0
    files_unmodified: int = 0
    dirs_new: int = 0
    dirs_changed: int = 0
    dirs_unmodified: int = 0
    files: int = 0
    """processed in all, with links and devices"""
    bytes: int = 0
    under_way: int = 0
    """bytes read of large files that are not processed yet"""
    problems: int = 0
    data: Sealed = field(default_factory=Sealed)
    trees: Sealed = field(default_factory=Sealed)

    @property
    def bytes_read(self) -> int:
        """For showing progress: large files count while they are read."""
        return self.bytes + self.under_way


class BackupObserver(Protocol):
    """Who watches a run. Calls are many and must be cheap; they come from the scanning thread."""

    def item(self, action: str, path: bytes, kind: Kind, size: int) -> None:
        """`action`: new, changed or unchanged."""
        ...

    def problem(self, problem: Problem) -> None: ...

    def progress(self, counts: Counts, current: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class BackupResult:
    """`snapshot` is None on a dry run, and where nothing changed under `skip_if_unchanged`."""

    snapshot: Snapshot | None
    counts: Counts
    problems: Sequence[Problem]
    outcome: Outcome
    tree: BlobId
    distrusted: int = 0
    """packs that are missing, cut short or known to be damaged; what they held and the source still
    has was stored again
    """


def back_up(
    repository: Repository,
    source: Source,
    options: BackupOptions,
    *,
    observer: BackupObserver,
    lock: Lock | None,
) -> BackupResult:
    """Makes a snapshot of what the source holds.

    Returns with outcome `partial` where some of it could not be read: what could be is kept.

    Raises:
        SourceMissingError: none of the roots is there. No snapshot.
        SourceEmptyError: a root that held files holds none. No snapshot.
        SourceError: nothing could be read. No snapshot.
        LockLostError, StoreError, VerificationError: nothing was committed.
    """
    return _Run(repository, source, options, observer, lock).run()


@dataclass(frozen=True, slots=True)
class _Reserved:
    """A file whose node is not known yet."""

    directory: Directory
    place: int
    path: bytes
    entry: Entry


class _Run:
    """The state of one backup."""

    def __init__(
        self,
        repository: Repository,
        source: Source,
        options: BackupOptions,
        observer: BackupObserver,
        lock: Lock | None,
    ) -> None:
        self._repository = repository
        self._source = source
        self._options = options
        self._observer = observer
        self._lock = lock
        self._clock = repository.clock
        self._objects = repository.objects
        if options.dry_run:
            self._objects = Objects(
                DryStore(repository.store),
                repository.objects.key,
                version=repository.config.version,
            )
        self.counts = Counts()
        self._problems: list[Problem] = []
        self._roots_missing: dict[bytes, str] = {}
        self._bare = BareRoots(source.roots)
        self._batch: list[tuple[bytes, Facts]] = []
        self._batch_files: list[_Reserved] = []
        self._batch_bytes = self._batch_paths = 0
        self._tree_packs: queue.SimpleQueue[StoredPack] = queue.SimpleQueue()
        self._unindexed: list[StoredPack] = []
        self._current = b""
        self._read_of_file = 0

    # --- the run as a whole -----------------------------------------------------------------------

    def run(self) -> BackupResult:
        started = self._clock.now()
        repository, plan = self._repository, self._options.sealing
        self._distrusted = distrusted_packs(repository)
        self._known = KnownBlobs(repository.index, self._distrusted)
        crew = Crew(
            self._objects,
            self._source,
            plan,
            is_new=self._known.promise_data,
            stored=self._unindexed.append,
        )
        with crew, self._lock.refreshing() if self._lock else nullcontext():
            self._crew = crew
            self._cutter = Cutter(
                Chunker(repository.config.polynomial), crew, self._known, self._turn_within
            )
            packer = Packer(
                self._objects,
                Codec(plan.compression),
                self._tree_packs.put,
                pack_size=_TREE_PACK_SIZE,
            )
            self._directories = Directories(repository, self._known, packer, self._directory_node)
            self.counts.data, self.counts.trees = crew.sealed, self._directories.sealed
            self._indexed_at = self._clock.monotonic()
            try:
                self._scan()
                packer.flush()
                return self._commit(started)
            except (KeyboardInterrupt, InterruptedByUserError):
                self._save_index()  # what is stored is found by the next run
                raise
            finally:
                packer.close()

    def _scan(self) -> None:
        top = self._directories.top(self._options.parent.tree if self._options.parent else None)
        here = top
        for number, step in enumerate(self._source.walk()):
            if step is UP:
                here = self._leave(here)
            elif isinstance(step, Problem):
                self._note(step)
            else:
                here = self._take(here, step)
            if number % _PUMP_EVERY == 0:
                self._turn()
        self._finish_scan(top)

    def _turn(self) -> None:
        """Between steps: hear the workers, save what is due, tell the observer."""
        self._crew.pump(block=False)
        if self._clock.monotonic() - self._indexed_at > _INDEX_EVERY:
            self._save_index()
        self._observer.progress(self.counts, self._current)

    def _turn_within(self, count: int) -> None:
        """Within a large file: so many bytes more are read."""
        self._read_of_file += count
        self.counts.under_way += count
        self._turn()

    def _finish_scan(self, top: Directory) -> None:
        self._send_batch()
        self._crew.flush()
        self._refuse_nothing()
        self._directories.close(top)

    def _refuse_nothing(self) -> None:
        """A run that has nothing to keep, or nothing any more, is a failure."""
        missing = self._roots_missing
        if len(missing) >= len(self._source.roots):
            named = ", ".join(map(_display, self._source.roots)) or "nothing"
            if set(missing.values()) <= _NOT_THERE:
                raise SourceMissingError(f"nothing of what was to be backed up is there: {named}")
            reasons = ", ".join(f"{_display(root)} ({why})" for root, why in missing.items())
            raise SourceError(f"nothing of what was to be backed up can be read: {reasons}")
        if self._options.allow_empty:
            return
        if self._problems and not self.counts.files:
            first = self._problems[0]
            raise SourceError(
                "not one file of what was to be backed up can be read: "
                f"{_display(first.path)}: {first.message}"
            )
        self._bare.refuse_emptied(self._repository, self._options.parent)

    def _commit(self, started: int) -> BackupResult:
        tree = self._directories.root
        if tree is None:
            raise SourceError("the scan ended with directories still open")
        self._save_index()
        snapshot = None
        if not self._options.dry_run and not self._nothing_changed(tree):
            if self._lock is not None:
                self._lock.prove()
            snapshot = self._repository.save_snapshot(self._snapshot_file(tree, started))
            keep_room(self._repository)
        self._observer.progress(self.counts, b"")
        outcome = Outcome.PARTIAL if self._problems else Outcome.SUCCEEDED
        return BackupResult(
            snapshot, self.counts, self._problems, outcome, tree, len(self._distrusted)
        )

    def _nothing_changed(self, tree: BlobId) -> bool:
        parent = self._options.parent
        return self._options.skip_if_unchanged and parent is not None and parent.tree == tree

    def _snapshot_file(self, tree: BlobId, started: int) -> SnapshotFile:
        options, counts = self._options, self.counts
        return SnapshotFile(
            time=format_time(started if options.time is None else options.time),
            parent=options.parent.id if options.parent else None,
            tree=tree.hex(),
            # Without those that are missing: rules must not take it for a newer one of the whole.
            paths=[_display(r) for r in self._source.roots if r not in self._roots_missing],
            hostname=options.hostname,
            username=options.username,
            uid=options.uid,
            gid=options.gid,
            excludes=list(options.excludes) or None,
            tags=list(options.tags) or None,
            program_version=options.program_version,
            summary=Summary(
                backup_start=format_time(started),
                backup_end=format_time(self._clock.now()),
                files_new=counts.files_new,
                files_changed=counts.files_changed,
                files_unmodified=counts.files_unmodified,
                dirs_new=counts.dirs_new,
                dirs_changed=counts.dirs_changed,
                dirs_unmodified=counts.dirs_unmodified,
                data_blobs=counts.data.blobs,
                tree_blobs=counts.trees.blobs,
                data_added=counts.data.bytes + counts.trees.bytes,
                data_added_packed=counts.data.stored + counts.trees.stored,
                total_files_processed=counts.files,
                total_bytes_processed=counts.bytes,
                error_count=counts.problems,
            ),
        )

    # --- steps ------------------------------------------------------------------------------------

    def _note(self, problem: Problem) -> None:
        self._problems.append(problem)
        self._bare.saw(problem.path, None)
        self.counts.problems += 1
        if problem.root:
            self._roots_missing[problem.path] = problem.message
        self._observer.problem(problem)

    def _take(self, here: Directory, found: Found) -> Directory:
        entry = found.entry
        here.check_order(entry.name)
        self._current = found.path
        if not self._options.with_atime:
            entry.atime = entry.mtime
        if found.problem is not None:
            self._note(found.problem)
        if self._bare.left:
            self._bare.saw(found.path, None if found.problem else entry.kind)
        if entry.kind is Kind.DIR:
            return self._directories.enter(here, found.path, entry)
        previous = here.before.get(entry.name)
        if entry.kind is Kind.FILE:
            self._take_file(here, found.path, entry, previous)
        else:
            self._take_other(here, found.path, entry, previous)
        return here

    def _take_other(
        self, here: Directory, path: bytes, entry: Entry, previous: Before | None
    ) -> None:
        """A link, device, pipe or socket: all of it is in its node."""
        self._add_xattrs(path, entry)
        same = (
            previous is not None
            and self._same_facts(previous.node, entry)
            and previous.node.device == entry.rdev
            and previous.node.points_to(entry.linktarget)
            and previous.node.has_attributes(entry.xattrs)  # older restics leave out those of links
        )
        here.add(previous.place if previous is not None and same else node_text(entry))
        self.counts.files += 1
        self._observer.item(_action(previous, same=same), path, entry.kind, 0)

    def _add_xattrs(self, path: bytes, entry: Entry) -> None:
        try:
            entry.xattrs = self._source.xattrs(path, entry)
        except OSError as error:
            self._note(Problem(path, "xattr", error.strerror or str(error)))

    # --- directories ------------------------------------------------------------------------------

    def _leave(self, here: Directory) -> Directory:
        up = here.up
        if up is None:
            raise SourceError("the source left more directories than it entered")
        self._directories.close(here)
        return up

    def _directory_node(self, here: Directory, entry: Entry, tree: BlobId) -> bytes | int:
        previous = here.previous
        same_tree = previous is not None and previous.node.subtree == tree.hex()
        if previous is None:
            self.counts.dirs_new += 1
        elif same_tree:
            self.counts.dirs_unmodified += 1
        else:
            self.counts.dirs_changed += 1
        self._observer.item(_action(previous, same=same_tree), here.path, Kind.DIR, 0)
        if previous and same_tree and self._same_facts(previous.node, entry):
            return previous.place
        self._add_xattrs(here.path, entry)
        return node_text(entry, subtree=tree)

    # --- files ------------------------------------------------------------------------------------

    def _same_facts(self, node: Node, entry: Entry) -> bool:
        """Whether an entry is what a stored node says: then its attributes are, too. No option
        leaves out what a node has.
        """
        return (
            node.type == entry.kind
            and node.inode == entry.inode
            and _same_time(node.ctime, entry.ctime)
            and _same_time(node.mtime, entry.mtime)
            and node.user == entry.user
            and node.group == entry.group
            and (not self._options.with_atime or _same_time(node.atime, entry.atime))
        )

    def _has_content(self, node: Node, entry: Entry) -> bool:
        """Whether the content of a stored node is that of a file, as far as one can tell without
        reading, and is all there: a file that lost a blob is read again (F8, F9).
        """
        options = self._options
        return (
            node.type == entry.kind
            and node.size == entry.size
            and (node.inode == entry.inode or options.ignore_inode)
            and (_same_time(node.ctime, entry.ctime) or options.ignore_ctime)
            and _same_time(node.mtime, entry.mtime)
            and bool(node.size) == bool(node.content)
            and self._known.has_content(node.content or ())
        )

    def _take_file(
        self, here: Directory, path: bytes, entry: Entry, previous: Before | None
    ) -> None:
        if previous is not None and self._has_content(previous.node, entry):
            if self._same_facts(previous.node, entry):
                here.add(previous.place)
            else:
                self._add_xattrs(path, entry)
                here.add(node_text(entry, content=list(previous.node.blobs())))
            self._count_file("unchanged", path, entry.size)
            return
        file = _Reserved(here, here.reserve(), path, entry)
        if entry.size > SMALL_FILE:
            self._keep_large(file)
            return
        if self._batch_bytes + entry.size > BATCH_BYTES:
            self._send_batch()
        self._batch.append((path, facts_of(entry)))
        self._batch_files.append(file)
        self._batch_bytes += entry.size
        self._batch_paths += len(path)
        if len(self._batch) >= BATCH_FILES or self._batch_paths >= BATCH_PATHS:
            self._send_batch()

    def _count_file(self, action: str, path: bytes, size: int) -> None:
        counts = self.counts
        if action == "unchanged":
            counts.files_unmodified += 1
        elif action == "changed":
            counts.files_changed += 1
        else:
            counts.files_new += 1
        counts.files += 1
        counts.bytes += size
        self._observer.item(action, path, Kind.FILE, size)

    def _send_batch(self) -> None:
        if not self._batch:
            return
        files = self._batch_files

        def done(results: list[SmallFile]) -> None:
            for file, result in zip(files, results, strict=True):
                self._keep_small(file, result)

        self._crew.read_files(self._batch, done)
        self._batch, self._batch_files = [], []
        self._batch_bytes = self._batch_paths = 0

    def _keep_small(self, file: _Reserved, result: SmallFile) -> None:
        if result.outcome == "grew":
            self._keep_large(file)
            return
        if result.outcome == "lost":
            self._lose(file, result.trouble)
            return
        if result.trouble:
            during = "changed" if result.outcome == "changed" else "xattr"
            self._note(Problem(file.path, during, result.trouble))
        entry = file.entry if result.facts is None else _refreshed(file.entry, result)
        entry.xattrs = result.xattrs
        self._keep_file(file, entry, [result.blob] if result.blob else [])

    def _lose(self, file: _Reserved, why: str) -> None:
        self._note(Problem(file.path, "read", why))
        self._directories.resolve(file.directory, file.place, None)

    def _keep_file(self, file: _Reserved, entry: Entry, content: Sequence[BlobId]) -> None:
        if not self._options.with_atime:
            entry.atime = entry.mtime
        text = node_text(entry, content=content)
        previous = file.directory.before.get(entry.name)
        self._count_file("changed" if previous else "new", file.path, entry.size)
        self._directories.resolve(file.directory, file.place, text)

    def _keep_large(self, file: _Reserved) -> None:
        try:
            for tries_left in reversed(range(_TRIES)):
                content = self._source.open(file.path, file.entry)
                try:
                    if self._keep_chunked(file, content, last_try=not tries_left):
                        return
                finally:
                    content.close()
        except OSError as error:
            self._lose(file, error.strerror or str(error))

    def _keep_chunked(self, file: _Reserved, content: Content, *, last_try: bool) -> bool:
        """Reads a large file once; whether that counts. Its node follows with its last chunk."""
        entry = content.entry
        size = entry.size
        self._read_of_file = 0
        try:
            names, entry.size = self._cutter.cut(content)
        except OSError:
            self.counts.under_way -= self._read_of_file
            raise
        steady = not size or (entry.size == size and content.unchanged())  # a stream has no size
        if not steady:
            if not last_try and size <= _READ_AGAIN:
                self.counts.under_way -= entry.size
                entry.size = size
                return False
            self._note(Problem(file.path, "changed", "it changed while it was read"))
        entry.name = file.entry.name
        entry.user, entry.group = entry.user or file.entry.user, entry.group or file.entry.group
        try:
            entry.xattrs = content.xattrs()
        except OSError as error:
            self._note(Problem(file.path, "xattr", error.strerror or str(error)))

        def keep(blobs: list[BlobId]) -> None:
            self.counts.under_way -= entry.size
            self._keep_file(file, entry, blobs)

        names.when_known(keep)
        return True

    # --- indexes ----------------------------------------------------------------------------------

    def _save_index(self) -> None:
        """Indexes the packs that are durable by now."""
        while not self._tree_packs.empty():
            self._unindexed.append(self._tree_packs.get())
        self._indexed_at = self._clock.monotonic()
        packs, self._unindexed[:] = list(self._unindexed), []
        if packs and not self._options.dry_run:
            self._repository.save_index(packs)


def _refreshed(entry: Entry, result: SmallFile) -> Entry:
    """The entry with the facts that the open file gave."""
    assert result.facts is not None
    assert result.user_group is not None
    fresh = entry_from(result.facts)
    fresh.name = entry.name
    fresh.user = result.user_group[0] or entry.user
    fresh.group = result.user_group[1] or entry.group
    return fresh


def _same_time(text: str, nanoseconds: int) -> bool:
    if text == format_time(nanoseconds):
        return True
    try:
        return parse_time(text) == nanoseconds
    except ValueError:
        return False


def _action(previous: object, *, same: bool) -> str:
    return "unchanged" if same else "changed" if previous is not None else "new"


def _display(path: bytes) -> str:
    """A path as snapshots have it: UTF-8, other bytes replaced (the tree keeps the exact name)."""
    return path.decode("utf-8", "replace")
