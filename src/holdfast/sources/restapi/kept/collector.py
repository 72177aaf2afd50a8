"""Collecting responses so that a process may die at any moment: what `add` returned from is
stored, once, for good.

Bodies are appended to a partial archive, each with a row in the ledger. Nothing of the published
archive is touched until
`publish` puts the new one in its place by a single rename; a crash in between is finished by
whoever opens it next.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from holdfast.core.clock import SystemClock
from holdfast.core.errors import DamagedError, UsageError
from holdfast.sources.restapi.kept import zipformat
from holdfast.sources.restapi.kept.keepers import Keeper, Partial, ZipKeeper, member_of, open_keeper
from holdfast.sources.restapi.kept.ledger import (
    Ledger,
    Response,
    Run,
    State,
    with_sums,
)
from holdfast.sources.restapi.kept.rebuild import open_ledger
from holdfast.sources.restapi.kept.runsfile import write_runs
from holdfast.sources.restapi.project.place import PAGES, Place, locked, writing

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from holdfast.core.clock import Clock

_SYNC_BYTES = 32 << 20
_SYNC_SECONDS = 2.0


class Collector:
    """Use from one thread at a time, as a context manager. Made by `open_collector`."""

    def __init__(
        self,
        place: Place,
        label: str,
        *,
        ledger: Ledger,
        keeper: Keeper,
        run: Run,
        resumed: bool,
        keep: bool,
        level: int | None,
        clock: Clock,
        closing: ExitStack,
        rebuilt: str,
    ) -> None:
        self.place = place
        self.label = label
        self.ledger = ledger
        self.run = run
        self.resumed = resumed
        """Whether this goes on with what a run before has collected."""
        self.rebuilt = rebuilt
        """A sentence where the ledger was damaged and had to be made anew."""
        self.keep = keep
        self.published = keeper
        self._level = level
        self._clock = clock
        self._closing = closing
        self._path = place.partial(label, run.id)
        self._end = ledger.end_of_data(run.id)
        self._synced_at = clock.monotonic()
        with writing(self._path):
            descriptor = os.open(
                self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600
            )
            self._file: BinaryIO = os.fdopen(descriptor, "r+b", buffering=0)
            self._file.truncate(self._end)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def count(self) -> int:
        """Responses collected by this run so far."""
        return self.ledger.sums(self.run.id)[0]

    def has(self, name: str) -> bool:
        """Whether it was collected by this run or, when extending, is published already."""
        return self.ledger.has(self.run.id, name) or (self.keep and self.published.has(name))

    def collected(self, name: str) -> Response | None:
        """What this run has stored under a name."""
        return self.ledger.response(self.run.id, name)

    def read(self, name: str) -> bytes | None:
        """What is stored under a name, by this run or, when extending, before it; None for
        nothing.
        """
        response = self.ledger.response(self.run.id, name)
        if response is not None and response.end:
            with self._path.open("rb") as archive:
                return zipformat.read_member(archive, member_of(response))
        member = response.member if response else name
        if (response or self.keep) and self.published.has(member):
            return self.published.read(member)
        return None

    def add(
        self,
        name: str,
        body: bytes,
        evidence: dict[str, Any],
        *,
        number: int = 0,
        records: int = 0,
        digest: int | None = None,
    ) -> Response:
        """Stores one response; when it returns, a killed process has lost nothing of it.

        Args:
            evidence: URL, status, headers, time; already without secrets. Any: JSON.
            digest: of the records alone, to recognise a page that comes again.

        Raises:
            StorageFullError: no room; nothing of it was stored.
        """
        _check_name(name)
        now = self._clock.now()
        with writing(self._path):
            member = zipformat.write_member(
                self._file, name, body, level=self._level, now=now, offset=self._end
            )
            response = self._response(
                member, evidence, wide=False, sha256=hashlib.sha256(body).hexdigest(),
                number=number, records=records, digest=digest,
            )  # fmt: skip
            self._store(response)
        return response

    def add_file(self, name: str, path: Path, evidence: dict[str, Any]) -> Response:
        """Stores a downloaded file of any size and removes it from where it was. Any: JSON.

        Raises:
            StorageFullError: no room; the file is still at `path`.
        """
        _check_name(name)
        with writing(self._path), path.open("rb") as source:
            reader = _Hashing(source)
            member = zipformat.write_stream(
                self._file, name, reader, level=self._level, now=self._clock.now(), offset=self._end
            )
            response = self._response(member, evidence, wide=True, sha256=reader.digest.hexdigest())
            self._store(response)
        path.unlink()
        return response

    def add_same(
        self, name: str, same: Response | str, evidence: dict[str, Any], *, body: bytes,
        number: int = 0, records: int = 0, digest: int | None = None,
    ) -> None:  # fmt: skip
        """Records a response whose bytes the published archive already holds as another member.
        Any: JSON.
        """
        member = same if isinstance(same, str) else same.member
        self.ledger.save(
            Response(
                run=self.run.id, archive=self.label, name=name, member=member, number=number,
                method=zipformat.STORED, crc=0, packed=0, size=len(body), offset=0, end=0,
                time=self._clock.now(), sha256=hashlib.sha256(body).hexdigest(), records=records,
                digest=digest, evidence=_json(evidence),
            )
        )  # fmt: skip

    def note(self, **notes: Any) -> None:
        """Remembers something about the run. Any: JSON."""
        self.run = replace(self.run, notes={**(self.run.notes or {}), **notes})
        with writing(self.place.ledger):
            self.ledger.save_run(self.run)

    def sync(self) -> None:
        """Makes what was stored survive a power failure too."""
        with writing(self._path):
            os.fsync(self._file.fileno())
            self.run = replace(self.run, synced=self._end)
            self.ledger.save_run(self.run)
        self._synced_at = self._clock.monotonic()

    def publish(
        self,
        *,
        outcome: str = "succeeded",
        whole: bool = False,
        announced: int | None = None,
        repeated: int | None = None,
        keep_runs: int = 0,
    ) -> Run:
        """Puts the new archive in the old one's place at once, and keeps so many earlier ones
        when it replaces.

        Raises:
            StorageFullError: no room; the published archive is as it was and this run can go on.
        """
        self.sync()
        self.run = replace(
            with_sums(self.run, self.ledger),
            state=State.PUBLISHING, ended=self._clock.now(), outcome=outcome, whole=whole,
            announced=announced, repeated=repeated,
            notes={**(self.run.notes or {}), "keep": self.keep, "keep_runs": keep_runs},
        )  # fmt: skip
        with writing(self.place.ledger):
            self.ledger.save_run(self.run)
            self._file.close()
            self.run = finish_publishing(self.place, self.ledger, self.published, self.run)
        return self.run

    def discard(self) -> None:
        """Forgets everything this run has collected."""
        self._file.close()
        self.ledger.drop_run(self.run.id)
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        if not self._file.closed:
            self._file.close()
        self._closing.close()

    def _response(
        self, member: zipformat.Member, evidence: dict[str, Any], *, wide: bool, sha256: str,
        number: int = 0, records: int = 0, digest: int | None = None,
    ) -> Response:  # fmt: skip
        return Response(
            run=self.run.id, archive=self.label, name=member.name, member=member.name,
            number=number, method=member.method, crc=member.crc, packed=member.packed,
            size=member.size, offset=member.offset, end=zipformat.end_of(member, wide=wide),
            time=member.time, sha256=sha256, records=records, digest=digest,
            evidence=_json(evidence),
        )  # fmt: skip

    def _store(self, response: Response) -> None:
        self.ledger.save(response)
        self._end = response.end
        overdue = self._clock.monotonic() - self._synced_at > _SYNC_SECONDS
        if overdue or self._end - self.run.synced > _SYNC_BYTES:
            self.sync()


def open_collector(
    place: Place,
    label: str = PAGES,
    *,
    keep: bool,
    mode: str = "full",
    fingerprint: str = "",
    restart: bool = False,
    level: int | None = 6,
    clock: Clock | None = None,
) -> Collector:
    """Begins to collect into an archive, or goes on where a run of the same mode and fingerprint
    was cut off.

    Args:
        keep: what is published stays and is added to; else publishing replaces it.
        fingerprint: of everything that decides what is fetched; another one begins anew.
        restart: never go on.
        level: of deflate; None stores as it is.

    Raises:
        ProjectBusyError: another program is collecting into it.
        StoreError: the folder cannot be written.
    """
    clock = clock or SystemClock()
    closing = ExitStack()
    try:
        closing.enter_context(locked(place, label))
        ledger, rebuilt = open_ledger(place, label)
        closing.callback(ledger.close)
        with writing(place.ledger):
            keeper = open_keeper(place, label)
            closing.callback(keeper.close)
            recover(place, ledger, keeper, label)
            run = None
            for old in ledger.runs(label, state=State.COLLECTING):
                if (
                    run is None
                    and not restart
                    and (old.mode, old.fingerprint) == (mode, fingerprint)
                ):
                    run = old
                else:
                    ledger.drop_run(old.id)
                    place.partial(label, old.id).unlink(missing_ok=True)
            resumed = run is not None
            if run is None:
                now = clock.now()
                run = Run(_new_id(now), label, mode, State.COLLECTING, now, fingerprint=fingerprint)
                ledger.save_run(run)
            else:
                _drop_unreadable(place.partial(label, run.id), ledger, run)
        return Collector(
            place, label, ledger=ledger, keeper=keeper, run=run, resumed=resumed, keep=keep,
            level=level, clock=clock, closing=closing, rebuilt=rebuilt,
        )  # fmt: skip
    except BaseException:
        closing.close()
        raise


def mend(place: Place, label: str = PAGES) -> int | None:
    """Saves what is whole in an archive that another program was killed over.

    How many members; None where nothing was wrong.

    Raises:
        ProjectBusyError: another program is collecting into it.
    """
    keeper = open_keeper(place, label)
    if not isinstance(keeper, ZipKeeper) or not keeper.exists():
        return None
    with locked(place, label):
        return keeper.mend()


def recover(place: Place, ledger: Ledger, keeper: Keeper, label: str) -> None:
    """Finishes a publication that was cut off, and removes leftovers of none."""
    for run in ledger.runs(label, state=State.PUBLISHING):
        finish_publishing(place, ledger, keeper, run)
    for draft in place.state.glob(f"{label}-*.new"):
        draft.unlink(missing_ok=True)


def finish_publishing(place: Place, ledger: Ledger, keeper: Keeper, run: Run) -> Run:
    """The steps after the decision; each may be repeated. A missing partial archive means that
    the rename has happened.
    """
    notes = run.notes or {}
    keep = bool(notes.get("keep"))
    path = place.partial(run.archive, run.id)
    aside = None if keep else _base_id(ledger, run)
    if path.exists():
        partial = Partial(
            path,
            ledger.end_of_data(run.id),
            lambda: (response for response in ledger.responses(run.id) if response.end),
            lambda name: ledger.has(run.id, name),
        )
        if aside and notes.get("keep_runs"):
            keeper.set_aside(place.previous / f"{aside}{keeper.path.suffix}")
        if not keep or partial.end:  # nothing to add: an archive of any size is left as it is
            keeper.publish(partial, keep=keep)
    published = replace(run, state=State.PUBLISHED)
    with ledger.batch():
        if aside:
            ledger.relabel(run.archive, f"previous/{aside}")
        elif keep:
            ledger.forget_superseded(run.id)
        ledger.save_run(published)
    path.unlink(missing_ok=True)
    _expire(place, ledger, run, keep_runs=int(notes.get("keep_runs", 0)))
    write_runs(place, ledger)
    return published


def _expire(place: Place, ledger: Ledger, run: Run, *, keep_runs: int) -> None:
    """Removes earlier full runs beyond those to keep."""
    if run.archive != PAGES or (run.notes or {}).get("keep"):
        return
    kept = sorted(path for path in place.previous.glob("*") if not path.name.endswith(".new"))
    gone = kept[: len(kept) - keep_runs] if keep_runs < len(kept) else []
    for path in gone:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    alive = {f"previous/{path.stem}" for path in kept if path not in gone}
    for old in ledger.runs():
        if old.archive.startswith("previous/") and old.archive not in alive:
            ledger.drop_run(old.id)


def _base_id(ledger: Ledger, run: Run) -> str | None:
    """Under which name the present archive is set aside: that of its full run."""
    published = ledger.runs(run.archive, state=State.PUBLISHED)
    if published:
        return published[0].id
    return None if run.archive != PAGES else _new_id(max(run.started - 1, 0), tail="before")


def _drop_unreadable(path: Path, ledger: Ledger, run: Run) -> None:
    """Responses whose bytes a power failure took are fetched again."""
    if not path.exists():
        for response in ledger.unsynced(replace(run, synced=0)):
            ledger.forget(run.id, response.name)
        return
    with path.open("rb") as archive:
        for response in ledger.unsynced(run):
            try:
                for _ in zipformat.open_member(archive, member_of(response)):
                    pass
            except DamagedError:
                ledger.forget(run.id, response.name)


def _new_id(now: int, *, tail: str | None = None) -> str:
    """Sorts by time."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now // 10**9))
    return f"{stamp}{now // 10**6 % 1000:03}Z-{tail or secrets.token_hex(4)}"


def _check_name(name: str) -> None:
    parts = name.split("/")
    if not name or "\\" in name or "\0" in name or any(part in {"", ".", ".."} for part in parts):
        raise UsageError(f"{name!r} cannot be the name of a stored member")


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class _Hashing:
    """A file that is hashed while it is read."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        chunk = self._source.read(size)
        self.digest.update(chunk)
        return chunk
