"""Many files, many clients, long lists, and the memory that they take of a running server."""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import threading
import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import trees
from clients import Ask, ask_at_rate, at_once, first_byte, give, give_small, take_slowly
from homes import ChanTarget, basic, bearer, halves, holdfast, put_of
from measure import Peak, pss
from turns import MIB

import catalog
from holdfast.catalog import tables
from holdfast.core.access import SHELL
from holdfast.service.server import open_service

if TYPE_CHECKING:
    from turns import Bench

    from holdfast.testing.running_server import Server


# --- archives -------------------------------------------------------------------------------------


def archives(bench: Bench) -> None:
    """20,000 files of 10 KiB in the mean, uploaded as one tar and unpacked, given out again.

    No face gives a plain tar or zip of a backup: those two are read off the service itself.
    """
    with bench.room() as work, holdfast(work) as server:
        source, tar = work / "source", work / "small.tar"
        trees.flat_files(source, count=20_000, mean=10 << 10)
        subprocess.run(["tar", "-C", source, "-cf", tar, "."], check=True)
        size = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
        target = ChanTarget.make(server, "small", kind="multi")
        target.upload(tar)
        with closing(open_service(server.data)) as service:
            [backup] = service.backups.list(SHELL, service.targets.get(SHELL, target.uid))
            for number in range(bench.rounds):
                bench.add("first byte of a .tar.xz", first_byte(target.newest()) * 1000)
                forms = ("tar", "zip") if number % 2 == 0 else ("zip", "tar")
                for form in forms:
                    began = time.perf_counter()
                    content = service.backups.archive(SHELL, backup, form)
                    assert sum(map(len, content.pieces())) > size
                    rate = size / MIB / (time.perf_counter() - began)
                    bench.add(f"{form} of 20,000 files", rate)


# --- memory ---------------------------------------------------------------------------------------


def memory(bench: Bench) -> None:
    """Both processes before, during and after eight uploads at once, of a quarter of the large size
    each.
    """
    for _ in range(bench.rounds):
        with bench.room() as work, holdfast(work) as server:
            time.sleep(10)
            bench.add("PSS idle, just started", pss(*halves(server)))
            peak = Peak(*halves(server))
            at_once(
                [
                    lambda n=n: give(put_of(server, f"at-once-{n}"), bench.size // 4, seed=n)
                    for n in range(8)
                ]
            )
            bench.add("PSS with eight uploads", peak.stop())
            time.sleep(20)
            bench.add("PSS idle afterwards", pss(*halves(server)))


def slow(bench: Bench) -> None:
    """Seven uploads and fifty downloads at 100 kB/s, beside an upload as fast as can be."""
    for _ in range(bench.rounds):
        with bench.room() as work, holdfast(work) as server:
            give(put_of(server, "kept"), bench.size // 4, seed=100)
            stop = threading.Event()
            uploads = [
                partial(give, put_of(server, f"slow-{n}"), 2_000_000, 300 + n, rate=1e5)
                for n in range(7)
            ]
            ask = Ask(f"{server.restbackup}/kept", basic(server.account))
            peak = Peak(*halves(server))
            at_once(
                [
                    partial(fast_beside, bench, server, stop),
                    *uploads,
                    *[partial(take_slowly, ask, 1e5, stop)] * 50,
                ]
            )
            bench.add("PSS with slow clients", peak.stop())


def fast_beside(bench: Bench, server: Server, stop: threading.Event) -> None:
    """One upload when the others have been at it for a while; then those that read may stop."""
    time.sleep(10)
    began = time.perf_counter()
    give(put_of(server, "fast"), bench.size // 4, seed=200)
    bench.add(
        "upload beside slow clients, MiB/s", bench.size / 4 / MIB / (time.perf_counter() - began)
    )
    stop.set()


# --- many -----------------------------------------------------------------------------------------


def lists(bench: Bench) -> None:
    """Lists that clients ask for, 100 a second: 100,000 backups and 1,000 targets are there."""
    with bench.room() as work, holdfast(work, prepare=fill) as server:
        kinds = [
            *(f"/api/target?page={page}" for page in range(1, 101, 9)),
            *(f"/api/target/t{number}" for number in range(20, 1000, 77)),
            "/api/target/search?name=099",
            "/api/stats",
        ]
        asks = [Ask(server.main + path, bearer(server)) for path in kinds]
        asks += [Ask(f"{server.restbackup}/", basic(server.account))] * 5
        asyncio.run(ask_at_rate(asks, 20, 2))
        for _ in range(bench.rounds):
            times = asyncio.run(ask_at_rate(asks, 100, 10))
            bench.add("median of lists", statistics.median(times) * 1000)
            bench.add("p95 of lists", times[len(times) * 95 // 100] * 1000)


def fill(server: Server) -> None:
    """Every target has about a hundred backups, and so has the RestBackup account."""
    with closing(open_service(server.data)) as service:
        catalog.fill(service.ground, 100_000, largest=0, pool=service.pools.named("main"))
        account = service.accounts.find(SHELL, server.account.partition(":")[0])
        with service.ground.catalog.write() as tx:
            of_another = tables.backup.c.target_id == account.target_id + 7
            tx.backups.change_where(of_another, target_id=account.target_id)


def small(bench: Bench) -> None:
    """200 clients, each with one body of 10 KiB after the other, all under names of their own."""
    with bench.room() as work, holdfast(work) as server:
        block = os.urandom(10 << 10)
        answered = 0
        for number in range(bench.rounds):

            def ask(n: int, number: int = number) -> Ask:
                body = n.to_bytes(8, "little") + number.to_bytes(8, "little") + block[16:]
                return put_of(server, f"{number}/{n}", body)

            os.sync()
            times, seconds = asyncio.run(give_small(ask, 200, 6))
            answered += len(times)
            bench.add("uploads of 10 KiB", len(times) / seconds)
            bench.add("p95 of uploads of 10 KiB, ms", times[len(times) * 95 // 100] * 1000)
        with closing(open_service(server.data)) as service:
            counted = service.backups.totals(SHELL).backups
            assert counted == answered, (counted, answered)
