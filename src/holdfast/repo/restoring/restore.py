"""Gives a snapshot back: plans, makes directories, hands the rest to workers, and sets directories'
metadata last of all.

The plan is made while the work goes on, directory by directory, so that memory does not grow with
the number of files. Names of one file (hard links) wait until all else is there; a large file is
cut into spans for all workers; directories get their own metadata at the very end, deepest first,
since work inside changes their times and their modes may forbid it.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from holdfast.core.entries import Kind
from holdfast.core.errors import HoldfastError, RestoreError, UsageError
from holdfast.core.outcome import Outcome
from holdfast.core.progress import Silence
from holdfast.repo.browsing.names import named
from holdfast.repo.browsing.walk import join, resolve, split, subtree_of
from holdfast.repo.format.pack import BlobKind
from holdfast.repo.format.tree import decode_outline, decode_tree
from holdfast.repo.restoring import destination as place
from holdfast.repo.restoring.destination import Destination
from holdfast.repo.restoring.filling import Filler, Folder, is_linked, stands_apart
from holdfast.repo.restoring.large import LargeFiles, is_large
from holdfast.repo.restoring.metadata import Handle, Rights, differs, settle
from holdfast.repo.restoring.restore_options import Overwrite, RestoreOptions, keeps
from holdfast.repo.restoring.tally import Action, Tally, explain
from holdfast.repo.spread import answers, spread_work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from holdfast.core.entries import Entry
    from holdfast.core.ids import BlobId
    from holdfast.core.progress import Progress
    from holdfast.repo.format.snapshot import Snapshot
    from holdfast.repo.format.tree import Node, Outline
    from holdfast.repo.lock import Lock
    from holdfast.repo.processes import Message
    from holdfast.repo.repository import Repository

BATCH_ENTRIES = 512
BATCH_BYTES = 16 << 20
BATCH_TEXT = 64 << 10
"""Bytes of paths, names and trees: a task must fit the pipe to its worker."""
MAX_TEXT = 16 << 10
"""A longer tree is loaded again by its worker."""


@dataclass(frozen=True, slots=True)
class Failure:
    path: bytes
    message: str


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one name. `size` is that of the content that was written or found right."""

    action: Action
    path: bytes
    size: int


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """`files` are all entries but directories. In a dry run the figures are what would be."""

    files_restored: int
    files_unchanged: int
    files_deleted: int
    folders: int
    bytes_restored: int
    bytes_unchanged: int
    files_verified: int
    owners_not_set: int
    """Entries that belong to somebody else now, since only root may give files away."""
    failures: tuple[Failure, ...]

    @property
    def outcome(self) -> Outcome:
        return Outcome.PARTIAL if self.failures else Outcome.SUCCEEDED


class _State(StrEnum):
    UNMADE = "not needed so far"
    MADE = "made by this run, nobody else's"
    FOUND = "was there"
    PREVIEWED = "would be made"
    BARRED = "could not be made"


@dataclass(slots=True)
class _Folder:
    """A directory of the snapshot on its way into the destination."""

    path: bytes
    above: _Folder | None
    node: Node | None
    tree: BlobId
    selected: bool
    state: _State = _State.UNMADE
    left_to_worker: bool = False
    """Whether a worker sets its metadata once it is full."""

    @property
    def is_there(self) -> bool:
        return self.state in {_State.MADE, _State.FOUND}


@dataclass(slots=True)
class _Batch:
    """Directories that make one task."""

    folders: list[Message] = field(default_factory=list)
    entries: int = 0
    size: int = 0
    text: int = 0

    def add(self, folder: Folder, nodes: Sequence[Outline]) -> None:
        self.folders.append(tuple(folder))
        self.entries += len(nodes)
        self.size += sum([node.size for node in nodes if not is_large(node)])
        self.text += len(folder.path) + len(folder.document) + len(folder.own)

    @property
    def is_full(self) -> bool:
        return self.entries >= BATCH_ENTRIES or self.size >= BATCH_BYTES or self.text >= BATCH_TEXT


def restore(
    repository: Repository,
    snapshot: Snapshot,
    target: bytes,
    *,
    subfolder: bytes = b"/",
    options: RestoreOptions | None = None,
    progress: Progress | None = None,
    on_change: Callable[[Change], None] | None = None,
    lock: Lock | None = None,
) -> RestoreReport:
    """Restores a snapshot, or one folder of it, into the directory `target`, and writes nowhere
    else (I10).

    What cannot be restored is listed and the rest goes on. Running it again goes on where it was
    stopped. Call before any thread is started: it forks, and keeps `lock` fresh by itself.

    Raises:
        PathNotFoundError: the snapshot has no such folder.
        RestoreError: the target cannot be used, or is full.
        UsageError: `delete` into "/" without a selection would empty the machine.
    """
    options = options or RestoreOptions()
    progress = progress or Silence()
    if (
        options.delete
        and Path(os.fsdecode(target)).resolve() == Path("/")
        and not options.selection
    ):
        raise UsageError(
            "--delete into / would remove whatever the snapshot does not have",
            remedy="Nothing was changed. Say what is meant with --include or --exclude.",
        )
    top = resolve(repository, snapshot.tree, subfolder)
    if top.tree is None:
        raise UsageError(
            f"{os.fsdecode(top.path)!r} is not a directory",
            remedy="Use `holdfast dump` for a file.",
        )
    _ = repository.index  # loaded once, before there are workers
    destination = Destination.at(
        target, create=not options.dry_run, owned_folders_open_up=not options.dry_run
    )
    try:
        run = _Restore(repository, destination, options, progress, on_change)
        whole = subfolder == b"/" and not options.selection
        with run.working(lock):
            return run.run(top.tree, _expected(snapshot) if whole else (None, None))
    finally:
        destination.close()


def _expected(snapshot: Snapshot) -> tuple[int | None, int | None]:
    """Files and bytes that a snapshot says it has."""
    summary = snapshot.file.summary
    return (
        (summary.total_files_processed, summary.total_bytes_processed) if summary else (None, None)
    )


class _Restore:
    """One restore, from the process that plans."""

    def __init__(
        self,
        repository: Repository,
        destination: Destination,
        options: RestoreOptions,
        progress: Progress,
        on_change: Callable[[Change], None] | None,
    ) -> None:
        self._repository = repository
        self._destination = destination
        self._options = options
        self._progress = progress
        self._on_change = on_change
        self._rights = Rights.current()
        self._tally = Tally()
        self._folders: list[_Folder] = []
        """Those that are in use, from the top: their metadata is set last."""
        self._links: dict[tuple[int, int, int], tuple[BlobId, list[tuple[bytes, _Folder]]]] = {}
        self._large = LargeFiles(
            repository, destination, options, note=self._note, fail=self._tally.fail
        )
        self._to_verify: dict[bytes, tuple[BlobId, list[bytes]]] = {}
        self._trees: dict[bytes, BlobId] = {}

    @contextmanager
    def working(self, lock: Lock | None) -> Iterator[None]:
        """Workers for the whole run, forked before there is a thread that would forbid it."""
        fillers: list[Filler] = []  # those of this process

        def begin() -> Callable[[Message], Message]:
            filler = Filler(
                self._repository,
                self._destination.another(),
                self._options,
                listing=self._on_change is not None or self._options.verify,
            )
            fillers.append(filler)
            return filler.work

        self._workers = spread_work(self._repository.store, begin, workers=self._options.workers)
        try:
            with lock.refreshing() if lock else nullcontext():
                yield
        finally:
            self._workers.close()
            for filler in fillers:
                filler.close()

    def run(self, tree: BlobId, expected: tuple[int | None, int | None]) -> RestoreReport:
        files, size = expected
        self._progress.stage("restoring", items=files, bytes=size)
        top = _Folder(b"/", None, None, tree, selected=not self._options.selection)
        top.state = _State.FOUND if self._destination.exists else _State.PREVIEWED
        try:
            self._spread(self._plan(top))
            self._large.finish()
        finally:
            self._large.close()
        self._spread(self._link_tasks())
        verified = self._verify() if self._options.verify and not self._options.dry_run else 0
        if not self._options.dry_run:
            self._settle_folders()  # after verifying, which may have to open directories up
        tally = self._tally
        return RestoreReport(
            files_restored=tally.restored,
            files_unchanged=tally.unchanged,
            files_deleted=tally.deleted,
            folders=len(self._folders),
            bytes_restored=tally.bytes_restored,
            bytes_unchanged=tally.bytes_unchanged,
            files_verified=verified,
            owners_not_set=tally.foreign,
            failures=tuple(Failure(path, message) for path, message in sorted(tally.failures)),
        )

    # --- workers ----------------------------------------------------------------------------------

    def _spread(self, tasks: Iterator[Message]) -> None:
        for answer in answers(self._workers, tasks):
            if answer[0] == "span":
                _, number, written, trouble = answer
                self._large.take(number, written, trouble)
                self._progress.add(bytes=written)
                continue
            added = self._tally.add(answer)
            self._progress.add(
                items=added.restored + added.unchanged,
                bytes=added.bytes_restored + added.bytes_unchanged,
            )
            for action, path, size in added.changes:
                self._changed(Action(action), path, size)

    def _changed(self, action: Action, path: bytes, size: int) -> None:
        if self._on_change:
            self._on_change(Change(action, path, size))
        if self._options.verify and action in {Action.RESTORED, Action.UPDATED}:
            above, name = split(path)
            self._to_verify.setdefault(above, (self._trees[above], []))[1].append(name)

    def _note(self, action: Action, path: bytes, size: int) -> None:
        """Of what this process did itself."""
        self._tally.note(action, path, size)
        self._tally.changes.clear()
        self._changed(action, path, size)

    # --- planning ---------------------------------------------------------------------------------

    def _plan(self, top: _Folder) -> Iterator[Message]:
        """Goes through the snapshot, makes its directories, and hands out what is in them."""
        batch = _Batch()
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            if folder.above is not None and folder.above.state is _State.BARRED:
                folder.state = _State.BARRED
                continue
            try:
                document = self._repository.load_blob(folder.tree, BlobKind.TREE)
                outline = decode_outline(document)
            except HoldfastError as error:
                self._tally.fail(folder.path, error)
                continue
            if folder.selected:
                self._need(folder)
            elif self._options.delete:
                self._find(folder)
            simple = not any(map(stands_apart, outline))
            if folder.state is _State.UNMADE or not simple:
                yield from self._sort_out(folder, decode_tree(document), waiting)
            if folder.state in {_State.UNMADE, _State.BARRED}:
                continue
            if self._options.verify:
                self._trees[folder.path] = folder.tree
            batch.add(self._to_fill(folder, document, simple=simple), outline)
            if batch.is_full:
                yield "fill", batch.folders
                batch = _Batch()
        if batch.folders:
            yield "fill", batch.folders

    def _to_fill(self, folder: _Folder, document: bytes, *, simple: bool) -> Folder:
        fresh = folder.state is _State.MADE
        own = b""
        if fresh and simple and not self._options.verify:  # nobody opens it again
            own = msgspec.msgpack.encode(folder.node)
        folder.left_to_worker = 0 < len(own) <= MAX_TEXT
        return Folder(
            path=folder.path,
            tree=folder.tree,
            document=document if len(document) <= MAX_TEXT else b"",
            exists=folder.is_there,
            fresh=fresh,
            own=own if folder.left_to_worker else b"",
        )

    def _sort_out(
        self, folder: _Folder, nodes: list[Node], waiting: list[_Folder]
    ) -> Iterator[Message]:
        """Finds the directories, links and large files of a directory, and whether it is needed for
        anything else.
        """
        selection = self._options.selection
        inside: list[_Folder] = []
        for name, node, refusal in named(nodes):
            apart = stands_apart(node)
            if not apart and folder.state is not _State.UNMADE:
                continue  # the worker that fills the directory sees to it
            path = join(folder.path, name)
            selected = not selection or selection.selects(path)
            if node.type == "dir":
                if refusal and selected:
                    self._tally.fail(path, refusal)
                elif not refusal and (selected or selection.may_select_below(path)):
                    self._enter(folder, path, node, inside, selected=selected)
                continue
            if not selected:
                continue
            self._need(folder)
            if folder.state is _State.BARRED:
                return
            if refusal and apart:
                self._tally.fail(path, refusal)
            elif is_linked(node):
                twins = self._links.setdefault(_link_key(node), (folder.tree, []))
                twins[1].append((path, folder))
            elif apart:
                yield from self._large.begin(
                    folder.path,
                    name,
                    node,
                    exists=folder.is_there,
                    fresh=folder.state is _State.MADE,
                )
        waiting += reversed(inside)

    def _enter(
        self, above: _Folder, path: bytes, node: Node, inside: list[_Folder], *, selected: bool
    ) -> None:
        try:
            inside.append(_Folder(path, above, node, subtree_of(node), selected))
        except HoldfastError as error:
            self._tally.fail(path, error)

    # --- directories ------------------------------------------------------------------------------

    def _need(self, folder: _Folder) -> None:
        """Makes a directory, with those above it, unless that was done."""
        chain = []
        each: _Folder | None = folder
        while each is not None and each.state is _State.UNMADE:
            chain.append(each)
            each = each.above
        for each in reversed(chain):
            each.state = self._make(each)
            if each.state is not _State.BARRED:
                self._folders.append(each)

    def _make(self, folder: _Folder) -> _State:
        above = folder.above
        assert above is not None
        if above.state in {_State.BARRED, _State.PREVIEWED}:
            return above.state
        name = split(folder.path)[1]
        try:
            parent = self._destination.folder(above.path)
            found = None if above.state is _State.MADE else place.look(parent, name)
            if found is not None and place.is_kind(found, Kind.DIR):
                return _State.FOUND
            if found is not None:
                entry = _entry(folder)
                if keeps(found, entry, self._options.overwrite):
                    raise RestoreError(
                        "something else is in the way of this directory, and is to be kept"
                    )
                if not self._options.dry_run:
                    place.remove(parent, name)
            if self._options.dry_run:
                return _State.PREVIEWED
            place.make_folder(parent, name)
        except (OSError, HoldfastError) as error:
            self._tally.fail(folder.path, f"{explain(error)}; nothing below it was restored")
            return _State.BARRED
        return _State.MADE

    def _find(self, folder: _Folder) -> None:
        """Whether a directory that is only gone through is there: something in it may go."""
        above = folder.above
        if folder.state is not _State.UNMADE or above is None or not above.is_there:
            return
        try:
            self._destination.folder(folder.path)
        except (OSError, HoldfastError):
            return
        folder.state = _State.FOUND

    def _settle_folders(self) -> None:
        """Owners, modes, attributes and times, deepest first."""
        keep = self._options.overwrite is Overwrite.NEVER
        for folder in reversed(self._folders):
            fresh = folder.state is _State.MADE
            if folder.left_to_worker or (not fresh and (keep or not folder.selected)):
                continue
            try:
                entry = _entry(folder)
                handle = Handle(self._destination.folder(folder.path))
                if fresh or differs(handle, entry, self._rights):
                    for trouble in settle(handle, handle.stat(), entry, self._rights, fresh=fresh):
                        self._tally.fail(folder.path, trouble)
            except (OSError, HoldfastError) as error:
                self._tally.fail(folder.path, error)

    # --- hard links and verification --------------------------------------------------------------

    def _link_tasks(self) -> Iterator[Message]:
        for tree, twins in self._links.values():
            paths = [path for path, folder in twins if folder.state is not _State.BARRED]
            exists = [folder.is_there for _, folder in twins if folder.state is not _State.BARRED]
            if paths:
                yield "links", tree, paths, exists

    def _verify(self) -> int:
        self._progress.stage(
            "verifying", items=sum(len(names) for _, names in self._to_verify.values())
        )
        failed = {path for path, _ in self._tally.failures}
        verified = 0
        for answer in answers(self._workers, self._verify_tasks(failed)):
            checked = Tally().add(answer)
            self._tally.failures += checked.failures
            verified += checked.unchanged
            self._progress.add(items=checked.unchanged + len(checked.failures))
        return verified

    def _verify_tasks(self, failed: set[bytes]) -> Iterator[Message]:
        for path, (tree, names) in self._to_verify.items():
            wanted = [name for name in names if join(path, name) not in failed]
            for start in range(0, len(wanted), BATCH_ENTRIES):
                yield "verify", [(path, tree, wanted[start : start + BATCH_ENTRIES])]


def _entry(folder: _Folder) -> Entry:
    assert folder.node is not None
    return folder.node.entry()


def _link_key(node: Node) -> tuple[int, int, int]:
    """Equal for names of one file. A tree that says so of different contents is not believed."""
    content = hash((node.type, tuple(node.content or ()), node.linktarget, node.device, node.size))
    return node.device_id, node.inode, content
