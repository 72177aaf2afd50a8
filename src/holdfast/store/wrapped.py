"""A store around a store. Behaviours (retry, throttle, cache) override what they change."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.store.contract import FileKind, Properties, Stat, Store


class WrappedStore:
    """Hands everything to the store inside."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.address = inner.address

    @property
    def properties(self) -> Properties:
        return self.inner.properties

    def create(self) -> None:
        self.inner.create()

    def put(self, kind: FileKind, name: str, data: bytes | memoryview) -> None:
        self.inner.put(kind, name, data)

    def get(self, kind: FileKind, name: str) -> bytes:
        return self.inner.get(kind, name)

    def get_range(self, kind: FileKind, name: str, offset: int, length: int) -> bytes:
        return self.inner.get_range(kind, name, offset, length)

    def stat(self, kind: FileKind, name: str) -> Stat:
        return self.inner.stat(kind, name)

    def list(self, kind: FileKind) -> Iterator[Stat]:
        return self.inner.list(kind)

    def remove(self, kind: FileKind, name: str) -> None:
        self.inner.remove(kind, name)

    def sweep(self, older_than: float) -> int:
        return self.inner.sweep(older_than)

    def reserve(self, size: int) -> int:
        return self.inner.reserve(size)

    def close(self) -> None:
        self.inner.close()
