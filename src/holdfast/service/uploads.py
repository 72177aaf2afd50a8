"""Uploads in several requests, one file each, which end as one backup.

What has arrived survives a restart of the server: each file is kept as a part, a backup out of
sight, in the first repository pool until all are there; in the target's own where there is no such
pool. That the part is recorded is what counts a file as uploaded. Where the target is in that
repository pool, too, putting them together writes nothing a second time.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import select

from holdfast.catalog import tables
from holdfast.core.access import SERVER, Verb
from holdfast.core.errors import InvalidError, NameRefusedError, RecordExistsError, StateError
from holdfast.core.records import BackupState, Face, Shape, Target, Upload
from holdfast.repo.saving.intake_tree import check_path
from holdfast.service.backups import PART
from holdfast.service.ground import new_uid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlalchemy import ColumnElement

    from holdfast.catalog.database import Transaction
    from holdfast.core.access import Principal
    from holdfast.core.records import Backup
    from holdfast.service.backups import Arriving, ArrivingTree, Backups
    from holdfast.service.ground import Ground
    from holdfast.service.pools import Pools

_log = structlog.get_logger("holdfast.uploads")
_ROW, _BACKUP = tables.upload.c, tables.backup.c
_PARTS = "parts of unfinished uploads"
_OF = "upload"
"""In a backup's facts: the key of the upload that it is a part of, or was made by."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MOST = 1_000_000
"""Files of one upload."""
_MINUTE = 60 * 1_000_000_000
_REMEMBERED = 8
"""Uploads whose lists of files are held in memory."""
_ENDED = "Nothing was kept of this file. Begin the upload again."


@dataclass(frozen=True, slots=True)
class Listed:
    """One file of an upload."""

    folder: str
    """as the client gave it: `/`, `/sub/dir`"""
    name: str
    uploaded: bool


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """An upload without its list of files, which may be long."""

    id: int
    created: int
    touched: int
    manual: bool

    @property
    def key(self) -> str:
        """Numbers of rows come again, this does not."""
        return f"{self.id}-{self.created}"


class Uploads:
    """One at a time for each target."""

    def __init__(self, ground: Ground, pools: Pools, backups: Backups) -> None:
        self._ground = ground
        self._pools = pools
        self._backups = backups
        self._guard = threading.Lock()
        self._paths: OrderedDict[str, frozenset[str]] = OrderedDict()
        self._finishing: set[str] = set()

    def begin(
        self, who: Principal, target: Target, files: Sequence[tuple[str, str]], *, manual: bool
    ) -> Upload:
        """`files`: folder (`/`, `/sub/dir`) and name of each.

        Raises:
            StateError: one is under way for this target.
            InvalidError: a name or folder that cannot be, or one that is there twice.
        """
        self._may(who, target)
        self._check(files)
        now = self._ground.now()
        listed = [{"path": folder, "name": name} for folder, name in files]
        upload = Upload(target_id=target.id, manual=manual, created=now, touched=now, files=listed)
        try:
            with self._ground.catalog.write() as tx:
                made = tx.uploads.add(upload)
        except RecordExistsError as error:
            raise StateError(
                "Target busy", remedy="Go on with the upload that is under way, or terminate it."
            ) from error
        _log.info("upload.begin", subject=f"target {target.uid}", actor=who.name, files=len(files))
        return made

    def _check(self, files: Sequence[tuple[str, str]]) -> None:
        paths = {_path(folder, name) for folder, name in files}
        if len(paths) != len(files):
            raise _refused("two files have the same name.")
        if not files or len(files) > _MOST:
            raise _refused(f"an upload has 1 to {_MOST} files.")
        for path in paths:
            above = path.rpartition("/")[0]
            while above:
                if above in paths:
                    raise _refused(f"{above!r} is a file and a folder at once.")
                above = above.rpartition("/")[0]

    def under_way(self, who: Principal, target: Target) -> bool:
        self._may(who, target)
        return self._find(target) is not None

    def files(self, who: Principal, target: Target) -> Sequence[Listed]:
        """All of the one under way. Raises StateError: none is."""
        upload = self._needed(who, target)
        parts = self._parts(upload)
        with self._ground.catalog.read() as tx:
            listed = tx.uploads.get(upload.id).files
        return [
            Listed(each["path"], each["name"], _path(each["path"], each["name"]) in parts)
            for each in listed
        ]

    # --- files as they come -----------------------------------------------------------------------

    def receive(
        self, who: Principal, target: Target, folder: str, name: str, *, size: int | None = None
    ) -> ArrivingPart:
        """One file of it; it counts as uploaded when the future of its `finish` is done.

        Raises:
            StateError: none is under way.
            InvalidError: that file is not in its list.
            RecordExistsError: that file is there already.
        """
        upload = self._needed(who, target)
        path = _path(folder, name)
        if path not in self._paths_of(upload):
            raise InvalidError("That file is not in the upload's list")
        home = self._parts_target(target)
        if self._among(home, upload, _BACKUP.name == _part_name(upload, path)):
            raise _there_already()
        arriving = self._backups.receive(
            SERVER, home, _part_name(upload, path), size=size, facts={PART: True, _OF: upload.key}
        )
        return ArrivingPart(arriving, lambda part: self._arrived(upload, part))

    def _arrived(self, upload: _UnderWay, part: Backup) -> None:
        """What came for an upload that has ended, or came twice, is dropped."""
        now = self._ground.now()
        with self._ground.catalog.write() as tx:
            goes_on = _light(tx, _ROW.id == upload.id, _ROW.created == upload.created) is not None
            same = tx.backups.all(target_id=part.target_id, name=part.name, state=BackupState.PART)
            first = min((each.id for each in same), default=part.id)
            if goes_on and first == part.id and upload.touched + _MINUTE < now:
                tx.uploads.change(upload.id, touched=now)
        if goes_on and first == part.id:
            return
        self._backups.drop([part])
        if goes_on:
            raise _there_already()
        raise StateError("the upload has ended meanwhile", remedy=_ENDED)

    # --- the end ----------------------------------------------------------------------------------

    def finish(self, who: Principal, target: Target) -> Backup:
        """Makes one backup of all that has arrived.

        Raises:
            StateError: none is under way, it is being finished, or files are missing.
        """
        upload = self._needed(who, target)
        with self._alone(upload):
            with self._ground.catalog.write() as tx:
                tx.uploads.change(upload.id, touched=self._ground.now())
            made = self._made_before(target, upload)
            if made is None:
                made = self._put_together(who, target, upload)
            self._end(upload)
        _log.info("upload.end", subject=f"target {target.uid}", backup=made.uid, actor=who.name)
        return made

    @contextmanager
    def _alone(self, upload: _UnderWay) -> Iterator[None]:
        """Impatient clients ask twice."""
        with self._guard:
            if upload.key in self._finishing:
                raise StateError(
                    "the upload is being finished", remedy="Nothing was changed. Wait for it."
                )
            self._finishing.add(upload.key)
        try:
            yield
        finally:
            with self._guard:
                self._finishing.discard(upload.key)

    def _made_before(self, target: Target, upload: _UnderWay) -> Backup | None:
        """The backup that was made of it before a crash kept it from being ended."""
        since = [_BACKUP.received >= upload.created]
        for each in self._backups.list(SERVER, target, conditions=since):
            if each.facts.get(_OF) == upload.key:
                return each
        return None

    def _put_together(self, who: Principal, target: Target, upload: _UnderWay) -> Backup:
        parts = self._parts(upload)
        missing = len(self._paths_of(upload) - parts.keys())
        if missing:
            raise StateError(
                f"{missing} files are not uploaded yet",
                remedy="What came is safe. Upload the rest, then finish again.",
            )
        tree = self._backups.receive_tree(
            who, target, target.name, manual=upload.manual, facts={_OF: upload.key}
        )
        try:
            for path, part in parts.items():
                self._put(tree, path, part)
        except BaseException:
            tree.abandon()
            raise
        return tree.finish().result()

    def _put(self, tree: ArrivingTree, path: str, part: Backup) -> None:
        file = tree.incoming.file(path.encode("utf-8", "surrogateescape"))
        for piece in self._backups.open(SERVER, part).pieces():
            file.write(piece)
        file.end()

    def terminate(self, who: Principal, target: Target) -> None:
        """Forgets it and what has arrived of it. Raises StateError where none is under way."""
        upload = self._needed(who, target)
        self._end(upload)
        _log.info("upload.terminate", subject=f"target {target.uid}", actor=who.name)

    def _end(self, upload: _UnderWay) -> None:
        """Its row first: what arrives from now on is dropped by whoever brings it."""
        with self._ground.catalog.write() as tx:
            tx.uploads.remove(_ROW.id == upload.id, _ROW.created == upload.created)
        self._backups.drop(list(self._parts(upload).values()))
        with self._guard:
            self._paths.pop(upload.key, None)

    def sweep(self, before: int) -> int:
        """Forgets uploads that nobody went on with since then, and parts that belong to none; how
        many uploads.
        """
        with self._ground.catalog.read() as tx:
            columns = (_ROW.id, _ROW.created, _ROW.touched, _ROW.manual)
            rows = tx.connection.execute(select(*columns)).all()
            old = tx.backups.all(_BACKUP.received < before, state=BackupState.PART)
        uploads = [_UnderWay(*row) for row in rows]
        stale = [each for each in uploads if self._last_touched(each) < before]
        for upload in stale:
            self._end(upload)
            _log.info("upload.stale", subject=f"upload {upload.key}")
        living = {each.key for each in uploads}
        self._backups.drop([part for part in old if part.facts.get(_OF) not in living])
        return len(stale)

    def _last_touched(self, upload: _UnderWay) -> int:
        """To a minute; by the parts, as whoever wrote them may have died before it could say so."""
        return max([upload.touched, *(part.received for part in self._parts(upload).values())])

    # --- what is there ----------------------------------------------------------------------------

    def _needed(self, who: Principal, target: Target) -> _UnderWay:
        self._may(who, target)
        found = self._find(target)
        if found is None:
            raise StateError(
                "No upload is under way", remedy="Nothing was changed. Begin one first."
            )
        return found

    def _find(self, target: Target) -> _UnderWay | None:
        with self._ground.catalog.read() as tx:
            return _light(tx, _ROW.target_id == target.id)

    def _paths_of(self, upload: _UnderWay) -> frozenset[str]:
        """Of all files that are to come; read once, as there may be many."""
        with self._guard:
            known = self._paths.get(upload.key)
        if known is not None:
            return known
        with self._ground.catalog.read() as tx:
            row = tx.uploads.find(id=upload.id, created=upload.created)
        listed = row.files if row else []
        known = frozenset(_path(each["path"], each["name"]) for each in listed)
        with self._guard:
            self._paths[upload.key] = known
            while len(self._paths) > _REMEMBERED:
                self._paths.popitem(last=False)
        return known

    def _parts(self, upload: _UnderWay) -> Mapping[str, Backup]:
        """What has arrived, by path; the first of each counts."""
        begin = _part_name(upload, "")
        found = self._among(None, upload, _BACKUP.name.startswith(begin, autoescape=True))
        return {each.name.removeprefix(begin): each for each in reversed(found)}

    def _among(
        self, home: Target | None, upload: _UnderWay, *conditions: ColumnElement[bool]
    ) -> Sequence[Backup]:
        """Parts of it by number. They may lie in several pools, if the first one has changed."""
        with self._ground.catalog.read() as tx:
            homes = [home.id] if home else [each.id for each in _homes(tx)]
            found = tx.backups.all(
                *conditions, _BACKUP.target_id.in_(homes), state=BackupState.PART
            )
        return [each for each in found if each.facts.get(_OF) == upload.key]

    def _may(self, who: Principal, target: Target) -> None:
        self._ground.allow(
            who, Verb.BACKUP_CREATE, f"target {target.uid}", target=target.id, pool=target.pool_id
        )
        if target.shape is Shape.SINGLE:
            raise InvalidError(
                "Cannot begin sequential upload on single-file target",
                remedy="Nothing was changed. Upload the one file, or make a multi-file target.",
            )

    def _parts_target(self, target: Target) -> Target:
        """Where parts of an upload into `target` are: a target that no face shows."""
        pool_id = self._pools.default_or(target.pool_id)
        with self._ground.catalog.read() as tx:
            found = [each for each in _homes(tx) if each.pool_id == pool_id]
        if found:
            return found[0]
        with self._ground.catalog.write() as tx:
            known = [each for each in _homes(tx) if each.pool_id == pool_id]
            home = Target(
                uid=new_uid(), name=_PARTS, face=Face.HOLDFAST, pool_id=pool_id,
                created=self._ground.now(),
            )  # fmt: skip
            return known[0] if known else tx.targets.add(home)


class ArrivingPart:
    """A file on its way. See `keeping.contract.Incoming`."""

    def __init__(self, arriving: Arriving, arrived: Callable[[Backup], None]) -> None:
        self._arriving = arriving
        self._arrived = arrived
        self.offer = arriving.offer
        self.write = arriving.write
        self.abandon = arriving.abandon

    def finish(self) -> Future[Backup]:
        """Done when the file is durable and counts as uploaded."""
        done: Future[Backup] = Future()

        def settle(kept: Future[Backup]) -> None:
            try:
                self._arrived(kept.result())
            except BaseException as error:  # noqa: BLE001  handed to whoever waits
                done.set_exception(error)
            else:
                done.set_result(kept.result())

        self._arriving.finish().add_done_callback(settle)
        return done


def _homes(tx: Transaction) -> Sequence[Target]:
    return tx.targets.all(name=_PARTS, face=Face.HOLDFAST)


def _light(tx: Transaction, *conditions: ColumnElement[bool]) -> _UnderWay | None:
    columns = (_ROW.id, _ROW.created, _ROW.touched, _ROW.manual)
    row = tx.connection.execute(select(*columns).where(*conditions)).first()
    return None if row is None else _UnderWay(*row)


def _part_name(upload: _UnderWay, path: str) -> str:
    return f"{upload.key}/{path}"


def _there_already() -> RecordExistsError:
    return RecordExistsError(
        "That file is uploaded already", remedy="Nothing was changed. Go on with the next."
    )


def _refused(why: str) -> InvalidError:
    return InvalidError(
        "File list validation failed", remedy=f"Nothing was kept: {why} Send another list."
    )


def _path(folder: str, name: str) -> str:
    """The relative path of a file. Raises InvalidError: it leads anywhere but below the top."""
    path = "/".join([*filter(None, folder.replace("\\", "/").split("/")), name])
    try:
        check_path(path.encode("utf-8", "surrogateescape"))
    except NameRefusedError as error:
        raise _refused(f"{error.message}.") from error
    if "/" in name or _CONTROL.search(path):
        raise _refused(f"{name[:80]!r} in {folder[:80]!r} is no file below the top.")
    return path
