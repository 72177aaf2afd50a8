"""Large bodies into a running server and out of it, beside PocketBase, our engine, and restic."""

from __future__ import annotations

import shutil
import sys
import zipfile
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trees
from clients import Ask, first_byte
from homes import Backups, ChanTarget, basic, curl, halves, holdfast, pocketbase
from measure import ENVIRONMENT, run, written
from turns import MIB, OURS

from holdfast.core.access import SHELL
from holdfast.service.server import open_service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from turns import Bench

    from holdfast.testing.running_server import Server

PASSWORD = "benchmark"
STDIN = "backup --stdin"


def create(bench: Bench) -> None:
    """Backups of sixteen files, made by each of the servers from its own data."""
    with bench.room() as work:
        app = work / "app"
        app.mkdir()
        refill(app, bench.size, 0)
        with (
            holdfast(work, include=app) as ours,
            pocketbase(work, bench.pocketbase, app) as url,
        ):
            servers = {OURS: Backups(ours.main, work), "PocketBase": Backups(url, work)}
            for number in range(bench.rounds):
                refill(app, bench.size, number)
                name = f"round-{number}.zip"
                acts = {each: partial(at.create, name) for each, at in servers.items()}
                bench.turns("create", number, acts)
                for at in servers.values():
                    at.remove(name)


def refill(folder: Path, size: int, seed: int) -> None:
    """Other bytes in the same files, which may be linked from elsewhere."""
    for number in range(16):
        trees.random_file(folder / f"{number}.bin", size // 16, seed=1000 * seed + number)


def upload(bench: Bench) -> None:
    """The same zip as a form, into each of the servers."""
    with bench.room() as work, both(bench, work) as servers:
        for number in range(bench.rounds):
            large, name = large_zip(work, bench.size, seed=10 + number), f"round-{number}.zip"
            acts = {each: partial(at.upload, large, name) for each, at in servers.items()}
            bench.turns("multipart upload", number, acts)
            for at in servers.values():
                at.remove(name)


def download(bench: Bench) -> None:
    """What each was given by upload; then the first byte, of all and of ranges anywhere in it."""
    with bench.room() as work, both(bench, work) as servers:
        large = large_zip(work, bench.size, seed=20)
        for at in servers.values():
            at.upload(large, "large.zip")
        for number in range(bench.rounds):
            acts = {each: partial(at.download, "large.zip") for each, at in servers.items()}
            bench.turns("download", number, acts)
            ours = servers[OURS].address("large.zip")
            bench.add("first byte", first_byte(Ask(ours)) * 1000)
            start = bench.size * (number + 1) // (bench.rounds + 1)
            part = Ask(ours, {"Range": f"bytes={start}-{start + MIB - 1}"})
            bench.add("first byte of a range", first_byte(part) * 1000)


@contextmanager
def both(bench: Bench, work: Path) -> Iterator[dict[str, Backups]]:
    with holdfast(work) as ours, pocketbase(work, bench.pocketbase) as url:
        yield {OURS: Backups(ours.main, work), "PocketBase": Backups(url, work)}


def large_zip(work: Path, size: int, seed: int) -> Path:
    """A zip with one incompressible member: PocketBase's face takes nothing else."""
    content, path = work / "content", work / "large.zip"
    trees.random_file(content, size, seed=seed)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.write(content, "content")
    content.unlink()
    return path


def kept(bench: Bench) -> None:
    """The same body through two faces, into a pool for each, and by the engine alone."""
    with bench.room() as work, holdfast(work, more_pools=("chan",)) as server:
        target = ChanTarget.make(server, "large", pool="chan")
        for number in range(bench.rounds):
            body = work / "body"
            trees.random_file(body, bench.size, seed=30 + number)
            put = partial(restbackup_put, server, body, f"round-{number}")
            acts = {
                "RestBackup": partial(counted, bench, server, "RestBackup", put),
                "Backup-chan": partial(
                    counted, bench, server, "Backup-chan", partial(target.upload, body)
                ),
                STDIN: partial(stdin_backup, work, body),
            }
            bench.turns("until kept", number, acts)


def restbackup_put(server: Server, body: Path, name: str) -> float:
    return curl(f"{server.restbackup}/{name}", basic(server.account), "-T", str(body)).wall


def counted(bench: Bench, server: Server, face: str, act: Callable[[], float]) -> float:
    """Does it, and tells how much it made the server's processes write."""
    before = written(*halves(server))
    seconds = act()
    bench.add("written per byte", (written(*halves(server)) - before) / bench.size, face)
    return seconds


def stdin_backup(work: Path, body: Path) -> float:
    """`holdfast backup --stdin` of it, into a new repository; its start counts, too."""
    program = Path(sys.executable).with_name("holdfast")
    environment = ENVIRONMENT | {
        "HOLDFAST_PASSWORD": PASSWORD,
        "HOLDFAST_CACHE_DIR": str(work / "cache"),
        "HOLDFAST_REPOSITORY": str(work / "stdin"),
    }
    run([str(program), "-q", "init"], env=environment)
    sample = run(["sh", "-c", f"{program} -q backup --stdin < {body}"], env=environment)
    shutil.rmtree(work / "stdin")
    return sample.wall


# --- restic ---------------------------------------------------------------------------------------


def restic(bench: Bench) -> None:
    """Stock restic through the server and on a directory: half of the bytes in one large file, the
    rest in small ones.
    """
    with bench.room() as work, holdfast(work) as server:
        source = work / "source"
        trees.flat_files(source, count=bench.size // 2 // (20 << 10), mean=20 << 10)
        trees.random_file(source / "large.bin", bench.size // 2)
        for number in range(bench.rounds):
            at = {OURS: host_repository(server, number), "bare directory": str(work / f"r{number}")}
            for repository in at.values():
                stock(work, repository, "init")
            targets = {name: work / f"restored-{number}-{name[:4]}" for name in at}
            for what, words in {
                "restic backup": {name: ["backup", str(source)] for name in at},
                "restic restore": {
                    name: ["restore", "latest", "--target", str(targets[name])] for name in at
                },
            }.items():
                acts = {name: partial(stock, work, at[name], *words[name]) for name in at}
                bench.turns(what, number, acts)
            for folder in targets.values():
                (folder / source.relative_to("/") / "large.bin").unlink()


def host_repository(server: Server, number: int) -> str:
    """The address of a new machine's repository, which holds its token."""
    name = f"machine{number}"
    with closing(open_service(server.data)) as service:
        host = service.hosts.add(SHELL, name)
        _, token = service.hosts.issue(SHELL, host.id)
    return f"rest:http://{name}:{token.reveal()}@127.0.0.1:{server.port}/restic/main/{name}/"


def stock(work: Path, repository: str, *words: str) -> float:
    environment = ENVIRONMENT | {
        "RESTIC_PASSWORD": PASSWORD,
        "RESTIC_CACHE_DIR": str(work / "restic-cache"),
        "RESTIC_REPOSITORY": repository,
    }
    return run(["restic", "-q", *words], env=environment).wall
