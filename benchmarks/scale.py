"""How cost grows: half a million files, a million, and a sparse file of 64 GiB.

    .venv/bin/python benchmarks/scale.py [--files 1000000] [--work DIR]

Bars: doubling the files takes at most 2.3 times as long; all processes together stay below 512 MiB
and 100 bytes for each blob of the repository.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from measure import Sample, run

HOLDFAST = str(Path(sys.executable).with_name("holdfast"))
_BASE = 512
_PER_BLOB = 100


def tiny_files(root: Path, first: int, count: int) -> None:
    """Files of some hundred bytes, each its own, a hundred in a directory."""
    for folder in range(first // 100, (first + count) // 100):
        path = root / f"{folder // 100:04}" / f"{folder % 100:02}"
        path.mkdir(parents=True)
        for number in range(100):
            name = os.open(f"{path}/{number:02}", os.O_WRONLY | os.O_CREAT, 0o644)
            os.write(name, b"file %d of directory %d\n" % (number, folder) * 12)
            os.close(name)


def backup(work: Path, name: str, source: Path) -> Sample:
    env = {"PATH": os.environ["PATH"], "HOME": str(work), "HOLDFAST_PASSWORD": "benchmark"}
    repository = str(work / name)
    run([HOLDFAST, "-q", "-r", repository, "init"], env=env)
    return run([HOLDFAST, "-q", "-r", repository, "backup", str(source)], env=env)


def tell(what: str, sample: Sample, blobs: int) -> None:
    budget = _BASE + _PER_BLOB * blobs / (1 << 20)
    print(
        f"{what:<28} {sample.wall:8.1f} s  cpu {sample.cpu:8.1f} s"
        f"  pss {sample.pss:6.0f} MiB of {budget:.0f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--work", type=Path)
    chosen = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="holdfast-scale-", dir=chosen.work))
    try:
        sparse = work / "sparse"
        sparse.mkdir()
        with (sparse / "disk.img").open("wb") as file:
            file.truncate(64 << 30)
            for island in range(64):
                file.seek(island << 30)
                file.write(os.urandom(1 << 20))
        tell("64 GiB sparse file", backup(work, "r-sparse", sparse), 64)
        half = chosen.files // 2
        tiny_files(work / "files", 0, half)
        first = backup(work, "r-half", work / "files")
        tell(f"{half} files", first, half)
        tiny_files(work / "files", half, half)
        second = backup(work, "r-whole", work / "files")
        tell(f"{chosen.files} files", second, chosen.files)
        ratio = second.wall / first.wall
        print(f"twice the files, {ratio:.2f} times the time ({second.cpu / first.cpu:.2f} the cpu)")
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
