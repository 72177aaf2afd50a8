"""Times whole commands and samples the memory of all their processes together."""

from __future__ import annotations

import os
import statistics
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SAMPLE = 0.1


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
    peak = _Peak(process.pid)
    output, _ = process.communicate()
    wall = time.perf_counter() - started
    pss = peak.stop()
    after = os.times()
    if process.returncode not in allowed:
        text = output.decode(errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(argv)} ended with {process.returncode}:\n{text}")
    cpu = (
        after.children_user + after.children_system - before.children_user - before.children_system
    )
    return Sample(wall, cpu, pss)


class _Peak:
    """Watches the proportional set size of a process and all below it."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
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
            self._peak = max(self._peak, sum(map(_pss, _family(self._pid))) / 1024)


def _family(pid: int) -> list[int]:
    """A process and all below it."""
    family = [pid]
    for member in family:
        try:
            children = Path(f"/proc/{member}/task/{member}/children").read_text()
        except OSError:
            continue
        family.extend(int(child) for child in children.split())
    return family


def _pss(pid: int) -> int:
    """KiB of one process, pages shared by n processes counted as one n-th."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


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
