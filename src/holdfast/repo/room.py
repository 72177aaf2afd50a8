"""Room that is kept aside on the disk of a repository, for the day when there is none.

Freeing space takes a little: a lock, and an index file without what goes, durable before the old
one is removed. So each backup and each prune leaves a file beside the repository that is as large
as that; whoever needs the exclusive lock of a full disk gives it up first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core.errors import StorageFullError
from holdfast.repo.lock import acquire
from holdfast.store.contract import FileKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.repo.lock import Lock
    from holdfast.repo.repository import Repository

_LEAST = 16 << 10
_LOCKS = 64 << 10
"""Bytes for locks, which take a block or two each, and for what folders grow by."""


def keep_room(repository: Repository) -> int:
    """Keeps aside what a prune of a full disk needs, or as much of it as there is room for; bytes,
    0 where the repository lies on no disk that we see.
    """
    if not repository.store.properties.local:
        return 0
    largest = max((item.size for item in repository.store.list(FileKind.INDEX)), default=0)
    needed = _LOCKS + 2 * largest
    wanted = 1 << (needed - 1).bit_length()  # so that it seldom has to grow
    while wanted >= _LEAST:
        try:
            return repository.store.reserve(wanted)
        except StorageFullError:
            wanted //= 2
    return 0


def acquire_on_full_disk(
    repository: Repository, *, wait: float = 0.0, on_wait: Callable[[str], None] = lambda _: None
) -> Lock:
    """The exclusive lock; where the disk has no room for one, at the cost of what is kept aside.

    Raises:
        LockedError: a live holder is in the way.
        StorageFullError: nothing is kept aside, and there is no room for a lock.
    """

    def attempt() -> Lock:
        return acquire(
            repository.objects, exclusive=True, clock=repository.clock, wait=wait, on_wait=on_wait
        )

    try:
        return attempt()
    except StorageFullError:
        repository.store.reserve(0)
    try:
        return attempt()
    except StorageFullError as error:
        raise StorageFullError(
            f"there is no room even for a lock: {error.message}",
            remedy="Nothing was changed. `holdfast forget` needs no room, and each snapshot that it"
            " removes gives some back; or remove any other file from that disk. Then run this"
            " again.",
        ) from error
