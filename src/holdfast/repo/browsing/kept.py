"""The files of a snapshot below its root, for whoever puts them back where they came from."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from holdfast.repo.browsing.streaming import open_file

if TYPE_CHECKING:
    from typing import BinaryIO

    from holdfast.core.ids import BlobId
    from holdfast.repo.browsing.streaming import ReadPool


class KeptFiles:
    """See `core.source.Kept`."""

    def __init__(self, pool: ReadPool, tree: BlobId, root: bytes) -> None:
        self._pool = pool
        self._tree = tree
        self._root = root.rstrip(b"/")

    def open(self, name: str) -> BinaryIO:
        path = self._root + b"/" + os.fsencode(name)
        return open_file(self._pool, self._tree, path).as_file()
