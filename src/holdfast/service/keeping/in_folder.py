"""Backups as ordinary files of a plain pool, for people who want to see them as files.

    <root>/nightly/db.sql            a backup of one file, under its own name or its template's
    <root>/2026-01-31T02:00:00/      a backup of several, with the files under their own names
    <root>/.holdfast/journal.jsonl   what there is, where, and what it must be
    <root>/.holdfast/lists/          what files a backup of several is made of
    <root>/.holdfast/recycle/        the recycle bin
    <root>/.holdfast/tmp/            what is on its way in or out

A stream is written into `tmp` and synced; the journal says where it belongs (synced, once for all
that ended together); it gets its place by a step that never replaces anything; the folder is
synced; the catalog has its row; only then anybody is answered. `reconciling` tells what a crash
between any two of these leaves. Files that the journal does not name are not ours.
"""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from holdfast.core.entries import Kind
from holdfast.core.errors import (
    DamagedError,
    HoldfastError,
    NoRepositoryError,
    ObjectNotFoundError,
    PathNotFoundError,
    RecordExistsError,
)
from holdfast.core.records import Backup, Face, Shape, Target
from holdfast.service.keeping.arriving import FolderFile, Sealed, Yard, discard
from holdfast.service.keeping.arriving_tree import FolderTree
from holdfast.service.keeping.committing import Committer
from holdfast.service.keeping.contract import FoundBackup, Kept, Listed, Order, Verified
from holdfast.service.keeping.digests import BLOCK, Content, changed, measure
from holdfast.service.keeping.disk import Disk, Root, told
from holdfast.service.keeping.folder_archives import archive, check_format
from holdfast.service.keeping.giving import FolderOutgoing, remeasured
from holdfast.service.keeping.journal import Journal
from holdfast.service.keeping.lists import Member, list_parts, members, tree_digest
from holdfast.service.keeping.made import Made
from holdfast.service.keeping.naming import HOUSE, beside, parts_of, place
from holdfast.service.keeping.reconciling import (
    end_move,
    give_place,
    gone_parts,
    reconcile,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from holdfast.core.progress import Progress
    from holdfast.service.keeping.contract import (
        Buffer,
        Incoming,
        IncomingTree,
        Outgoing,
        Recorder,
    )
    from holdfast.service.keeping.journal import Record, Standing

_WRITERS: Final = 4
_TARGET_FACTS: Final = (
    "uid",
    "name",
    "face",
    "shape",
    "location",
    "folder",
    "name_template",
    "alias",
)


class FolderKeeper:
    """One for each process and pool; safe for threads. `pool` is what the journal must say which
    pool it is: another disk in its place is noticed. Nothing on the way from the folder `above` to
    the root may be a link. Nothing is read or made before `prepare`.
    """

    def __init__(
        self,
        root: Path,
        record: Recorder,
        *,
        pool: str,
        above: Path | None = None,
        disk: Disk | None = None,
    ) -> None:
        self._root = Root(root, disk or Disk(), above=above)
        self._journal = Journal(self._root)
        self._record = record
        self._pool = pool
        self._workers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="plain-pool")
        self._committer = Committer(self._commit, "plain-pool-commit")
        self._last_list: tuple[tuple[str, int, int, int], Mapping[bytes, Member]] | None = None
        self._yard = Yard(self._root, self._workers, self._committer.put)

    # --- opening ----------------------------------------------------------------------------------

    def prepare(self, *, create: bool) -> None:
        """Makes the pool's own folder where `create`, and puts right what a crash has left.

        Raises:
            NoRepositoryError: the pool is not there, or another is.
            StoreError
        """
        with told(f"use {self._root.path}"):
            if create:
                self._root.make()
                self._journal.create(self._pool)
            with self._journal.locked():
                self._check_pool()
                reconcile(self._root, self._journal)

    def _check_pool(self) -> None:
        begin_is_damaged = not self._journal.pool and 1 in self._journal.damaged
        if self._journal.pool != self._pool and not begin_is_damaged:
            raise NoRepositoryError(
                f"{self._root.path} holds another plain pool than the one that was there",
                remedy="Nothing was changed. Is the right disk mounted?",
            )

    # --- taking in --------------------------------------------------------------------------------

    def begin(self, order: Order) -> Incoming:
        self._expect_room(order)
        return FolderFile(self._yard, order)

    def begin_tree(self, order: Order) -> IncomingTree:
        self._expect_room(order)
        return FolderTree(self._yard, order)

    def _expect_room(self, order: Order) -> None:
        """The path can be one, and the pool is there."""
        _place_of(order)
        with told(f"use {self._root.path}"):
            self._journal.refresh()
            self._check_pool()

    def _commit(self, group: Sequence[Sealed]) -> None:
        """In the committing thread: gives each its place, records all, answers all."""
        try:
            kept, failed = self._place_all(group)
        except BaseException as error:  # noqa: BLE001  handed to whoever waits
            kept, failed = [], [(sealed, error) for sealed in group]
        for sealed, trouble in failed:
            self._take_back(sealed)
            sealed.result.set_exception(trouble)
        if not kept:
            return
        try:
            refused = self._record([(sealed.order, each) for sealed, each in kept])
        except BaseException as error:  # noqa: BLE001  what is stored is found and recorded later
            _fail([sealed for sealed, _ in kept], error)
            return
        for sealed, each in kept:
            refusal = refused.get(sealed.order.uid)
            if refusal is None:
                sealed.result.set_result(each)
                continue
            self._take_back(sealed)
            sealed.result.set_exception(refusal)

    def _take_back(self, sealed: Sealed) -> None:
        with suppress(OSError, HoldfastError):  # what stays is put right at the next start
            self._delete(sealed.order.uid)
        discard(self._root, sealed.order.uid)

    def _place_all(
        self, group: Sequence[Sealed]
    ) -> tuple[list[tuple[Sealed, Kept]], list[tuple[Sealed, BaseException]]]:
        """Raises where none of them was kept."""
        kept: list[tuple[Sealed, Kept]] = []
        failed: list[tuple[Sealed, BaseException]] = []
        try:
            with told("keep an upload"), self._journal.locked():
                self._check_pool()
                taken: set[str] = set()
                self._journal.append([self._keep_line(sealed, taken) for sealed in group])
                for sealed in group:
                    try:
                        with told(f"keep {sealed.order.name}"):
                            give_place(self._root, self._journal, sealed.order.uid)
                    except HoldfastError as error:
                        failed.append((sealed, error))
                    else:
                        kept.append((sealed, self._kept(sealed)))
        finally:
            for sealed in group:
                sealed.release()
        return kept, failed

    def _keep_line(self, sealed: Sealed, taken: set[str]) -> Record:
        order = sealed.order
        path = self._free_path(_place_of(order), order.uid, taken)
        taken.add(path)
        target = {name: getattr(order.target, name) for name in _TARGET_FACTS}
        return {
            "do": "keep",
            "uid": order.uid,
            "path": path,
            "name": order.name,
            "size": sealed.size,
            "files": sealed.files,
            "sha256": sealed.sha256,
            "tree": sealed.tree,
            "received": order.received,
            "manual": order.manual,
            "target": target,
            "facts": order.facts,
        }

    def _free_path(self, path: str, uid: str, taken: set[str]) -> str:
        if path in taken or path in self._journal.owners or self._root.look(parts_of(path)):
            return beside(path, uid)
        return path

    def _kept(self, sealed: Sealed) -> Kept:
        return Kept(
            size=sealed.size,
            stored=sealed.size,
            files=sealed.files,
            sha256=sealed.sha256,
            path=self._journal.standing[sealed.order.uid].path,
        )

    # --- where things are -------------------------------------------------------------------------

    def _lies(self, backup: Backup) -> tuple[str, ...]:
        """Where it is: as the journal says, or, where its line there is damaged, as the catalog."""
        with told(f"use {self._root.path}"):
            self._journal.refresh()
        standing = self._journal.standing.get(backup.uid)
        if standing is None and self._journal.damaged:
            return tuple(parts_of(backup.path))
        if standing is None:
            raise ObjectNotFoundError(f"{backup.name} was deleted from {self._root.path}")
        lies = standing.lies(backup.uid)
        if standing.before and not self._root.look(lies) and self._root.look(standing.before):
            return standing.before
        return lies

    # --- giving back ------------------------------------------------------------------------------

    def open(self, backup: Backup) -> Outgoing:
        lies = self._lies(backup)
        self._must_be_there(backup, lies)
        opened = partial(self._root.open_file, lies)
        return FolderOutgoing(
            opened, self._content(backup, opened), modified=backup.received, what=backup.name
        )

    def _content(self, backup: Backup, opened: Callable[[], int]) -> Content:
        """What the one file of a backup must be."""
        whole = Content(backup.size, backup.sha256)
        if backup.size <= BLOCK:
            return whole
        try:
            listed = next(members(self._root, backup.uid)).content
        except (DamagedError, StopIteration):
            return remeasured(opened, whole, backup.name)
        if listed is None or (listed.size, listed.sha256) != (whole.size, whole.sha256):
            raise changed(f"the list of {backup.name}")
        return listed

    def _must_be_there(self, backup: Backup, lies: tuple[str, ...]) -> None:
        if self._root.look(lies) is None:
            raise ObjectNotFoundError(
                f"{backup.path} is gone from its disk",
                remedy="Somebody removed it, or its disk is not mounted.",
            )

    def entries(self, backup: Backup) -> Iterator[Listed]:
        for member in self._members(backup):
            yield _listed(member)

    def _members(self, backup: Backup) -> Sequence[Member]:
        """By path; that of a single file is its name."""
        lies = self._lies(backup)
        self._must_be_there(backup, lies)
        if self._is_tree(lies):
            return sorted(members(self._root, backup.uid), key=lambda each: each.path)
        content = self._content(backup, partial(self._root.open_file, lies))
        name = os.fsencode(backup.name)
        return [Member(name, Kind.FILE, 0o644, backup.received, content)]

    def _is_tree(self, lies: tuple[str, ...]) -> bool:
        found = self._root.look(lies)
        return found is not None and stat.S_ISDIR(found.st_mode)

    def open_path(self, backup: Backup, path: str) -> Outgoing:
        lies, wanted = self._lies(backup), os.fsencode(path.strip("/"))
        if not self._is_tree(lies):
            if path == backup.name:
                return self.open(backup)
        else:
            member = self._listed(backup.uid).get(wanted)
            if member is not None and member.kind is Kind.FILE:
                return self._outgoing(lies, member)
        raise PathNotFoundError(f"the backup has no file {path!r}")

    def _listed(self, uid: str) -> Mapping[bytes, Member]:
        """By path. The last list is remembered: files of one backup are often opened in a row."""
        found = self._root.look(list_parts(uid))
        stamp = (uid, found.st_ino, found.st_mtime_ns, found.st_size) if found else (uid, 0, 0, 0)
        known = self._last_list
        if known is None or known[0] != stamp:
            known = stamp, {member.path: member for member in members(self._root, uid)}
            self._last_list = known
        return known[1]

    def _outgoing(self, lies: tuple[str, ...], member: Member) -> FolderOutgoing:
        assert member.content is not None
        return FolderOutgoing(
            partial(self._root.open_file, _below(lies, member)),
            member.content,
            modified=member.mtime,
            what=os.fsdecode(member.path),
        )

    def archive(self, backup: Backup, format_: str, *, top: str = "") -> Outgoing:
        form = check_format(format_)
        found = self._members(backup)

        def make() -> Iterator[Buffer]:
            return archive(self._archived(backup, found, os.fsencode(top)), form)

        return Made(make, modified=backup.received)

    def _archived(
        self, backup: Backup, found: Sequence[Member], top: bytes
    ) -> Iterator[tuple[Member, Iterator[Buffer]]]:
        lies = self._lies(backup)
        tree = self._is_tree(lies)
        if top:
            yield Member(top, Kind.DIR, 0o755, backup.received), iter(())
        for member in found:
            content: Iterator[Buffer] = iter(())
            if member.content is not None:
                outgoing = self._outgoing(lies, member) if tree else self.open(backup)
                content = outgoing.pieces()
            path = top + b"/" + member.path if top else member.path
            yield replace(member, path=path), content

    # --- moving and deleting ----------------------------------------------------------------------

    def rename(self, backup: Backup, path: str) -> str:
        parts = parts_of(path)
        path = "/".join(parts)
        with self._changing(backup) as (uid, standing):
            if standing.path == path:
                return path
            if path in self._journal.owners or self._root.look(parts):
                raise RecordExistsError(f"there is something at {path} already")
            lies = standing.lies(uid)
            self._must_be_there(backup, lies)
            self._move({"do": "rename", "uid": uid, "path": path}, {"path": standing.path})
            self._tidy_above(lies)
        return path

    def move(self, backup: Backup, *, recycled: bool) -> None:
        with self._changing(backup) as (uid, standing):
            if standing.recycled == recycled:
                return
            lies = standing.lies(uid)
            self._must_be_there(backup, lies)
            if not recycled and (
                standing.path in self._journal.owners or self._root.look(parts_of(standing.path))
            ):
                raise RecordExistsError(f"there is something at {standing.path} now")
            do, undo = ("recycle", "restore") if recycled else ("restore", "recycle")
            self._move({"do": do, "uid": uid}, {"do": undo})
            self._tidy_above(lies)

    def _move(self, line: Record, undo: Record) -> None:
        """The line, then the move; all or nothing."""
        self._journal.append([line])
        try:
            end_move(self._root, self._journal, line["uid"])
        except BaseException:
            self._journal.append([{**line, **undo}])
            raise

    def forget(self, backup: Backup) -> None:
        with told(f"forget {backup.path}"), self._journal.locked():
            self._check_pool()
            if backup.uid in self._journal.standing:
                self._journal.append([{"do": "delete", "uid": backup.uid}])
            self._root.remove(list_parts(backup.uid))

    def delete(self, backup: Backup) -> None:
        with told(f"delete {backup.path}"):
            if backup.uid not in self._journal.standing and self._is_ours_all_the_same(backup):
                self._put_away(backup.uid, tuple(parts_of(backup.path)))
                self._remove_for_good(backup.uid)
            else:
                self._delete(backup.uid)

    def _is_ours_all_the_same(self, backup: Backup) -> bool:
        """Where its line in the journal is damaged, and what lies there is just what was kept."""
        self._journal.refresh()
        return (
            bool(self._journal.damaged)
            and backup.uid not in self._journal.standing
            and backup.path not in self._journal.owners
            and self.verify(backup, lambda _: None).good
        )

    def _delete(self, uid: str) -> None:
        """Out of everybody's way in one step, then the line, then for good."""
        with self._journal.locked():
            self._check_pool()
            standing = self._journal.standing.get(uid)
            if standing is None:
                return
            lies = self._found_at(standing.lies(uid), standing.before)
            self._put_away(uid, lies)
            self._journal.append([{"do": "delete", "uid": uid}])
            self._tidy_above(lies)
        self._remove_for_good(uid)

    def _put_away(self, uid: str, lies: tuple[str, ...]) -> None:
        self._root.remove(gone_parts(uid))
        with suppress(FileNotFoundError):
            self._root.move(lies, gone_parts(uid))

    def _remove_for_good(self, uid: str) -> None:
        self._root.remove(gone_parts(uid))
        self._root.remove(list_parts(uid))

    def _tidy_above(self, lies: tuple[str, ...]) -> None:
        """Folders that have become empty go with what was in them."""
        if lies[0] != HOUSE:
            self._root.remove_empty(lies[:-1])

    def _found_at(self, lies: tuple[str, ...], before: tuple[str, ...] | None) -> tuple[str, ...]:
        return before if before and not self._root.look(lies) else lies

    @contextmanager
    def _changing(self, backup: Backup) -> Iterator[tuple[str, Standing]]:
        """A move that was cut short is ended first: a line tells only the one before it."""
        with told(f"move {backup.path}"), self._journal.locked():
            self._check_pool()
            standing = self._journal.standing.get(backup.uid)
            if standing is None:
                raise ObjectNotFoundError(f"the journal does not know {backup.path} any more")
            if standing.before is not None:
                end_move(self._root, self._journal, backup.uid)
            yield backup.uid, self._journal.standing[backup.uid]

    # --- proof ------------------------------------------------------------------------------------

    def verify(self, backup: Backup, progress: Callable[[int], None]) -> Verified:
        read = 0

        def step(count: int) -> None:
            nonlocal read
            read += count
            progress(count)

        try:
            lies = self._lies(backup)
        except ObjectNotFoundError:
            lies = tuple(parts_of(backup.path))
        found = self._root.look(lies)
        if found is None:
            problems = [f"{backup.path}: it is gone"]
        elif stat.S_ISDIR(found.st_mode):
            problems = self._verify_tree(backup, lies, step)
        else:
            content = Content(backup.size, backup.sha256)
            problems = self._problems_of(lies, content, backup.path, step)
            problems += self._problems_of_list(backup)
        return Verified(not problems, read, tuple(problems))

    def _problems_of(
        self,
        parts: Sequence[str | bytes],
        content: Content,
        name: str,
        step: Callable[[int], None],
    ) -> list[str]:
        try:
            with told("read it"):
                descriptor = self._root.open_file(parts)
                try:
                    found = measure(descriptor, step)
                finally:
                    os.close(descriptor)
        except ObjectNotFoundError:
            return [f"{name}: it is gone"]
        except HoldfastError as error:
            return [f"{name}: {error.message}"]
        if found.sha256 != content.sha256:
            return [f"{name}: its content is not what was kept"]
        return []

    def _problems_of_list(self, backup: Backup) -> list[str]:
        """Of a backup of one file, which has a list only where it has several blocks."""
        if self._root.look(list_parts(backup.uid)) is None:
            return []
        try:
            list(members(self._root, backup.uid))
        except DamagedError as error:
            return [error.message]
        return []

    def _verify_tree(
        self, backup: Backup, lies: tuple[str, ...], step: Callable[[int], None]
    ) -> list[str]:
        problems: list[str] = []
        lines = []
        try:
            for member in members(self._root, backup.uid):
                lines.append(member.digest_line())
                problems += self._problems_of_member(lies, member, step)
        except DamagedError as error:
            return [*problems, error.message]
        if tree_digest(lines) != backup.sha256:
            problems.append("its list of files is not the one that was kept")
        return problems

    def _problems_of_member(
        self, lies: tuple[str, ...], member: Member, step: Callable[[int], None]
    ) -> list[str]:
        parts, name = _below(lies, member), os.fsdecode(member.path)
        if member.content is not None:
            return self._problems_of(parts, member.content, name, step)
        found = self._root.look(parts)
        if found is None:
            return [f"{name}: it is gone"]
        if member.kind is Kind.DIR:
            return [] if stat.S_ISDIR(found.st_mode) else [f"{name}: it is no folder any more"]
        with self._root.folder(parts[:-1]) as folder:
            same = (
                stat.S_ISLNK(found.st_mode)
                and os.readlink(parts[-1], dir_fd=folder) == member.target
            )
        return [] if same else [f"{name}: it is not the link that was kept"]

    # --- what is there ----------------------------------------------------------------------------

    def problems(self, *, read_data: bool, progress: Progress) -> list[str]:
        """What is missing, of another size or, with `read_data`, of other content than was kept."""
        with told(f"use {self._root.path}"):
            records = list(self._journal.records())
        found = [f"line {number} of its journal is damaged" for number in self._journal.damaged]
        progress.stage("looking at backups", items=len(records))
        for record in records:
            standing = self._journal.standing.get(record["uid"])
            if standing is None:
                continue  # deleted meanwhile
            path = record["path"]
            if not self._is_whole(standing.lies(record["uid"]), record):
                found.append(f"{path}: it is gone, or was changed")
            elif read_data:
                verified = self.verify(_as_backup(record), lambda count: progress.add(bytes=count))
                found += [f"{path}: {problem}" for problem in verified.damaged]
            progress.add(items=1)
        return found

    def size(self) -> int:
        """Bytes of content of all that is kept, the recycle bin with it."""
        with told(f"use {self._root.path}"):
            return sum(record["size"] for record in self._journal.records())

    def found(self) -> Iterator[FoundBackup]:
        with told(f"use {self._root.path}"):
            for record in self._journal.records():
                standing = self._journal.standing.get(record["uid"])
                if standing is not None and self._is_whole(standing.lies(record["uid"]), record):
                    yield _found(record)

    def _is_whole(self, lies: tuple[str, ...], record: Record) -> bool:
        """There, and not of another size: what is not, is no backup any more."""
        there = self._root.look(lies)
        if there is None:
            return False
        if record["tree"]:
            return stat.S_ISDIR(there.st_mode)
        return stat.S_ISREG(there.st_mode) and there.st_size == record["size"]

    def close(self) -> None:
        self._workers.shutdown(wait=True)
        self._committer.close()


def pool_in(root: Path) -> str | None:
    """Which pool a folder holds; None where it holds none."""
    journal = Journal(Root(root, Disk()))
    try:
        journal.refresh()
    except (OSError, HoldfastError):
        return None
    return journal.pool or None


def _place_of(order: Order) -> str:
    return place(
        order.target,
        name=order.name,
        uid=order.uid,
        received=order.received,
        manual=order.manual,
    )


def _below(lies: tuple[str, ...], member: Member) -> tuple[bytes, ...]:
    return *map(os.fsencode, lies), *member.path.split(b"/")


def _fail(group: Sequence[Sealed], error: BaseException) -> None:
    for sealed in group:
        sealed.result.set_exception(error)


def _listed(member: Member) -> Listed:
    return Listed(
        path=os.fsdecode(member.path),
        kind=str(member.kind),
        size=member.content.size if member.content else 0,
        modified=member.mtime,
        mode=member.mode,
        link=os.fsdecode(member.target),
    )


def _as_backup(record: Record) -> Backup:
    """As much of it as `verify` looks at."""
    return Backup(
        uid=record["uid"],
        target_id=0,
        pool_id=0,
        path=record["path"],
        name=record["name"],
        size=record["size"],
        sha256=record["sha256"],
        created=record["received"],
        received=record["received"],
    )


def _found(record: Record) -> FoundBackup:
    target = dict(record["target"])
    target["face"], target["shape"] = Face(target["face"]), Shape(target["shape"])
    order = Order(
        uid=record["uid"],
        target=Target(pool_id=0, **target),
        name=record["name"],
        received=record["received"],
        manual=record["manual"],
        facts=record["facts"],
    )
    kept = Kept(
        size=record["size"],
        stored=record["size"],
        files=record["files"],
        sha256=record["sha256"],
        path=record["path"],
    )
    return FoundBackup(order, kept, recycled=record["recycled"])
