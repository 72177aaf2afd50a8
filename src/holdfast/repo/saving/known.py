"""Which blobs a running backup need not store: those that the repository has, and those it has
promised to store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.repo.format.pack import BlobKind
from holdfast.repo.format.tree import blob_id

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from holdfast.core.ids import BlobId, PackId
    from holdfast.repo.blobs.index import Index


class KnownBlobs:
    """`distrusted`: packs whose blobs count as absent, although the index names them."""

    def __init__(self, index: Index, distrusted: AbstractSet[PackId]) -> None:
        self._index = index
        self._distrusted = distrusted
        self._promised: tuple[set[BlobId], set[BlobId]] = (set(), set())

    def has(self, blob: BlobId, kind: BlobKind) -> bool:
        """Whether the blob is, or will be by the end, in a pack that can be relied on."""
        if blob in self._promised[kind]:
            return True
        if not self._distrusted:
            return self._index.find(blob, kind) is not None
        places = self._index.find_all(blob, kind)
        return any(place.pack not in self._distrusted for place in places)

    def has_content(self, content: Sequence[str]) -> bool:
        """`has` for all data blobs of a file, named in hexadecimal digits as its node has them."""
        try:
            ids = bytes.fromhex("".join(content))
        except ValueError:
            return False  # a damaged node: its file is read again
        if not self._distrusted and all(self._index.contains_many(ids, BlobKind.DATA)):
            return True
        return all(self.has(blob_id(blob), BlobKind.DATA) for blob in content)

    def promise(self, blob: BlobId, kind: BlobKind) -> bool:
        """True where the blob is new: then the caller stores it, and it counts as known from now
        on.
        """
        if self.has(blob, kind):
            return False
        self._promised[kind].add(blob)
        return True

    def promise_data(self, blobs: Sequence[BlobId]) -> bytes:
        """`promise` for many data blobs: one byte for each, 1 where it is new."""
        return bytes([self.promise(blob, BlobKind.DATA) for blob in blobs])
