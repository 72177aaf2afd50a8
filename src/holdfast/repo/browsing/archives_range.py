"""A zip whose bytes are settled before the first is made: its size is known, the same tree gives
the same bytes, and any range of it can be given alone.

Members are stored. One of a single blob has its CRC-32 in front; a larger one in a descriptor
behind its content. The list at the end needs the CRC-32 of every member: they are remembered as
they are seen, and kept beside the repository's cache under the name of the tree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from holdfast.core.ids import BlobId
    from holdfast.repo.browsing.streaming import ReadPool


class StoredZip:
    """Safe for threads; keep it while its ranges are asked for, since making it walks the tree."""

    size: int
    """Bytes, exactly."""

    def __init__(
        self,
        pool: ReadPool,
        tree: BlobId,
        *,
        top: bytes = b"",
        on_problem: Callable[[bytes, str], None] | None = None,
    ) -> None:
        """Walks the tree; reads no content. `top`: as of `archives.archive`.

        Raises:
            UnreadableError, DamagedError: a tree cannot be read, or the index lacks a blob.
        """
        raise NotImplementedError

    @property
    def tag(self) -> str:
        """The same for the same bytes: for an ETag."""
        raise NotImplementedError

    def pieces(self, start: int = 0, stop: int | None = None) -> Generator[bytes, None, None]:
        """Bytes from `start` up to and without `stop` (None: the end). Close it when leaving early.

        A range that reaches into the list at the end, asked for before anybody read the members,
        has them read first.

        Raises:
            ValueError: not 0 <= start <= stop <= size.
            UnreadableError: a blob is in no place whole.
        """
        raise NotImplementedError
