"""What a disk may hold after a power failure.

    files = RecordedFiles(folder)
    run(DirectoryStore(folder, files=files))
    for state in crash_states(files):
        state.write_to(empty_folder)
        ...

A file system promises this much: content is safe once its file was synced, a name once its folder
was. Until then a change of a name may be there or not, each by itself and in any combination, and
written content may be there whole, in part, as zeros, or not at all.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from itertools import product
from random import Random
from threading import Lock
from typing import TYPE_CHECKING, Final

from holdfast.store.files import SystemFiles

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

EXHAUSTIVE: Final = 60
"""Steps up to which every state is shown."""
FOLDER: Final = -1
"""Stands for a folder where the number of a file would stand."""
SAMPLES: Final = 2000

_MOST_AT_ONCE: Final = 12
"""Changes of names of which all combinations are shown; of more, as many combinations by chance."""


@dataclass(frozen=True, slots=True)
class Step:
    """One system call that was made. Paths are relative to the recorded folder."""

    act: str
    """make_folder, create, write, sync, link, rename, unlink or sync_folder."""
    path: str = ""
    file: int = FOLDER
    """Which file it is about: a number that stays with it under all its names."""
    other: str = ""
    """The new name, of link and rename."""
    data: bytes = b""

    @property
    def folder(self) -> str:
        """Whose sync makes this change of a name safe."""
        return os.path.dirname(self.other or self.path)  # noqa: PTH120  these are keys, not files


@dataclass(frozen=True, slots=True)
class CrashState:
    """One thing that the disk may hold if the power fails after the first `after` steps."""

    after: int
    names: dict[str, int]
    contents: dict[int, bytes]

    def write_to(self, folder: Path) -> None:
        """Lays it out below an empty folder. What lies in a folder that is not there is lost."""
        for path, file in sorted(self.names.items()):
            place = folder / path
            if not place.parent.is_dir():
                continue
            if file == FOLDER:
                place.mkdir()
            else:
                place.write_bytes(self.contents[file])


class RecordedFiles(SystemFiles):
    """The real system calls, each written down; within one process.

    What `folder` holds at the beginning counts as safe.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.steps: list[Step] = []
        self.names: dict[str, int] = {}
        """As they are now, for the running program."""
        self.contents: list[bytes] = []
        """Of the files that were there at the beginning."""
        for path in sorted(folder.rglob("*")):
            name = str(path.relative_to(folder))
            self.names[name] = FOLDER if path.is_dir() else len(self.contents)
            if path.is_file():
                self.contents.append(path.read_bytes())
        self.safe = dict(self.names)
        """As they were at the beginning."""
        self._files = len(self.contents)
        self._lock = Lock()
        self._open: dict[int, int] = {}

    def make_folder(self, path: str) -> None:
        with self._lock:
            super().make_folder(path)
            self._note("make_folder", path)

    def create(self, path: str) -> int:
        with self._lock:
            descriptor = super().create(path)
            file = self._open[descriptor] = self.names[self._relative(path)] = self._files
            self._files += 1
            self._note("create", path, file)
            return descriptor

    def write(self, descriptor: int, data: memoryview) -> int:
        with self._lock:
            count = super().write(descriptor, data)
            step = Step("write", file=self._open[descriptor], data=bytes(data[:count]))
            self.steps.append(step)
            return count

    def sync(self, descriptor: int) -> None:
        with self._lock:
            super().sync(descriptor)
            self.steps.append(Step("sync", file=self._open[descriptor]))

    def close(self, descriptor: int) -> None:
        with self._lock:
            super().close(descriptor)
            del self._open[descriptor]

    def link(self, path: str, other: str) -> None:
        with self._lock:
            super().link(path, other)
            file = self.names[self._relative(other)] = self.names[self._relative(path)]
            self._note("link", path, file, other)

    def rename(self, path: str, other: str) -> None:
        with self._lock:
            super().rename(path, other)
            file = self.names[self._relative(other)] = self.names.pop(self._relative(path))
            self._note("rename", path, file, other)

    def unlink(self, path: str) -> None:
        with self._lock:
            super().unlink(path)
            self._note("unlink", path, self.names.pop(self._relative(path)))

    def sync_folder(self, path: str) -> None:
        with self._lock:
            super().sync_folder(path)
            self._note("sync_folder", path)

    def _relative(self, path: str) -> str:
        name = os.path.relpath(path, self.root)
        return "" if name == "." else name

    def _note(self, act: str, path: str, file: int = FOLDER, other: str = "") -> None:
        place = self._relative(path)
        self.steps.append(Step(act, place, file, self._relative(other) if other else ""))


@dataclass(slots=True)
class _Disk:
    """What is safe, and what is on its way, at one moment."""

    safe: dict[str, int]
    content: dict[int, bytes]
    written: dict[int, bytes] = field(default_factory=dict)
    """What the program has written so far, of files where that is not all safe."""
    pending: list[Step] = field(default_factory=list)

    def do(self, step: Step) -> None:
        if step.act == "write":
            self.written[step.file] = self._latest(step.file) + step.data
        elif step.act == "sync":
            self.content[step.file] = self._latest(step.file)
            self.written.pop(step.file, None)
        elif step.act == "sync_folder":
            _apply(self.safe, [each for each in self.pending if each.folder == step.path])
            self.pending = [each for each in self.pending if each.folder != step.path]
        else:
            if step.act == "create":
                self.content[step.file] = b""
            self.pending.append(step)

    def possible_contents(self, file: int) -> Sequence[bytes]:
        if file not in self.written:
            return [self.content[file]]
        safe, whole = self.content[file], self.written[file]
        half = whole[: (len(safe) + len(whole)) // 2]
        return list(dict.fromkeys([safe, half, safe + bytes(len(whole) - len(safe)), whole]))

    def _latest(self, file: int) -> bytes:
        return self.written.get(file, self.content[file])


def crash_states(
    recorded: RecordedFiles, *, samples: int | None = None, seed: int = 0
) -> Iterator[CrashState]:
    """Every state for each moment of a run of up to EXHAUSTIVE steps; else SAMPLES by chance.

    `samples` asks for so many by chance in any case. The same state is shown once for each moment
    at which it is possible.
    """
    random = Random(seed)
    total = len(recorded.steps)
    if samples is None and total > EXHAUSTIVE:
        samples = SAMPLES
    moments = None if samples is None else [random.randrange(total + 1) for _ in range(samples)]
    disk = _Disk(dict(recorded.safe), dict(enumerate(recorded.contents)))
    for after in range(total + 1):
        if after:
            disk.do(recorded.steps[after - 1])
        if moments is None:
            yield from _all_states(disk, after, random)
        else:
            for _ in range(moments.count(after)):
                yield _any_state(disk, after, random)


def _all_states(disk: _Disk, after: int, random: Random) -> Iterator[CrashState]:
    seen = set()
    for chosen in _combinations(len(disk.pending), random):
        names = dict(disk.safe)
        _apply(names, [step for step, there in zip(disk.pending, chosen, strict=True) if there])
        files = sorted(set(names.values()) - {FOLDER})
        for contents in product(*map(disk.possible_contents, files)):
            state = (frozenset(names.items()), contents)
            if state not in seen:
                seen.add(state)
                yield CrashState(after, names, dict(zip(files, contents, strict=True)))


def _any_state(disk: _Disk, after: int, random: Random) -> CrashState:
    share = random.choice([0.1, 0.5, 0.9])
    names = dict(disk.safe)
    _apply(names, [step for step in disk.pending if random.random() < share])
    contents = {
        file: random.choice(disk.possible_contents(file))
        for file in sorted(set(names.values()) - {FOLDER})
    }
    return CrashState(after, names, contents)


def _combinations(count: int, random: Random) -> Iterator[Sequence[bool]]:
    if count <= _MOST_AT_ONCE:
        yield from product([False, True], repeat=count)
        return
    for _ in range(2**_MOST_AT_ONCE):
        yield [random.random() < 0.5 for _ in range(count)]  # noqa: PLR2004  a fair coin


def _apply(names: dict[str, int], steps: Sequence[Step]) -> None:
    """Changes of names, those that went before them being there or not."""
    for step in steps:
        if step.act in {"unlink", "rename"}:
            names.pop(step.path, None)
        if step.act != "unlink":
            names[step.other or step.path] = step.file
