"""Holding the repository's shared lock for hours without keeping anybody from pruning.

The rule. Nothing is sealed, stored, indexed or committed except by who is inside, and one gets
inside only while the lock is held. The lock is let go

- when nobody was inside and no upload was under way for LINGER seconds;
- when somebody wishes for an exclusive lock (a waiting prune says so in a lock file, see
  `repo.lock`), and when `give_way` is called, for those who say nothing (stock restic).

First no one else gets inside and those who are come out, which is a window or a commit and takes
fractions of a second. Then `protect` is called: uploads under way have blobs that no snapshot
refers to yet. Then the lock is released, and taken again as soon as the others are done.

Whatever the others did (prune, forget, repair), `resume` is called before anybody gets inside
again: it brings the index up to date, and fails the uploads of which something is gone. So a blob
that was pruned is never taken for stored. The same happens where the lock was lost, because this
process was stopped for longer than its lease.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

from holdfast.core.errors import (
    HoldfastError,
    LockedError,
    LockLostError,
    StoreBusyError,
    StoreError,
)
from holdfast.repo.lock import REFRESH, Lock, Wishes, acquire

if TYPE_CHECKING:
    from holdfast.repo.repository import Repository

LINGER = 2.0
PAUSE = 2.0
"""Seconds that the repository is left to others before it is looked whether anybody came: who waits
for a lock looks once a second.
"""
BETWEEN = 5.0
"""Seconds between two pauses for wishes: two that wait for each other must not stop all work."""
_LOOK_NEAR, _LOOK_FAR = 0.5, 5.0
"""Seconds between two looks for wishes; a request each where the store is distant."""
_QUIET_NEAR, _QUIET_FAR = 5.0, 30.0
"""Seconds that those inside are given to come out; nobody gets in meanwhile."""
_AGAIN_NEAR, _AGAIN_FAR = 0.25, 2.0
"""Seconds between two tries to get the lock."""


class Guarded(Protocol):
    """Who works under the lock. Called from the tenure's thread, without any lock of its own."""

    @property
    def busy(self) -> bool:
        """Whether uploads are under way."""
        ...

    def protect(self) -> None:
        """The lock is about to be released, and is still held; nobody is inside. What could not be
        protected shows in `resume`.
        """
        ...

    def resume(self) -> None:
        """The lock was newly taken; nobody is inside yet.

        Raises:
            HoldfastError: the repository cannot be used; the lock is released and taken again
            later.
        """
        ...

    def opened(self) -> None:
        """One may get inside again."""
        ...

    def obstructed(self, error: HoldfastError) -> None:
        """The lock is wanted and cannot be had. Called again with each try that fails."""
        ...

    def broke(self, error: Exception) -> None:
        """A mistake of ours ended the thread: nobody gets inside any more."""
        ...


class Tenure:
    """One thread that takes, refreshes and releases the lock, for all who work under it."""

    def __init__(self, repository: Repository, guarded: Guarded) -> None:
        self._objects = repository.objects
        self._clock = repository.clock
        self._guarded = guarded
        near = repository.store.properties.local
        self._look_every = _LOOK_NEAR if near else _LOOK_FAR
        self._quiet = _QUIET_NEAR if near else _QUIET_FAR
        self._again = _AGAIN_NEAR if near else _AGAIN_FAR
        self._wishes = Wishes(self._objects, self._clock)
        self._cond = threading.Condition()
        self._lock: Lock | None = None
        self._unreleased: list[Lock] = []
        self._open = False
        self._inside = 0
        self._wanted = self._lost = self._ended = False
        self._way: float | None = None
        """The pause that `give_way` asks for."""
        self._out_until = 0.0
        self._no_wish_before = 0.0
        self._left_at = 0.0
        self._thread = threading.Thread(target=self._keep, name="intake-lock", daemon=True)
        self._thread.start()

    # --- for those who work -----------------------------------------------------------------------

    def try_enter(self) -> bool:
        """Gets inside where that is possible at once; else `opened` is called when it is."""
        with self._cond:
            if self._open:
                self._inside += 1
                return True
            if not self._wanted:
                self._wanted = True
                self._cond.notify_all()
            return False

    def extend(self) -> None:
        """Once more inside, for who is: for work that is handed on to another thread."""
        with self._cond:
            assert self._inside
            self._inside += 1

    def leave(self) -> None:
        with self._cond:
            self._inside -= 1
            self._left_at = self._clock.monotonic()
            if not self._inside:
                self._cond.notify_all()

    def prove(self) -> None:
        """To be called inside, right before a commit.

        Raises:
            LockLostError: the lock is gone. It will be taken anew; nothing may be committed now.
        """
        lock = self._lock
        assert lock is not None
        try:
            if lock.age > 2 * REFRESH:  # this process was stopped meanwhile
                lock.refresh()
            lock.prove()
        except LockLostError:
            with self._cond:
                self._lost, self._open = True, False
                self._cond.notify_all()
            raise

    @property
    def held(self) -> bool:
        return self._lock is not None

    def give_way(self, wait: float, pause: float) -> bool:
        """Leaves the lock to others for at least `pause` seconds; False where those inside did not
        come out within `wait` seconds.
        """
        with self._cond:
            if self._lock is None:
                self._out_until = max(self._out_until, self._clock.monotonic() + pause)
                return True
            self._way = pause
            self._cond.notify_all()
            if self._cond.wait_for(lambda: self._lock is None, wait):
                return True
            self._way = None
            return False

    def end(self) -> None:
        """Releases the lock. To be called when nobody is inside or will want in any more."""
        with self._cond:
            self._ended = True
            self._cond.notify_all()
        self._thread.join()

    # --- the thread -------------------------------------------------------------------------------

    def _keep(self) -> None:
        try:
            self._go_on()
        except Exception as error:
            self._guarded.broke(error)
            raise
        finally:
            with self._cond:
                self._open = False
                self._cond.notify_all()

    def _go_on(self) -> None:
        while not self._ended:
            if self._lock is not None:
                self._tend(self._lock)
            elif self._await_demand():
                self._take()
            self._release_the_rest()
        if self._lock is not None:
            self._let_go(self._lock)

    def _await_demand(self) -> bool:
        with self._cond:
            left = self._out_until - self._clock.monotonic()
            if left > 0:
                self._cond.wait_for(lambda: self._ended, left)
                return False
            timeout = self._look_every if self._unreleased else None
            self._cond.wait_for(lambda: self._wanted or self._ended, timeout)
            return self._wanted and not self._ended

    def _take(self) -> None:
        """One try to get the lock and to open."""
        try:
            lock = acquire(self._objects, exclusive=False, clock=self._clock)
        except HoldfastError as error:
            self._obstruct(error)
            return
        self._lock = lock
        try:
            with lock.refreshing():  # loading a large index may take longer than a lease
                self._guarded.resume()
            lock.prove()
        except HoldfastError as error:
            self._let_go(lock)
            self._obstruct(error)
            return
        with self._cond:
            self._open, self._wanted, self._lost = True, False, False
            self._left_at = self._clock.monotonic()
        self._guarded.opened()

    def _obstruct(self, error: HoldfastError) -> None:
        if isinstance(error, LockedError):
            error = StoreBusyError(error.message)
        self._guarded.obstructed(error)
        with self._cond:
            self._cond.wait_for(lambda: self._ended, self._again)

    def _tend(self, lock: Lock) -> None:
        """One look at what the lock needs, and at who needs it."""
        with self._cond:
            self._cond.wait_for(
                lambda: self._ended or self._lost or self._way is not None, self._look_every
            )
            if self._ended:
                return
        try:
            if lock.age >= REFRESH and not self._lost:
                lock.refresh()
            now = self._clock.monotonic()
            wished = now >= self._no_wish_before and self._wishes.any()
        except LockLostError:
            self._lost, wished = True, False
        except StoreError:
            return  # the next look may succeed; `prove` decides
        now = self._clock.monotonic()
        if self._lost:
            self._retreat(lock, pause=0.0)
        elif self._way is not None or wished:
            self._no_wish_before = now + BETWEEN
            self._retreat(lock, pause=PAUSE if self._way is None else self._way)
        elif not self._guarded.busy and now - self._left_at > LINGER:
            self._retreat(lock, pause=0.0)

    def _retreat(self, lock: Lock, *, pause: float) -> None:
        """Has everybody come out and releases the lock; where they do not come, all goes on."""
        with lock.refreshing():
            if not self._everybody_out():
                return
            if not self._lost:
                self._guarded.protect()
        self._let_go(lock)
        self._out_until = self._clock.monotonic() + pause

    def _everybody_out(self) -> bool:
        with self._cond:
            self._open = False
            if self._cond.wait_for(lambda: not self._inside, self._quiet):
                return True
            if self._lost:
                return False  # and nobody gets in until they are
            self._open = True
        self._guarded.opened()
        return False

    def _let_go(self, lock: Lock) -> None:
        try:
            lock.release()
        except StoreError:
            self._unreleased.append(lock)
        with self._cond:
            self._open = False
            self._lock, self._way = None, None
            self._cond.notify_all()

    def _release_the_rest(self) -> None:
        """Locks that the store would not remove when it was time."""
        for lock in list(self._unreleased):
            try:
                lock.release()
                self._unreleased.remove(lock)
            except StoreError:
                return
