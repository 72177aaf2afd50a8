"""Holdfast beside restic and borg: the same work, alternately, in the same run.

    .venv/bin/python benchmarks/engine.py [--rounds 5] [--only NAME ...] [--work DIR] [--json FILE]

Every round does each operation with each tool, the one that went first going last the next time.
Figures are medians over the rounds, ratios medians of the ratios within a round. No small file is
deleted before the end: on some file systems a mass deletion slows down whatever creates files next.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import trees
from measure import Sample, median, paired_ratio, run, spread

HOLDFAST = str(Path(sys.executable).with_name("holdfast"))
PASSWORD = "benchmark"
GROUPS = ("tree", "one", "restore", "prune", "borg")

Results = dict[str, dict[str, list[Sample]]]


class Bench:
    """One run of the benchmark: where things lie, and what was measured."""

    def __init__(self, work: Path, rounds: int) -> None:
        self.work = work
        self.rounds = rounds
        self.results: Results = defaultdict(lambda: defaultdict(list))
        self.sizes: dict[str, dict[str, int]] = defaultdict(dict)
        self.finished: list[Path] = []
        """Where large files are no longer needed."""
        self.env = {
            key: value
            for key, value in os.environ.items()
            if key.startswith(("PATH", "HOME", "LANG"))
        }
        self.env |= {
            "RESTIC_PASSWORD": PASSWORD,
            "HOLDFAST_PASSWORD": PASSWORD,
            "RESTIC_CACHE_DIR": str(work / "cache-restic"),
            "HOLDFAST_CACHE_DIR": str(work / "cache-holdfast"),
            "BORG_PASSPHRASE": PASSWORD,
            "BORG_BASE_DIR": str(work / "borg"),
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        }

    def measure(self, operation: str, tool: str, argv: list[str]) -> None:
        sample = run(argv, env=self.env, cwd=self.work)
        self.results[operation][tool].append(sample)
        print(
            f"  {operation:<28} {tool:<9} {sample.wall:7.2f} s "
            f" cpu {sample.cpu:6.2f} s  pss {sample.pss:5.0f} MiB",
            flush=True,
        )

    def make_room(self) -> None:
        """Removes the few large files of a round. Its many small ones stay: removing them slows
        down whoever makes files next.
        """
        for folder in self.finished:
            for path in folder.rglob("*"):
                if path.is_file() and not path.is_symlink() and path.stat().st_size > 1 << 20:
                    path.unlink()
        self.finished.clear()

    def quietly(self, argv: list[str]) -> None:
        run(argv, env=self.env, cwd=self.work)

    def pair(self, operation: str, number: int, commands: dict[str, list[str]]) -> None:
        """Measures the same operation with each tool; the order turns with the round."""
        tools = list(commands)
        for tool in tools if number % 2 else reversed(tools):
            self.measure(operation, tool, commands[tool])


def restic(repository: Path, *words: str) -> list[str]:
    return ["restic", "-q", "-r", str(repository), *words]


def holdfast(repository: Path, *words: str) -> list[str]:
    return [HOLDFAST, "-q", "-r", str(repository), *words]


TOOLS = {"restic": restic, "holdfast": holdfast}


def warm(folder: Path) -> None:
    """Reads everything once, so that no tool pays for a cold page cache."""
    for where, _, names in os.walk(folder):
        for name in names:
            Path(where, name).read_bytes() if Path(where, name).stat().st_size < 1 << 24 else _read(
                Path(where, name)
            )


def _read(path: Path) -> None:
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass


def disk_usage(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def backups(bench: Bench, name: str, source: Path, number: int, *, borg: bool) -> dict[str, Path]:
    """First backup, unchanged, 1 % changed, check: one round of one kind of data."""
    repositories = {tool: bench.work / f"{name}-{tool}-{number}" for tool in TOOLS}
    for tool, command in TOOLS.items():
        bench.quietly(command(repositories[tool], "init"))
    first = {tool: TOOLS[tool](repositories[tool], "backup", str(source)) for tool in TOOLS}
    if borg:
        vault = bench.work / f"{name}-borg-{number}"
        bench.quietly(["borg", "init", "-e", "repokey", str(vault)])
        first["borg"] = ["borg", "create", "-C", "zstd,3", f"{vault}::first", str(source)]
    warm(source)
    bench.pair(f"{name}: first backup", number, first)
    for tool in TOOLS:
        bench.sizes[name][tool] = disk_usage(repositories[tool])
    again = {tool: TOOLS[tool](repositories[tool], "backup", str(source)) for tool in TOOLS}
    bench.pair(f"{name}: unchanged", number, again)
    trees.change(source, share=0.01, seed=100 + number)
    bench.pair(f"{name}: 1 % changed", number, again)
    every = {tool: TOOLS[tool](repositories[tool], "check", "--read-data") for tool in TOOLS}
    bench.pair(f"{name}: check all data", number, every)
    return repositories


def restores(bench: Bench, files: int) -> None:
    """The same repositories by each tool, into fresh directories: one large file, the mixed tree,
    and its small files alone.
    """
    tree, one = bench.work / "restore-tree", bench.work / "restore-one"
    trees.mixed_tree(tree, files=files)
    one.mkdir()
    trees.random_file(one / "large.bin", 1 << 30)
    sources = {"one": [one], "tree": [tree], "small-files": sorted(tree.glob("d*"))}
    repositories = {name: bench.work / f"restore-{name}-repository" for name in sources}
    for name, repository in repositories.items():
        bench.quietly(holdfast(repository, "init"))
        bench.quietly(holdfast(repository, "backup", *map(str, sources[name])))
        bench.quietly(restic(repository, "ls", "latest"))  # its cache, as if it had backed up
    for number in range(bench.rounds):
        print(f"restore, round {number + 1}, load {os.getloadavg()[0]:.1f}")
        for name, repository in repositories.items():
            targets = {tool: bench.work / f"restored-{name}-{tool}-{number}" for tool in TOOLS}
            commands = {
                tool: TOOLS[tool](repository, "restore", "latest", "--target", str(target))
                for tool, target in targets.items()
            }
            bench.pair(f"{name}: restore", number, commands)
            bench.finished += targets.values()
        bench.make_room()


def short_reads(bench: Bench, source: Path, repositories: dict[str, Path], number: int) -> None:
    small = str(next((source / "d00").rglob("*.txt")))
    for verb, words in {
        "snapshots": ["snapshots"],
        "ls": ["ls", "latest"],
        "dump of a small file": ["dump", "latest", small],
    }.items():
        commands = {tool: TOOLS[tool](repositories[tool], *words) for tool in TOOLS}
        bench.pair(f"tree: {verb}", number, commands)


def prunes(bench: Bench) -> None:
    """Twenty snapshots with a twentieth of the files changed between them; the older half is
    forgotten.
    """
    source = bench.work / "prune-source"
    trees.small_files(source, count=20_000, seed=9)
    trees.random_file(source / "large.bin", 200 << 20, seed=10)
    origins = {tool: bench.work / f"prune-{tool}" for tool in TOOLS}
    for tool, command in TOOLS.items():
        bench.quietly(command(origins[tool], "init"))
    for day in range(20):
        trees.change(source, share=0.05, seed=200 + day)
        for tool, command in TOOLS.items():
            bench.quietly(command(origins[tool], "backup", str(source)))
    for number in range(bench.rounds):
        commands = {}
        for tool, command in TOOLS.items():
            copy = bench.work / f"prune-{tool}-{number}"
            shutil.copytree(origins[tool], copy)
            commands[tool] = command(copy, "forget", "--keep-last", "10", "--prune")
        bench.pair("forget half of 20 and prune", number, commands)
        for tool, command in TOOLS.items():
            bench.quietly(command(bench.work / f"prune-{tool}-{number}", "check"))


def report(bench: Bench) -> str:
    lines = [
        "| operation | tool | wall s, median (range) | cpu s | PSS MiB | wall ratio | cpu ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for operation, by_tool in bench.results.items():
        ours = by_tool["holdfast"]
        for tool, samples in by_tool.items():
            ratio = cpu = ""
            if tool != "holdfast":
                ratio = f"**{paired_ratio(ours, samples):.2f}**"
                cpu = f"{paired_ratio(ours, samples, 'cpu'):.2f}"
            lines.append(
                f"| {operation} | {tool} | {median(samples):.2f} ({spread(samples)}) "
                f"| {median(samples, 'cpu'):.2f} | {median(samples, 'pss'):.0f} | {ratio} | {cpu} |"
            )
    for name, sizes in bench.sizes.items():
        ratio = sizes["holdfast"] / sizes["restic"]
        lines.append(
            f"| {name}: repository size, MB | holdfast {sizes['holdfast'] / 1e6:.1f} "
            f"| restic {sizes['restic'] / 1e6:.1f} | | | **{ratio:.3f}** | |"
        )
    return "\n".join(lines)


def _versions() -> str:
    said = [
        subprocess.run([tool, word], capture_output=True, text=True, check=True).stdout.split("\n")[
            0
        ]
        for tool, word in (("restic", "version"), ("borg", "--version"), (HOLDFAST, "--version"))
    ]
    return "; ".join(said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=GROUPS, default=GROUPS)
    parser.add_argument(
        "--work", type=Path, help="a folder with 60 GB free; a temporary one where not given"
    )
    parser.add_argument("--files", type=int, default=40_000)
    parser.add_argument("--json", type=Path, help="write every single sample here")
    chosen = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="holdfast-bench-", dir=chosen.work))
    bench = Bench(work, chosen.rounds)
    print(f"{_versions()}; {os.cpu_count()} processors; load {os.getloadavg()[0]:.1f}", flush=True)
    try:
        if "tree" in chosen.only:
            source = work / "tree"
            trees.mixed_tree(source, files=chosen.files)
            for number in range(chosen.rounds):
                print(f"tree, round {number + 1}, load {os.getloadavg()[0]:.1f}")
                repositories = backups(bench, "tree", source, number, borg="borg" in chosen.only)
                short_reads(bench, source, repositories, number)
                bench.finished += [*repositories.values(), work / f"tree-borg-{number}"]
                bench.make_room()
        if "one" in chosen.only:
            source = work / "one"
            source.mkdir()
            trees.random_file(source / "large.bin", 2 << 30)
            for number in range(chosen.rounds):
                print(f"one file, round {number + 1}, load {os.getloadavg()[0]:.1f}")
                repositories = backups(bench, "one", source, number, borg="borg" in chosen.only)
                bench.finished += [*repositories.values(), work / f"one-borg-{number}"]
                bench.make_room()
        if "restore" in chosen.only:
            restores(bench, chosen.files)
        if "prune" in chosen.only:
            prunes(bench)
        print(report(bench))
        if chosen.json:
            raw = {
                op: {tool: [asdict(s) for s in ss] for tool, ss in by.items()}
                for op, by in bench.results.items()
            }
            chosen.json.write_text(json.dumps({"samples": raw, "sizes": bench.sizes}, indent=1))
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
