"""What a server's streams give: uploads straight into packs, downloads and archives out of them.

    .venv/bin/python benchmarks/server_streams.py [--only NAME ...] [--rounds 3] [--work DIR]

Each case runs in a process of its own, without HTTP: what is measured is the engine half. Rates do
not count the start of the interpreter; CPU and memory (peak PSS) are those of the whole process.
Content is random, so nothing compresses or deduplicates.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from measure import run

from holdfast.core.secret import Secret
from holdfast.repo.browsing.archives import ArchiveFormat, archive
from holdfast.repo.browsing.archives_range import StoredZip
from holdfast.repo.browsing.streaming import ReadPool, open_file
from holdfast.repo.repository import Repository
from holdfast.repo.saving.intake import About, Intake
from holdfast.repo.saving.intake_archives import Limits, receive
from holdfast.store.directory import DirectoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 1 << 20
PASSWORD = "benchmark"
PIECE = 256 << 10
HERE = About(host="benchmark")
FILES = 20_000
Figures = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=1024, help="MiB of the large file")
    parser.add_argument("--work", type=Path, help="where the repositories lie")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(CASES[options.case](options.work)))
        return
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        prepare(Path(work), options.size)
        samples: dict[str, list[Figures]] = {name: [] for name in options.only}
        for number in range(options.rounds):
            names = options.only if number % 2 == 0 else options.only[::-1]
            for name in names:
                samples[name].append(measure(name, Path(work)))
    for name, of_case in samples.items():
        show(name, of_case)


def prepare(work: Path, size: int) -> None:
    with (work / "large").open("wb") as file:
        for _ in range(size):
            file.write(os.urandom(MIB))


def measure(name: str, work: Path) -> Figures:
    """One case once; what it made is removed."""
    with tempfile.TemporaryDirectory(dir=work) as own:
        (Path(own) / "large").symlink_to(work / "large")
        if name == "stdin":
            return stdin_backup(Path(own))
        output = Path(own) / "figures"
        command = f"{sys.executable} {__file__} --work {own} --case {name} > {output}"
        sample = run(["sh", "-c", command], env=os.environ)
        return json.loads(output.read_text()) | {"cpu s": sample.cpu, "PSS MiB": sample.pss}


def show(name: str, samples: list[Figures]) -> None:
    for what in samples[0]:
        values = sorted(each[what] for each in samples)
        middle = statistics.median(values)
        print(f"{name:<10} {what:<28} {middle:10.1f}   ({values[0]:.1f} - {values[-1]:.1f})")


def fresh(work: Path) -> Repository:
    """An empty repository, so that nothing is known yet."""
    path = tempfile.mkdtemp(dir=work)
    return Repository.init(DirectoryStore(path), Secret(PASSWORD))


def pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while piece := file.read(PIECE):
            yield piece


# --- in -------------------------------------------------------------------------------------------


def upload(work: Path) -> Figures:
    """One file by one giver, to the durable snapshot."""
    repository = fresh(work)
    with Intake(repository) as intake:
        began = time.perf_counter()
        given = intake.begin(b"large", HERE)
        for piece in pieces(work / "large"):
            given.write(piece)
        kept = given.finish().result()
        wall = time.perf_counter() - began
    return {"MiB/s": kept.size / wall / MIB}


def stdin_backup(work: Path) -> Figures:
    """The same through `holdfast backup --stdin`, which may fork workers."""
    path = tempfile.mkdtemp(dir=work)
    Repository.init(DirectoryStore(path), Secret(PASSWORD))
    holdfast = Path(sys.executable).with_name("holdfast")
    command = f"{holdfast} -r {path} backup --stdin < {work / 'large'}"
    environment = os.environ | {"HOLDFAST_PASSWORD": PASSWORD, "HOLDFAST_CACHE_DIR": path + "/c"}
    sample = run(["sh", "-c", command], env=environment)
    size = (work / "large").stat().st_size / MIB
    return {"MiB/s with start": size / sample.wall, "cpu s": sample.cpu, "PSS MiB": sample.pss}


def eight(work: Path) -> Figures:
    """Eight different files at once."""
    repository = fresh(work)
    size = 256 * MIB

    def give(number: int) -> None:
        block = bytearray(random.Random(number).randbytes(MIB))
        with intake.begin(b"%d" % number, HERE) as given:
            for at in range(size // MIB):
                block[:8] = at.to_bytes(8, "little")  # nearly every chunk is another
                for start in range(0, MIB, PIECE):
                    given.write(bytes(block[start : start + PIECE]))
            given.finish().result()

    with Intake(repository) as intake:
        threads = [threading.Thread(target=give, args=(n,)) for n in range(8)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wall = time.perf_counter() - began
    return {"MiB/s": 8 * size / wall / MIB}


def small(work: Path) -> Figures:
    """200 clients, each with one body of 10 KiB after the other, durable before its answer."""
    repository = fresh(work)
    body = random.Random(1).randbytes(10 << 10)
    clients, seconds = 200, 6.0
    times: list[float] = []
    done = threading.Event()
    left = clients

    with Intake(repository) as intake:

        def client(number: int) -> None:
            if time.perf_counter() > ends:
                nonlocal left
                left -= 1
                if not left:
                    done.set()
                return
            began = time.perf_counter()
            given = intake.begin(b"small", HERE)
            given.write(number.to_bytes(8, "little") + body)
            given.finish().add_done_callback(lambda future: answered(number, began, future))

        def answered(number: int, began: float, future: object) -> None:
            assert not future.exception()  # type: ignore[attr-defined]
            times.append(time.perf_counter() - began)
            client(number + clients)

        began = time.perf_counter()
        ends = began + seconds
        for number in range(clients):
            client(number)
        done.wait()
        wall = time.perf_counter() - began
    times.sort()
    return {
        "uploads/s": len(times) / wall,
        "p50 ms": times[len(times) // 2] * 1000,
        "p95 ms": times[len(times) * 95 // 100] * 1000,
    }


def lone(work: Path) -> Figures:
    """One client with one body of 10 KiB after the other."""
    repository = fresh(work)
    times = []
    with Intake(repository) as intake:
        for number in range(300):
            began = time.perf_counter()
            given = intake.begin(b"small", HERE)
            given.write(random.Random(number).randbytes(10 << 10))
            given.finish().result()
            times.append(time.perf_counter() - began)
    times.sort()
    return {"uploads/s": len(times) / sum(times), "p50 ms": times[150] * 1000}


# --- out ------------------------------------------------------------------------------------------


def download(work: Path) -> Figures:
    """The large file again, verified; then pieces of a mebibyte from anywhere in it."""
    repository = fresh(work)
    with Intake(repository) as intake:
        given = intake.begin(b"large", HERE)
        for piece in pieces(work / "large"):
            given.write(piece)
        kept = given.finish().result()
    with ReadPool(repository) as pool:
        stream = open_file(pool, kept.tree, b"/large")
        rates = []
        for _ in range(3):
            began = time.perf_counter()
            assert sum(map(len, stream.pieces())) == kept.size
            rates.append(kept.size / (time.perf_counter() - began) / MIB)
        rnd = random.Random(1)
        firsts = []
        for _ in range(100):
            start = rnd.randrange(kept.size - MIB)
            began = time.perf_counter()
            with open_file(pool, kept.tree, b"/large").pieces(start, start + MIB) as read:
                next(read)
                firsts.append(time.perf_counter() - began)
        return {
            "MiB/s": statistics.median(rates),
            "first byte of a range ms": statistics.median(firsts) * 1000,
        }


def archives(work: Path) -> Figures:
    """20,000 files of 10 KiB in the mean, taken in as a tree, given out in each form."""
    repository = fresh(work)
    rnd = random.Random(1)
    figures: Figures = {}
    contents = [rnd.randbytes(rnd.randrange(20 << 10)) for _ in range(FILES)]
    with Intake(repository) as intake:
        began = time.perf_counter()
        with intake.begin_tree(HERE) as session:
            for number, content in enumerate(contents):
                with session.file(b"%d/f%d" % (number % 50, number)) as file:
                    file.write(content)
            kept = session.commit().result()
        figures["taken in MiB/s"] = kept.size / (time.perf_counter() - began) / MIB
    del contents
    with ReadPool(repository) as pool:
        for form in ArchiveFormat:
            _give(figures, form, kept.size, lambda form=form: archive(pool, kept.tree, form))
        stored = StoredZip(pool, kept.tree)
        _give(figures, "StoredZip", kept.size, stored.pieces)
        tar = b"".join(archive(pool, kept.tree, ArchiveFormat.TAR))
        with Intake(repository) as intake, intake.begin_tree(HERE) as session:
            began = time.perf_counter()
            receive(io.BytesIO(tar), session, Limits(total=1 << 40))
            session.commit().result()
            figures["tar received MiB/s"] = kept.size / (time.perf_counter() - began) / MIB
    return figures


def _give(figures: Figures, name: str, size: int, make: Callable[[], Iterator[bytes]]) -> None:
    began = time.perf_counter()
    first = 0.0
    given = 0
    for piece in make():
        given += len(piece)
        if not first and given > 100:  # not just a header
            first = time.perf_counter() - began
    figures[f"{name} MiB/s"] = size / (time.perf_counter() - began) / MIB
    figures[f"{name} first byte ms"] = first * 1000


CASES: dict[str, Callable[[Path], Figures]] = {
    "upload": upload,
    "stdin": stdin_backup,
    "eight": eight,
    "small": small,
    "lone": lone,
    "download": download,
    "archives": archives,
}


if __name__ == "__main__":
    main()
