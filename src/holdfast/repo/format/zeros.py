"""Runs of zeros, which chunkers cut at the smallest size: one blob, whose name tells all of its
content.
"""

from __future__ import annotations

import hashlib

from holdfast.core.ids import BlobId
from holdfast.repo.format.chunker import MIN_SIZE
from holdfast.repo.format.codec import MAX_DATA

ZERO_PIECE = MIN_SIZE
"""A blob of at least this size that is all zeros becomes a hole. Long runs of zeros are cut into
blobs of just this size.
"""
_ZEROS = bytes(MAX_DATA)
ZERO_BLOB = BlobId(hashlib.sha256(memoryview(_ZEROS)[:ZERO_PIECE]).digest())
"""Its name tells all of its content, so that it need not be read."""


def zero_piece() -> memoryview:
    """The content of ZERO_BLOB."""
    return memoryview(_ZEROS)[:ZERO_PIECE]


def is_zero(content: memoryview) -> bool:
    if content.obj is _ZEROS:
        return True
    if content and (content[0] or content[-1]):
        return False
    return _ZEROS.startswith(content)  # compares with memcmp, a memoryview does item by item
