"""Content that is made on the fly."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdfast.service.keeping.contract import Buffer


class Made:
    """See `contract.Outgoing`; nobody knows the size before the end."""

    size: int | None = None

    def __init__(self, make: Callable[[], Iterator[Buffer]], *, modified: int) -> None:
        self.modified = modified
        self._make = make

    def pieces(self, start: int = 0, length: int | None = None) -> Iterator[Buffer]:
        """A part that does not begin at the beginning costs the making of all before it."""
        left = length
        for piece in self._make():
            if start >= len(piece):
                start -= len(piece)
                continue
            wanted = memoryview(piece)[start:][:left]
            start = 0
            yield wanted
            if left is not None:
                left -= len(wanted)
                if left <= 0:
                    return
