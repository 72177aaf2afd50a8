"""What every store promises; `holdfast.testing.store_contract` holds all of them to it.

Objects are named by kind and name as in restic's repository layout; a store maps that to its own
paths. Objects are immutable: written whole, read in ranges, removed. Nothing is ever replaced.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class FileKind(StrEnum):
    """The folders of restic's repository layout. `CONFIG` is a single file, named "config"."""

    CONFIG = "config"
    KEY = "keys"
    LOCK = "locks"
    SNAPSHOT = "snapshots"
    INDEX = "index"
    PACK = "data"


CONFIG_NAME = "config"


@dataclass(frozen=True, slots=True)
class Stat:
    name: str
    size: int
    mtime: int
    """Nanoseconds by the store's own clock, to be compared with other times of the same store only.

    0 where a store does not tell.
    """


@dataclass(frozen=True, slots=True)
class Properties:
    """What callers may rely on beyond the contract, instead of asking what kind of store it is."""

    put_if_absent: bool
    """`put` of an existing name is refused atomically (else: checked first, then written)."""
    local: bool
    """Reads cost microseconds: no cache wanted."""
    connections: int
    """Parallel requests that pay."""
    forkable: bool = True
    """Processes forked from the one that opened the store can use it too."""


class Store(Protocol):
    """Obligations, where "durable" means: survives a power failure right after the call returns.

    - All methods may be called from several threads at once, by several processes that opened the
      store themselves, and by forked ones where `properties.forkable`.
    - Errors are `StoreError` and its kinds only, never a library's own. `retryable` says whether
      another try can help.
    - Names are checked at the door: 64 hexadecimal digits (or "config" for CONFIG); anything else
      is a `ValueError`. Whatever else lies in a store's folders is not ours: never listed, never
      touched.
    """

    address: str
    """Where it is, for people; without secrets."""

    @property
    def properties(self) -> Properties:
        """Ask again when it matters: some stores learn what they can do from their first put."""
        ...

    def create(self) -> None:
        """Makes the folders a repository needs; doing it twice is well."""
        ...

    def put(self, kind: FileKind, name: str, data: bytes | memoryview) -> None:
        """Stores an object whole and durable, or not at all: no reader ever sees a part of it.

        Raises:
            ObjectExistsError: the name is taken (the object there is left as it is).
            StorageFullError: no room; what was half-written is gone.
        """
        ...

    def get(self, kind: FileKind, name: str) -> bytes:
        """The whole object.

        Raises:
            ObjectNotFoundError: there is none.
        """
        ...

    def get_range(self, kind: FileKind, name: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`; a negative offset counts from the end.

        Raises:
            ObjectNotFoundError: there is none.
            StoreError: it is shorter than that. A short read is never returned.
        """
        ...

    def stat(self, kind: FileKind, name: str) -> Stat:
        """Raises ObjectNotFoundError where there is none."""
        ...

    def list(self, kind: FileKind) -> Iterator[Stat]:
        """Each object of the kind exactly once, in any order; names not ours are passed over."""
        ...

    def remove(self, kind: FileKind, name: str) -> None:
        """Removes, durable.

        Raises:
            ObjectNotFoundError: there was none.
        """
        ...

    def sweep(self, older_than: float) -> int:
        """Removes what interrupted writers left behind more than so many seconds ago; how many.

        Never a whole object.
        """
        ...

    def reserve(self, size: int) -> int:
        """Keeps so many bytes of room aside for the day when there is none; 0 gives all of it
        back. How many are kept now: no fewer than asked for, or 0 where a store has no disk of its
        own that could run full.

        Raises:
            StorageFullError: there is no room for it; what was kept before still is.
        """
        ...

    def close(self) -> None: ...
