"""Data blobs for one worker, one after the other, in memory that is used again.

Packs in a directory are read with `preadv` into a kept buffer and not mapped: a disk that cannot
read a page of a mapped file kills the process, where a failed read loses one blob. From a distant
store, blobs that lie close together are fetched in one request.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from itertools import groupby
from typing import TYPE_CHECKING, Protocol

from holdfast.core.errors import DamagedError, ObjectNotFoundError, StoreError, UnreadableError
from holdfast.core.ids import SHORT_ID, BlobId, PackId
from holdfast.repo.format.codec import MAX_DATA, Codec
from holdfast.repo.format.crypto import OVERHEAD, Cipher
from holdfast.repo.format.pack import BlobKind
from holdfast.repo.format.zeros import ZERO_BLOB, ZERO_PIECE, zero_piece
from holdfast.store.contract import FileKind
from holdfast.store.directory import DirectoryStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from holdfast.repo.blobs.index import Location
    from holdfast.repo.repository import Repository
    from holdfast.store.contract import Store

OPEN_PACKS = 64
MAX_SEALED = MAX_DATA + (1 << 20)
"""A compressed blob may be a little larger than its plaintext, never this much."""
GAP = 64 << 10
"""Bytes that are rather fetched for nothing than skipped by another request."""
MAX_REQUEST = 16 << 20


class _Sealed(Protocol):
    def expect(self, locations: Iterable[Location]) -> None:
        """These will be read next."""
        ...

    def read(self, location: Location) -> memoryview:
        """A sealed blob, valid until the next is read. Raises StoreError."""
        ...

    def close(self) -> None: ...


class _PackFiles:
    """Packs that are files on this machine."""

    def __init__(self, store: DirectoryStore) -> None:
        self._store = store
        self._open: OrderedDict[PackId, int] = OrderedDict()
        self._buffer = memoryview(bytearray(1 << 20))

    def expect(self, locations: Iterable[Location]) -> None:
        pass

    def read(self, location: Location) -> memoryview:
        length = location.length
        if length > len(self._buffer):
            self._buffer = memoryview(bytearray(length + (length >> 2)))
        view = self._buffer[:length]
        try:
            got = os.preadv(self._descriptor(location.pack), [view], location.offset)
        except FileNotFoundError as error:
            raise ObjectNotFoundError("it is missing") from error
        except OSError as error:
            raise StoreError(f"it cannot be read: {error.strerror}") from error
        if got != length:
            raise StoreError("it is cut short")
        return view

    def _descriptor(self, pack: PackId) -> int:
        descriptor = self._open.get(pack)
        if descriptor is None:
            path = self._store.path_of(FileKind.PACK, pack.hex())
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._open[pack] = descriptor
            if len(self._open) > OPEN_PACKS:
                os.close(self._open.popitem(last=False)[1])
        else:
            self._open.move_to_end(pack)
        return descriptor

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])


class _Requests:
    """Packs that are read by request."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._fetched: dict[tuple[PackId, int], memoryview] = {}

    def expect(self, locations: Iterable[Location]) -> None:
        self._fetched.clear()
        wanted = sorted(set(locations))
        for pack, of_pack in groupby(wanted, key=lambda location: location.pack):
            for run in _runs(of_pack):
                start = run[0].offset
                length = run[-1].offset + run[-1].length - start
                try:
                    content = self._store.get_range(FileKind.PACK, pack.hex(), start, length)
                except StoreError:
                    continue  # `read` asks for each alone, and tells which of them is hit
                view = memoryview(content)
                for each in run:
                    at = each.offset - start
                    self._fetched[pack, each.offset] = view[at : at + each.length]

    def read(self, location: Location) -> memoryview:
        fetched = self._fetched.get((location.pack, location.offset))
        if fetched is not None and len(fetched) == location.length:
            return fetched
        return memoryview(
            self._store.get_range(
                FileKind.PACK, location.pack.hex(), location.offset, location.length
            )
        )

    def close(self) -> None:
        self._fetched.clear()


def _runs(locations: Iterable[Location]) -> Iterator[list[Location]]:
    """Locations of one pack, sorted, in runs that are worth one request each."""
    run: list[Location] = []
    for location in locations:
        if run:
            end = run[-1].offset + run[-1].length
            close = location.offset - end <= GAP
            if not close or location.offset + location.length - run[0].offset > MAX_REQUEST:
                yield run
                run = []
        run.append(location)
    if run:
        yield run


class BlobReader:
    """Belongs to one thread or process."""

    def __init__(self, repository: Repository) -> None:
        self._index = repository.index
        self._cipher = Cipher(repository.objects.key)
        self._codec = Codec()
        self._plain = memoryview(bytearray(1 << 20))
        store = repository.store
        self._sealed: _Sealed = (
            _PackFiles(store) if isinstance(store, DirectoryStore) else _Requests(store)
        )
        self._local = repository.store.properties.local

    def expect(self, blobs: Iterable[BlobId]) -> None:
        """Tells what will be read next, some 32 MiB at most, so that it can be fetched together."""
        if not self._local:
            found = (self._index.find(blob, BlobKind.DATA) for blob in blobs)
            self._sealed.expect(
                place for place in found if place is not None and place.length <= MAX_SEALED
            )

    def length(self, blob: BlobId) -> int:
        """Bytes of the plaintext.

        Raises:
            UnreadableError: the index does not know the blob.
        """
        if blob == ZERO_BLOB:
            return ZERO_PIECE
        place = self._index.find(blob, BlobKind.DATA)
        if place is None:
            raise UnreadableError(f"blob {blob.hex()[:SHORT_ID]} is missing from the index")
        return place.raw_length or place.length - OVERHEAD

    def read(self, blob: BlobId) -> memoryview:
        """The plaintext, authenticated and with the right digest (I4); valid until the next is
        read.

        Raises:
            UnreadableError: no place that the index knows has it whole.
        """
        if blob == ZERO_BLOB:
            return zero_piece()
        place = self._index.find(blob, BlobKind.DATA)
        if place is None:
            raise UnreadableError(f"blob {blob.hex()[:SHORT_ID]} is missing from the index")
        try:
            return self._open(blob, place)
        except (DamagedError, StoreError) as error:
            return self._read_elsewhere(blob, place, error)

    def _read_elsewhere(
        self, blob: BlobId, tried: Location, first: DamagedError | StoreError
    ) -> memoryview:
        failures = [f"pack {tried.pack.hex()[:SHORT_ID]}: {first.message}"]
        for place in self._index.find_all(blob, BlobKind.DATA):
            if place == tried:
                continue
            try:
                return self._open(blob, place)
            except (DamagedError, StoreError) as error:
                failures.append(f"pack {place.pack.hex()[:SHORT_ID]}: {error.message}")
        cause = "; ".join(failures)
        raise UnreadableError(f"blob {blob.hex()[:SHORT_ID]} cannot be read: {cause}")

    def _open(self, blob: BlobId, place: Location) -> memoryview:
        if place.length > MAX_SEALED:
            raise DamagedError(f"the index claims {place.length} bytes for a single blob")
        sealed = self._sealed.read(place)
        if len(self._plain) < place.length:
            self._plain = memoryview(bytearray(place.length + (place.length >> 2)))
        size = self._cipher.open_into(sealed, self._plain)
        plain = self._plain[:size]
        if place.raw_length:
            plain = memoryview(self._codec.inflate(plain, MAX_DATA))
        if hashlib.sha256(plain).digest() != blob:
            raise DamagedError("it does not have the content of its name")
        return plain

    def close(self) -> None:
        self._sealed.close()
