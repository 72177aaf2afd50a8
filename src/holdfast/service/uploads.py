"""Uploads in several requests, one file each, which end as one backup.

What has arrived survives a restart of the server: each file is kept as a part, out of sight, in the
first repository pool, until all are there. Where the target is in that pool, too, putting them
together writes nothing a second time.
"""

from __future__ import annotations

import re
from concurrent.futures import Future
from typing import TYPE_CHECKING

from holdfast.catalog import tables
from holdfast.core.access import SERVER, Verb
from holdfast.core.errors import InvalidError, RecordExistsError, StateError
from holdfast.core.records import BackupState, Face, Shape, Target, Upload
from holdfast.service.backups import PART
from holdfast.service.ground import new_uid

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdfast.catalog.database import Transaction
    from holdfast.core.access import Principal
    from holdfast.core.records import Backup, Json
    from holdfast.service.backups import Arriving, ArrivingTree, Backups
    from holdfast.service.ground import Ground
    from holdfast.service.pools import Pools

_PARTS = "parts of unfinished uploads"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MOST = 100_000
"""Files of one upload."""


class Uploads:
    """One at a time for each target."""

    def __init__(self, ground: Ground, pools: Pools, backups: Backups) -> None:
        self._ground = ground
        self._pools = pools
        self._backups = backups

    def begin(
        self, who: Principal, target: Target, files: Sequence[tuple[str, str]], *, manual: bool
    ) -> Upload:
        """`files`: folder (`/`, `/sub/dir`) and name of each.

        Raises:
            StateError: one is under way for this target.
            InvalidError: a name or folder that cannot be, or one that is there twice.
        """
        self._may(who, target)
        paths = [_path(folder, name) for folder, name in files]
        if len(set(paths)) != len(paths) or len(paths) > _MOST:
            raise InvalidError("File list validation failed")
        now = self._ground.now()
        listed = [{"path": folder, "name": name, "uploaded": False} for folder, name in files]
        upload = Upload(target_id=target.id, manual=manual, created=now, touched=now, files=listed)
        try:
            with self._ground.catalog.write() as tx:
                return tx.uploads.add(upload)
        except RecordExistsError as error:
            raise StateError("Target busy") from error

    def get(self, who: Principal, target: Target) -> Upload | None:
        """The one under way."""
        self._may(who, target)
        with self._ground.catalog.read() as tx:
            return tx.uploads.find(target_id=target.id)

    def receive(
        self, who: Principal, target: Target, folder: str, name: str, *, size: int | None = None
    ) -> ArrivingPart:
        """One file of it; it counts as uploaded when the future of its `finish` is done.

        Raises:
            StateError: none is under way.
            InvalidError: that file is not in its list.
            RecordExistsError: that file is there already.
        """
        found = _entry(self._needed(who, target), folder, name)
        if found["uploaded"]:
            raise RecordExistsError("That file is uploaded already")
        arriving = self._backups.receive(
            SERVER, self._parts_target(), _path(folder, name), size=size, facts={PART: True}
        )
        return ArrivingPart(arriving, lambda part: self._arrived(target, folder, name, part))

    def _arrived(self, target: Target, folder: str, name: str, part: Backup) -> None:
        """Writes down that a file is there; where it was meanwhile, the second is dropped."""
        with self._ground.catalog.write() as tx:
            upload = tx.uploads.find(target_id=target.id)
            entry = _entry(upload, folder, name) if upload else None
            taken = entry is not None and not entry["uploaded"]
            if upload is not None and entry is not None and taken:
                entry |= {"uploaded": True, "part": part.uid}
                tx.uploads.change(upload.id, files=upload.files, touched=self._ground.now())
        if not taken:
            self._backups.drop(part)
            raise StateError("the upload has ended, or that file came twice")

    def finish(self, who: Principal, target: Target) -> Backup:
        """Makes one backup of all that has arrived.

        Raises:
            StateError: none is under way, or files are missing.
        """
        upload = self._needed(who, target)
        missing = sum(not each["uploaded"] for each in upload.files)
        if missing:
            raise StateError(f"{missing} files are not uploaded yet")
        tree = self._backups.receive_tree(who, target, target.name, manual=upload.manual)
        try:
            parts = [self._put(tree, each) for each in upload.files]
        except BaseException:
            tree.abandon()
            raise
        made = tree.finish().result()
        with self._ground.catalog.write() as tx:
            tx.uploads.remove(id=upload.id)
        for part in parts:
            self._backups.drop(part)
        return made

    def _put(self, tree: ArrivingTree, entry: Json) -> Backup:
        with self._ground.catalog.read() as tx:
            part = tx.backups.find(uid=entry["part"])
        if part is None:
            raise StateError(f"{entry['name']} is not there any more; upload it again")
        path = _path(entry["path"], entry["name"])
        file = tree.incoming.file(path.encode("utf-8", "surrogateescape"))
        for piece in self._backups.open(SERVER, part).pieces():
            file.write(piece)
        file.end()
        return part

    def terminate(self, who: Principal, target: Target) -> None:
        """Forgets it and what has arrived of it. Raises StateError where none is under way."""
        upload = self._needed(who, target)
        with self._ground.catalog.write() as tx:
            tx.uploads.remove(id=upload.id)
        for entry in upload.files:
            with self._ground.catalog.read() as tx:
                part = tx.backups.find(uid=entry.get("part", ""))
            if part is not None:
                self._backups.drop(part)

    def sweep(self, before: int) -> int:
        """Forgets uploads that nobody went on with since then, and parts that belong to none; how
        many uploads.
        """
        with self._ground.catalog.read() as tx:
            stale = [
                (each, tx.targets.get(each.target_id))
                for each in tx.uploads.all(tables.upload.c.touched < before)
            ]
        for _, target in stale:
            self.terminate(SERVER, target)
        with self._ground.catalog.read() as tx:
            living = {entry.get("part") for each in tx.uploads.all() for entry in each.files}
            old = tx.backups.all(tables.backup.c.received < before, state=BackupState.PART)
        for part in old:
            if part.uid not in living:
                self._backups.drop(part)
        return len(stale)

    def _needed(self, who: Principal, target: Target) -> Upload:
        found = self.get(who, target)
        if found is None:
            raise StateError("No upload is under way")
        return found

    def _may(self, who: Principal, target: Target) -> None:
        self._ground.allow(
            who, Verb.BACKUP_CREATE, f"target {target.uid}", target=target.id, pool=target.pool_id
        )
        if target.shape is Shape.SINGLE:
            raise InvalidError("Cannot upload several files to a single file target")

    def _parts_target(self) -> Target:
        """Where parts are: a target that no face shows."""
        pool = self._pools.default()
        with self._ground.catalog.write() as tx:
            return _find_or_add(tx, pool.id, self._ground.now())


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


def _find_or_add(tx: Transaction, pool_id: int, now: int) -> Target:
    found = tx.targets.find(name=_PARTS, face=Face.HOLDFAST, pool_id=pool_id)
    return found or tx.targets.add(
        Target(uid=new_uid(), name=_PARTS, face=Face.HOLDFAST, pool_id=pool_id, created=now)
    )


def _entry(upload: Upload, folder: str, name: str) -> Json:
    wanted = _path(folder, name)
    for each in upload.files:
        if _path(each["path"], each["name"]) == wanted:
            return each
    raise InvalidError("That file is not in the upload's list")


def _path(folder: str, name: str) -> str:
    """The relative path of a file. Raises InvalidError: it leads anywhere but below the top."""
    parts = [part for part in folder.replace("\\", "/").split("/") if part]
    if (
        not name
        or name in {".", ".."}
        or "/" in name
        or "\\" in name
        or any(part in {".", ".."} for part in parts)
        or _CONTROL.search(folder + name)
    ):
        raise InvalidError("File list validation failed")
    return "/".join([*parts, name])
