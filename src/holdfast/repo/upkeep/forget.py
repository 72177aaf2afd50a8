"""Forgetting snapshots, and changing their tags. What they held stays until it is pruned."""

from __future__ import annotations

import re
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from holdfast.core.errors import ObjectNotFoundError, StorageFullError, UsageError
from holdfast.core.retention import Dated
from holdfast.repo.room import acquire_on_full_disk, keep_room
from holdfast.store.contract import FileKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager

    from holdfast.core.ids import ObjectId
    from holdfast.core.progress import Progress
    from holdfast.repo.format.snapshot import Snapshot
    from holdfast.repo.lock import Lock
    from holdfast.repo.repository import Repository

_OFFSET = re.compile(r"([+-])(\d\d):(\d\d)$")
_BATCH = 50
"""Snapshots that are removed on one proof of the lock."""


def dated(snapshot: Snapshot) -> Dated:
    """A snapshot as the keep rules see it."""
    match = _OFFSET.search(snapshot.file.time)
    offset = (int(match[2]) * 60 + int(match[3])) * 60 if match else 0
    return Dated(
        id=snapshot.id,
        time=snapshot.time,
        offset=-offset if match and match[1] == "-" else offset,
        host=snapshot.file.hostname,
        paths=tuple(snapshot.file.paths),
        tags=tuple(snapshot.tags),
    )


def lock_to_forget(
    repository: Repository, *, wait: float = 0.0, on_wait: Callable[[str], None] = lambda _: None
) -> Lock | None:
    """The exclusive lock; None where the disk has no room for one and none is kept aside.

    Removing a snapshot is one atomic step that no other program can be hurt by, so a full disk does
    not prevent it: it gives back the block that the lock of a prune then needs.

    Raises:
        LockedError: a live holder is in the way.
    """
    try:
        return acquire_on_full_disk(repository, wait=wait, on_wait=on_wait)
    except StorageFullError:
        return None


def forget(
    repository: Repository,
    snapshots: Iterable[ObjectId],
    *,
    lock: Lock | None,
    progress: Progress,
) -> list[ObjectId]:
    """Removes snapshots, oldest decision first, each for good before the next; those that were
    there.

    `lock`: exclusive, of `lock_to_forget`.

    Raises:
        StoreError: one could not be removed; those before it are gone.
        LockLostError: likewise.
    """
    names = list(snapshots)
    progress.stage("forgetting snapshots", items=len(names))
    removed = []
    with refreshed(lock):
        for number, name in enumerate(names):
            if lock and number % _BATCH == 0:
                lock.prove()
            try:
                repository.store.remove(FileKind.SNAPSHOT, name)
            except ObjectNotFoundError:
                continue  # somebody else was faster
            removed.append(name)
            progress.add(items=1)
    keep_room(repository)
    return removed


def refreshed(lock: Lock | None) -> AbstractContextManager[None]:
    """Keeps a lock fresh, if there is one."""
    return lock.refreshing() if lock else nullcontext()


@dataclass(frozen=True, slots=True)
class Retagged:
    """A snapshot that was replaced by itself with other tags."""

    old: ObjectId
    new: Snapshot


def retag(
    repository: Repository,
    snapshots: Iterable[Snapshot],
    *,
    lock: Lock | None,
    set_tags: Sequence[str] | None = None,
    add: Sequence[str] = (),
    remove: Sequence[str] = (),
) -> list[Retagged]:
    """Gives snapshots other tags. Each is stored anew under a new name, durable before the old one
    goes, and remembers the name it had at first as `original`, as restic does; those that had to
    change.

    `set_tags`: replaces all tags, an empty list takes them away; it cannot come with `add` or
    `remove`.

    Raises:
        UsageError: nothing to do, or both ways at once.
    """
    if set_tags is None and not add and not remove:
        raise UsageError("nothing to do: give tags to set, to add or to remove")
    if set_tags is not None and (add or remove):
        raise UsageError("tags are either set or added and removed, not both at once")
    changed = []
    with refreshed(lock):
        for snapshot in list(snapshots):
            if set_tags is not None:
                tags = list(set_tags)
            else:
                tags = [tag for tag in dict.fromkeys([*snapshot.tags, *add]) if tag not in remove]
                if tags == snapshot.tags:
                    continue
            original = snapshot.file.original or snapshot.id
            file = msgspec.structs.replace(snapshot.file, tags=tags or None, original=original)
            if lock:
                lock.prove()
            new = repository.save_snapshot(file)
            repository.store.remove(FileKind.SNAPSHOT, snapshot.id)
            changed.append(Retagged(snapshot.id, new))
    return changed
