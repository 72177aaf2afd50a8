"""A new ledger in the place of a damaged one: of what that still gives, held against the archives,
and of the archives themselves.

What cannot be had any more is evidence: address, status and headers of responses whose rows are
lost. Their digests are taken anew, so that later damage is found.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from holdfast.core.errors import HoldfastError
from holdfast.sources.restapi.kept import zipformat
from holdfast.sources.restapi.kept.archive import UPDATE
from holdfast.sources.restapi.kept.keepers import (
    PAGE_NAME,
    ZipKeeper,
    member_of,
    open_keeper,
    open_keeper_at,
)
from holdfast.sources.restapi.kept.ledger import (
    Ledger,
    Response,
    Run,
    State,
    is_damaged,
    salvaged,
)
from holdfast.sources.restapi.kept.runsfile import read_runs
from holdfast.sources.restapi.project.place import PAGES, Place, locked, sync_folder, writing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from holdfast.sources.restapi.kept.keepers import Keeper

REBUILT = "rebuilt"
"""In the evidence of a response whose own was lost."""


def open_ledger(place: Place, label: str) -> tuple[Ledger, str]:
    """The ledger to write to, and a sentence where it had to be made anew. `label` is the archive
    that the caller holds the lock of.

    Raises:
        ProjectBusyError: it is damaged, and somebody else is at work with it.
        StoreError: it cannot be written.
    """
    place.prepare()
    with writing(place.ledger):
        if not place.ledger.exists() or not is_damaged(place.ledger):
            return Ledger(place.ledger), ""
        with ExitStack() as others:
            for lock in place.state.glob("*.lock"):
                if lock.stem != label:
                    others.enter_context(locked(place, lock.stem))
            told = _rebuild(place)
        return Ledger(place.ledger), told


def _rebuild(place: Place) -> str:
    path = place.ledger
    aside, fresh = path.with_name(f"{path.name}.damaged"), path.with_name(f"{path.name}.new")
    for tail in ("", "-wal"):
        source = path.with_name(path.name + tail)
        if source.exists():
            shutil.copyfile(source, aside.with_name(aside.name + tail))
    _remove(fresh, "", "-wal", "-shm")
    with closing(Ledger(fresh)) as ledger:
        builder = _Builder(place, ledger)
        with ledger.batch():
            builder.build(aside)
    _remove(path, "-wal", "-shm")  # a journal of the damaged one must not be laid over the new one
    _remove(aside, "-shm")
    fresh.replace(path)
    sync_folder(path.parent)
    return (
        f"{path.name} was damaged and was made anew from the archives: {builder.proven} of"
        f" {builder.members} stored responses have their evidence. The damaged one is kept as"
        f" {aside.name}"
    )


@dataclass(slots=True)
class _Stored:
    """A member of an archive. Nanoseconds since 1970."""

    name: str
    size: int
    crc: int
    packed: int
    offset: int
    method: int
    time: int
    sha256: str = ""


class _Builder:
    def __init__(self, place: Place, ledger: Ledger) -> None:
        self.members = 0
        self.proven = 0
        self._place = place
        self._ledger = ledger
        self._bases: dict[str, str] = {}
        """By label, the run that members belong to of which nothing is known."""

    def build(self, damaged: Path) -> None:
        kept, numbers = read_runs(self._place)
        runs, responses = salvaged(damaged)
        known = {run.id: run for run in [*kept, *runs]}
        for run in known.values():
            self._ledger.save_run(self._settled(run))
        for response in responses:
            if response.run in known:
                self._ledger.save(response)
        for label, keeper in _archives(self._place):
            with closing(keeper):
                try:
                    for stored in _members(keeper):
                        self._take(label, keeper, stored)
                except HoldfastError:
                    continue  # of an archive that cannot be read nothing can be known
        for run in known.values():
            if run.mode == UPDATE and run.whole:
                self._complete(run, numbers.get(run.id))
        self._check_unfinished()

    def _settled(self, run: Run) -> Run:
        """A publication that was under way is either done, or to be begun again."""
        partial = self._place.partial(run.archive, run.id)
        if run.state is State.PUBLISHING:
            state = State.COLLECTING if partial.exists() else State.PUBLISHED
            return replace(run, state=state)
        return run

    def _take(self, label: str, keeper: Keeper, stored: _Stored) -> None:
        self.members += 1
        row = self._ledger.latest(label, stored.name)
        while row is not None:
            if _is_same(row, stored):
                self.proven += REBUILT not in json.loads(row.evidence)
                return
            self._ledger.forget(row.run, row.name)
            row = self._ledger.latest(label, stored.name)
        if not stored.sha256:
            stored.sha256 = _digest(keeper, stored.name)
        self._save(label, self._run_of(label, stored), stored)

    def _run_of(self, label: str, stored: _Stored) -> str:
        page = PAGE_NAME.fullmatch(stored.name)
        folder = page["run"] if page else None
        if folder:
            if self._ledger.run(folder) is None:
                self._add_run(folder, label, UPDATE, stored.time)
            return folder
        if label not in self._bases:
            runs = self._ledger.runs(label, state=State.PUBLISHED)
            base = next((run.id for run in runs if run.mode != UPDATE), None)
            if base is None:
                stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(stored.time // 10**9))
                base = label.removeprefix("previous/") if "/" in label else f"{stamp}Z-{REBUILT}"
                self._add_run(base, label, "full", stored.time)
            self._bases[label] = base
        return self._bases[label]

    def _add_run(self, run_id: str, label: str, mode: str, moment: int) -> None:
        started = max(moment, 1)  # 0 says that another program has stored it
        notes = {REBUILT: True}
        run = Run(run_id, label, mode, State.PUBLISHED, started, ended=started, notes=notes)
        self._ledger.save_run(run)

    def _save(self, label: str, run: str, stored: _Stored, *, name: str | None = None) -> None:
        page = PAGE_NAME.fullmatch(name or stored.name)
        moment = datetime.fromtimestamp(stored.time / 10**9, UTC).isoformat()
        self._ledger.save(
            Response(
                run=run, archive=label, name=name or stored.name, member=stored.name,
                number=int(page["number"]) if page else 0, method=stored.method, crc=stored.crc,
                packed=stored.packed, size=stored.size, offset=stored.offset,
                end=0 if name else stored.offset + stored.packed + 1, time=stored.time,
                sha256=stored.sha256, records=0, digest=None,
                evidence=json.dumps({REBUILT: True, "time": moment}),
            )
        )  # fmt: skip

    def _complete(self, run: Run, numbers: list[int] | None) -> None:
        """The rows of a whole update for pages that were unchanged. Without all of them it would
        take records away that it had, so then it is no whole one any more.
        """
        have = {response.number for response in self._ledger.responses(run.id)}
        if numbers is None:
            if len(have) < run.pages:
                self._ledger.save_run(replace(run, whole=False))
            return
        before = [
            other
            for other in self._ledger.runs(run.archive, state=State.PUBLISHED)
            if other.mode == UPDATE and other.whole and other.started < run.started
        ]
        for number in sorted(set(numbers) - have):
            row = None
            if before:
                earlier = f"runs/{before[-1].id}/page_{number}.json"
                row = self._ledger.response(before[-1].id, earlier)
            row = row or self._ledger.latest(run.archive, f"page_{number}.json")
            if row is None:
                self._ledger.save_run(replace(run, whole=False))
                return
            name = f"runs/{run.id}/page_{number}.json"
            self._ledger.save(replace(row, run=run.id, name=name, number=number, end=0))

    def _check_unfinished(self) -> None:
        """Of a run that was cut off only what can be proved is gone on with."""
        kept = set()
        for run in self._ledger.runs(state=State.COLLECTING):
            path = self._place.partial(run.archive, run.id)
            kept.add(path)
            for response in list(self._ledger.responses(run.id)):
                if response.end and not _is_there(path, response):
                    self._ledger.forget(run.id, response.name)
        for path in self._place.state.glob("*.partial"):
            if path not in kept:
                path.unlink()


def _archives(place: Place) -> Iterator[tuple[str, Keeper]]:
    """Everything published, by label."""
    for path in sorted(place.previous.glob("*")):
        if not path.name.endswith(".new"):
            yield f"previous/{path.stem}", open_keeper_at(place.kind, path)
    yield PAGES, open_keeper(place)
    for path in sorted(place.folder.glob("*.zip")):
        if path != place.pages:
            yield path.stem, ZipKeeper(path)


def _members(keeper: Keeper) -> Iterator[_Stored]:
    if not keeper.exists():
        return
    if isinstance(keeper, ZipKeeper):
        for member in keeper.members():
            yield _Stored(
                member.name, member.size, member.crc, member.packed, member.offset, member.method,
                member.time,
            )  # fmt: skip
        return
    now = time.time_ns()
    for name in keeper.names():
        body = keeper.read(name)
        digest = hashlib.sha256(body).hexdigest()
        yield _Stored(name, len(body), 0, len(body), 0, zipformat.STORED, now, digest)


def _is_same(row: Response, stored: _Stored) -> bool:
    if stored.sha256:
        return row.sha256 == stored.sha256
    return row.size == stored.size and row.crc in {0, stored.crc}


def _is_there(path: Path, response: Response) -> bool:
    try:
        with path.open("rb") as archive:
            pieces = zipformat.open_member(archive, member_of(response))
            digest = hashlib.sha256()
            for piece in pieces:
                digest.update(piece)
    except (HoldfastError, OSError, ValueError):
        return False
    return digest.hexdigest() == response.sha256


def _digest(keeper: Keeper, name: str) -> str:
    digest = hashlib.sha256()
    pieces = keeper.stream(name) if isinstance(keeper, ZipKeeper) else iter([keeper.read(name)])
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _remove(path: Path, *tails: str) -> None:
    for tail in tails:
        path.with_name(path.name + tail).unlink(missing_ok=True)
