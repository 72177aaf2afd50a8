"""One stage of work spread over workers: tasks go out in order, answers come back as they are
ready.

A store on this machine is read by forked processes; a distant one, where most of the time is
waiting, by threads. A worker has at most DEPTH tasks under way, so tasks may be made as they are
needed.
"""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from threading import local
from typing import TYPE_CHECKING

from holdfast.repo.processes import Line, Message, can_fork, fork_workers, ready

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

DEPTH = 2


def fan_out(
    tasks: Iterable[Message],
    begin: Callable[[], Callable[[Message], Message]],
    *,
    workers: int,
    processes: bool,
) -> Iterator[Message]:
    """Answers to all tasks, in any order. `begin` is called once in each worker and gives what does
    its tasks.

    Raises:
        Exception: what a worker raised; no further task is begun.
    """
    if workers <= 0:
        work = begin()
        return (work(task) for task in tasks)
    if processes and can_fork():
        return _in_processes(tasks, begin, workers)
    return _in_threads(tasks, begin, workers)


def _in_processes(
    tasks: Iterable[Message], begin: Callable[[], Callable[[Message], Message]], count: int
) -> Iterator[Message]:
    def serve(line: Line) -> None:
        work = begin()
        while True:
            line.send(work(line.receive()))

    crew = fork_workers(count, serve)
    under_way = {id(worker): 0 for worker in crew}
    coming = iter(tasks)
    more = True
    try:
        while more or any(under_way.values()):
            for worker in crew:
                while more and under_way[id(worker)] < DEPTH:
                    task = next(coming, None)
                    if task is None:
                        more = False
                        break
                    worker.send(task)
                    under_way[id(worker)] += 1
            busy = [worker for worker in crew if under_way[id(worker)]]
            for worker in ready(busy, None) if busy else ():
                answer = worker.receive()
                under_way[id(worker)] -= 1
                yield answer
    finally:
        for worker in crew:
            worker.end()


def _in_threads(
    tasks: Iterable[Message], begin: Callable[[], Callable[[Message], Message]], count: int
) -> Iterator[Message]:
    own = local()

    def run(task: Message) -> Message:
        work: Callable[[Message], Message] | None = getattr(own, "work", None)
        if work is None:
            work = own.work = begin()
        return work(task)

    with ThreadPoolExecutor(count, thread_name_prefix="worker") as pool:
        under_way: set[Future[Message]] = set()
        try:
            for task in tasks:
                under_way.add(pool.submit(run, task))
                if len(under_way) >= count * DEPTH:
                    done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                    yield from (each.result() for each in done)
            while under_way:
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                yield from (each.result() for each in done)
        finally:
            for each in under_way:
                each.cancel()
