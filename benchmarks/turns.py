"""One run of the server's benchmark: what was measured, and who takes turns."""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from homes import POCKETBASE
from measure import installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

MIB = 1 << 20
OURS = "holdfast"


@dataclass
class Bench:
    work: Path
    rounds: int
    size: int
    """bytes of a large body"""
    program: Path | None = None
    samples: dict[str, dict[str, list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )

    @property
    def pocketbase(self) -> Path:
        if self.program is None:
            self.program = installed(self.work / "rival", [POCKETBASE], "pocketbase")
        return self.program

    def turns(self, what: str, number: int, acts: Mapping[str, Callable[[], float]]) -> None:
        """The same large body by each; an act tells how many seconds it took."""
        for name in list(acts) if number % 2 == 0 else reversed(acts):
            os.sync()
            self.add(what, self.size / MIB / acts[name](), name)

    def add(self, what: str, value: float, name: str = OURS) -> None:
        self.samples[what][name].append(value)
        print(f"  {what:<32} {name:<15} {value:10.2f}", flush=True)

    @contextmanager
    def room(self) -> Iterator[Path]:
        """A folder for one case, removed after it."""
        with tempfile.TemporaryDirectory(dir=self.work) as folder:
            yield Path(folder)
