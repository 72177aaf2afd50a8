"""The REST archiver beside apibackuper 2.0, alternating against one imitated API.

Each group runs both programs in turn, so that whatever else the machine does hits both. Apibackuper
comes from PyPI into an environment of its own. Prints medians, spreads and ratios beside the bars
they are held to; memory is the peak of all processes of a command.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import measure

from holdfast.testing.api_listing import Synthetic

if TYPE_CHECKING:
    from collections.abc import Iterator

RIVAL = ["apibackuper==2.0.0", "pandas", "pyarrow"]
GROUPS = (
    "defaults",
    "best",
    "zero",
    "export",
    "parquet",
    "files",
    "pages-memory",
    "file-memory",
    "follow-memory",
)
OURS = [sys.executable, "-m", "holdfast", "api"]
PER_PAGE = 100
MEMORY_BAR = 80.0


@dataclass
class Bench:
    work: Path
    rounds: int
    rival: Path
    samples: dict[str, list[measure.Sample]] = field(default_factory=dict)

    def programs(self) -> dict[str, list[str]]:
        """Ours first in each round; the command of each."""
        return {"holdfast": OURS, "apibackuper": [str(self.rival)]}

    def time(self, name: str, argv: list[str], cwd: Path) -> measure.Sample:
        sample = measure.run(argv, env=measure.ENVIRONMENT, cwd=cwd)
        self.samples.setdefault(name, []).append(sample)
        print(f"  {name:28} {sample.wall:8.2f} s  {sample.pss:7.1f} MiB", flush=True)
        return sample

    def compare(self, group: str, bar: float, *, per: int | None = None) -> None:
        """Prints how many times faster we are than the other, and the bar."""
        ours, theirs = self.samples[f"{group} holdfast"], self.samples[f"{group} apibackuper"]
        ratio = measure.paired_ratio(theirs, ours)
        effort = sum(sample.cpu for sample in theirs) / sum(sample.cpu for sample in ours)
        told = [
            f"{name} {measure.median(samples):.2f} s ({measure.spread(samples)})"
            + (f" = {per / measure.median(samples):.0f}/s" if per else "")
            for name, samples in (("holdfast", ours), ("apibackuper", theirs))
        ]
        verdict = "met" if ratio >= bar else "MISSED"
        print(
            f"{group}: {', '.join(told)}; {ratio:.1f}x ({effort:.1f}x the processor time),"
            f" bar {bar:g}x: {verdict}",
            flush=True,
        )

    def memory(self, group: str) -> None:
        peak = max(sample.pss for sample in self.samples[f"{group} holdfast"])
        verdict = "met" if peak <= MEMORY_BAR else "MISSED"
        print(f"{group}: peak {peak:.1f} MiB, bar {MEMORY_BAR:g} MiB: {verdict}", flush=True)


@contextlib.contextmanager
def served(*, records: int, latency: float = 0.0, file_size: int = 10_000) -> Iterator[str]:
    """The imitated API in a process of its own; its address."""
    command = [
        sys.executable, "-m", "holdfast.testing.api_server", "--records", str(records),
        "--latency", str(latency), "--file-size", str(file_size),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def make_project(folder: Path, url: str, **sections: dict[str, object]) -> Path:
    """A project that both programs read."""
    content: dict[str, dict[str, object]] = {
        "settings": {"name": "bench", "initialized": True},
        "project": {"url": f"{url}/page", "http_mode": "GET", "iterate_by": "page"},
        "params": {
            "page_size_param": "size",
            "page_size_limit": PER_PAGE,
            "page_number_param": "page",
        },
        "data": {"total_number_key": "total", "data_key": "data", "item_key": "id"},
        "storage": {"storage_type": "zip"},
    }
    for name, given in sections.items():
        content[name] = {**content.get(name, {}), **given}
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "apibackuper.yaml").write_text(json.dumps(content, indent=1))
    return folder


def fill(folder: Path, pages: int) -> None:
    """A storage.zip as apibackuper leaves it, made without asking anybody."""
    (folder / "storage").mkdir(exist_ok=True)
    records = Synthetic(pages * PER_PAGE)
    with zipfile.ZipFile(folder / "storage" / "storage.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for page in range(pages):
            document = {
                "data": records[page * PER_PAGE : (page + 1) * PER_PAGE],
                "total": len(records),
            }
            archive.writestr(f"page_{page + 1}.json", json.dumps(document, ensure_ascii=False))


def check_pages(folder: Path, pages: int) -> None:
    """Fast and wrong does not count: every page must be there, each with its records."""
    with zipfile.ZipFile(folder / "storage" / "storage.zip") as archive:
        names = [name for name in archive.namelist() if name.startswith("page_")]
        records = sum(len(json.loads(archive.read(name))["data"]) for name in names)
    if records != pages * PER_PAGE:
        raise SystemExit(f"{folder} holds {records} records instead of {pages * PER_PAGE}")


def warm_up(bench: Bench) -> None:
    """Both programs once, unmeasured, so that their compiled code is there."""
    with served(records=PER_PAGE) as url:
        for name, program in bench.programs().items():
            folder = make_project(bench.work / name, url)
            for words in (["run", "full"], ["export", "out.jsonl"], ["export", "out.parquet"]):
                measure.run([*program, *words], env=measure.ENVIRONMENT, cwd=folder)


def collect(bench: Bench, group: str, *, latency: float, bar: float, tuned: bool) -> None:
    """Two hundred pages, both as shipped; `tuned`: each with what makes it fastest."""
    pages = 200
    best: dict[str, dict[str, dict[str, object]]] = {
        "holdfast": {"request": {"parallelism": 32}},
        "apibackuper": {"project": {"default_delay": 0}, "request": {"parallelism": 8}},
    }
    with served(records=pages * PER_PAGE, latency=latency) as url:
        for number in range(bench.rounds):
            print(f"{group}, round {number + 1}", flush=True)
            for name, program in bench.programs().items():
                sections = best[name] if tuned else {}
                folder = make_project(bench.work / name, url, **sections)
                bench.time(f"{group} {name}", [*program, "run", "full"], folder)
                check_pages(folder, pages)
    bench.compare(group, bar, per=pages * PER_PAGE)


def export(bench: Bench, *, pages: int, form: str, bar: float) -> None:
    """An archive that gives neither program a head start, as JSON lines or as Parquet."""
    folder = make_project(bench.work / "export", "http://127.0.0.1:1")
    fill(folder, pages)
    group = "export" if form == "jsonl" else form
    for number in range(bench.rounds):
        print(f"{group}, round {number + 1}", flush=True)
        for name, program in bench.programs().items():
            target = bench.work / f"{name}.{form}"
            bench.time(f"{group} {name}", [*program, "export", str(target)], folder)
            count = count_rows(target)
            if count != pages * PER_PAGE:
                raise SystemExit(f"{name} exported {count} records")
    bench.compare(group, bar, per=pages * PER_PAGE)


def count_rows(file: Path) -> int:
    if file.suffix == ".parquet":
        import pyarrow.parquet as pq

        return int(pq.ParquetFile(file).metadata.num_rows)
    with file.open("rb") as lines:
        return sum(1 for _ in lines)


def files(bench: Bench, *, count: int) -> None:
    """Small files at 20 ms each, the other without its pauses."""
    with served(records=count, latency=0.02) as url:
        section = {"fetch_mode": "pattern", "root_url": f"{url}/files/{{}}.bin", "keys": "id"}
        for number in range(bench.rounds):
            print(f"files, round {number + 1}", flush=True)
            for name, program in bench.programs().items():
                project = {"default_delay": 0} if name == "apibackuper" else {}
                folder = make_project(bench.work / name, url, files=section, project=project)
                fill(folder, count // PER_PAGE)
                bench.time(f"files {name}", [*program, "getfiles"], folder)
                with zipfile.ZipFile(folder / "storage" / "files.zip") as archive:
                    if len(archive.namelist()) != count:
                        raise SystemExit(f"{name} has {len(archive.namelist())} files")
    bench.compare("files", 5.0, per=count)


def pages_memory(bench: Bench, *, pages: int) -> None:
    with served(records=pages * PER_PAGE) as url:
        folder = make_project(bench.work / "memory", url)
        bench.time("pages-memory holdfast", [*OURS, "run", "full"], folder)
        check_pages(folder, pages)
    bench.memory("pages-memory")


def file_memory(bench: Bench, *, size: int) -> None:
    with served(records=PER_PAGE, file_size=size) as url:
        section = {"fetch_mode": "prefix", "root_url": f"{url}/", "keys": "file"}
        folder = make_project(
            bench.work / "memory", url, files=section, storage={"compression": False}
        )
        (folder / "storage").mkdir()
        with zipfile.ZipFile(folder / "storage" / "storage.zip", "w") as archive:
            archive.writestr("page_1.json", '{"data": [{"id": 1, "file": "files/1.bin"}]}')
        bench.time("file-memory holdfast", [*OURS, "getfiles"], folder)
    bench.memory("file-memory")


def follow_memory(bench: Bench, *, keys: int) -> None:
    with served(records=keys) as url:
        section = {
            "follow_mode": "prefix", "follow_pattern": f"{url}/empty/", "follow_item_key": "id",
        }  # fmt: skip
        folder = make_project(bench.work / "memory", url, follow=section)
        fill(folder, keys // PER_PAGE)
        bench.time("follow-memory holdfast", [*OURS, "follow", "full"], folder)
    bench.memory("follow-memory")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=GROUPS, default=GROUPS)
    parser.add_argument("--scale", type=float, default=1.0, help="of everything that is large")
    parser.add_argument("--rival", type=Path, help="its command, where it is installed already")
    parser.add_argument("--work", type=Path, help="a folder with 10 GB free")
    chosen = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="holdfast-bench-", dir=chosen.work))

    def large(number: int) -> int:
        return max(int(number * chosen.scale) // PER_PAGE, 1) * PER_PAGE

    try:
        bench = Bench(
            work,
            chosen.rounds,
            chosen.rival or measure.installed(work / "rival", RIVAL, "apibackuper"),
        )
        print(f"{RIVAL[0]}; {os.cpu_count()} processors; load {os.getloadavg()[0]:.1f}", flush=True)
        groups = {
            "defaults": lambda: collect(bench, "defaults", latency=0.05, bar=20, tuned=False),
            "best": lambda: collect(bench, "best", latency=0.05, bar=2.5, tuned=True),
            "zero": lambda: collect(bench, "zero", latency=0, bar=2, tuned=True),
            "export": lambda: export(
                bench, pages=large(1_000_000) // PER_PAGE, form="jsonl", bar=3
            ),
            "parquet": lambda: export(
                bench, pages=large(100_000) // PER_PAGE, form="parquet", bar=1
            ),
            "files": lambda: files(bench, count=large(1000)),
            "pages-memory": lambda: pages_memory(bench, pages=large(20_000)),
            "file-memory": lambda: file_memory(bench, size=large(2 << 30)),
            "follow-memory": lambda: follow_memory(bench, keys=large(1_000_000)),
        }
        warm_up(bench)
        for name in chosen.only:
            groups[name]()
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
