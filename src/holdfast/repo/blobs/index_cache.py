"""The index kept in one local file that is mapped instead of read.

It is a hint. It names the index files that it covers; its digest is verified before anything in it
is believed; and whatever is wrong with it only means that the index files themselves are read.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
import tempfile
import time
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.ids import ID_SIZE
from holdfast.repo.blobs.blobtable import BlobTable
from holdfast.repo.format._reference import ROW_SIZE

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from holdfast.repo.format.crypto import Buffer

_MAGIC = b"HFINDEX1"
_HEADER = struct.Struct(">8sQQQQ")  # then the SHA-256 of header and sections, then the sections
_SECTIONS_AT = _HEADER.size + hashlib.sha256().digest_size
_ITEM_SIZES = (ID_SIZE, ID_SIZE, ROW_SIZE, 4)
_LEFTOVER_SECONDS = 3600


class Cached(NamedTuple):
    names: frozenset[str]
    """Index files that the table covers."""
    table: BlobTable


def read(path: Path) -> Cached | None:
    """The cached table, mapped read-only; None where there is not exactly what was written."""
    try:
        with path.open("rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError):  # ValueError: empty, or shrinking
        return None
    if len(content) < _SECTIONS_AT:
        return None
    magic, *counts = _HEADER.unpack_from(content)
    ends = list(
        accumulate(
            (count * size for count, size in zip(counts, _ITEM_SIZES, strict=True)),
            initial=_SECTIONS_AT,
        )
    )
    header, digest = content[: _HEADER.size], content[_HEADER.size : _SECTIONS_AT]
    if magic != _MAGIC or ends[-1] != len(content):
        return None
    if _digest(header, [content[_SECTIONS_AT:]]) != digest:
        return None
    names, packs, rows, starts = (content[start:end] for start, end in pairwise(ends))
    return Cached(
        frozenset(names[at : at + ID_SIZE].hex() for at in range(0, len(names), ID_SIZE)),
        BlobTable(packs, rows, starts),
    )


def write(path: Path, names: AbstractSet[str], table: BlobTable) -> bool:
    """Replaces the cache in one step; whether it could be done. Clears up behind killed writers."""
    sections = [b"".join(map(bytes.fromhex, sorted(names))), table.packs, table.rows, table.starts]
    counts = (len(s) // size for s, size in zip(sections, _ITEM_SIZES, strict=True))
    header = _HEADER.pack(_MAGIC, *counts)
    unfinished: Path | None = None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(path)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f"{path.name}.", suffix=".part", delete=False
        ) as file:
            unfinished = Path(file.name)
            for piece in (header, _digest(header, sections), *sections):
                file.write(piece)
        unfinished.replace(path)
    except OSError:
        if unfinished:
            _remove(unfinished)
        return False
    return True


def _digest(header: Buffer, sections: list[Buffer]) -> bytes:
    digest = hashlib.sha256(header)
    for section in sections:
        digest.update(section)
    return digest.digest()


def _sweep(path: Path) -> None:
    for leftover in path.parent.glob(f"{path.name}.*.part"):
        if leftover.stat().st_mtime < time.time() - _LEFTOVER_SECONDS:
            leftover.unlink()


def _remove(unfinished: Path) -> None:
    try:
        unfinished.unlink()
    except OSError:
        pass
