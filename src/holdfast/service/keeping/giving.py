"""Content of a plain pool on its way out; each block is compared with its digest first."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from holdfast.service.keeping import digests
from holdfast.service.keeping.disk import told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdfast.service.keeping.contract import Buffer
    from holdfast.service.keeping.digests import Content


class FolderOutgoing:
    """One file. `opened` gives a new descriptor each time."""

    def __init__(
        self, opened: Callable[[], int], content: Content, *, modified: int, what: str
    ) -> None:
        self.size: int | None = content.size
        self.modified = modified
        self._opened = opened
        self._content = content
        self._what = what

    def pieces(self, start: int = 0, length: int | None = None) -> Iterator[Buffer]:
        with told(f"read {self._what}"):
            descriptor = self._opened()
            try:
                yield from digests.pieces(descriptor, self._content, self._what, start, length)
            finally:
                os.close(descriptor)


def remeasured(opened: Callable[[], int], expected: Content, what: str) -> Content:
    """The digests of a file's blocks, made anew from the file where their list is lost: it must
    have the digest that the whole had.

    Raises:
        DamagedError: it has another.
    """
    with told(f"read {what}"):
        descriptor = opened()
        try:
            found = digests.measure(descriptor)
        finally:
            os.close(descriptor)
    if (found.size, found.sha256) != (expected.size, expected.sha256):
        raise digests.changed(what)
    return found
