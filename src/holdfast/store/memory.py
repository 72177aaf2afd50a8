"""A repository in memory: gone with its process; for tests and for trying things out."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from holdfast.core.clock import SystemClock
from holdfast.core.errors import ObjectExistsError, ObjectNotFoundError, StoreError
from holdfast.store.contract import FileKind, Properties, Stat
from holdfast.store.layout import check_name, describe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.core.clock import Clock


class MemoryStore:
    """Keeps every promise of `Store` but durability, within one process."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self.address = "memory:"
        self.properties = Properties(put_if_absent=True, local=True, connections=2, forkable=False)
        self._clock = clock or SystemClock()
        self._lock = Lock()
        self._objects: dict[tuple[FileKind, str], tuple[bytes, int]] = {}

    def create(self) -> None:
        """There are no folders to make."""

    def put(self, kind: FileKind, name: str, data: bytes | memoryview) -> None:
        check_name(kind, name)
        with self._lock:
            if (kind, name) in self._objects:
                raise ObjectExistsError(f"{describe(kind, name)} is there already")
            self._objects[kind, name] = bytes(data), self._clock.now()

    def get(self, kind: FileKind, name: str) -> bytes:
        return self._find(kind, name)[0]

    def get_range(self, kind: FileKind, name: str, offset: int, length: int) -> bytes:
        data, _ = self._find(kind, name)
        start = offset if offset >= 0 else len(data) + offset
        if start < 0 or start + length > len(data):
            raise StoreError(
                f"{describe(kind, name)} has {len(data)} bytes: too few for {length} from {offset}"
            )
        return data[start : start + length]

    def stat(self, kind: FileKind, name: str) -> Stat:
        data, mtime = self._find(kind, name)
        return Stat(name, len(data), mtime)

    def list(self, kind: FileKind) -> Iterator[Stat]:
        with self._lock:
            found = [
                Stat(name, len(data), mtime)
                for (its_kind, name), (data, mtime) in self._objects.items()
                if its_kind is kind
            ]
        yield from found

    def remove(self, kind: FileKind, name: str) -> None:
        check_name(kind, name)
        with self._lock:
            if self._objects.pop((kind, name), None) is None:
                raise ObjectNotFoundError(f"there is no {describe(kind, name)}")

    def sweep(self, older_than: float) -> int:  # noqa: ARG002  nothing is ever half-written here
        return 0

    def reserve(self, size: int) -> int:  # noqa: ARG002  there is no disk of ours
        return 0

    def close(self) -> None:
        """The objects stay, as they would anywhere else."""

    def _find(self, kind: FileKind, name: str) -> tuple[bytes, int]:
        check_name(kind, name)
        with self._lock:
            found = self._objects.get((kind, name))
        if found is None:
            raise ObjectNotFoundError(f"there is no {describe(kind, name)}")
        return found
