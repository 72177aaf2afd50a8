"""Committing finished uploads: packs durable, then the index, then the snapshots, then whatever the
caller records, then the answers.

Natural batching, no timer: whatever was finished while the last group was committed is the next
group. All of a group fails together, and nobody of it is answered, where its index or one of its
snapshots cannot be stored.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections import deque
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from holdfast.core.entries import Entry, Kind
from holdfast.core.errors import HoldfastError, StoreBusyError, StoreError
from holdfast.core.ids import ID_SIZE, BlobId
from holdfast.repo.format.gotext import format_time
from holdfast.repo.format.pack import BlobKind
from holdfast.repo.format.snapshot import SnapshotFile, Summary
from holdfast.repo.format.tree import node_text, tree_text
from holdfast.repo.futures import running_future
from holdfast.repo.saving.intake_ledger import Stage
from holdfast.repo.saving.intake_packs import Lane
from holdfast.repo.saving.intake_values import Kept, Measured
from holdfast.store.contract import FileKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from holdfast.core.ids import ObjectId
    from holdfast.repo.format.snapshot import Snapshot
    from holdfast.repo.repository import Repository
    from holdfast.repo.saving.intake_ledger import Account, Ledger
    from holdfast.repo.saving.intake_tenure import Tenure
    from holdfast.repo.saving.intake_values import About, IntakePlan

    BeforeAnswer = Callable[[Sequence[Kept]], Mapping[ObjectId, HoldfastError] | None]

GROUP_BYTES = 32 << 20
"""Bytes of small bodies in one group, unless a single one has more."""
_TICK = 1.0
_INDEX_EVERY = 60.0
"""Seconds after which packs of uploads that still go on are indexed, so that they are found again
if this process ends.
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an upload lies in its snapshot."""

    folder: tuple[bytes, ...]
    name: bytes = b""
    """of the file; none for a tree"""
    mode: int = 0
    mtime: int | None = None

    @property
    def path(self) -> str:
        names = (*self.folder, self.name) if self.name else self.folder
        return "/" + b"/".join(names).decode("utf-8", "replace")


@dataclass(eq=False, slots=True)
class Finished:
    """An upload whose content has ended, and is sealed unless it is small."""

    about: About
    place: Place
    account: Account
    began: int
    """by the wall clock"""
    body: bytes | None = None
    """of a small one"""
    content: bytes = b""
    """names of the chunks of any other file, concatenated"""
    tree: BlobId | None = None
    """of a tree: what is to lie below the place's folder"""
    size: int = 0
    files: int = 1
    folders: int = 0
    sha256: bytes = b""
    time: int = 0
    """of the snapshot; known when it is committed"""
    inside: bool = False
    """Somebody got inside the tenure on its behalf."""
    waits_since: float = 0.0
    future: Future[Kept] = field(default_factory=running_future)

    def fail(self, error: BaseException) -> None:
        """What comes first counts."""
        try:
            self.future.set_exception(error)
        except InvalidStateError:
            pass

    def answer(self, kept: Kept) -> None:
        try:
            self.future.set_result(kept)
        except InvalidStateError:
            pass

    def fail_with_pack(self) -> None:
        """Fails where something that it relies on has."""
        for pack in self.account.packs:
            if pack.failure is not None:
                self.fail(pack.failure)

    @property
    def failed(self) -> bool:
        return self.future.done() or any(p.stage is Stage.FAILED for p in self.account.packs)


class Committer:
    """One thread. `tick` is called about once a second, between commits."""

    def __init__(
        self,
        repository: Repository,
        ledger: Ledger,
        tenure: Tenure,
        plan: IntakePlan,
        *,
        before_answer: BeforeAnswer,
        settled: Callable[[Finished], None],
        tick: Callable[[], None],
        broke: Callable[[Exception], None],
    ) -> None:
        self._repository = repository
        self._ledger = ledger
        self._tenure = tenure
        self._plan = plan
        self._before_answer = before_answer
        self._settled = settled
        self._tick = tick
        self._broke = broke
        self._clock = repository.clock
        self._data, self._trees = (
            Lane(repository.objects, ledger, plan.sealing, kind)
            for kind in (BlobKind.DATA, BlobKind.TREE)
        )
        self._cond = threading.Condition()
        self._queue: deque[Finished] = deque()
        self._working = self._ending = False
        self._indexed_at = self._clock.monotonic()
        self._obstacle: HoldfastError | None = None
        self._out_since: float | None = None
        """Since when nobody gets inside."""
        self._thread = threading.Thread(target=self._run, name="intake-commit", daemon=True)
        self._thread.start()

    # --- from other threads -----------------------------------------------------------------------

    def put(self, finished: Finished) -> None:
        """Never waits."""
        finished.waits_since = self._clock.monotonic()
        with self._cond:
            self._queue.append(finished)
            self._cond.notify_all()

    def ring(self) -> None:
        """One may get inside again."""
        with self._cond:
            self._obstacle = None
            self._cond.notify_all()

    def obstructed(self, error: HoldfastError) -> None:
        self._obstacle = error

    @property
    def queued(self) -> int:
        return len(self._queue) + self._working

    def fail_all(self, error: BaseException) -> None:
        """Fails what is queued."""
        with self._cond:
            queued = list(self._queue)
            self._queue.clear()
        for finished in queued:
            finished.fail(error)

    def end(self) -> None:
        """Commits what is queued as far as the lock can be had, and ends the thread."""
        with self._cond:
            self._ending = True
            self._cond.notify_all()
        self._thread.join()

    # --- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._go_on()
        except Exception as error:
            self._broke(error)
            raise

    def _go_on(self) -> None:
        while True:
            with self._cond:
                self._cond.wait_for(lambda: self._queue or self._ending, _TICK)
            self._tick()
            if self._ending and not self._queue:
                return
            if not self._queue and not self._index_is_due():
                continue
            if self._get_inside():
                self._out_since = None
                self._work()
            else:
                self._refuse_late()
                with self._cond:
                    self._cond.wait(_TICK / 4)

    def _get_inside(self) -> bool:
        if self._tenure.try_enter():
            return True
        with self._cond:
            if any(finished.inside for finished in self._queue):
                self._tenure.extend()  # they must come out before anybody gets in
                return True
        return False

    def _index_is_due(self) -> bool:
        since = self._clock.monotonic() - self._indexed_at
        return since > _INDEX_EVERY and self._ledger.has_unindexed

    def _work(self) -> None:
        """To be called inside."""
        with self._cond:
            group = self._take_group()
            self._working = bool(group)
        try:
            if group:
                self._commit(group)
            else:
                self._ledger.save_index()
        except HoldfastError:
            pass  # an index between commits: the next commit tells whom it concerns
        finally:
            self._indexed_at = self._clock.monotonic()
            self._working = False
            for finished in group:
                if finished.inside:
                    self._tenure.leave()
            self._tenure.leave()

    def _take_group(self) -> list[Finished]:
        group: list[Finished] = []
        size = 0
        while self._queue and len(group) < self._plan.group:
            size += len(self._queue[0].body or b"")
            if group and size > GROUP_BYTES:
                break
            group.append(self._queue.popleft())
        return group

    def _refuse_late(self) -> None:
        """Small uploads do not wait for long while others have the repository; nor does anything at
        the end.
        """
        now = self._clock.monotonic()
        self._out_since = now if self._out_since is None else self._out_since
        late = []
        with self._cond:
            for finished in list(self._queue):
                impatient = finished.body is not None or self._ending
                waits = now - max(finished.waits_since, self._out_since)
                if finished.failed or (impatient and waits > self._plan.lock_wait):
                    late.append(finished)
                    self._queue.remove(finished)
        for finished in late:
            finished.fail_with_pack()
            finished.fail(
                self._obstacle or StoreBusyError("the repository is left to others for a moment")
            )
            self._settled(finished)

    # --- one group --------------------------------------------------------------------------------

    def _commit(self, group: Sequence[Finished]) -> None:
        try:
            roots = self._seal(group)
            self._ledger.await_packs(each.account for each in roots)
            self._tenure.prove()
            self._ledger.save_index()
            kept = self._save_snapshots({e: r for e, r in roots.items() if not e.failed})
            refused = self._before_answer(list(kept.values())) or {} if kept else {}
        except Exception as error:  # noqa: BLE001  nobody of the group is answered but with this
            for finished in group:
                finished.fail(error)
        else:
            for finished in group:
                if finished not in kept:
                    finished.fail_with_pack()
                    assert finished.future.done()
                elif (refusal := refused.get(kept[finished].snapshot)) is not None:
                    self._remove_snapshot(kept[finished].snapshot)
                    finished.fail(refusal)
                else:
                    finished.answer(kept[finished])
        for finished in group:
            self._settled(finished)

    def _seal(self, group: Sequence[Finished]) -> dict[Finished, BlobId]:
        """Seals what is left to be sealed of each: small bodies and trees. The tree of each that
        did not fail.
        """
        roots = {}
        for finished in group:
            if finished.failed:
                continue
            about = finished.about
            finished.time = self._clock.now() if about.time is None else about.time
            try:
                if finished.body is not None:
                    self._seal_body(finished, finished.body)
                roots[finished] = self._seal_trees(finished)
            except Exception as error:  # noqa: BLE001  its upload fails with it, and others that rely on it
                finished.fail(error)
        self._data.close_pack()
        self._trees.close_pack()
        return roots

    def _seal_body(self, finished: Finished, body: bytes) -> None:
        digest = hashlib.sha256(body).digest()
        finished.sha256, finished.size = digest, len(body)
        if body:
            finished.content = digest
            self._data.seal(BlobId(digest), body, finished.account)

    def _seal_trees(self, finished: Finished) -> BlobId:
        """The directories down to the upload; the name of the topmost."""
        place, time = finished.place, finished.time
        if finished.tree is None:
            mtime = time if place.mtime is None else place.mtime
            file = entry(place.name, Kind.FILE, stat.S_IFREG | place.mode, mtime)
            file.size, file.links = finished.size, 1
            ids = finished.content
            content = [BlobId(ids[at : at + ID_SIZE]) for at in range(0, len(ids), ID_SIZE)]
            tree = self._seal_tree(node_text(file, content=content), finished.account)
        else:
            tree = finished.tree
        for name in reversed(place.folder):
            folder = entry(name, Kind.DIR, stat.S_IFDIR | 0o755, time)
            tree = self._seal_tree(node_text(folder, subtree=tree), finished.account)
        return tree

    def _seal_tree(self, node: bytes, account: Account) -> BlobId:
        document = tree_text([node])
        tree = BlobId(hashlib.sha256(document).digest())
        self._trees.seal(tree, document, account)
        return tree

    def _save_snapshots(self, roots: Mapping[Finished, BlobId]) -> dict[Finished, Kept]:
        """All of them durable, or none there."""
        if not roots:
            return {}
        files = [self._snapshot_file(finished, tree) for finished, tree in roots.items()]
        self._tenure.prove()
        snapshots = self._repository.save_snapshots(files)
        return {
            finished: _kept(finished, snapshot, tree)
            for (finished, tree), snapshot in zip(roots.items(), snapshots, strict=True)
        }

    def _snapshot_file(self, finished: Finished, tree: BlobId) -> SnapshotFile:
        about, data, trees = finished.about, finished.account.data, finished.account.trees
        tags = list(about.tags)
        if about.closing_tags is not None:
            measured = Measured(finished.size, finished.files, finished.sha256)
            tags += about.closing_tags(measured)
        return SnapshotFile(
            time=format_time(finished.time),
            tree=tree.hex(),
            paths=list(about.paths) or [finished.place.path],
            hostname=about.host,
            username=about.username,
            uid=os.getuid(),
            gid=os.getgid(),
            tags=tags or None,
            program_version=about.program_version,
            summary=Summary(
                backup_start=format_time(finished.began),
                backup_end=format_time(self._clock.now()),
                files_new=finished.files,
                dirs_new=finished.folders + len(finished.place.folder),
                data_blobs=data.blobs,
                tree_blobs=trees.blobs,
                data_added=data.bytes + trees.bytes,
                data_added_packed=data.stored + trees.stored,
                total_files_processed=finished.files,
                total_bytes_processed=finished.size,
            ),
        )

    def _remove_snapshot(self, name: ObjectId) -> None:
        """Nobody was told of it. If it stays, it is found at the next start, as after a crash."""
        try:
            self._repository.store.remove(FileKind.SNAPSHOT, name)
        except StoreError:
            pass

    def trim(self) -> None:
        """Gives back memory that nothing is in. To be called from `tick`."""
        self._data.trim()
        self._trees.trim()


def _kept(finished: Finished, snapshot: Snapshot, tree: BlobId) -> Kept:
    data, trees = finished.account.data, finished.account.trees
    return Kept(
        snapshot=snapshot.id,
        tree=tree,
        time=snapshot.time,
        size=finished.size,
        files=finished.files,
        sha256=finished.sha256,
        added=data.bytes + trees.bytes,
        stored=data.stored + trees.stored,
        context=finished.about.context,
    )


def entry(name: bytes, kind: Kind, mode: int, mtime: int) -> Entry:
    """An entry of something that was received: it belongs to whoever runs this process."""
    return Entry(
        name,
        kind,
        mode=mode,
        mtime=mtime,
        ctime=mtime,
        atime=mtime,
        uid=os.getuid(),
        gid=os.getgid(),
    )
