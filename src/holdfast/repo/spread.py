"""Spreads independent pieces of work over worker processes, and hands back the answers as they
come.

Processes where reading is local: that work is arithmetic, and two of them are twice as fast.
Threads where each piece
waits for a network, and where this process may not fork because it runs threads already.
"""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Protocol

from holdfast.repo.processes import (
    Line,
    Message,
    Worker,
    available_processors,
    can_fork,
    fork_workers,
    ready,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from holdfast.store.contract import Store

_DEPTH = 2
"""Pieces under way to one worker: it never waits for the next while an answer travels."""


class Spread(Protocol):
    """Pieces go in with `give` while there is `room`; answers come out of `take` in any order.

    A piece must be small (64 KiB), so that giving never blocks; an answer may be large.
    """

    @property
    def room(self) -> bool: ...

    @property
    def busy(self) -> bool:
        """Whether answers are outstanding."""
        ...

    def give(self, piece: Message) -> None: ...

    def take(self) -> Message:
        """The next answer.

        Raises:
            Exception: what the work raised.
        """
        ...

    def every(self, piece: Message) -> list[Message]:
        """Has each worker do this piece, while nothing else is under way; their answers."""
        ...

    def close(self) -> None: ...


def answers(spread: Spread, pieces: Iterable[Message]) -> Iterator[Message]:
    """Gives all the pieces, and hands out each answer as soon as it is there."""
    for piece in pieces:
        while not spread.room:
            yield spread.take()
        spread.give(piece)
    while spread.busy:
        yield spread.take()


def spread_work(
    store: Store, make: Callable[[], Callable[[Message], Message]], *, workers: int | None = None
) -> Spread:
    """Workers that run what `make` returns, made anew in each of them: ciphers and codecs belong to
    one.

    `workers`: how many; None for as many as pay; 0 for this very thread. Call before any thread is
    started.
    """
    if workers == 0:
        return _Inline(make())
    properties = store.properties
    count = workers or (available_processors() if properties.local else properties.connections)
    if properties.local and properties.forkable and can_fork():
        return _Processes(make, count)
    return _Threads(make, count)


class _Processes:
    def __init__(self, make: Callable[[], Callable[[Message], Message]], count: int) -> None:
        def serve(line: Line) -> None:
            work = make()
            while True:
                line.send(work(line.receive()))

        self._workers = fork_workers(count, serve)
        self._under_way = dict.fromkeys(self._workers, 0)

    @property
    def room(self) -> bool:
        return min(self._under_way.values()) < _DEPTH

    @property
    def busy(self) -> bool:
        return any(self._under_way.values())

    def give(self, piece: Message) -> None:
        worker = min(self._workers, key=self._under_way.__getitem__)
        self._under_way[worker] += 1
        worker.send(piece)

    def take(self) -> Message:
        busy: list[Worker] = [worker for worker, count in self._under_way.items() if count]
        worker = ready(busy, None)[0]
        answer = worker.receive()
        self._under_way[worker] -= 1
        return answer

    def every(self, piece: Message) -> list[Message]:
        for worker in self._workers:
            worker.send(piece)
        return [worker.receive() for worker in self._workers]

    def close(self) -> None:
        for worker in self._workers:
            worker.end()


class _Threads:
    def __init__(self, make: Callable[[], Callable[[Message], Message]], count: int) -> None:
        self._make = make
        self._own = threading.local()
        self._made: list[Callable[[Message], Message]] = []
        self._capacity = count * _DEPTH
        self._pool = ThreadPoolExecutor(count, "spread")
        self._futures: set[Future[Message]] = set()

    @property
    def room(self) -> bool:
        return len(self._futures) < self._capacity

    @property
    def busy(self) -> bool:
        return bool(self._futures)

    def give(self, piece: Message) -> None:
        self._futures.add(self._pool.submit(self._run, piece))

    def _run(self, piece: Message) -> Message:
        work: Callable[[Message], Message] | None = getattr(self._own, "work", None)
        if work is None:
            work = self._own.work = self._make()
            self._made.append(work)
        return work(piece)

    def take(self) -> Message:
        done, _ = wait(self._futures, return_when=FIRST_COMPLETED)
        future = done.pop()
        self._futures.remove(future)
        return future.result()

    def every(self, piece: Message) -> list[Message]:
        return [work(piece) for work in self._made]

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


class _Inline:
    def __init__(self, work: Callable[[Message], Message]) -> None:
        self._work = work
        self._answers: list[Message] = []

    @property
    def room(self) -> bool:
        return not self._answers

    @property
    def busy(self) -> bool:
        return bool(self._answers)

    def give(self, piece: Message) -> None:
        self._answers.append(self._work(piece))

    def take(self) -> Message:
        return self._answers.pop()

    def every(self, piece: Message) -> list[Message]:
        return [self._work(piece)]

    def close(self) -> None:
        """There is nobody to send home."""
