"""Names of things in a repository. Mixing them up loses data, so each is its own type."""

from __future__ import annotations

from typing import NewType

BlobId = NewType("BlobId", bytes)
"""SHA-256 of a blob's plaintext, 32 bytes."""
PackId = NewType("PackId", bytes)
"""SHA-256 of a whole pack file, 32 bytes."""
ObjectId = NewType("ObjectId", str)
"""File name of a snapshot, index, lock or key: the SHA-256 of the stored file in 64 hexadecimal
digits.
"""

ID_SIZE = 32
SHORT_ID = 8
"""Digits that people see of a snapshot's name."""
