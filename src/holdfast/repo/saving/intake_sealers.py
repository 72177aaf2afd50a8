"""The sealing threads of an intake: few, long-lived, shared by all its uploads."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from typing import TYPE_CHECKING, Protocol

from holdfast.core.ids import BlobId
from holdfast.repo.format.chunker import Chunker
from holdfast.repo.format.pack import BlobKind
from holdfast.repo.saving.intake_packs import WrittenBehind

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.core.errors import HoldfastError
    from holdfast.repo.repository import Repository
    from holdfast.repo.saving.intake_ledger import Account, Ledger, OpenPack
    from holdfast.repo.saving.intake_stream import CutWindow, Stream
    from holdfast.repo.saving.intake_tenure import Tenure
    from holdfast.repo.saving.sealing import SealingPlan

    Work = Stream | Callable[["TreeSealer"], None]


class TreeSealer(Protocol):
    """What work that seals trees is given."""

    def seal_tree(self, tree: BlobId, document: bytes, account: Account) -> None:
        """As `Lane.seal`."""
        ...

    def attend(self) -> None:
        """To be called now and then by work that takes long: others may be waiting for a pack."""
        ...


class Sealers:
    """Two kinds of work wait in one queue: the next window of a stream, and pieces of work that
    seal trees. Each is done inside the tenure. `broke` is told when a mistake of ours ends a
    thread.
    """

    def __init__(
        self,
        repository: Repository,
        ledger: Ledger,
        plan: SealingPlan,
        tenure: Tenure,
        broke: Callable[[Exception], None],
    ) -> None:
        self.repository = repository
        self.ledger = ledger
        self.plan = plan
        self.chunker = Chunker(repository.config.polynomial)
        self.tenure = tenure
        self.broke = broke
        self.bell = threading.Condition()
        self._queue: deque[Work] = deque()
        self._ending = False
        self._crew: list[_Sealer] = []

    def put(self, work: Work) -> None:
        """Never waits."""
        with self.bell:
            self._queue.append(work)
            if not self._crew:
                count = max(self.plan.workers, 1)
                self._crew = [_Sealer(self) for _ in range(count)]
            self.bell.notify()

    def ring(self) -> None:
        """One may get inside again, or there is mail."""
        with self.bell:
            self.bell.notify_all()

    def refuse_untouched(self, error: HoldfastError) -> None:
        """The lock cannot be had: fails the streams that wait for it and lose nothing by that."""
        with self.bell:
            streams = [work for work in self._queue if not callable(work)]
        for stream in streams:
            if not stream.account.touched:
                stream.fail(error)

    def trim(self) -> None:
        """Gives back memory that nothing is in."""
        for sealer in self._crew:
            sealer.post(_Sealer.trim)

    def end(self) -> None:
        """Ends the threads. What is queued belongs to nobody any more, and packs that are not full
        are dropped.
        """
        with self.bell:
            self._ending = True
            self._queue.clear()
            self.bell.notify_all()
        for sealer in self._crew:
            sealer.thread.join()

    def next(self, sealer: _Sealer) -> Work | None:
        """The next piece of work, with the caller inside the tenure; None where there is mail, or
        nothing will come any more.
        """
        with self.bell:
            while not sealer.mail:
                if self._queue:
                    if self.tenure.try_enter():
                        return self._queue.popleft()
                elif self._ending:
                    sealer.ended = True
                    return None
                self.bell.wait()
            return None


class _Sealer:
    def __init__(self, crew: Sealers) -> None:
        self._crew = crew
        self.mail: deque[Callable[[_Sealer], None]] = deque()
        self.ended = False
        self._data, self._trees = (self._lane(kind) for kind in (BlobKind.DATA, BlobKind.TREE))
        self.thread = threading.Thread(target=self._run, name="intake-sealer", daemon=True)
        self.thread.start()

    def _lane(self, kind: BlobKind) -> WrittenBehind:
        crew = self._crew
        return WrittenBehind(
            crew.repository.objects,
            crew.ledger,
            crew.plan,
            kind,
            self._close_soon,
            extend=crew.tenure.extend,
            leave=crew.tenure.leave,
        )

    # --- from other threads -----------------------------------------------------------------------

    def post(self, what: Callable[[_Sealer], None]) -> None:
        with self._crew.bell:
            self.mail.append(what)
            self._crew.bell.notify_all()

    def _close_soon(self, pack: OpenPack) -> None:
        """Who asks waits for the pack inside the tenure: so this is done without getting inside."""

        def close(sealer: _Sealer) -> None:
            for lane in (sealer._data, sealer._trees):
                if lane.pack is pack:
                    lane.close_pack()

        self.post(close)

    # --- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._go_on()
        except Exception as error:
            self._crew.broke(error)
            raise
        finally:
            self._data.end()
            self._trees.end()

    def _go_on(self) -> None:
        while not self.ended:
            work = self._crew.next(self)
            self.attend()
            if work is not None:
                try:
                    self._do(work)
                finally:
                    self._crew.tenure.leave()
        self.attend()

    def _do(self, work: Work) -> None:
        if callable(work):
            work(self)  # tells its own failures
            return
        try:
            cut = work.begin(self._crew.chunker)
        except Exception:  # noqa: BLE001  the upload has failed with it; others go on
            return
        if cut is not None:
            self._seal_window(work, cut)

    def _seal_window(self, stream: Stream, cut: CutWindow) -> None:
        try:
            for part, content in cut.chunks:
                if stream.failure is not None:
                    break
                blob = BlobId(hashlib.sha256(content).digest())
                self._data.seal(blob, content, stream.account)
                part.append(blob)
                self.attend()
        except Exception as error:  # noqa: BLE001  the upload fails with it; others go on
            stream.fail(error)
        finally:
            stream.finished(cut)

    def seal_tree(self, tree: BlobId, document: bytes, account: Account) -> None:
        self._trees.seal(tree, document, account)
        self.attend()

    def attend(self) -> None:
        """Does what others have asked for meanwhile."""
        while self.mail:
            self.mail.popleft()(self)

    def trim(self) -> None:
        self._data.trim()
        self._trees.trim()
