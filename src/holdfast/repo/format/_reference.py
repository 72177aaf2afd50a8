"""What `_rabin.c` does, in Python: the plain statement that tests hold it to.

It also runs where the extension could not be built, some hundred times slower. `blobtable` says
what rows are.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING

from holdfast.core.ids import ID_SIZE

if TYPE_CHECKING:
    from holdfast.repo.format.crypto import Buffer

MIN_SIZE = 512 << 10
MAX_SIZE = 8 << 20
DEGREE = 53
ROW_SIZE = 48
TREE = 1 << 31
_WINDOW = 64
_CUT_MASK = (1 << 20) - 1
_KIND_AND_PACK = struct.Struct(">I")
_LENGTHS = struct.Struct(">II")


def remainder(value: int, polynomial: int) -> int:
    """Polynomials over two elements, a bit for each coefficient."""
    length = polynomial.bit_length()
    while value.bit_length() >= length:
        value ^= polynomial << (value.bit_length() - length)
    return value


def next_cut(polynomial: int, data: Buffer, at_end: bool, /) -> int:  # noqa: FBT001  as in C
    """Length of the first chunk, 0 if more bytes are needed to tell: restic's way, byte by byte."""
    if polynomial.bit_length() != DEGREE + 1:
        raise ValueError("the polynomial is not of degree 53")
    view = memoryview(data)
    if len(view) < MIN_SIZE:
        return len(view) if at_end else 0
    reduce = [remainder(b << DEGREE, polynomial) | b << DEGREE for b in range(256)]
    leave = [remainder(b << 8 * (_WINDOW - 1), polynomial) for b in range(256)]
    window = bytearray(_WINDOW)
    window[0] = digest = 1  # each chunk starts as if a byte of value 1 had come before it
    for length in range(MIN_SIZE - _WINDOW + 1, min(len(view), MAX_SIZE) + 1):
        place = (length - MIN_SIZE) % _WINDOW
        byte = view[length - 1]
        digest ^= leave[window[place]]
        window[place] = byte
        digest = (digest << 8 | byte) ^ reduce[digest >> (DEGREE - 8)]
        if length >= MIN_SIZE and (not digest & _CUT_MASK or length == MAX_SIZE):
            return length
    return len(view) if at_end else 0


def scan_index(_document: Buffer, /) -> tuple[bytes, bytes] | None:
    """Packs and rows of a document that is written as usual; None leaves it to the JSON parser.

    Python has nothing that is faster than that, so this one leaves it every document.
    """
    return None


def _split(rows: Buffer, size: int) -> list[bytes]:
    return [bytes(rows[at : at + size]) for at in range(0, len(rows), size)]


def _count(rows: Buffer) -> int:
    if len(rows) % ROW_SIZE:
        raise ValueError("these are no rows")
    return len(rows) // ROW_SIZE


def _pack_number(rows: Buffer, row: int) -> int:
    number: int = _KIND_AND_PACK.unpack_from(rows, ROW_SIZE * row + ID_SIZE)[0]
    return number & ~TREE


def sort_rows(rows: bytearray | memoryview, /) -> int:
    """Sorts in place and drops repeated rows; how many are left at the front."""
    _count(rows)
    distinct = sorted(set(_split(rows, ROW_SIZE)))
    rows[: ROW_SIZE * len(distinct)] = b"".join(distinct)
    return len(distinct)


def renumber(rows: bytearray | memoryview, numbers: Buffer, /) -> None:
    """Replaces each pack number by what the unsigned 32-bit `numbers` have in its place."""
    replacement = memoryview(numbers).cast("B").cast("I")
    for row in range(_count(rows)):
        at = ROW_SIZE * row + ID_SIZE
        old = _KIND_AND_PACK.unpack_from(rows, at)[0]
        if old & ~TREE >= len(replacement):
            raise ValueError("a row names a pack that is not there")
        _KIND_AND_PACK.pack_into(rows, at, old & TREE | replacement[old & ~TREE] & ~TREE)


def row_starts(rows: Buffer, bits: int, /) -> bytes:
    """For each first so many bits of an id the first row that is not below them; then the count."""
    count = _count(rows)
    if not 0 <= bits <= 24:  # noqa: PLR2004
        raise ValueError("0 to 24 bits of an id can be looked up")
    starts: list[int] = []
    for row in range(count):
        prefix = int.from_bytes(rows[ROW_SIZE * row : ROW_SIZE * row + 4]) >> (32 - bits)
        starts += [row] * (prefix + 1 - len(starts))
    starts += [count] * ((1 << bits) + 1 - len(starts))
    return struct.pack(f">{len(starts)}I", *starts)


def find_row(rows: Buffer, _starts: Buffer, blob: Buffer, tree: bool, /) -> int:  # noqa: FBT001  as in C
    """Number of the first row of a blob, or -1."""
    if len(blob) != ID_SIZE:
        raise ValueError("an id has 32 bytes")
    count = _count(rows)
    key = bytes(blob) + (b"\x80" if tree else b"\0")

    def beginning(row: int) -> bytes:
        return bytes(rows[ROW_SIZE * row : ROW_SIZE * row + len(key)])

    row = bisect_left(range(count), key, key=beginning)
    if row == count or beginning(row)[:-1] != key[:-1] or beginning(row)[-1] >> 7 != tree:
        return -1
    return row


def have_rows(rows: Buffer, starts: Buffer, ids: Buffer, tree: bool, /) -> bytes:  # noqa: FBT001  as in C
    """For each of the concatenated ids 1 where there is a row, else 0."""
    if len(ids) % ID_SIZE:
        raise ValueError("an id has 32 bytes")
    return bytes(find_row(rows, starts, blob, tree) >= 0 for blob in _split(ids, ID_SIZE))


def order_by_pack(rows: Buffer, packs: int, /) -> tuple[bytes, bytes]:
    """Where each pack's row numbers end; the row numbers, pack by pack. Native 32-bit numbers."""
    numbers = [_pack_number(rows, row) for row in range(_count(rows))]
    sizes = [0] * packs
    for number in numbers:
        if number >= packs:
            raise ValueError("a row names a pack that is not there")
        sizes[number] += 1
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    return array("I", accumulate(sizes)).tobytes(), array("I", order).tobytes()


def pack_lengths(rows: Buffer, packs: int, plain: int, compressed: int, /) -> bytes:
    """For each pack the lengths of its rows, each with one of the two numbers added: the second
    where the row has a plaintext length. Native 64-bit numbers.
    """
    sums = [0] * packs
    for row in range(_count(rows)):
        number = _pack_number(rows, row)
        if number >= packs:
            raise ValueError("a row names a pack that is not there")
        length, raw_length = _LENGTHS.unpack_from(rows, ROW_SIZE * row + ID_SIZE + 8)
        sums[number] += length + (compressed if raw_length else plain)
    return array("Q", sums).tobytes()
