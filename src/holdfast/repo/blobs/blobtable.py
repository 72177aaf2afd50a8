"""Where blobs lie, in 48 bytes each: sorted rows, searched in memory or in a mapped file.

A row is the blob's id, then four big-endian numbers: kind (top bit) and pack, offset, length, and
length of the plaintext or 0; rows sort as bytes. Packs are numbered by their place in the sorted
list of their ids. So a table is the same bytes whichever way its contents came together.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.ids import ID_SIZE, BlobId, PackId
from holdfast.repo.format import _kernel
from holdfast.repo.format._reference import ROW_SIZE, TREE
from holdfast.repo.format.pack import (
    COMPRESSED_ENTRY,
    ENTRY,
    HEADER_FRAME,
    BlobKind,
    PackedBlob,
)

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence

    from holdfast.repo.format.crypto import Buffer

_ROW = struct.Struct(">32sIIII")
_MAX_BITS = 24
_BITS_LEFT = 4
"""Up to sixteen rows, in the mean, share the first bits by which they are looked up."""


class Location(NamedTuple):
    """Where a blob lies. `raw_length` is that of the plaintext if it is compressed, else 0."""

    pack: PackId
    offset: int
    length: int
    raw_length: int
    kind: int


class Part(NamedTuple):
    """Pack ids and rows in any order, the packs numbered by their place in this part."""

    packs: Buffer
    rows: Buffer


@dataclass(frozen=True, slots=True, eq=False)
class BlobTable:
    """Immutable; safe for threads, and shared by forked processes."""

    packs: Buffer
    rows: Buffer
    starts: Buffer
    """Where ids with each of the possible first bits start; narrows the search."""

    def __len__(self) -> int:
        return len(self.rows) // ROW_SIZE

    def row_of(self, blob: bytes, kind: int) -> int:
        """Number of the blob's first row, for who keeps notes on blobs; -1 where it has none."""
        if not self.rows:
            return -1
        return _kernel.find_row(self.rows, self.starts, blob, kind == BlobKind.TREE)

    def first(self, blob: BlobId, kind: int) -> Location | None:
        """Some place where the blob lies."""
        row = self.row_of(blob, kind)
        if row < 0:
            return None
        _, place, offset, length, raw_length = _ROW.unpack_from(self.rows, ROW_SIZE * row)
        return Location(self._pack(place & ~TREE), offset, length, raw_length, kind)

    def locations(self, blob: BlobId, kind: int) -> Iterator[Location]:
        """Every place where the blob lies."""
        row = self.row_of(blob, kind)
        for following in range(row, len(self)) if row >= 0 else ():
            found, place, offset, length, raw = _ROW.unpack_from(self.rows, ROW_SIZE * following)
            if found != blob or place >> 31 != kind:
                return
            yield Location(self._pack(place & ~TREE), offset, length, raw, kind)

    def have(self, ids: Buffer, kind: int) -> bytes:
        """For each of the concatenated ids 1 where the blob has a row, else 0."""
        return _kernel.have_rows(self.rows, self.starts, ids, kind == BlobKind.TREE)

    def by_pack(
        self, only: Container[PackId] | None = None
    ) -> Iterator[tuple[PackId, list[PackedBlob]]]:
        """Each pack once, or each of those asked for; sorted by id, its blobs sorted by offset."""
        count = len(self.packs) // ID_SIZE
        ends, order = (memoryview(n).cast("I") for n in _kernel.order_by_pack(self.rows, count))
        for number, (start, end) in enumerate(pairwise(chain((0,), ends))):
            pack = self._pack(number)
            if only is None or pack in only:
                blobs = [self._blob(row) for row in order[start:end]]
                blobs.sort(key=_offset)
                yield pack, blobs

    def pack_sizes(self) -> Iterator[tuple[PackId, int]]:
        """Each pack once with the size that a file of just its blobs has; sorted by id."""
        count = len(self.packs) // ID_SIZE
        lengths = _kernel.pack_lengths(self.rows, count, ENTRY, COMPRESSED_ENTRY)
        for number, length in enumerate(memoryview(lengths).cast("Q")):
            yield self._pack(number), length + HEADER_FRAME

    def _pack(self, number: int) -> PackId:
        return PackId(bytes(self.packs[ID_SIZE * number : ID_SIZE * (number + 1)]))

    def _blob(self, row: int) -> PackedBlob:
        blob, place, offset, length, raw_length = _ROW.unpack_from(self.rows, ROW_SIZE * row)
        return PackedBlob(BlobId(blob), place >> 31, offset, length, raw_length)


def _offset(blob: PackedBlob) -> int:
    return blob.offset


def part_of(packs: Iterable[tuple[PackId, Sequence[PackedBlob]]]) -> Part:
    """Rows of packs and their blobs.

    Raises:
        struct.error: a number does not fit into 32 bits.
    """
    names, rows = bytearray(), bytearray()
    for number, (pack, blobs) in enumerate(packs):
        names += pack
        for blob in blobs:
            place = number | blob.kind << 31
            rows += _ROW.pack(blob.id, place, blob.offset, blob.length, blob.raw_length)
    return Part(names, rows)


def build(parts: Iterable[Part | BlobTable]) -> BlobTable:
    """One table of all the parts; what is in several of them is in it once.

    Takes the room of the result and little more.
    """
    packs, rows = bytearray(), bytearray()
    ends = [(0, 0)]
    for part in parts:
        packs += part.packs
        rows += part.rows
        ends.append((len(packs) // ID_SIZE, len(rows)))
    packs, numbers = _sort_packs(packs)
    with memoryview(rows) as view:
        for (first_pack, first_byte), (end_pack, end_byte) in pairwise(ends):
            _kernel.renumber(view[first_byte:end_byte], numbers[first_pack:end_pack])
        distinct = _kernel.sort_rows(view)
    del rows[ROW_SIZE * distinct :]
    bits = min(max(distinct.bit_length() - _BITS_LEFT, 0), _MAX_BITS)
    return BlobTable(packs, rows, _kernel.row_starts(rows, bits))


def _sort_packs(packs: bytearray) -> tuple[bytearray, memoryview]:
    """The distinct ids sorted, and for each given one its place among them."""
    ids = [bytes(packs[at : at + ID_SIZE]) for at in range(0, len(packs), ID_SIZE)]
    result = bytearray()
    numbers = array("I", bytes(4 * len(ids)))
    previous = b""
    for given in sorted(range(len(ids)), key=ids.__getitem__):
        if ids[given] != previous:
            previous = ids[given]
            result += previous
        numbers[given] = len(result) // ID_SIZE - 1
    return result, memoryview(numbers)
