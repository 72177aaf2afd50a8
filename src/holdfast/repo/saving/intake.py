"""Taking uploads in, straight into packs: the long-lived half of a backup, for servers.

An `Intake` belongs to one open repository in one process, which may run any number of threads. It
knows nothing of HTTP, catalogs or who may do what. Bytes come as they arrive, are cut, hashed,
sealed and stored by a few threads of the intake, and are never spooled; a full window makes the
giver wait, and that wait is the back-pressure. Many uploads that end together share packs, index
and syncs, without a timer.

    with intake.begin(b"dump.sql", About(host="db1", tags=("holdfast:target=nightly",))) as upload:
        for piece in body:
            upload.write(piece)  # an async caller awaits what `offer` returns
        kept = upload.finish().result()

The threads: `SealingPlan.workers` that seal (`intake_sealers`), one behind each that writes packs,
one that commits (`intake_commit`), one that holds the repository's lock (`intake_tenure`, which
states the rule of who may have the repository when). What is on its way in, and in which pack, is
in the ledger (`intake_ledger`).

While another program has the repository for itself, as a prune does, uploads that have begun wait
and go on afterwards. What was stored of them is named by a snapshot meanwhile, so that the prune
lets it be. That snapshot has the tag UNFINISHED; it is no backup, and is gone when the lock is held
again. A process that dies in between leaves it behind: see `remove_unfinished`.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Self

from holdfast.core.errors import (
    ClosedError,
    HoldfastError,
    LockLostError,
    NameRefusedError,
    StoreBusyError,
)
from holdfast.repo.format.chunker import MIN_SIZE
from holdfast.repo.format.pack import BlobKind
from holdfast.repo.processes import give_freed_memory_back, keep_freed_memory
from holdfast.repo.saving.intake_commit import Committer, Finished, Place
from holdfast.repo.saving.intake_ledger import LOST, Account, Ledger
from holdfast.repo.saving.intake_sealers import Sealers
from holdfast.repo.saving.intake_stream import Stream, WindowPool
from holdfast.repo.saving.intake_tenure import PAUSE, Tenure
from holdfast.repo.saving.intake_tree import check_path
from holdfast.repo.saving.intake_unfinished import UNFINISHED, Unfinished, remove_unfinished
from holdfast.repo.saving.intake_uploads import Inflow, TreeFile, TreeSession, Upload
from holdfast.repo.saving.intake_values import About, IntakePlan, IntakeState, Kept, Measured

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from holdfast.core.ids import ObjectId
    from holdfast.repo.repository import Repository
    from holdfast.repo.saving.intake_sealers import TreeSealer
    from holdfast.repo.saving.intake_uploads import Receiving

__all__ = [
    "UNFINISHED",
    "About",
    "Inflow",
    "Intake",
    "IntakePlan",
    "IntakeState",
    "Kept",
    "Measured",
    "TreeFile",
    "TreeSession",
    "Upload",
    "remove_unfinished",
]

_FREED = 16 << 20
"""Bytes of freed memory that a heap keeps while uploads come: two of the largest chunks."""
_TRIM_AFTER = 10.0
"""Seconds without uploads after which memory is given back."""


def _record_nothing(_: Sequence[Kept]) -> None:
    return None


class Intake:
    """Takes uploads for one repository; safe for threads. Close it before the repository's store.

    Nothing is read or locked before the first upload. `before_answer` is called in the committing
    thread with each group whose snapshots are durable, before any of their futures is done: the
    place for one catalog transaction for all of them. It may return errors by snapshot: those
    snapshots are removed and their uploads fail with that. If it raises, each upload of the group
    fails, and the snapshots stay. It must not wait for this intake.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        plan: IntakePlan | None = None,
        before_answer: Callable[
            [Sequence[Kept]], Mapping[ObjectId, HoldfastError] | None
        ] = _record_nothing,
    ) -> None:
        self._plan = plan or IntakePlan()
        if not 0 <= self._plan.small <= MIN_SIZE:
            raise ValueError(f"a small body has at most {MIN_SIZE} bytes: it is one chunk")
        keep_freed_memory(_FREED)
        self._repository = repository
        self._clock = repository.clock
        self._lock = threading.Lock()
        self._live: dict[Account, Receiving] = {}
        self._closed = self._ended = False
        self._busy_at = self._clock.monotonic()
        self._to_trim: list[Callable[[], None]] = []
        self._windows = WindowPool()
        self._ledger = Ledger(repository)
        self._unfinished = Unfinished(repository, self._ledger)
        self._admission = _Admission(self._plan, self._clock.monotonic)
        self._obstructed_since: float | None = None
        self._tenure = Tenure(repository, self)
        self._sealers = Sealers(
            repository, self._ledger, self._plan.sealing, self._tenure, self.broke
        )
        self._committer = Committer(
            repository,
            self._ledger,
            self._tenure,
            self._plan,
            before_answer=before_answer,
            settled=self.settled,
            tick=self._tick,
            broke=self.broke,
        )

    # --- for callers ------------------------------------------------------------------------------

    def begin(
        self,
        name: bytes,
        about: About,
        *,
        folder: bytes = b"",
        mode: int = 0o644,
        mtime: int | None = None,
    ) -> Upload:
        """An upload of one file that the snapshot has as `folder/name`. Never waits.

        Raises:
            NameRefusedError: `name` or `folder` is not one that may be kept.
            ClosedError: the intake is closed.
        """
        self.check_open()
        if len(check_path(name)) > 1:
            raise NameRefusedError(f"{name!r} is a path and not a name")
        folders = check_path(folder) if folder else ()
        return Upload(self, about, Place(folders, name, mode & 0o7777, mtime))

    def begin_tree(self, about: About, *, folder: bytes = b"") -> TreeSession:
        """An upload of many files; they lie below `folder` in the snapshot. Never waits.

        Raises as `begin`.
        """
        self.check_open()
        return TreeSession(self, about, Place(check_path(folder) if folder else ()))

    def yield_lock(self, wait: float = 5.0, pause: float = PAUSE) -> bool:
        """Lets go of the repository's lock so that a prune in another process gets its turn;
        uploads under way are protected, pause, and go on afterwards. Programs of Holdfast that wait
        for the repository say so themselves, and need no such call.

        True as soon as the lock is released; False where a commit did not end within `wait`
        seconds. It is taken again when whoever took it is done, or nobody did within `pause`
        seconds.
        """
        return self._tenure.give_way(wait, pause)

    @property
    def state(self) -> IntakeState:
        sealing, waiting = self._admission.counts
        return IntakeState(sealing, waiting, self._committer.queued, self._tenure.held)

    def close(self) -> None:
        """Ends the intake: takes nothing new, commits what was ended by its giver as far as the
        repository can be had, abandons the rest, and releases the lock. Again is well.
        """
        with self._lock:
            if self._ended:
                return
            self._closed = self._ended = True
            live = list(self._live.values())
        for upload in live:
            if not upload.finishing:
                upload.fail(ClosedError("the server is shutting down"))
        self._await_finishing()
        self._sealers.end()
        self._committer.end()
        self._tenure.end()
        self._unfinished.release()  # it may be with others right now: nothing is under way any more
        self._windows.trim()

    def _await_finishing(self) -> None:
        """Returns when every upload that was ended has its answer, or those that wait for a lock
        that cannot be had have failed.
        """
        while True:
            with self._lock:
                live = list(self._live.values())
            if not live:
                return
            since = self._obstructed_since
            if since is not None and self._clock.monotonic() - since > self._plan.lock_wait:
                for upload in live:
                    upload.fail(ClosedError("the server is shutting down"))
            self._clock.sleep(0.01)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- for uploads (`intake_uploads.House`) -----------------------------------------------------

    def check_open(self) -> None:
        if self._closed:
            raise ClosedError("the server is shutting down")

    def now(self) -> int:
        return self._clock.now()

    def small_limit(self) -> int:
        return self._plan.small

    def open_stream(
        self,
        upload: Receiving,
        ended: Callable[[BaseException | None], None],
        *,
        digest: bool,
    ) -> Stream:
        def over(failure: BaseException | None) -> None:
            self._admission.release(stream)
            ended(failure)
            if failure is not None:
                self._forget(upload.account)

        stream = Stream(
            self._windows,
            self._admission,
            upload.account,
            ready=self._sealers.put,
            ended=over,
            digest=digest,
        )
        with self._lock:
            self.check_open()
            self._live[upload.account] = upload
        return stream

    def put_work(self, work: Callable[[TreeSealer], None]) -> None:
        self._sealers.put(work)

    def extend(self) -> None:
        self._tenure.extend()

    def commit(self, finished: Finished) -> None:
        self._committer.put(finished)

    def settled(self, finished: Finished) -> None:
        self._forget(finished.account)

    def _forget(self, account: Account) -> None:
        with self._lock:
            self._live.pop(account, None)

    # --- for the tenure (`intake_tenure.Guarded`) -------------------------------------------------

    @property
    def busy(self) -> bool:
        with self._lock:
            live = list(self._live.values())
        return bool(self._committer.queued) or any(
            upload.finishing or upload.account.touched for upload in live
        )

    def protect(self) -> None:
        with self._lock:
            live = list(self._live.values())
        self._unfinished.protect(live)

    def resume(self) -> None:
        self._ledger.reload()
        with self._lock:
            live = list(self._live.values())
        for upload in live:
            if any(self._ledger.lacks(blobs, BlobKind.DATA) for blobs in upload.blobs()):
                upload.fail(LockLostError(LOST, remedy="Nothing was kept. Send it again."))
        self._unfinished.release()

    def opened(self) -> None:
        self._obstructed_since = None
        self._sealers.ring()
        self._committer.ring()

    def obstructed(self, error: HoldfastError) -> None:
        now = self._clock.monotonic()
        if self._obstructed_since is None:
            self._obstructed_since = now
        self._committer.obstructed(error)
        if now - self._obstructed_since > self._plan.lock_wait:
            self._sealers.refuse_untouched(error)

    def broke(self, error: Exception) -> None:
        with self._lock:
            self._closed = True
            live = list(self._live.values())
            self._live.clear()
        trouble = ClosedError(f"the server broke down: {error}")
        for upload in live:
            upload.fail(trouble)
        self._committer.fail_all(trouble)

    # --- now and then -----------------------------------------------------------------------------

    def _tick(self) -> None:
        """In the committing thread, between commits."""
        self._admission.refuse_late()
        now = self._clock.monotonic()
        if self.busy:
            self._busy_at = now
            self._to_trim = [
                self._sealers.trim,
                self._committer.trim,
                self._windows.trim,
                give_freed_memory_back,
            ]
        elif self._to_trim and now - self._busy_at > _TRIM_AFTER:
            self._to_trim.pop(0)()  # one at a time: sealers do it when they come to it


class _Admission:
    """So many streams have windows at a time; others wait in their order."""

    def __init__(self, plan: IntakePlan, monotonic: Callable[[], float]) -> None:
        self._plan = plan
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._admitted: set[Stream] = set()
        self._waiting: deque[tuple[float, Stream]] = deque()

    @property
    def counts(self) -> tuple[int, int]:
        return len(self._admitted), len(self._waiting)

    def ask(self, stream: Stream) -> bool:
        with self._lock:
            if len(self._admitted) < self._plan.admitted:
                self._admitted.add(stream)
                return True
            self._waiting.append((self._monotonic() + self._plan.admission_wait, stream))
            return False

    def release(self, stream: Stream) -> None:
        with self._lock:
            self._admitted.discard(stream)
            for waiting in self._waiting:
                if waiting[1] is stream:
                    self._waiting.remove(waiting)
                    break
            fortunate = []
            while self._waiting and len(self._admitted) < self._plan.admitted:
                _, next_ = self._waiting.popleft()
                self._admitted.add(next_)
                fortunate.append(next_)
        for each in fortunate:
            each.admit()

    def refuse_late(self) -> None:
        now = self._monotonic()
        with self._lock:
            late = [stream for until, stream in self._waiting if until <= now]
        for stream in late:
            stream.fail(StoreBusyError("too many uploads are being received"))
