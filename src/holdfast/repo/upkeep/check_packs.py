"""Reading packs whole and believing nothing: the digest of the file, its header against the index,
and each blob opened, inflated and compared with its name.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.core.errors import DamagedError, StoreError
from holdfast.core.ids import BlobId, PackId
from holdfast.repo.blobs.blobtable import Location
from holdfast.repo.format.codec import Codec
from holdfast.repo.format.crypto import OVERHEAD, Cipher
from holdfast.repo.format.pack import (
    LENGTH_FIELD,
    MAX_PACK_SIZE,
    BlobKind,
    PackedBlob,
    decode_header,
    header_size,
    plaintext_limit,
    read_header_length,
)
from holdfast.repo.spread import answers, spread_work
from holdfast.store.contract import FileKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from holdfast.core.progress import Progress
    from holdfast.repo.blobs.blobtable import BlobTable
    from holdfast.repo.processes import Message
    from holdfast.repo.repository import Repository
    from holdfast.repo.spread import Spread


_LARGEST = 4 * MAX_PACK_SIZE
"""A larger file is not read into memory: whoever put it there means harm (F32)."""


@dataclass(frozen=True, slots=True)
class BadBlob:
    id: BlobId
    kind: BlobKind
    why: str


@dataclass(frozen=True, slots=True)
class PackVerdict:
    """What reading a pack showed; `trouble` is empty where everything is as it was written."""

    pack: PackId
    size: int
    trouble: tuple[str, ...]
    bad: tuple[BadBlob, ...]


def read_packs(
    repository: Repository,
    table: BlobTable,
    packs: Mapping[PackId, int],
    *,
    progress: Progress,
    workers: int | None = None,
) -> Iterator[PackVerdict]:
    """Reads each of the packs, given with the size that the store says it has.

    It forks when it is called, not when the first verdict is asked for.
    """

    def make() -> Callable[[Message], Message]:
        return _PackReader(repository, table).read

    return _verdicts(spread_work(repository.store, make, workers=workers), packs, progress)


def _verdicts(
    spread: Spread, packs: Mapping[PackId, int], progress: Progress
) -> Iterator[PackVerdict]:
    try:
        for pack, size, trouble, bad in answers(spread, packs.items()):
            progress.add(items=1, bytes=size)
            yield PackVerdict(
                PackId(pack),
                size,
                tuple(trouble),
                tuple(BadBlob(BlobId(blob), BlobKind(kind), why) for blob, kind, why in bad),
            )
    finally:
        spread.close()


class _PackReader:
    """The worker's side."""

    def __init__(self, repository: Repository, table: BlobTable) -> None:
        self._store = repository.store
        self._table = table
        self._cipher = Cipher(repository.objects.key)
        self._codec = Codec()
        self._scratch = memoryview(bytearray(1 << 20))

    def read(self, piece: Message) -> Message:
        """(pack, size) -> (pack, bytes read, what is wrong with the pack, [(blob, kind, why)])"""
        pack, size = piece
        if size > _LARGEST:
            why = f"no pack is as large as its {size} bytes"
            return pack, 0, [why], [(b.id, b.kind, why) for b in _indexed(self._table, pack)]
        try:
            content = memoryview(self._store.get_range(FileKind.PACK, pack.hex(), 0, size))
        except StoreError as error:
            blobs = _indexed(self._table, pack)
            bad = [(blob.id, blob.kind, error.message) for blob in blobs]
            return pack, 0, [error.message], bad
        trouble = []
        if hashlib.sha256(content).digest() != pack:
            trouble.append("its content does not match its name")
        blobs = self._blobs(pack, content, trouble)
        bad = []
        for blob in blobs:
            why = self._fault(content, blob)
            if why:
                bad.append((blob.id, blob.kind, why))
        return pack, size, trouble, bad

    def _blobs(self, pack: bytes, content: memoryview, trouble: list[str]) -> list[PackedBlob]:
        """The blobs that the header names, if it can be believed, else those that the index
        names.
        """
        try:
            blobs = self._header(content)
        except DamagedError as error:
            trouble.append(f"its header cannot be read: {error.message}")
            return _indexed(self._table, pack)
        if not all(self._is_indexed(pack, blob) for blob in blobs):
            trouble.append("its header and the index do not agree")
            return sorted({*blobs, *_indexed(self._table, pack)}, key=lambda blob: blob.offset)
        return blobs

    def _header(self, content: memoryview) -> list[PackedBlob]:
        if len(content) <= LENGTH_FIELD:
            raise DamagedError("the pack is too short to have one")
        length = read_header_length(bytes(content[-LENGTH_FIELD:]), len(content))
        start = len(content) - LENGTH_FIELD - length
        blobs = decode_header(self._cipher.open(content[start:-LENGTH_FIELD]))
        if sum(blob.length for blob in blobs) != start:
            raise DamagedError("it does not add up to the size of the pack")
        return blobs

    def _is_indexed(self, pack: bytes, blob: PackedBlob) -> bool:
        wanted = Location(PackId(pack), blob.offset, blob.length, blob.raw_length, blob.kind)
        return wanted in self._table.locations(blob.id, blob.kind)

    def _fault(self, content: memoryview, blob: PackedBlob) -> str:
        """What is wrong with a blob, empty where nothing is."""
        if blob.length < OVERHEAD or blob.offset + blob.length > len(content):
            return "the pack ends before it does"
        if blob.length > len(self._scratch):
            self._scratch = memoryview(bytearray(blob.length + (blob.length >> 2)))
        try:
            length = self._cipher.open_into(
                content[blob.offset : blob.offset + blob.length], self._scratch
            )
            plaintext: bytes | memoryview = self._scratch[:length]
            if blob.raw_length:
                plaintext = self._codec.inflate(plaintext, plaintext_limit(blob.kind))
                if len(plaintext) != blob.raw_length:
                    return "its size is not the one that was noted"
        except DamagedError as error:
            return error.message
        if hashlib.sha256(plaintext).digest() != blob.id:
            return "its content does not match its name"
        return ""


def _indexed(table: BlobTable, pack: bytes) -> list[PackedBlob]:
    return next((blobs for _, blobs in table.by_pack(only={PackId(pack)})), [])


def expected_size(blobs: list[PackedBlob]) -> int:
    """Bytes that a pack of just these blobs has."""
    return sum(blob.length for blob in blobs) + header_size(blobs)
