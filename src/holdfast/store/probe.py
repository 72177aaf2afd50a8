"""Tries out what a store really does, before anybody trusts it with backups.

What is written are packs of random bytes under their right digests. A pack that no index names is
what any interrupted backup leaves behind: restic and Holdfast read past it, and the next prune
removes it. A stray key, lock, index or snapshot would be opened by somebody.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from statistics import median
from typing import TYPE_CHECKING, Final

from holdfast.core.clock import SystemClock
from holdfast.core.errors import (
    ObjectExistsError,
    ObjectNotFoundError,
    StoreDeniedError,
    StoreError,
)
from holdfast.core.units import format_size
from holdfast.store.contract import FileKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from holdfast.core.clock import Clock
    from holdfast.store.contract import Store

    Result = tuple["Verdict", str, dict[str, float]]
    Check = Callable[["_Trial"], Result]

SMALL: Final = 1 << 10
LARGE: Final = 8 << 20
ROUNDS: Final = 5
RIVALS: Final = 8
PATIENCE: Final = 10.0
"""Seconds that a listing may be behind before that counts as a fault."""
PAUSE: Final = 2.0
"""Seconds between the two writes that the store's clock is measured with."""
TOLERANCE: Final = 2.0
"""Seconds; many stores tell times in whole ones."""

_PACK: Final = FileKind.PACK


class Verdict(StrEnum):
    GOOD = "good"
    MIND = "mind"
    """Worth knowing; Holdfast copes."""
    BAD = "bad"
    """Backups are not safe here, or not with several writers at once."""


@dataclass(frozen=True, slots=True)
class Finding:
    subject: str
    verdict: Verdict
    message: str
    figures: dict[str, float] = field(default_factory=dict)
    """What was measured; the unit is part of each name."""


def probe(store: Store, *, clock: Clock | None = None) -> list[Finding]:
    """Writes, reads, lists and removes for some seconds; cleans up after itself.

    Never raises for what the store does: that is a finding. Moves about 25 MiB.
    """
    trial = _Trial(store, clock or SystemClock())
    findings: list[Finding] = []
    try:
        for subject, check in _CHECKS.items():
            try:
                verdict, message, figures = check(trial)
            except StoreError as error:
                findings.append(Finding(subject, Verdict.BAD, error.message))
                if check is _writing:
                    break  # the others would say no more
            else:
                findings.append(Finding(subject, verdict, message, figures))
    finally:
        findings.append(trial.clean_up())
    return findings


class _Trial:
    """The store under trial, and what was put into it."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.names: set[str] = set()

    def fresh(self, size: int = SMALL) -> tuple[str, bytes]:
        """Bytes that no store has, and their name; to be cleaned up from now on."""
        data = os.urandom(size)
        name = sha256(data).hexdigest()
        self.names.add(name)
        return name, data

    def put(self, size: int = SMALL) -> tuple[str, bytes]:
        name, data = self.fresh(size)
        self.store.put(_PACK, name, data)
        return name, data

    def timed(self, act: Callable[[], object]) -> float:
        started = self.clock.monotonic()
        act()
        return self.clock.monotonic() - started

    def listed(self) -> set[str]:
        return {each.name for each in self.store.list(_PACK)}

    def clean_up(self) -> Finding:
        left = []
        for name in sorted(self.names):
            try:
                self.store.remove(_PACK, name)
            except ObjectNotFoundError:
                continue
            except StoreError:
                left.append(name)
        if not left:
            return Finding("clean up", Verdict.GOOD, "nothing of this trial is left")
        return Finding(
            "clean up",
            Verdict.MIND,
            f"{len(left)} packs of this trial are left; they harm nothing and go with a prune",
            {"objects": len(left)},
        )


def _writing(trial: _Trial) -> Result:
    for size in (0, 1, SMALL):
        name, data = trial.put(size)
        if trial.store.get(_PACK, name) != data or trial.store.stat(_PACK, name).size != size:
            return Verdict.BAD, "what was written does not come back as it was", {}
    return Verdict.GOOD, "what was written can be read at once", {}


def _ranges(trial: _Trial) -> Result:
    name, data = trial.put()
    for offset, length in ((100, 50), (0, SMALL), (-50, 50), (-100, 20)):
        if trial.store.get_range(_PACK, name, offset, length) != data[offset:][:length]:
            return Verdict.BAD, f"{length} bytes from {offset} are others than were written", {}
    try:
        trial.store.get_range(_PACK, name, SMALL - 10, 20)
    except StoreError:
        return Verdict.GOOD, "parts are exact, and missing bytes are told", {}
    return Verdict.BAD, "a read beyond the end is not refused", {}


def _listing(trial: _Trial) -> Result:
    name, _ = trial.put()
    lag = _until(trial, lambda: name in trial.listed())
    figures = {"lag_seconds": lag}
    if lag > PATIENCE:
        return Verdict.BAD, f"a listing misses what was written {PATIENCE:.0f} s before", figures
    if lag:
        return Verdict.MIND, f"listings are about {lag:.1f} s behind", figures
    return Verdict.GOOD, "a listing shows what was just written", figures


def _overwriting(trial: _Trial) -> Result:
    name, data = trial.put()
    try:
        trial.store.put(_PACK, name, data)
    except ObjectExistsError:
        return Verdict.GOOD, "a name that is taken is refused", {}
    return Verdict.BAD, "a name that is taken can be written again", {}


def _rivals(trial: _Trial) -> Result:
    """Servers that check before they write let two writers through at the same moment."""
    most = 0
    for _ in range(ROUNDS):
        name, data = trial.fresh()

        def attempt(_: int, name: str = name, data: bytes = data) -> bool:
            try:
                trial.store.put(_PACK, name, data)
            except ObjectExistsError:
                return False
            return True

        with ThreadPoolExecutor(RIVALS) as threads:
            most = max(most, sum(threads.map(attempt, range(RIVALS))))
    if most == 1 and trial.store.properties.put_if_absent:
        return Verdict.GOOD, f"of {RIVALS} writers of one name exactly one gets it", {}
    return (
        Verdict.MIND,
        "two writers of one name may both get it: let one program at a time make repositories here",
        {"winners": most},
    )


def _digests(trial: _Trial) -> Result:
    name, data = trial.fresh()
    try:
        trial.store.put(_PACK, name, data[:-1] + bytes([data[-1] ^ 1]))
    except StoreError:
        return Verdict.GOOD, "uploads that were altered on their way are refused", {}
    return Verdict.MIND, "uploads are not checked by the store; Holdfast checks what it reads", {}


def _clock(trial: _Trial) -> Result:
    """By two times of the store and the seconds in between: no two clocks are compared."""
    first, _ = trial.put()
    started = trial.clock.monotonic()
    trial.clock.sleep(PAUSE)
    second, _ = trial.put()
    elapsed = trial.clock.monotonic() - started
    times = [trial.store.stat(_PACK, name).mtime for name in (first, second)]
    if not all(times):
        return Verdict.MIND, "the store tells no times; locks are judged by their content", {}
    drift = (times[1] - times[0]) / 1e9 - elapsed
    figures = {"drift_seconds": drift, "elapsed_seconds": elapsed}
    if abs(drift) > TOLERANCE:
        return Verdict.BAD, f"its clock moved {drift:+.1f} s in {elapsed:.1f} s", figures
    return Verdict.GOOD, "its clock runs evenly", figures


def _speed(trial: _Trial) -> Result:
    put = median(trial.timed(trial.put) for _ in range(ROUNDS))
    name, _ = trial.put()
    get = median(trial.timed(lambda: trial.store.get(_PACK, name)) for _ in range(ROUNDS))
    up = trial.timed(lambda: trial.put(LARGE))
    large, _ = trial.put(LARGE)
    down = trial.timed(lambda: trial.store.get(_PACK, large))
    figures = {
        "put_milliseconds": put * 1000,
        "get_milliseconds": get * 1000,
        "up_bytes_per_second": LARGE / max(up, 1e-9),
        "down_bytes_per_second": LARGE / max(down, 1e-9),
    }
    message = (
        f"a small write takes {put * 1000:.1f} ms, a small read {get * 1000:.1f} ms; "
        f"{format_size(figures['up_bytes_per_second'])}/s up, "
        f"{format_size(figures['down_bytes_per_second'])}/s down"
    )
    return Verdict.GOOD, message, figures


def _removing(trial: _Trial) -> Result:
    name, _ = trial.put()
    try:
        trial.store.remove(_PACK, name)
    except StoreDeniedError:
        return Verdict.MIND, "nothing can be removed: forget and prune need other credentials", {}
    lag = _until(trial, lambda: not _is_there(trial, name) and name not in trial.listed())
    if lag > PATIENCE:
        return (
            Verdict.BAD,
            f"what was removed is there {PATIENCE:.0f} s later",
            {"lag_seconds": lag},
        )
    return Verdict.GOOD, "what was removed is gone", {"lag_seconds": lag}


_CHECKS: Final[Mapping[str, Check]] = {
    "write and read": _writing,
    "parts": _ranges,
    "listing": _listing,
    "overwriting": _overwriting,
    "rivals": _rivals,
    "digests": _digests,
    "clock": _clock,
    "speed": _speed,
    "removing": _removing,
}


def _is_there(trial: _Trial, name: str) -> bool:
    try:
        trial.store.stat(_PACK, name)
    except ObjectNotFoundError:
        return False
    return True


def _until(trial: _Trial, reached: Callable[[], bool]) -> float:
    """Seconds until it is so, 0.0 where at once; more than PATIENCE where never."""
    started = trial.clock.monotonic()
    if reached():
        return 0.0
    while (waited := trial.clock.monotonic() - started) <= PATIENCE:
        trial.clock.sleep(0.25)
        if reached():
            return trial.clock.monotonic() - started
    return waited
