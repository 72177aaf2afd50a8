"""What a repository holds and where: every blob of every pack, for all who read or write."""

from __future__ import annotations

import threading
from operator import or_
from typing import TYPE_CHECKING

from holdfast.core.ids import ID_SIZE, BlobId, PackId
from holdfast.repo.blobs import index_cache
from holdfast.repo.blobs.blobtable import BlobTable, Location, build, part_of
from holdfast.repo.blobs.index_file import decode_rows
from holdfast.repo.format.pack import PackedBlob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

__all__ = ["Index", "Location"]

_SETTLE_AT = 1 << 16
"""Blobs of this run that wait in a dictionary, at some 400 bytes each, to become rows."""
_SETTLE_SHARE = 16
"""More of them may wait where there are that many times more rows to sort with them."""
_UNCACHED_FILES = 16
_UNCACHED_SHARE = 16
"""A cache is written anew once it lacks so many files, or one in so many rows of it."""


class Index:
    """Blobs of the index files, and those that were added since.

    A blob may lie in several packs; a data blob and a tree of one id are two blobs. Any thread may
    ask and add. What is added is known to this process alone; only an index file makes it last.
    """

    def __init__(self, table: BlobTable | None = None, newer: BlobTable | None = None) -> None:
        empty = build(())
        self._table = table or empty
        self._newer = newer or empty
        self._recent: tuple[dict[BlobId, tuple[Location, ...]], ...] = ({}, {})
        self._recent_count = 0
        self._gone: frozenset[PackId] = frozenset()
        self._adding = threading.Lock()

    @classmethod
    def load(
        cls, names: Iterable[str], load: Callable[[str], bytes], cache_path: Path | None = None
    ) -> Index:
        """The index that the named files make up; `load` gives a file's JSON document.

        What the cache covers is not loaded. It is used only if it covers none but these files, and
        is written where it is missing, wrong or far behind. Who deletes what the index does not
        know, or judges whether it is whole, gives no cache.

        Raises:
            DamagedError: a file is no index.
            Whatever `load` raises.
        """
        wanted = frozenset(names)
        cached = index_cache.read(cache_path) if cache_path else None
        if cached and not cached.names <= wanted:
            cached = None
        missing = sorted(wanted - cached.names) if cached else sorted(wanted)
        newer = build(decode_rows(load(name), name=name) for name in missing)
        if cached:
            few = len(missing) < _UNCACHED_FILES
            if few and len(newer) * _UNCACHED_SHARE <= len(cached.table):
                return cls(cached.table, newer)
            newer = build([cached.table, newer])
        if cache_path and index_cache.write(cache_path, wanted, newer):
            written = index_cache.read(cache_path)
            if written and written.names == wanted:
                return cls(written.table)  # mapped: workers share it, and memory is free to drop it
        return cls(newer)

    def find(self, blob: BlobId, kind: int) -> Location | None:
        """Some place where the blob lies, None if it is not known."""
        if self._gone:
            return next(self._locations(blob, kind), None)
        recent = self._recent[kind].get(blob)
        if recent:
            return recent[0]
        return self._newer.first(blob, kind) or self._table.first(blob, kind)

    def find_all(self, blob: BlobId, kind: int) -> list[Location]:
        """Every place where the blob lies."""
        return list(dict.fromkeys(self._locations(blob, kind)))

    def _locations(self, blob: BlobId, kind: int) -> Iterator[Location]:
        # Youngest first: blobs are in the older place before they leave the younger one.
        gone = self._gone
        for location in self._recent[kind].get(blob, ()):
            if location.pack not in gone:
                yield location
        for location in self._newer.locations(blob, kind):
            if location.pack not in gone:
                yield location
        for location in self._table.locations(blob, kind):
            if location.pack not in gone:
                yield location

    def contains_many(self, ids: bytes, kind: int) -> bytes:
        """For each of the concatenated ids 1 where the blob is known, else 0."""
        blobs = [BlobId(ids[at : at + ID_SIZE]) for at in range(0, len(ids), ID_SIZE)]
        if self._gone:
            return bytes(self.find(blob, kind) is not None for blob in blobs)
        recent = map(self._recent[kind].__contains__, blobs)
        settled = map(or_, self._newer.have(ids, kind), self._table.have(ids, kind))
        return bytes(map(or_, recent, settled))

    def add_pack(self, pack: PackId, blobs: Sequence[PackedBlob]) -> None:
        """Makes the blobs of a stored pack known, also those of a pack that was removed before."""
        with self._adding:
            self._gone -= {pack}
            for blob in blobs:
                recent = self._recent[blob.kind]
                location = Location(pack, blob.offset, blob.length, blob.raw_length, blob.kind)
                recent[blob.id] = (*recent.get(blob.id, ()), location)
            self._recent_count += len(blobs)
            if self._recent_count >= max(_SETTLE_AT, len(self._newer) // _SETTLE_SHARE):
                self._settle()

    def remove_packs(self, packs: Iterable[PackId]) -> None:
        """Forgets what lies in these packs: they are lost or damaged."""
        with self._adding:
            self._gone |= frozenset(packs)

    def _settle(self) -> None:
        """Turns the recent blobs into rows."""
        if self._recent_count:
            packs: dict[PackId, list[PackedBlob]] = {}
            for recent in self._recent:
                for blob, locations in recent.items():
                    for pack, *place, kind in locations:
                        packs.setdefault(pack, []).append(PackedBlob(blob, kind, *place))
            self._newer = build([self._newer, part_of(packs.items())])
            self._recent, self._recent_count = ({}, {}), 0

    def _whole(self) -> BlobTable:
        """Everything in one table."""
        with self._adding:
            self._settle()
            if len(self._newer.packs):
                self._table = build([self._table, self._newer])
                self._newer = build(())
            return self._table

    def by_pack(self) -> Iterator[tuple[PackId, list[PackedBlob]]]:
        """Each pack once, sorted by id, with its blobs sorted by offset."""
        return (item for item in self._whole().by_pack() if item[0] not in self._gone)

    def packs(self) -> Iterator[PackId]:
        """The ids of all packs, sorted."""
        ids = self._whole().packs
        for at in range(0, len(ids), ID_SIZE):
            pack = PackId(bytes(ids[at : at + ID_SIZE]))
            if pack not in self._gone:
                yield pack

    def pack_sizes(self) -> Iterator[tuple[PackId, int]]:
        """Each pack once, sorted by id, with the size that a file of just these blobs has."""
        return (item for item in self._whole().pack_sizes() if item[0] not in self._gone)

    def __len__(self) -> int:
        """How many places there are for all blobs together."""
        if self._gone:
            return sum(len(blobs) for _, blobs in self.by_pack())
        return len(self._whole())
