from __future__ import annotations

import os
import socket
import subprocess
import sys

import msgspec
import pytest

from holdfast.core.errors import LockedError, LockLostError
from holdfast.repo import lock as locks
from holdfast.repo.format.crypto import Key
from holdfast.repo.format.gotext import format_time
from holdfast.repo.lock import LEASE, Holder, LockFile, Wishes, acquire
from holdfast.repo.objects import Objects
from holdfast.store.contract import FileKind
from holdfast.store.memory import MemoryStore
from holdfast.testing.fake_clock import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


class _StoreClock:
    """The store's own clock: right, and untouched when ours jumps."""

    def __init__(self, clock):
        self._clock = clock
        self._start = clock.now()

    def now(self):
        return self._start + int(self._clock.monotonic() * 1e9)


@pytest.fixture
def objects(clock):
    return Objects(MemoryStore(clock=_StoreClock(clock)), Key.generate(), version=2)


def _plant(objects, clock, *, exclusive=True, pid=1, hostname="elsewhere", holder=None, age=0.0):
    file = LockFile(
        time=format_time(clock.now() - int(age * 1e9)),
        exclusive=exclusive,
        hostname=hostname,
        username="root",
        pid=pid,
        holdfast=holder,
    )
    return objects.save(FileKind.LOCK, msgspec.json.encode(file))


def _names(objects):
    return {item.name for item in objects.store.list(FileKind.LOCK)}


def _dead_pid():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_shared_locks_stand_side_by_side(objects, clock):
    """Any number of backups may run at once."""
    first = acquire(objects, exclusive=False, clock=clock)
    second = acquire(objects, exclusive=False, clock=clock)
    assert _names(objects) == {first.id, second.id}
    first.release()
    second.release()
    assert not _names(objects)


@pytest.mark.parametrize(("held", "wanted"), [(True, True), (True, False), (False, True)])
def test_an_exclusive_lock_stands_alone(objects, clock, held, wanted):
    """I2: prune and a backup never run at once; who comes second is told at once for whom it would
    wait.
    """
    lock = acquire(objects, exclusive=held, clock=clock)
    began = clock.monotonic()
    with pytest.raises(LockedError, match=f"process {os.getpid()}"):
        acquire(objects, exclusive=wanted, clock=clock)
    assert clock.monotonic() - began < 5
    assert _names(objects) == {lock.id}


def test_a_dead_process_of_this_machine_holds_nothing(objects, clock):
    """I5: after SIGKILL nobody unlocks: the next run sees that the process is gone."""
    _plant(objects, clock, pid=_dead_pid(), holder=Holder(locks.machine_identity(), 1, LEASE))
    lock = acquire(objects, exclusive=True, clock=clock)
    assert _names(objects) == {lock.id}


def test_a_reused_process_number_is_not_the_holder(objects, clock):
    """I5: a living process with the number of a dead one does not keep its lock alive."""
    _plant(objects, clock, pid=os.getpid(), holder=Holder(locks.machine_identity(), 1, LEASE))
    acquire(objects, exclusive=True, clock=clock).release()
    assert not _names(objects)


def test_a_lease_of_another_machine_ends_by_our_own_clock(objects, clock):
    """F16: a lock of another machine that is not refreshed for its lease is taken over, whatever
    its time says.
    """
    _plant(objects, clock, holder=Holder("other-boot/pid", 1, LEASE), age=-10 * 365 * 86400)
    began = clock.monotonic()
    waits = []
    lock = acquire(objects, exclusive=True, clock=clock, on_wait=waits.append)
    assert LEASE <= clock.monotonic() - began < 2 * LEASE
    assert _names(objects) == {lock.id}
    assert len(waits) == 1


def test_a_refreshed_lease_of_another_machine_is_respected(objects, clock, monkeypatch):
    """F16, F17: however old its time looks, a lock that is being refreshed is alive."""
    planted = [_plant(objects, clock, holder=Holder("other", 1, LEASE), age=10 * 365 * 86400)]
    sleep = clock.sleep
    refreshes = []

    def sleep_and_refresh(seconds):
        sleep(seconds)
        if clock.monotonic() - (refreshes[-1] if refreshes else 0) > 20:
            refreshes.append(clock.monotonic())
            objects.store.remove(FileKind.LOCK, planted.pop())
            planted.append(_plant(objects, clock, holder=Holder("other", 1, LEASE), age=1e8))
        if len(refreshes) > 20:
            raise TimeoutError

    monkeypatch.setattr(clock, "sleep", sleep_and_refresh)
    with pytest.raises((LockedError, TimeoutError)):
        acquire(objects, exclusive=True, clock=clock, wait=100)
    assert _names(objects) == set(planted)


def test_a_fresh_restic_lock_is_respected(objects, clock):
    """A running restic elsewhere is in the way of prune."""
    planted = _plant(objects, clock, exclusive=False, age=60)
    with pytest.raises(LockedError, match="elsewhere"):
        acquire(objects, exclusive=True, clock=clock)
    assert _names(objects) == {planted}


def test_a_restic_lock_goes_stale_by_restics_rule(objects, clock):
    """I5: restic's lock of another host is dead after half an hour without refresh."""
    _plant(objects, clock, age=31 * 60)
    clock.sleep(31 * 60)
    acquire(objects, exclusive=True, clock=clock).release()
    assert not _names(objects)


def test_a_jumped_clock_steals_no_restic_lock(objects, clock):
    """F17: when our wall clock jumps ahead, the store's clock still says that the lock is young."""
    planted = _plant(objects, clock, age=60)
    clock.jump(3600)
    with pytest.raises(LockedError):
        acquire(objects, exclusive=True, clock=clock)
    assert planted in _names(objects)


def test_a_dead_restic_of_this_host_holds_nothing(objects, clock):
    """I5: restic's own rule: same host, process gone."""
    _plant(objects, clock, pid=_dead_pid(), hostname=socket.gethostname())
    acquire(objects, exclusive=True, clock=clock).release()
    assert not _names(objects)


def test_an_unreadable_lock_is_waited_out(objects, clock):
    """F3: a half-written lock file does not block for ever, and who waits is told for what."""
    objects.store.put(FileKind.LOCK, "ab" * 32, b"")
    began = clock.monotonic()
    told = []
    acquire(objects, exclusive=True, clock=clock, on_wait=told.append).release()
    assert clock.monotonic() - began >= LEASE
    [sentence] = told
    assert sentence.endswith("nobody knows whom: lock abababab cannot be read; waiting")


def test_a_lock_that_was_taken_away_commits_nothing(objects, clock):
    """F16: who wakes up after its lease finds its lock gone, and may not commit."""
    lock = acquire(objects, exclusive=False, clock=clock)
    lock.prove()
    objects.store.remove(FileKind.LOCK, lock.id)
    with pytest.raises(LockLostError):
        lock.prove()
    with pytest.raises(LockLostError):
        lock.refresh()


def test_a_lease_that_ran_out_commits_nothing(objects, clock):
    """F16: nobody can be sure of a lock that was not refreshed for its lease, even if the file is
    there.
    """
    lock = acquire(objects, exclusive=False, clock=clock)
    clock.sleep(LEASE + 1)
    with pytest.raises(LockLostError):
        lock.prove()
    lock.refresh()
    lock.prove()


def test_refreshing_leaves_one_lock(objects, clock):
    """A refresh replaces the file: never a moment without one, never two afterwards."""
    lock = acquire(objects, exclusive=False, clock=clock)
    before = lock.id
    lock.refresh()
    assert lock.id != before
    assert _names(objects) == {lock.id}


def test_locks_are_restics(objects, clock):
    """restic finds its own fields in our lock."""
    lock = acquire(objects, exclusive=True, clock=clock)
    document = msgspec.json.decode(objects.load(FileKind.LOCK, lock.id))
    assert document["exclusive"] is True
    assert document["pid"] == os.getpid()
    assert document["hostname"] == socket.gethostname()
    assert {"time", "username"} <= set(document)


def test_who_waits_for_an_exclusive_lock_says_so(objects, clock):
    """A holder of a shared lock sees that somebody waits, and the wish ends with the waiting."""
    held = acquire(objects, exclusive=False, clock=clock)
    seen = []

    class Observed(FakeClock):
        def sleep(self, seconds):
            seen.append(Wishes(objects, clock).any())
            super().sleep(seconds)

    with pytest.raises(LockedError):
        acquire(objects, exclusive=True, clock=Observed(), wait=3)
    assert seen
    assert all(seen)
    assert not Wishes(objects, clock).any()
    assert _names(objects) == {held.id}


def test_a_wish_is_in_nobodys_way(objects, clock):
    """Two that wait for an exclusive lock do not wait for each other, nor does a writer."""
    wish = locks.Lock(objects, clock, exclusive=False, wish=True)
    acquire(objects, exclusive=False, clock=clock).release()
    acquire(objects, exclusive=True, clock=clock).release()
    assert _names(objects) == {wish.id}
    assert Wishes(objects, clock).any()


def test_a_wish_of_the_dead_goes_away(objects, clock):
    """I5: who was killed while it waited leaves nothing that lasts."""
    wish = locks.Lock(objects, clock, exclusive=False, wish=True)
    file = msgspec.json.decode(objects.load(FileKind.LOCK, wish.id), type=LockFile)
    file.pid = _dead_pid()
    dead = objects.save(FileKind.LOCK, msgspec.json.encode(file))
    wish.release()
    assert not Wishes(objects, clock).any()
    acquire(objects, exclusive=True, clock=clock).release()
    assert dead not in _names(objects)
