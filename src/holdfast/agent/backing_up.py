"""The order to back something up: from a module's source straight into the pool."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from holdfast import __version__
from holdfast.agent.repositories import AnnouncingStore, opened
from holdfast.core.errors import ObjectNotFoundError
from holdfast.core.ids import ObjectId
from holdfast.core.orders import Announcement, OrderState
from holdfast.repo.format.codec import Compression
from holdfast.repo.format.pack import DEFAULT_PACK_SIZE, MIN_PACK_SIZE
from holdfast.repo.format.snapshot import decode_snapshot
from holdfast.repo.lock import acquire
from holdfast.repo.saving.backup import BackupOptions, back_up
from holdfast.repo.saving.sealing import SealingPlan
from holdfast.sources.modules import Asked, module
from holdfast.store.contract import FileKind

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.agent.errand import Errand
    from holdfast.core.entries import Kind
    from holdfast.core.source import Problem, Source
    from holdfast.repo.format.snapshot import Snapshot
    from holdfast.repo.repository import Repository
    from holdfast.repo.saving.backup import Counts
    from holdfast.store.contract import Store

_LOCK_WAIT: Final = 600.0
_SHOWN: Final = 50
_KIB: Final = 1024


def run(errand: Errand) -> dict[str, Any]:
    """The outcome. What an earlier start has stored is found and not sent again; a snapshot that it
    has committed is what this one ends with.
    """
    announcer = _Announcer(errand)

    def wrap(store: Store) -> Store:
        return AnnouncingStore(
            store,
            snapshot=announcer.announce,
            sending=lambda: errand.telling.state(OrderState.TRANSMITTING),
        )

    with errand.scratch() as scratch, opened(errand, make=True, wrap=wrap) as repository:
        announcer.repository = repository
        before = errand.folder.announced(errand.order.name)
        if before is not None and _is_there(repository, before.snapshot):
            return _outcome(before)
        asked = _asked(errand, scratch)
        with module(str(errand.spec["module"])).open(asked) as source:
            _keep(errand, repository, source)
    assert announcer.said is not None
    return _outcome(announcer.said)


def _asked(errand: Errand, scratch: Path) -> Asked:
    own = [errand.folder.path, *(errand.spec.get("skip") or ())]
    return Asked(
        resource=str(errand.spec.get("resource") or ""),
        parameters=dict(errand.spec.get("parameters") or {}),
        scratch=scratch,
        clock=errand.clock,
        skip=tuple(os.fsencode(path) for path in own),
    )


def _keep(errand: Errand, repository: Repository, source: Source) -> None:
    spec = errand.spec
    options = BackupOptions(
        hostname=errand.host,
        username="agent",
        uid=os.getuid(),
        gid=os.getgid(),
        tags=tuple(spec["tags"]),
        time=spec["time"],  # the server's: this machine's clock may be anywhere
        parent=_parent(repository, str(spec.get("parent") or "")),
        program_version=f"holdfast {__version__}",
        sealing=SealingPlan(
            compression=Compression(spec.get("compression") or Compression.AUTO),
            pack_size=_pack_size(spec),
            workers=len(os.sched_getaffinity(0)),
        ),
    )
    lock = acquire(repository.objects, exclusive=False, clock=repository.clock, wait=_LOCK_WAIT)
    try:
        back_up(repository, source, options, observer=_Observer(errand), lock=lock)
    finally:
        lock.release()


def _parent(repository: Repository, name: str) -> Snapshot | None:
    if not name:
        return None
    try:
        return repository.load_snapshot(ObjectId(name))
    except ObjectNotFoundError:
        return None  # deleted meanwhile: everything is read, and found to be stored


def _pack_size(spec: dict[str, Any]) -> int:
    """A slow line is paid for pack by pack, so they are small there."""
    upload = (spec.get("bandwidth") or {}).get("upload") or 0
    return MIN_PACK_SIZE if 0 < upload * _KIB < DEFAULT_PACK_SIZE else DEFAULT_PACK_SIZE


def _is_there(repository: Repository, snapshot: str) -> bool:
    try:
        repository.store.stat(FileKind.SNAPSHOT, snapshot)
    except ObjectNotFoundError:
        return False
    return True


def _outcome(said: Announcement) -> dict[str, Any]:
    return {
        "snapshot": said.snapshot, "files": said.files, "bytes": said.bytes,
        "stored": said.stored, "problems": said.problems,
    }  # fmt: skip


class _Announcer:
    """Says what is about to be committed: to the server, and to whoever starts here next."""

    def __init__(self, errand: Errand) -> None:
        self._errand = errand
        self.repository: Repository | None = None
        self.said: Announcement | None = None

    def announce(self, name: str, sealed: bytes) -> None:
        assert self.repository is not None
        document = self.repository.objects.opened(FileKind.SNAPSHOT, sealed)
        file = decode_snapshot(ObjectId(name), document).file
        assert file.summary is not None
        said = Announcement(
            order=self._errand.order.name,
            snapshot=name,
            tree=file.tree,
            files=file.summary.total_files_processed,
            bytes=file.summary.total_bytes_processed,
            problems=file.summary.error_count,
            stored=file.summary.data_added_packed,
        )
        self._errand.folder.note_announced(said)
        self._errand.obey(self._errand.insist(lambda: self._errand.server.announce(said)))
        self.said = said


class _Observer:
    def __init__(self, errand: Errand) -> None:
        self._telling = errand.telling
        self._problems = 0

    def item(self, action: str, path: bytes, kind: Kind, size: int) -> None:
        pass

    def problem(self, problem: Problem) -> None:
        self._problems += 1
        if self._problems <= _SHOWN:
            shown = problem.path.decode("utf-8", "replace")
            self._telling.line("warning", f"{shown}: {problem.message}")

    def progress(self, counts: Counts, current: bytes) -> None:
        self._telling.progress(
            OrderState.RUNNING,
            {
                "done": counts.bytes_read,
                "unit": "bytes",
                "current": current.decode("utf-8", "replace"),
            },
        )
