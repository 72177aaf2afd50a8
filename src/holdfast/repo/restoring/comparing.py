"""Whether a file in the destination has the content that a tree says."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from holdfast.core.errors import RestoreError
from holdfast.repo.restoring import destination as place

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdfast.core.ids import BlobId
    from holdfast.repo.browsing.reading import BlobReader


def holds(descriptor: int, offset: int, length: int, blob: BlobId) -> bool:
    """Whether a file has this blob there."""
    content = os.pread(descriptor, length, offset)
    return len(content) == length and hashlib.sha256(content).digest() == blob


def first_difference(folder: int, name: bytes, blobs: Iterable[BlobId], reader: BlobReader) -> str:
    """Where a file differs from its blobs, in words; empty where it does not.

    Raises:
        UnreadableError: the index does not know how long a blob is.
    """
    try:
        descriptor = place.open_file(folder, name)
    except (OSError, RestoreError) as error:
        return f"cannot be read again: {error}"
    try:
        offset = 0
        for blob in blobs:
            length = reader.length(blob)
            if not holds(descriptor, offset, length, blob):
                return f"differs from the snapshot within {length} bytes from {offset}"
            offset += length
        longer = os.fstat(descriptor).st_size != offset
        return f"is longer than the {offset} bytes of the snapshot" if longer else ""
    finally:
        os.close(descriptor)
