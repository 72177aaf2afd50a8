"""What agents cost: their backups and restores beside the local engine's, and many of them polling.

    .venv/bin/python benchmarks/agents.py [--only backup polls] [--size 1024] [--agents 500]

A server with TLS on loopback, SQLite and a directory, and its agents, are processes of their own.
`backup`: MiB of random content in files of 4 MiB, backed up by an agent and by `holdfast backup`,
then restored by both; the time of an agent's task counts from its submission to its end.
`polls`: so many agents that are authorised and have nothing to do hold their polls, all of them;
meanwhile one after another asks without waiting, which is what is timed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
from measure import _family, _pss, run

from holdfast.core.access import SHELL
from holdfast.core.agent_secret import hwid_of, new_secret
from holdfast.core.orders import HOLD
from holdfast.service.remote import Back, Wanted
from holdfast.service.server import open_service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.core.records import Task
    from holdfast.service.server import Service

MIB = 1 << 20
HOLDFAST = [sys.executable, "-m", "holdfast"]
PATIENCE = 3600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=["backup", "polls"])
    parser.add_argument("--size", type=int, default=1024, help="MiB to back up")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--agents", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=60.0, help="of polling")
    parser.add_argument("--work", type=Path, help="where everything lies")
    options = parser.parse_args()
    for case in options.only or ["backup", "polls"]:
        with tempfile.TemporaryDirectory(dir=options.work) as work:
            if case == "backup":
                backup(Path(work), options.size, options.rounds)
            else:
                polls(Path(work), options.agents, options.seconds)


# --- a server -------------------------------------------------------------------------------------


@contextmanager
def server(work: Path) -> Iterator[tuple[Service, str, subprocess.Popen[bytes]]]:
    data = work / "data"
    service = open_service(data)
    service.pools.add(SHELL, "main", [str(work / "pool")])
    ports = free_ports()
    process = subprocess.Popen(
        [*HOLDFAST, "serve", "--data", str(data), "--tls", "auto",
         "--listen", f"127.0.0.1:{ports[0]}", "--restbackup-listen", f"127.0.0.1:{ports[1]}"],
        env=os.environ | {"HOLDFAST_AGENTS_OWN": "no"}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until_there(data / "run" / "listeners.json")
        yield service, f"https://127.0.0.1:{ports[0]}", process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        service.close()


def free_ports() -> list[int]:
    sockets = [socket.socket() for _ in range(2)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def until_there(path: Path) -> None:
    until = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < until, path
        time.sleep(0.05)


# --- backup and restore ---------------------------------------------------------------------------


def backup(work: Path, size: int, rounds: int) -> None:
    source = work / "source"
    source.mkdir()
    content = random.Random(1)
    for number in range(size // 4):
        (source / f"{number}").write_bytes(content.randbytes(4 * MIB))
    with server(work) as (service, url, _):
        agent = subprocess.Popen(
            [*HOLDFAST, "agent", "run", "--server", url, "--name", "bench",
             "--state", str(work / "state"), "--ca", str(work / "data/tls/ca.pem")],
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            let_in(service)
            ratios = [_round(service, work, source, number) for number in range(rounds)]
        finally:
            agent.send_signal(signal.SIGTERM)
            agent.wait()
    for what, values in zip(("backup", "restore"), zip(*ratios, strict=True), strict=True):
        print(f"{what}: {statistics.median(values):.2f} of the local engine's speed")


def _round(service: Service, work: Path, source: Path, number: int) -> tuple[float, float]:
    """The agent's speed as a part of the local engine's, both ways, on a pool of its own."""
    pool = f"round{number}"
    service.pools.add(SHELL, pool, [str(work / pool)])
    local = os.environ | {
        "HOLDFAST_REPOSITORY": str(work / f"local{number}"), "HOLDFAST_PASSWORD": "benchmark",
    }  # fmt: skip
    run([*HOLDFAST, "init"], env=local)
    ours = run([*HOLDFAST, "backup", str(source)], env=local).wall
    theirs = timed(
        service,
        service.remote.back_up(SHELL, Wanted(agent="bench", resource=str(source), pool=pool)),
    )
    back = run([*HOLDFAST, "restore", "latest", "--target", str(work / "back")], env=local).wall
    [made] = service.backups.list(SHELL, limit=1)
    there = timed(
        service,
        service.remote.restore(SHELL, made, Back(agent="bench", destination=str(work / "there"))),
    )
    for left in ("back", "there", pool, f"local{number}"):
        shutil.rmtree(work / left)
    print(f"  backup {ours:.1f} s, agent {theirs:.1f}; restore {back:.1f} s, agent {there:.1f}")
    return ours / theirs, back / there


def timed(service: Service, task: Task) -> float:
    began = time.perf_counter()
    ended = service.tasks.wait(SHELL, task.id, PATIENCE)
    assert ended.state == "succeeded", ended
    return time.perf_counter() - began


def let_in(service: Service) -> None:
    until = time.monotonic() + PATIENCE
    while not (found := service.agents.list(SHELL)):
        assert time.monotonic() < until
        time.sleep(0.1)
    service.agents.authorise(SHELL, found[0].id)
    while not service.agents.get(SHELL, found[0].id).online_until > time.time_ns():
        time.sleep(0.1)


# --- polls ----------------------------------------------------------------------------------------


def polls(work: Path, count: int, seconds: float) -> None:
    with server(work) as (service, url, process):
        secrets = []
        for number in range(count):
            secret = new_secret()
            service.agents.admit(SHELL, secret, f"agent{number}-{hwid_of(secret)}")
            secrets.append(secret.reveal())
        asyncio.run(_poll_all(url, work / "data/tls/ca.pem", secrets, seconds, process))


async def _poll_all(
    url: str, ca: Path, secrets: list[str], seconds: float, process: subprocess.Popen[bytes]
) -> None:
    tls = ssl.create_default_context(cafile=str(ca))
    connector = aiohttp.TCPConnector(ssl=tls, limit=0)
    times: list[float] = []
    async with aiohttp.ClientSession(connector=connector) as session:
        ending = asyncio.Event()

        async def ask(secret: str, wait: float) -> None:
            async with session.post(
                f"{url}/agent/poll",
                json={"held": [], "wait": wait},
                headers={"Authorization": f"Bearer {secret}"},
            ) as answer:
                assert answer.status == 200, await answer.text()
                await answer.read()

        async def hold(secret: str) -> None:
            await asyncio.sleep(random.uniform(0, HOLD))
            while not ending.is_set():
                await ask(secret, HOLD)

        held = [asyncio.create_task(hold(secret)) for secret in secrets]
        await asyncio.sleep(HOLD)  # until all of them are there
        began, used = time.monotonic(), cpu(process.pid)
        while time.monotonic() - began < seconds:
            at = time.monotonic()
            await ask(random.choice(secrets), 0.0)
            times.append(time.monotonic() - at)
            await asyncio.sleep(0.02)
        took, used = time.monotonic() - began, cpu(process.pid) - used
        memory = sum(map(_pss, _family(process.pid))) / 1024
        for each in held:
            each.cancel()
        await asyncio.gather(*held, return_exceptions=True)
    ordered = sorted(times)
    p95 = ordered[int(len(ordered) * 0.95)] * 1000
    print(
        f"{len(secrets)} agents: p95 of a poll {p95:.0f} ms ({len(times)} polls), "
        f"server {used / took * 100:.0f} % of a core, {memory:.0f} MiB in all its processes"
    )


def cpu(pid: int) -> float:
    """Seconds of processor that a process and all below it have used."""
    ticks = 0
    for member in _family(pid):
        fields = Path(f"/proc/{member}/stat").read_bytes().rpartition(b")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
