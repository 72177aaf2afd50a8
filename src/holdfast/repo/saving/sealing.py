"""Turning file content into stored blobs, in worker processes.

The scanning process gives out two kinds of work: batches of small files, which a worker opens and
reads itself, and windows of large ones, which the scanner has read into shared memory and cut into
chunks. A worker hashes, asks which blobs are new, and compresses, seals, verifies and stores those.
At most DEPTH pieces of work are with one worker, so that it hashes the next while it waits for an
answer.

    scanner -> worker   files (number, [(path, facts)])   window (number, slot, [(offset, length)])
    worker -> scanner   read (number, results)            hashed (number, ids)
    scanner -> worker   verdict (number, one byte for each blob)
    worker -> scanner   sealed (number, blobs, bytes, bytes stored)     pack (id, size, blobs)
    scanner -> worker   flush ()
    worker -> scanner   flushed ()
"""

from __future__ import annotations

import hashlib
import mmap
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Self

from holdfast.core.entries import Entry, Kind
from holdfast.core.ids import ID_SIZE, BlobId, PackId
from holdfast.repo.format.chunker import MAX_SIZE, MIN_SIZE
from holdfast.repo.format.codec import Codec, Compression
from holdfast.repo.format.pack import DEFAULT_PACK_SIZE, BlobKind, PackedBlob, StoredPack
from holdfast.repo.objects import Objects
from holdfast.repo.processes import Line, Message, Worker, can_fork, fork_workers, ready
from holdfast.repo.saving.packer import Packer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdfast.core.source import Content, Source

SMALL_FILE = MIN_SIZE
"""A file of at most this size is one chunk: no chunker is needed."""
BATCH_FILES = 128
BATCH_BYTES = 4 << 20
BATCH_PATHS = 64 << 10
"""Bytes of paths in a batch: what is under way to a worker must fit the pipe, or both sides could
wait for each other.
"""
DEPTH = 2
WINDOW = 8 << 20
SLOT = WINDOW + MAX_SIZE
"""A window begins with what the last one left over: less than one chunk."""
_TRIES = 3

Facts = tuple[int, int, int, int, int, int, int, int, int, int]


def facts_of(entry: Entry) -> Facts:
    """What a worker must know of a file to open just that one, and to see whether it changed since
    the scan.
    """
    return (
        entry.mode, entry.size, entry.mtime, entry.ctime, entry.atime,
        entry.uid, entry.gid, entry.inode, entry.device, entry.links,
    )  # fmt: skip


def entry_from(facts: Facts) -> Entry:
    mode, size, mtime, ctime, atime, uid, gid, inode, device, links = facts
    return Entry(
        b"", Kind.FILE, mode=mode, size=size, mtime=mtime, ctime=ctime, atime=atime,
        uid=uid, gid=gid, inode=inode, device=device, links=links,
    )  # fmt: skip


class SmallFile(NamedTuple):
    """What a worker says of one small file."""

    outcome: str
    """read; changed (kept as it was read last); lost (it could not be read); grew (no longer
    small).
    """
    blob: BlobId | None
    facts: Facts | None
    """What the open file said, where that differs from the scan."""
    user_group: tuple[str, str] | None
    xattrs: list[tuple[bytes, bytes]]
    trouble: str
    """Why it was lost, or what of it could not be read."""


@dataclass(frozen=True, slots=True)
class SealingPlan:
    """How blobs are made; the same for all workers of a run."""

    compression: Compression = Compression.AUTO
    pack_size: int = DEFAULT_PACK_SIZE
    workers: int = 2


class Windows:
    """Shared memory that large files pass through: the scanner fills a slot, a worker reads it."""

    def __init__(self, slots: int) -> None:
        self._memory = memoryview(mmap.mmap(-1, slots * SLOT))
        self.free = list(range(slots))

    def slot(self, number: int) -> memoryview:
        return self._memory[number * SLOT : (number + 1) * SLOT]


# --- in the worker --------------------------------------------------------------------------------


class Sealer:
    """The worker's side: takes messages, answers through `send`."""

    def __init__(
        self,
        objects: Objects,
        source: Source,
        windows: Windows,
        plan: SealingPlan,
        send: Callable[[Message], None],
    ) -> None:
        self._source = source
        self._windows = windows
        self._send = send
        own = Objects(objects.store, objects.key, version=objects.version)
        self._packer = Packer(own, Codec(plan.compression), self._stored, pack_size=plan.pack_size)
        self._held: dict[int, list[tuple[BlobId, memoryview]]] = {}
        self._arenas: list[bytearray] = []
        self._arena_of: dict[int, bytearray] = {}

    def _stored(self, pack: StoredPack) -> None:
        self._send(("pack", pack.id, pack.size, [tuple(blob) for blob in pack.blobs]))

    def handle(self, message: Message) -> None:
        word, *values = message
        if word == "verdict":
            self._seal(*values)
        elif word == "files":
            self._read_files(*values)
        elif word == "window":
            self._hash_window(*values)
        elif word == "flush":
            self._packer.flush()
            self._send(("flushed",))

    def close(self) -> None:
        self._packer.close()

    def _hash_window(self, number: int, slot: int, pieces: list[tuple[int, int]]) -> None:
        window = self._windows.slot(slot)
        held = []
        for offset, length in pieces:
            piece = window[offset : offset + length]
            held.append((BlobId(hashlib.sha256(piece).digest()), piece))
        self._held[number] = held
        self._send(("hashed", number, b"".join([blob for blob, _ in held])))

    def _read_files(self, number: int, files: list[tuple[bytes, Facts]]) -> None:
        arena = self._arenas.pop() if self._arenas else bytearray(BATCH_BYTES + SMALL_FILE)
        self._arena_of[number] = arena
        room = memoryview(arena)
        held = []
        results = []
        for path, facts in files:
            result, length = self._read_file(path, facts, room)
            if length:
                piece = room[:length]
                blob = BlobId(hashlib.sha256(piece).digest())
                result = result._replace(blob=blob)
                held.append((blob, piece))
                room = room[length:]
            results.append(tuple(result))
        self._held[number] = held
        self._send(("read", number, results))

    def _read_file(self, path: bytes, facts: Facts, room: memoryview) -> tuple[SmallFile, int]:
        """Reads one file into `room`, again where it changed meanwhile; how it went, and how many
        bytes.
        """
        entry = entry_from(facts)
        try:
            for tries_left in reversed(range(_TRIES)):
                content = self._source.open(path, entry)
                try:
                    size = content.entry.size
                    if size > SMALL_FILE or size > len(room):
                        return SmallFile("grew", None, None, None, [], ""), 0
                    length = _fill(content, room[:size])
                    steady = length == size and content.unchanged()
                    if steady or not tries_left:
                        return _describe(content, facts, length, steady=steady), length
                finally:
                    content.close()
            raise AssertionError
        except OSError as error:
            return SmallFile("lost", None, None, None, [], error.strerror or str(error)), 0

    def _seal(self, number: int, verdict: bytes) -> None:
        blobs = raw = stored = 0
        for (blob, piece), new in zip(self._held.pop(number), verdict, strict=True):
            if new:
                packed = self._packer.add(blob, BlobKind.DATA, piece)
                blobs += 1
                raw += len(piece)
                stored += packed.length
        arena = self._arena_of.pop(number, None)
        if arena is not None:
            self._arenas.append(arena)
        self._send(("sealed", number, blobs, raw, stored))


def _fill(content: Content, room: memoryview) -> int:
    """Reads until the room is full or the file ends; how many bytes."""
    length = 0
    while length < len(room):
        count = content.readinto(room[length:])
        if not count:
            break
        length += count
    return length


def _describe(content: Content, facts: Facts, length: int, *, steady: bool) -> SmallFile:
    trouble = "" if steady else "it changed while it was read"
    try:
        xattrs = content.xattrs()
    except OSError as error:
        xattrs, trouble = [], f"extended attributes: {error.strerror}"
    entry = content.entry
    entry.size = length
    seen = facts_of(entry)
    same = seen == facts
    return SmallFile(
        "read" if steady else "changed",
        None,
        None if same else seen,
        None if same else (entry.user, entry.group),
        xattrs,
        trouble,
    )


# --- in the scanner -------------------------------------------------------------------------------


class _Inline(Worker):
    """A worker in this very process, for systems that cannot fork: what is sent is done at once."""

    def __init__(self, make: Callable[[Callable[[Message], None]], Sealer]) -> None:
        self.pid = 0
        self.replies: deque[Message] = deque()
        self._sealer = make(self.replies.append)

    def send(self, message: Message) -> None:
        self._sealer.handle(message)

    def receive(self) -> Message:
        return self.replies.popleft()

    def end(self) -> None:
        self._sealer.close()


@dataclass(slots=True)
class _Job:
    worker: Worker
    done: Callable[[list[SmallFile]], None] | Callable[[list[BlobId]], None]
    slot: int | None = None


@dataclass(slots=True)
class Sealed:
    """What was stored so far: new blobs, their bytes, and the bytes they take in packs."""

    blobs: int = 0
    bytes: int = 0
    stored: int = 0


@dataclass(slots=True)
class _Load:
    worker: Worker
    jobs: int = 0
    flushed: bool = field(default=False)


class Crew:
    """The workers of one run, seen from the scanner. Everything it is told comes back through
    callbacks in `pump`.

    `is_new` answers which of some blobs are neither stored nor promised by an earlier piece of
    work, and takes them as promised.
    """

    def __init__(
        self,
        objects: Objects,
        source: Source,
        plan: SealingPlan,
        *,
        is_new: Callable[[Sequence[BlobId]], bytes],
        stored: Callable[[StoredPack], None],
    ) -> None:
        self._is_new = is_new
        self._stored = stored
        self.sealed = Sealed()
        can_share = objects.store.properties.forkable and can_fork()
        count = plan.workers if can_share else 0
        self._windows = Windows(max(count, 1) * DEPTH + 1)

        def sealer(send: Callable[[Message], None]) -> Sealer:
            return Sealer(objects, source, self._windows, plan, send)

        def serve(line: Line) -> None:
            worker = sealer(line.send)
            while True:
                worker.handle(line.receive())

        workers: list[Worker] = list(fork_workers(count, serve)) if count else [_Inline(sealer)]
        self._loads = {id(worker): _Load(worker) for worker in workers}
        self._workers = workers
        self._jobs: dict[int, _Job] = {}
        self._next = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.end()

    def read_files(
        self, files: list[tuple[bytes, Facts]], done: Callable[[list[SmallFile]], None]
    ) -> None:
        """Has small files read, hashed and stored; `done` is called with one result for each."""
        load = self._free_worker()
        number = self._book(load, _Job(load.worker, done))
        load.worker.send(("files", number, files))

    def take_slot(self) -> tuple[int, memoryview]:
        """A free piece of shared memory; waits for one."""
        while not self._windows.free:
            self.pump(block=True)
        slot = self._windows.free.pop()
        return slot, self._windows.slot(slot)

    def give_slot_back(self, slot: int) -> None:
        self._windows.free.append(slot)

    def hash_window(
        self, slot: int, pieces: list[tuple[int, int]], done: Callable[[list[BlobId]], None]
    ) -> None:
        """Has chunks of a slot hashed and stored; `done` is called with their names. The slot is
        free again afterwards.
        """
        load = self._free_worker()
        number = self._book(load, _Job(load.worker, done, slot))
        load.worker.send(("window", number, slot, pieces))

    def _free_worker(self) -> _Load:
        while True:
            load = min(self._loads.values(), key=lambda each: each.jobs)
            if load.jobs < DEPTH:
                return load
            self.pump(block=True)

    def _book(self, load: _Load, job: _Job) -> int:
        self._next += 1
        self._jobs[self._next] = job
        load.jobs += 1
        return self._next

    def pump(self, *, block: bool) -> None:
        """Handles what the workers have sent.

        Raises:
            HoldfastError: what one of them failed with.
        """
        for worker in self._with_news(block=block):
            self._handle(worker, worker.receive())

    def _with_news(self, *, block: bool) -> list[Worker]:
        first = self._workers[0]
        if isinstance(first, _Inline):
            return [first] * len(first.replies)
        return ready(self._workers, None if block else 0)

    def _handle(self, worker: Worker, message: Message) -> None:
        word, *values = message
        if word == "read":
            self._answer_read(worker, *values)
        elif word == "hashed":
            self._answer_hashed(worker, *values)
        elif word == "sealed":
            self._close_job(*values)
        elif word == "pack":
            name, size, blobs = values
            self._stored(StoredPack(PackId(name), size, [PackedBlob(*blob) for blob in blobs]))
        elif word == "flushed":
            self._loads[id(worker)].flushed = True

    def _answer_read(self, worker: Worker, number: int, raw: list[tuple[object, ...]]) -> None:
        results = [SmallFile(*each) for each in raw]  # type: ignore[arg-type]  # our own worker's
        blobs = [result.blob for result in results if result.blob is not None]
        worker.send(("verdict", number, self._is_new(blobs)))
        self._jobs[number].done(results)  # type: ignore[arg-type]  # booked with files

    def _answer_hashed(self, worker: Worker, number: int, ids: bytes) -> None:
        blobs = [BlobId(ids[at : at + ID_SIZE]) for at in range(0, len(ids), ID_SIZE)]
        worker.send(("verdict", number, self._is_new(blobs)))
        self._jobs[number].done(blobs)  # type: ignore[arg-type]  # booked with a window

    def _close_job(self, number: int, blobs: int, raw: int, stored: int) -> None:
        job = self._jobs.pop(number)
        self._loads[id(job.worker)].jobs -= 1
        if job.slot is not None:
            self._windows.free.append(job.slot)
        self.sealed.blobs += blobs
        self.sealed.bytes += raw
        self.sealed.stored += stored

    def flush(self) -> None:
        """Returns when every piece of work is done and durable."""
        while self._jobs:
            self.pump(block=True)
        for load in self._loads.values():
            load.flushed = False
            load.worker.send(("flush",))
        while not all(load.flushed for load in self._loads.values()):
            self.pump(block=True)
