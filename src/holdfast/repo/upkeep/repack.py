"""Moves blobs from packs into new packs: sealed bytes are copied unchanged, after each blob was
opened and compared with its name. Nothing is sealed anew unless it is to be compressed.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.errors import DamagedError, StoreError
from holdfast.core.ids import BlobId, PackId
from holdfast.core.units import counted
from holdfast.repo.damage import stored_packs, unlisted_packs
from holdfast.repo.format.codec import Codec
from holdfast.repo.format.pack import BlobKind, PackedBlob, StoredPack
from holdfast.repo.objects import Objects
from holdfast.repo.saving.packer import Packer
from holdfast.repo.spread import answers, spread_work
from holdfast.store.contract import FileKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from holdfast.core.progress import Progress
    from holdfast.repo.lock import Lock
    from holdfast.repo.processes import Message
    from holdfast.repo.repository import Repository

_BLOBS_AT_ONCE = 800
"""Blobs of one pack that are given to a worker at once: what is under way must fit a pipe."""
_GAP = 64 << 10
"""Bytes that nobody needs are read along when they are fewer than this: one read is cheaper than
two.
"""
_SPAN = 8 << 20
"""Largest single read, if no blob is larger."""


@dataclass(frozen=True, slots=True)
class Unmoved:
    """A blob that could not be read out of a pack, and why."""

    pack: PackId
    blob: BlobId
    kind: BlobKind
    why: str


@dataclass(frozen=True, slots=True)
class Repacked:
    packs: tuple[StoredPack, ...]
    """new packs, durable and in no index yet"""
    unmoved: tuple[Unmoved, ...]


def repack(
    repository: Repository,
    wanted: Mapping[PackId, Sequence[PackedBlob]],
    *,
    pack_size: int,
    progress: Progress,
    compress: AbstractSet[PackId] = frozenset(),
    lock: Lock | None = None,
    workers: int | None = None,
) -> Repacked:
    """Stores the wanted blobs of each pack in new packs, data and trees apart, durable before it
    returns.

    What cannot be read is in the result, and everything else is moved. Blobs of the packs in
    `compress` are compressed where they are not. Call before any thread is started.

    Raises:
        StoreError: a new pack could not be stored; some may have been.
    """

    def make() -> Callable[[Message], Message]:
        return _Mover(repository, pack_size).move

    spread = spread_work(repository.store, make, workers=workers)
    packs: list[StoredPack] = []
    unmoved: list[Unmoved] = []

    def note(news: Sequence[Message], failures: Sequence[Message]) -> None:
        packs.extend(read_news(news))
        for pack, blob, kind, why in failures:
            unmoved.append(Unmoved(PackId(pack), BlobId(blob), BlobKind(kind), why))

    pieces = _pieces(wanted, compress)
    try:
        with lock.refreshing() if lock else nullcontext():
            for size, news, failures in answers(spread, pieces):
                progress.add(items=1, bytes=size)
                note(news, failures)
            for _, news, failures in spread.every(()):
                note(news, failures)
    finally:
        spread.close()
    _require_stored(repository, packs)
    return Repacked(tuple(packs), tuple(unmoved))


def _pieces(
    wanted: Mapping[PackId, Sequence[PackedBlob]], compress: AbstractSet[PackId]
) -> Iterator[Message]:
    for pack, blobs in wanted.items():
        for at in range(0, len(blobs), _BLOBS_AT_ONCE):
            part = [tuple(blob) for blob in blobs[at : at + _BLOBS_AT_ONCE]]
            yield pack, part, pack in compress


def _require_stored(repository: Repository, packs: Sequence[StoredPack]) -> None:
    """Old packs go on the strength of the new ones: see that they are there, by the store's own
    word.
    """
    if not packs:
        return
    sizes = stored_packs(repository)
    sizes |= unlisted_packs(repository, {pack.id for pack in packs} - sizes.keys())
    lost = [pack for pack in packs if sizes.get(pack.id) != pack.size]
    if lost:
        raise StoreError(
            f"{repository.store.address} does not have {counted(len(lost), 'pack')} that were"
            " stored just now",
            remedy="Nothing was deleted. Check the storage; earlier backups are untouched.",
        )


class _Span(NamedTuple):
    """Neighbouring blobs that are read at once."""

    start: int
    end: int
    blobs: list[PackedBlob]


class Outlet:
    """Where a worker puts blobs: packs of data and of trees; it tells of those that are stored."""

    def __init__(self, objects: Objects, pack_size: int) -> None:
        own = Objects(objects.store, objects.key, version=objects.version)
        self._stored: list[StoredPack] = []
        self.packers = {
            kind: Packer(own, Codec(), self._stored.append, pack_size=pack_size)
            for kind in BlobKind
        }

    def finish(self) -> None:
        """Everything that was put in is durable."""
        for packer in self.packers.values():
            packer.flush()
            packer.close()

    def news(self) -> list[Message]:
        """Packs that became durable since the last call, as a message."""
        news: list[Message] = []
        while self._stored:  # the writing threads append while we take
            done = self._stored.pop()
            news.append((done.id, done.size, [tuple(blob) for blob in done.blobs]))
        return news


def read_news(news: Sequence[Message]) -> list[StoredPack]:
    """What an outlet told of."""
    return [
        StoredPack(PackId(name), size, [PackedBlob(*blob) for blob in blobs])
        for name, size, blobs in news
    ]


class _Mover:
    """The worker's side."""

    def __init__(self, repository: Repository, pack_size: int) -> None:
        self._repository = repository
        self._outlet = Outlet(repository.objects, pack_size)

    def move(self, piece: Message) -> Message:
        """(pack, blobs, whether to compress) -> (bytes, news, failures); () finishes."""
        size = 0
        failures: list[tuple[bytes, bytes, int, str]] = []
        if piece:
            pack, raw, compress = piece
            for span in _spans([PackedBlob(*blob) for blob in raw]):
                size += span.end - span.start
                failures += self._move_span(pack, span, compress=compress)
        else:
            self._outlet.finish()
        return size, self._outlet.news(), failures

    def _move_span(
        self, pack: PackId, span: _Span, *, compress: bool
    ) -> list[tuple[bytes, bytes, int, str]]:
        try:
            content = memoryview(
                self._repository.store.get_range(
                    FileKind.PACK, pack.hex(), span.start, span.end - span.start
                )
            )
        except StoreError as error:
            if error.retryable:
                raise  # the store is in trouble, not the pack
            if len(span.blobs) > 1:  # a pack cut short still has the blobs before the cut
                return [
                    failure
                    for blob in span.blobs
                    for failure in self._move_span(
                        pack,
                        _Span(blob.offset, blob.offset + blob.length, [blob]),
                        compress=compress,
                    )
                ]
            return [(pack, blob.id, blob.kind, error.message) for blob in span.blobs]
        failures: list[tuple[bytes, bytes, int, str]] = []
        for blob in span.blobs:
            at = blob.offset - span.start
            sealed = content[at : at + blob.length]
            try:
                plaintext = self._repository.open_blob(blob.id, blob.kind, sealed, blob.raw_length)
            except DamagedError as error:
                failures.append((pack, blob.id, blob.kind, error.message))
                continue
            packer = self._outlet.packers[BlobKind(blob.kind)]
            if compress and not blob.raw_length:
                packer.add(blob.id, blob.kind, plaintext)
            else:
                packer.add_sealed(blob.id, blob.kind, sealed, blob.raw_length)
        return failures


def _spans(blobs: list[PackedBlob]) -> Iterator[_Span]:
    span: _Span | None = None
    for blob in sorted(blobs, key=lambda blob: blob.offset):
        end = blob.offset + blob.length
        if span and blob.offset - span.end < _GAP and end - span.start <= _SPAN:
            span = _Span(span.start, end, [*span.blobs, blob])
            continue
        if span:
            yield span
        span = _Span(blob.offset, end, [blob])
    if span:
        yield span
