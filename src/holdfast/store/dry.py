"""A store that takes everything and keeps nothing: for runs that only say what they would do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.store.wrapped import WrappedStore

if TYPE_CHECKING:
    from holdfast.store.contract import FileKind


class DryStore(WrappedStore):
    """Reads from the store inside; whatever would change it is only counted as done."""

    def create(self) -> None:
        pass

    def put(self, kind: FileKind, name: str, data: bytes | memoryview) -> None:
        pass

    def remove(self, kind: FileKind, name: str) -> None:
        pass

    def sweep(self, older_than: float) -> int:  # noqa: ARG002
        return 0

    def reserve(self, size: int) -> int:  # noqa: ARG002
        return 0
