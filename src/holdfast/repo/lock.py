"""Locks that restic understands, with leases of our own, so that nobody ever unlocks by hand.

A lock is a file in `locks/`. Ours says more than restic's: which run of which machine holds it and
how long its lease is, and it is replaced every REFRESH seconds. Nobody's clock is compared with
anybody else's:

- a lock of this machine is dead when its process is (the start time tells a reused process number
  apart);
- a lock of another Holdfast is dead when the very same file was seen for longer than its lease by
  our own monotonic clock;
- a lock of restic is dead by restic's rule (process gone on the same host, or 30 minutes old), the
  age taken between two times of the store's clock where the store has one.

Who waits for an exclusive lock meanwhile holds a shared one that says so, a wish: a server that
keeps its lock for hours sees it and lets go for a moment. Wishes are in nobody's way but restic's.

Some stores list late what was stored, and early what is gone (F12). Whoever does not find its own
lock in a listing at once takes such a store for one that is up to LAG behind: it leaves each lock
file for so long after it was replaced, so that old listings still lead to it, and an exclusive lock
counts only after twice that time. Whoever began without seeing it is seen by then, and so is all
that was stored before.

A holder proves that it still holds its lock right before it commits or deletes (`prove`): one that
was paused past its lease finds its file gone, and commits nothing.
"""

from __future__ import annotations

import getpass
import os
import random
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from holdfast.core.errors import (
    DamagedError,
    LockedError,
    LockLostError,
    ObjectNotFoundError,
    StoreError,
)
from holdfast.core.ids import SHORT_ID, ObjectId
from holdfast.repo.format.gotext import format_time, parse_time
from holdfast.store.contract import FileKind

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    from holdfast.core.clock import Clock
    from holdfast.repo.objects import Objects

REFRESH = 20.0
LEASE = 60.0
_POLL = 1.0
_FOREIGN_STALE = 30 * 60.0
LAG = 60.0
"""Seconds that a listing may be behind on a store that lists late."""
_SETTLE = 0.2
"""Between writing a lock and looking again, for stores that list late."""


class Holder(msgspec.Struct, omit_defaults=True):
    """What we add to restic's document: exactly who holds the lock."""

    machine: str
    """boot and process namespace: a process number means something only within it"""
    started: int
    """start time of the process in the kernel's ticks"""
    lease: float
    wish: bool = False
    """only waits for an exclusive lock"""


class LockFile(msgspec.Struct, omit_defaults=True):
    time: str
    exclusive: bool
    hostname: str
    username: str
    pid: int
    uid: int = 0
    gid: int = 0
    holdfast: Holder | None = None


@dataclass(frozen=True, slots=True)
class SeenLock:
    """A lock file as found. `file` is None where it cannot be read."""

    id: ObjectId
    file: LockFile | None
    mtime: int

    @property
    def is_wish(self) -> bool:
        return self.file is not None and self.file.holdfast is not None and self.file.holdfast.wish

    def describe(self) -> str:
        if self.file is None:
            return f"locked by nobody knows whom: lock {self.id[:SHORT_ID]} cannot be read"
        kind = "exclusively " if self.file.exclusive else ""
        holder = f"process {self.file.pid} on {self.file.hostname} ({self.file.username})"
        return f"locked {kind}by {holder}"


def machine_identity() -> str:
    """Tells this boot and process namespace from any other; empty where that is not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def process_start(pid: int) -> int | None:
    """Start time of a live process in ticks, None where there is none (a zombie counts as none)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in {b"Z", b"X"} else int(fields[19])


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


class _Watch:
    """What one waiting process has seen of others' locks, and since when, by its own monotonic
    clock.
    """

    def __init__(self, objects: Objects, clock: Clock) -> None:
        self._objects = objects
        self._clock = clock
        self._since: dict[ObjectId, float] = {}
        self._read: dict[ObjectId, LockFile | None] = {}
        self.listed: set[str] = set()
        """All names of the latest listing."""
        self._store_lead: int | None = None

    def _store_now(self) -> int:
        """The store's own clock, learnt once from a file that is written and removed; 0 where it
        keeps no times.
        """
        if self._store_lead is None:
            probe = Lock(self._objects, self._clock, exclusive=False)
            stamp = self._objects.store.stat(FileKind.LOCK, probe.id).mtime
            probe.release()
            self._store_lead = stamp - int(self._clock.monotonic() * 1e9) if stamp else 0
        return self._store_lead and self._store_lead + int(self._clock.monotonic() * 1e9)

    def look(self, *, besides: Container[ObjectId]) -> list[SeenLock]:
        """All locks but one's own."""
        seen = []
        items = list(self._objects.store.list(FileKind.LOCK))
        names = self.listed = {item.name for item in items}
        for known in (self._read, self._since):
            for gone in known.keys() - names:
                del known[gone]
        for item in items:
            name = ObjectId(item.name)
            if name in besides:
                continue
            if name not in self._read:
                try:
                    document = self._objects.load(FileKind.LOCK, name)
                    self._read[name] = msgspec.json.decode(document, type=LockFile)
                except ObjectNotFoundError:
                    continue  # released while we looked
                except (DamagedError, msgspec.DecodeError):
                    self._read[name] = None
            self._since.setdefault(name, self._clock.monotonic())
            seen.append(SeenLock(name, self._read[name], item.mtime))
        return seen

    def watched(self, lock: SeenLock) -> float:
        return self._clock.monotonic() - self._since[lock.id]

    def verdict(self, lock: SeenLock) -> bool | None:
        """True: its holder lives. False: dead. None: only watching on will tell."""
        file = lock.file
        if file is None:
            return None if self.watched(lock) < LEASE else False
        if file.holdfast is not None:
            return self._verdict_on_ours(lock, file, file.holdfast)
        if file.hostname == socket.gethostname() and not _process_exists(file.pid):
            return False
        if self._clock.now() - parse_time(file.time) < _FOREIGN_STALE * 1e9:
            return True
        if not lock.mtime or not (store_now := self._store_now()):
            return False  # a store without times: restic's rule as it is
        return store_now - lock.mtime < _FOREIGN_STALE * 1e9

    def _verdict_on_ours(self, lock: SeenLock, file: LockFile, holder: Holder) -> bool | None:
        if holder.machine and holder.machine == machine_identity():
            return process_start(file.pid) == holder.started
        return None if self.watched(lock) < holder.lease * 1.25 else False


class Lock:
    """A lock that is held. Make one with `acquire`."""

    def __init__(
        self, objects: Objects, clock: Clock, *, exclusive: bool, wish: bool = False
    ) -> None:
        self._objects = objects
        self._clock = clock
        self.exclusive = exclusive
        self._wish = wish
        self.lag = 0.0
        """Seconds that listings of the store may be behind."""
        self._replaced: list[tuple[float, ObjectId]] = []
        """Files before this one that late listings lead to, and when each was replaced."""
        self._former: set[ObjectId] = set()
        self._guard = threading.Lock()
        self._failure: StoreError | None = None
        self._id = self._write()

    def _write(self) -> ObjectId:
        self._refreshed = self._clock.monotonic()
        pid = os.getpid()
        file = LockFile(
            time=format_time(self._clock.now()),
            exclusive=self.exclusive,
            hostname=socket.gethostname(),
            username=getpass.getuser(),
            pid=pid,
            uid=os.getuid(),
            gid=os.getgid(),
            holdfast=Holder(machine_identity(), process_start(pid) or 0, LEASE, self._wish),
        )
        return self._objects.save(FileKind.LOCK, msgspec.json.encode(file))

    @property
    def id(self) -> ObjectId:
        return self._id

    @property
    def ids(self) -> set[ObjectId]:
        """All files of this lock, with those that are gone and may be listed still."""
        return {self._id, *self._former}

    @property
    def age(self) -> float:
        """Seconds since it was taken or refreshed last."""
        return self._clock.monotonic() - self._refreshed

    def refresh(self) -> None:
        """Replaces the lock file by a fresh one.

        Raises:
            LockLostError: the old one is gone: somebody judged us dead.
        """
        with self._guard:
            old = self._id
            self._id = self._write()
            try:
                if self.lag:
                    self._objects.store.stat(FileKind.LOCK, old)
                else:
                    self._objects.store.remove(FileKind.LOCK, old)
            except ObjectNotFoundError as error:
                raise LockLostError(
                    "the lock of this run was taken away while it was paused"
                ) from error
            if self.lag:
                self._replaced.append((self._clock.monotonic(), old))
                self._former.add(old)
                self._remove_replaced(older_than=self.lag)

    def _remove_replaced(self, *, older_than: float) -> None:
        latest = self._clock.monotonic() - older_than
        for at, name in list(self._replaced):
            if at <= latest:
                _remove(self._objects, name)
                self._replaced.remove((at, name))

    def settle(self, seconds: float) -> None:
        """Waits, and keeps the lock fresh meanwhile.

        Raises:
            LockLostError: it was lost.
        """
        until = self._clock.monotonic() + seconds
        while (left := until - self._clock.monotonic()) > 0:
            self._clock.sleep(min(left, REFRESH))
            self.refresh()

    @contextmanager
    def refreshing(self) -> Iterator[None]:
        """Keeps the lock fresh in a thread of its own. Fork worker processes before entering."""
        stop = threading.Event()

        def keep_fresh() -> None:
            while not stop.wait(REFRESH):
                try:
                    self.refresh()
                except StoreError as error:
                    self._failure = error  # the next refresh may succeed; `prove` decides
                except LockLostError:
                    return  # `prove` tells the one who works

        thread = threading.Thread(target=keep_fresh, name="lock-refresh", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def prove(self) -> None:
        """To be called right before a commit or a deletion.

        Raises:
            LockLostError: the lease ran out, or the lock file is gone.
        """
        with self._guard:
            idle = self._clock.monotonic() - self._refreshed
            if idle > LEASE:
                cause = f" ({self._failure.message})" if self._failure else ""
                raise LockLostError(
                    f"the lock of this run was not refreshed for {idle:.0f} seconds{cause}"
                )
            try:
                self._objects.store.stat(FileKind.LOCK, self._id)
            except ObjectNotFoundError as error:
                raise LockLostError(
                    "the lock of this run was taken away while it was paused"
                ) from error

    def release(self) -> None:
        """Removes the lock file; one that is gone already is well."""
        with self._guard:
            _remove(self._objects, self._id)
            self._remove_replaced(older_than=0.0)


def acquire(
    objects: Objects,
    *,
    exclusive: bool,
    clock: Clock,
    wait: float = 0.0,
    on_wait: Callable[[str], None] = lambda _: None,
) -> Lock:
    """Takes a lock. Locks of dead holders are removed on the way; finding out may take one lease.

    `wait`: how many seconds to wait for live holders. `on_wait` is told, once, for whom.

    Raises:
        LockedError: a live holder is in the way.
    """
    watch = _Watch(objects, clock)
    deadline = clock.monotonic() + wait
    mine: Lock | None = None
    wish: Lock | None = None
    told = settled = False
    try:
        while True:
            own = {name for lock in (mine, wish) if lock is not None for name in lock.ids}
            blocking = _blocking(objects, watch, watch.look(besides=own), exclusive=exclusive)
            if not blocking:
                if mine is not None and mine.id not in watch.listed:
                    mine.lag = LAG
                if mine is not None and mine.lag and exclusive and not settled:
                    on_wait("the store lists late: waiting two minutes for what it does not show")
                    mine.settle(2 * LAG)
                    settled = True
                    continue
                if mine is not None:
                    taken, mine = mine, None
                    return taken
                settled = False
                mine = Lock(objects, clock, exclusive=exclusive)
                clock.sleep(0 if objects.store.properties.local else _SETTLE)
                continue
            if mine is not None:
                mine.release()  # two came at once: step back, each for a different while
                mine = None
                clock.sleep(random.uniform(0, _SETTLE * 5))  # noqa: S311  jitter
            alive = [lock for lock, verdict in blocking if verdict]
            if alive and clock.monotonic() >= deadline:
                raise LockedError(f"the repository is {alive[0].describe()}")
            if not told:
                on_wait(f"the repository is {blocking[0][0].describe()}; waiting")
                told = True
            if exclusive:
                wish = _keep_wishing(objects, clock, wish)
            clock.sleep(_POLL)
    finally:
        for left in (mine, wish):
            if left is not None:
                left.release()


def _keep_wishing(objects: Objects, clock: Clock, wish: Lock | None) -> Lock | None:
    """A fresh wish; None where it cannot be had, as on a full disk: then waiting must do."""
    try:
        if wish is None:
            return Lock(objects, clock, exclusive=False, wish=True)
        if wish.age > REFRESH:
            wish.refresh()
    except (StoreError, LockLostError):
        pass
    return wish


class Wishes:
    """Tells a holder of a shared lock whether somebody wishes for an exclusive one."""

    def __init__(self, objects: Objects, clock: Clock) -> None:
        self._watch = _Watch(objects, clock)

    def any(self) -> bool:
        """One listing, and one read for each lock that is new. Raises StoreError."""
        return any(
            lock.is_wish and self._watch.verdict(lock) is not False
            for lock in self._watch.look(besides=())
        )


def _blocking(
    objects: Objects, watch: _Watch, seen: list[SeenLock], *, exclusive: bool
) -> list[tuple[SeenLock, bool | None]]:
    """The locks in our way with the verdict on each; those of the dead are removed."""
    blocking: list[tuple[SeenLock, bool | None]] = []
    for lock in seen:
        if not exclusive and lock.file is not None and not lock.file.exclusive:
            continue
        verdict = watch.verdict(lock)
        if verdict is not False and lock.is_wish:
            continue
        if verdict is False:
            _remove(objects, lock.id)
        else:
            blocking.append((lock, verdict))
    return blocking


def _remove(objects: Objects, name: ObjectId) -> None:
    """Removes a lock file; one that is gone already is well."""
    try:
        objects.store.remove(FileKind.LOCK, name)
    except ObjectNotFoundError:
        pass


def remove_stale(objects: Objects, clock: Clock) -> int:
    """Removes the locks that are known to be dead right now, without waiting; how many."""
    watch = _Watch(objects, clock)
    removed = 0
    for lock in watch.look(besides=()):
        if watch.verdict(lock) is False:
            _remove(objects, lock.id)
            removed += 1
    return removed
