"""Backups: taking them in, giving them back, the recycle bin, deletion, holds.

Order of commitment: the keeper makes it durable, then its row, then the answer. Order of deletion:
audit record and row (nobody sees it any more), then the keeper, then the row goes. A crash in
between leaves something that `reconcile` ends.
"""

from __future__ import annotations

import posixpath
from collections import defaultdict
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import func, select

from holdfast.catalog import journal, tables
from holdfast.core.access import SERVER, Verb
from holdfast.core.errors import (
    HeldError,
    HoldfastError,
    NoRepositoryError,
    RecordExistsError,
    RecordNotFoundError,
    StateError,
    StoreError,
)
from holdfast.core.keeping import Action, Aged, KeepRule, to_go
from holdfast.core.records import Area, Backup, BackupState, Made, Shape, Target
from holdfast.service.ground import new_uid
from holdfast.service.keeping.contract import Kept, Order
from holdfast.service.keeping.naming import place
from holdfast.service.keeping.transfer import flow_over
from holdfast.service.unpacking import Limits, Part, limits_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from sqlalchemy import ColumnElement

    from holdfast.catalog.database import Transaction
    from holdfast.core.access import Principal
    from holdfast.core.records import Face, Json, Pool
    from holdfast.service.ground import Ground
    from holdfast.service.keeping.contract import (
        Buffer,
        Incoming,
        IncomingTree,
        Listed,
        Outgoing,
        Verified,
    )
    from holdfast.service.pools import Pools

VISIBLE = (BackupState.KEPT, BackupState.RECYCLED)
_log = structlog.get_logger("holdfast.backups")
_ROW = tables.backup.c
_LONGEST_NOTE = 2000
_AT_ONCE = 1000
"""Rows that one statement changes."""
_EXCLUSIVE = "exclusive"
"""In an order's facts: no other visible backup of the target may have this name."""
PART = "part"
"""In an order's facts: it is a file of an upload that is not finished."""
MOVED = "moved"
"""In an order's facts: it came from another place of this server."""
MOVED_FROM = "moved-from"
"""In a row's facts: the place where it lay before, until that is deleted."""
_WHERE = ("pool_id", "repository_id", "snapshot", "path")
_OF_ITS_PLACE = frozenset({_EXCLUSIVE, MOVED, MOVED_FROM})
"""Facts that do not go along to another place."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Figures of one or all targets; sizes in bytes of content."""

    backups: int = 0
    recycled: int = 0
    size: int = 0
    recycled_size: int = 0


class Arriving:
    """A stream that becomes a backup. See `keeping.contract.Incoming`."""

    def __init__(self, incoming: Incoming, finish: Any) -> None:
        self._incoming = incoming
        self._finish = finish

    def offer(self, piece: Buffer) -> Future[None] | None:
        return self._incoming.offer(piece)

    def write(self, piece: Buffer) -> None:
        self._incoming.write(piece)

    def amend(self, *, manual: bool) -> None:
        """What became known after the first bytes had come."""
        self._incoming.amend(manual=manual)

    def finish(self) -> Future[Backup]:
        """Done when the backup is durable and in the catalog."""
        return self._finish(self._incoming.finish())  # type: ignore[no-any-return]

    def abandon(self) -> None:
        self._incoming.abandon()


class ArrivingTree:
    """Files that become one backup together. See `keeping.contract.IncomingTree`."""

    def __init__(
        self, incoming: IncomingTree, finish: Any, *, scratch: Path, limits: Limits
    ) -> None:
        self.incoming = incoming
        self._finish = finish
        self._scratch = scratch
        self._limits = limits
        self._taken: set[bytes] = set()
        self._part: Part | None = None

    def part(self, name: str) -> Part:
        """An uploaded file of it, which is unpacked where it is an archive and the first. The one
        before must have ended.
        """
        self._part = Part(
            self.incoming, name, scratch=self._scratch, limits=self._limits, taken=self._taken
        )
        return self._part

    def amend(self, *, manual: bool) -> None:
        """What became known after the first bytes had come."""
        self.incoming.amend(manual=manual)

    def finish(self) -> Future[Backup]:
        return self._finish(self.incoming.finish())  # type: ignore[no-any-return]

    def abandon(self) -> None:
        """It goes once nobody is at work in it any more."""
        if self._part is None:
            self.incoming.abandon()
        else:
            self._part.abandon().add_done_callback(lambda _: self.incoming.abandon())


class Backups:
    def __init__(self, ground: Ground, pools: Pools) -> None:
        self._ground = ground
        self._pools = pools
        pools.record = self.record

    # --- taking in --------------------------------------------------------------------------------

    def receive(
        self,
        who: Principal,
        target: Target,
        name: str,
        *,
        size: int | None = None,
        manual: bool = True,
        exclusive: bool = False,
        facts: Json | None = None,
    ) -> Arriving:
        """Begins a backup of one stream.

        `size`: announced bytes. `exclusive`: the name must be free among the target's backups; it
        is looked at now and once more when the backup is recorded.

        Raises:
            RecordExistsError: the name is taken.
            BusyError: as many streams as may be are under way, for too long.
        """
        order = self._order(
            who, target, name, size=size, manual=manual, exclusive=exclusive, facts=facts
        )
        incoming = self._pools.keeper(self._pool_of(target)).begin(order)
        return Arriving(incoming, lambda future: self._recorded(order, future))

    def receive_tree(
        self,
        who: Principal,
        target: Target,
        name: str,
        *,
        manual: bool = True,
        facts: Json | None = None,
    ) -> ArrivingTree:
        """Begins a backup of several files."""
        order = self._order(who, target, name, manual=manual, facts=facts)
        pool = self._pool_of(target)
        incoming = self._pools.keeper(pool).begin_tree(order)
        return ArrivingTree(
            incoming,
            lambda future: self._recorded(order, future),
            scratch=self._ground.folder / "scratch",
            limits=limits_for(self._pools.room(pool)),
        )

    def _pool_of(self, target: Target) -> Pool:
        with self._ground.catalog.read() as tx:
            return tx.pools.get(target.pool_id)

    def _order(
        self,
        who: Principal,
        target: Target,
        name: str,
        *,
        size: int | None = None,
        manual: bool = True,
        exclusive: bool = False,
        facts: Json | None = None,
    ) -> Order:
        self._ground.allow(
            who, Verb.BACKUP_CREATE, f"target {target.name}", target=target.id, pool=target.pool_id
        )
        if exclusive:
            with self._ground.catalog.read() as tx:
                if _is_taken(tx, target.id, name):
                    raise RecordExistsError(f"there is a backup {name!r} already")
        facts = dict(facts or {})
        if exclusive:
            facts[_EXCLUSIVE] = True
        return Order(
            uid=new_uid(),
            target=target,
            name=name,
            received=self._ground.now(),
            manual=manual,
            facts=facts,
            size=size,
        )

    def record(self, group: Sequence[tuple[Order, Kept]]) -> Mapping[str, HoldfastError]:
        """Writes down what has become durable: one transaction for the group."""
        refused: dict[str, HoldfastError] = {}
        with self._ground.catalog.write() as tx:
            known = _known_targets(tx, {order.target.id for order, _ in group})
            taken = _taken(tx, [order for order, _ in group if order.facts.get(_EXCLUSIVE)])
            rows = []
            for order, kept in group:
                key = (order.target.id, order.name)
                if order.target.id not in known:
                    refused[order.uid] = StateError("its target was deleted meanwhile")
                elif order.facts.get(_EXCLUSIVE) and key in taken:
                    refused[order.uid] = RecordExistsError(
                        f"there is a backup {order.name!r} already"
                    )
                elif order.replaces is not None:
                    if not _replace(tx, order, kept):
                        refused[order.uid] = StateError("it was deleted meanwhile")
                else:
                    taken.add(key)
                    rows.append(row_of(order, kept))
            tx.backups.add_new(rows, unique="uid")
            journal.note_kept(tx, [row for row in rows if row.state is BackupState.KEPT])
        _tell(group, refused)
        return refused

    def _recorded(self, order: Order, kept: Future[Kept]) -> Future[Backup]:
        done: Future[Backup] = Future()

        def settle(finished: Future[Kept]) -> None:
            try:
                finished.result()
                with self._ground.catalog.read() as tx:
                    found = tx.backups.find(uid=order.uid)
                assert found is not None
            except BaseException as error:  # noqa: BLE001  handed to whoever waits
                done.set_exception(error)
            else:
                done.set_result(found)

        kept.add_done_callback(settle)
        return done

    # --- looking ----------------------------------------------------------------------------------

    def get(self, who: Principal, reference: str | int, *, face: Face | None = None) -> Backup:
        """By uid, or by number. Raises RecordNotFoundError, also where it is of another face."""
        column = _ROW.id if isinstance(reference, int) else _ROW.uid
        with self._ground.catalog.read() as tx:
            among = tx.backups.all(column == reference, *_of_face(face))
        found = among[0] if among else None
        if found is None or found.state not in VISIBLE:
            self._ground.allow(who, Verb.BACKUP_LIST, "a backup", target=-1)
            raise RecordNotFoundError(f"there is no backup {reference}")
        self._ground.allow(
            who, Verb.BACKUP_LIST, f"backup {found.uid}", target=found.target_id, pool=found.pool_id
        )
        return found

    def find(self, who: Principal, target: Target, name: str) -> Backup | None:
        """The newest visible backup of that name."""
        found = self.list(who, target, conditions=[_ROW.name == name], limit=1)
        return found[0] if found else None

    def list(
        self,
        who: Principal,
        target: Target | None = None,
        *,
        face: Face | None = None,
        states: Sequence[BackupState] = VISIBLE,
        conditions: Sequence[ColumnElement[bool]] = (),
        oldest_first: bool = False,
        limit: int | None = None,
        offset: int = 0,
    ) -> Sequence[Backup]:
        """By time. `target` None: those of all targets, or of all that are of one face."""
        scope = {"target": target.id, "pool": target.pool_id} if target else {}
        where = [*conditions, *_of_face(face)]
        if target:
            where.append(_ROW.target_id == target.id)
        order = ("created", "name", "id") if oldest_first else ("created", "id")
        among = {"state": [str(state) for state in states]}
        with self._ground.read(who, Verb.BACKUP_LIST, "backups", **scope) as tx:
            if limit is not None and not conditions:
                return tx.backups.page(
                    *where, among=among, order=order, descending=not oldest_first,
                    limit=limit, offset=offset,
                )  # fmt: skip
            columns = [_ROW[name] if oldest_first else _ROW[name].desc() for name in order]
            where.append(_ROW.state.in_(among["state"]))
            return tx.backups.all(*where, order=columns, limit=limit, offset=offset)

    def totals(
        self, who: Principal, target: Target | None = None, *, face: Face | None = None
    ) -> Totals:
        scope = {"target": target.id, "pool": target.pool_id} if target else {}
        # By target first, as an index has them: no row is read.
        each = (
            select(_ROW.state, func.count().label("number"), func.sum(_ROW.size).label("size"))
            .group_by(_ROW.target_id, _ROW.state)
            .where(*([_ROW.target_id == target.id] if target else []), *_of_face(face))
            .subquery()
        )
        query = select(each.c.state, func.sum(each.c.number), func.sum(each.c.size)).group_by(
            each.c.state
        )
        with self._ground.read(who, Verb.BACKUP_LIST, "backups", **scope) as tx:
            rows = tx.connection.execute(query)
            found = {state: (int(number), int(size or 0)) for state, number, size in rows}
        kept, recycled = (found.get(state, (0, 0)) for state in VISIBLE)
        return Totals(kept[0], recycled[0], kept[1], recycled[1])

    # --- giving back ------------------------------------------------------------------------------

    def open(self, who: Principal, backup: Backup, path: str | None = None) -> Outgoing:
        """Its content, or that of one file of it."""
        self._may(who, Verb.BACKUP_READ, backup)
        keeper = self._pools.keeper(backup)
        return keeper.open(backup) if path is None else keeper.open_path(backup, path)

    def archive(self, who: Principal, backup: Backup, format_: str, *, top: str = "") -> Outgoing:
        """A backup of several files as one: tar, tar.gz, tar.xz or zip, below a folder `top`."""
        self._may(who, Verb.BACKUP_READ, backup)
        return self._pools.keeper(backup).archive(backup, format_, top=top)

    def entries(self, who: Principal, backup: Backup) -> Iterator[Listed]:
        self._may(who, Verb.BACKUP_LIST, backup)
        return self._pools.keeper(backup).entries(backup)

    def file_name(self, backup: Backup, target: Target) -> str:
        """What a backup is called when somebody takes it out: as its target's template says."""
        if backup.path:
            return posixpath.basename(backup.path)
        path = place(
            target,
            name=backup.name,
            uid=backup.uid,
            received=backup.received,
            manual=backup.manual,
        )
        return posixpath.basename(path)

    # --- the recycle bin, holds, deletion ---------------------------------------------------------

    def recycle(self, who: Principal, backup: Backup) -> None:
        """Into the bin; readers still find it there."""
        self._move(who, backup, BackupState.KEPT, BackupState.RECYCLED, self._ground.now())

    def bring_back(self, who: Principal, backup: Backup) -> None:
        """Out of the bin."""
        self._move(who, backup, BackupState.RECYCLED, BackupState.KEPT, None)

    def _move(
        self,
        who: Principal,
        backup: Backup,
        before: BackupState,
        after: BackupState,
        recycled: int | None,
    ) -> None:
        detail = {"state": str(after)}
        with self._act(who, Verb.BACKUP_CHANGE, backup, detail) as tx:
            changed = tx.backups.change_where(
                _ROW.id == backup.id, _ROW.state == before, state=after, recycled=recycled
            )
            if not changed:
                raise StateError(
                    "the backup is in the recycle bin already"
                    if after is BackupState.RECYCLED
                    else "the backup is not in the recycle bin"
                )
            recycled_now = after is BackupState.RECYCLED
            said = "was recycled" if recycled_now else "was brought back"
            self._journal(tx, who, backup, said)
        self._pools.keeper(backup).move(backup, recycled=after is BackupState.RECYCLED)

    def hold(self, who: Principal, backup: Backup, until: int | None) -> None:
        """Protects it from every deletion until then. A hold can be made longer, never shorter."""
        with self._act(who, Verb.BACKUP_CHANGE, backup, {"hold_until": until}) as tx:
            now = tx.backups.get(backup.id).hold_until
            if now is not None and now > self._ground.now() and (until is None or until < now):
                raise HeldError("a hold cannot be taken back before it ends")
            tx.backups.change(backup.id, hold_until=until)
            self._journal(tx, who, backup, "is held" if until else "is held no longer")

    def delete(self, who: Principal, backup: Backup, *, files: bool = True) -> None:
        """For good. `files` False: it leaves the list only, its files stay where they are.

        Raises:
            HeldError: a hold protects it.
        """
        with self._act(who, Verb.BACKUP_DELETE, backup, {"files": files}) as tx:
            self._mark_deleted(tx, backup, files=files)
            self._journal(tx, who, backup, "was deleted" if files else "was forgotten")
        if files:
            self._finish_deleting(backup)
        else:
            self._forget(backup)

    def _forget(self, backup: Backup) -> None:
        """In its storage, too, so that it is not found there again. Where that is not there, which
        may be the very reason, the row alone says so.
        """
        try:
            self._pools.keeper(backup).forget(backup)
        except (StoreError, NoRepositoryError) as error:
            _log.warning("backup.forgotten", subject=f"backup {backup.uid}", error=error.message)

    def delete_all(
        self, who: Principal, backups: Sequence[Backup], *, files: bool = True
    ) -> Sequence[Backup]:
        """Deletes each; those that a hold protects stay and are returned."""
        held = []
        for backup in backups:
            try:
                self.delete(who, backup, files=files)
            except HeldError:
                held.append(backup)
            except RecordNotFoundError:
                continue  # somebody else deleted it meanwhile
        return held

    def _mark_deleted(self, tx: Transaction, backup: Backup, *, files: bool) -> None:
        now = tx.backups.get(backup.id)
        if now.state not in VISIBLE:
            raise RecordNotFoundError(f"there is no backup {backup.uid}")
        if now.hold_until is not None and now.hold_until > self._ground.now():
            raise HeldError(f"backup {backup.name} is held")
        state = BackupState.GONE if files else BackupState.FORGOTTEN
        tx.backups.change(backup.id, state=state)

    def drop(self, backups: Sequence[Backup]) -> None:
        """Deletes what were never backups of their own: parts, copies that are not needed."""
        for group in _in_groups(backups):
            among = _ROW.id.in_([each.id for each in group])
            with self._ground.catalog.write() as tx:
                tx.backups.change_where(among, state=BackupState.GONE)
            for each in group:
                self._pools.keeper(each).delete(each)
            with self._ground.catalog.write() as tx:
                tx.backups.remove(among)

    def _finish_deleting(self, backup: Backup) -> None:
        self._pools.keeper(backup).delete(backup)
        with self._ground.catalog.write() as tx:
            tx.backups.change_where(_ROW.parent_id == backup.id, parent_id=None)
            tx.backups.remove(id=backup.id)

    # --- proof (called by tasks) ------------------------------------------------------------------

    def note_verified(self, backup: Backup, verified: Verified) -> None:
        """Writes down what reading every byte of it has shown."""
        now = self._ground.now()
        with self._ground.catalog.write() as tx:
            if verified.good:
                tx.backups.change(backup.id, proven=now, damaged="")
                self._journal(tx, SERVER, backup, "was verified")
            else:
                damaged = "; ".join(verified.damaged)[:_LONGEST_NOTE]
                tx.backups.change(backup.id, damaged=damaged)
                self._journal(tx, SERVER, backup, f"is damaged: {damaged}", level="error")

    def note_restorable(self, backup: Backup) -> None:
        """It was restored and compared: its target is proven restorable as of now."""
        now = self._ground.now()
        with self._ground.catalog.write() as tx:
            tx.backups.change(backup.id, proven=now, damaged="")
            tx.targets.change(backup.target_id, proven=now)
            self._journal(tx, SERVER, backup, "was restored and compared")

    def _journal(
        self, tx: Transaction, who: Principal, backup: Backup, text: str, level: str = "info"
    ) -> None:
        journal.note(
            tx, Area.REPOSITORY, self._ground.now(), f"{backup.name} {text}", level=level,
            actor=who.name, backup_id=backup.id,
        )  # fmt: skip

    # --- moving (called by tasks) -----------------------------------------------------------------

    def transfer(
        self,
        backup: Backup,
        target: Target,
        pool: Pool,
        *,
        keep_first: bool,
        watch: Callable[[int], None],
    ) -> Backup:
        """Puts a backup into another pool, and with `keep_first` leaves it in its own, too: then
        the new one has a uid of its own.

        `watch` is told of bytes, and may raise to end it: nothing has changed then.
        """
        if not keep_first:
            backup = self.end_move(backup)
            if backup.pool_id == pool.id:
                return backup  # an earlier try has come so far
        facts = {name: each for name, each in backup.facts.items() if name not in _OF_ITS_PLACE}
        order = Order(
            uid=new_uid() if keep_first else backup.uid,
            target=replace(target, pool_id=pool.id),
            name=backup.name,
            received=backup.received,
            manual=backup.manual,
            facts=facts if keep_first else facts | {MOVED: True},
            size=backup.size,
            replaces=None if keep_first else backup.id,
        )
        first = self._pools.keeper(backup)
        future = flow_over(
            first, backup, self._pools.keeper(pool), order, shape=target.shape, watch=watch
        )
        future.result()
        with self._ground.catalog.read() as tx:
            found = tx.backups.find(uid=order.uid)
        assert found is not None
        if found.state is BackupState.RECYCLED:
            self._pools.keeper(found).move(found, recycled=True)
        return found if keep_first else self.end_move(found)

    def end_move(self, backup: Backup) -> Backup:
        """Deletes the place that a moved backup lay in before, if it still may; the row then."""
        left = backup.facts.get(MOVED_FROM)
        if left is None:
            return backup
        before = replace(backup, **left)
        if any(getattr(before, name) != getattr(backup, name) for name in _WHERE):
            self._pools.keeper(before).delete(before)
        facts = {name: each for name, each in backup.facts.items() if name != MOVED_FROM}
        with self._ground.catalog.write() as tx:
            tx.backups.change(backup.id, facts=facts)
        return replace(backup, facts=facts)

    def rename(self, who: Principal, backup: Backup, target: Target) -> None:
        """Gives files of a plain pool the name that the target's template now says."""
        if not backup.path:
            return  # in a repository nothing has a path
        path = place(
            target,
            name=backup.name,
            uid=backup.uid,
            received=backup.received,
            manual=backup.manual,
        )
        if path != backup.path:
            keeper = self._pools.keeper(backup)
            with self._act(who, Verb.BACKUP_CHANGE, backup, {"path": path}) as tx:
                tx.backups.change(backup.id, path=keeper.rename(backup, path))

    # --- retention (called by tasks) --------------------------------------------------------------

    def expire(self, who: Principal, target: Target) -> Sequence[Backup]:
        """Applies the target's keep rule; what went. Backups under a hold stay."""
        rule = KeepRule.of(target.keep)
        kept = {each.id: each for each in self.list(who, target, states=[BackupState.KEPT])}
        aged = [Aged(each.id, each.received) for each in kept.values()]
        now = self._ground.now()
        going = [kept[id_] for id_ in to_go(aged, rule, now)]
        going = [each for each in going if not (each.hold_until and each.hold_until > now)]
        for each in going:
            if rule.action is Action.RECYCLE:
                self.recycle(who, each)
            else:
                self.delete(who, each)
        return going

    def deduplicate(self, who: Principal, target: Target) -> Sequence[Backup]:
        """Deletes kept backups of which a newer one has the same content; what went.

        The newer one must be whole; what lies in the recycle bin is no copy to rely on, and none to
        be deleted.
        """
        copies: dict[str, list[Backup]] = defaultdict(list)
        for each in self.list(who, target, states=[BackupState.KEPT]):
            if each.sha256 and not each.damaged:
                copies[each.sha256].append(each)
        going: list[Backup] = []
        for same in copies.values():
            while len(same) > 1 and not self._is_whole(same[0], same[1:], target):
                del same[0]
            going += same[1:]
        held = self.delete_all(who, going)
        return [each for each in going if each not in held]

    def _is_whole(self, backup: Backup, others: Sequence[Backup], target: Target) -> bool:
        """Whether the others may go because of it. In one repository equal content is the same
        blobs, so that a first look is enough; elsewhere the others may be the only good copies, and
        every byte is read.
        """
        keeper = self._pools.keeper(backup)
        shared = {each.repository_id for each in (backup, *others)}
        try:
            if len(shared) > 1 or None in shared:
                verified = keeper.verify(backup, lambda _: None)
                self.note_verified(backup, verified)
                return verified.good
            if target.shape is Shape.SINGLE:
                next(iter(keeper.open(backup).pieces()), b"")
            else:
                next(iter(keeper.entries(backup)), None)
        except HoldfastError as error:
            _log.warning("backup.unreadable", subject=f"backup {backup.uid}", error=error.message)
            return False
        return True

    def reconcile(self) -> None:
        """Ends deletions that a crash cut short; those in places that cannot be reached, another
        time. What a crash left without a row, `unrecorded` finds.
        """
        with self._ground.catalog.read() as tx:
            gone = tx.backups.all(state=BackupState.GONE)
        for backup in gone:
            try:
                self._finish_deleting(backup)
            except (StoreError, NoRepositoryError) as error:
                _log.warning("backup.delete", subject=f"backup {backup.uid}", error=error.message)

    # --- rights -----------------------------------------------------------------------------------

    def _may(self, who: Principal, verb: Verb, backup: Backup) -> None:
        self._ground.allow(
            who, verb, f"backup {backup.uid}", target=backup.target_id, pool=backup.pool_id
        )

    def _act(self, who: Principal, verb: Verb, backup: Backup, detail: Json) -> Any:
        return self._ground.act(
            who,
            verb,
            f"backup {backup.uid}",
            target=backup.target_id,
            pool=backup.pool_id,
            detail={"name": backup.name, **detail},
        )


def row_of(
    order: Order, kept: Kept, *, made: Made = Made.FULL, parent: Backup | None = None
) -> Backup:
    """The catalog's row of what a keeper has made durable."""
    return Backup(
        uid=order.uid,
        target_id=order.target.id,
        pool_id=order.target.pool_id,
        repository_id=kept.repository_id,
        snapshot=kept.snapshot,
        path=kept.path,
        name=order.name,
        size=kept.size,
        stored=kept.stored,
        files=kept.files,
        sha256=kept.sha256,
        created=order.received,
        received=order.received,
        manual=order.manual,
        state=BackupState.PART if order.facts.get(PART) else BackupState.KEPT,
        made=made,
        parent_id=parent.id if parent else None,
        facts=order.facts,
    )


def _tell(group: Sequence[tuple[Order, Kept]], refused: Mapping[str, HoldfastError]) -> None:
    """What arrived, in the server's log."""
    for order, kept in group:
        error = refused.get(order.uid)
        event = "upload.part" if order.facts.get(PART) else "backup.create"
        if order.replaces is not None:
            event = "backup.move"
        figures = {"error": error.message} if error else {"size": kept.size, "files": kept.files}
        _log.info(
            event, subject=f"backup {order.uid}", target=order.target.name, name=order.name,
            **figures,
        )  # fmt: skip


def _replace(tx: Transaction, order: Order, kept: Kept) -> bool:
    """Has a backup lie in its new place; False where nobody wants it any more."""
    row = tx.backups.find(id=order.replaces)
    if row is None or row.state not in VISIBLE:
        return False
    after = _place(order, kept)
    before = {name: getattr(row, name) for name in after}
    tx.backups.change(row.id, facts=row.facts | {MOVED_FROM: before}, **after)
    journal.note(tx, Area.REPOSITORY, order.received, f"{row.name} was moved", backup_id=row.id)
    return True


def _place(order: Order, kept: Kept) -> dict[str, Any]:
    """What changes of a backup that has moved."""
    return {
        "pool_id": order.target.pool_id,
        "repository_id": kept.repository_id,
        "snapshot": kept.snapshot,
        "path": kept.path,
        "stored": kept.stored,
    }


def _in_groups(backups: Sequence[Backup]) -> Iterator[Sequence[Backup]]:
    for begin in range(0, len(backups), _AT_ONCE):
        yield backups[begin : begin + _AT_ONCE]


def _of_face(face: Face | None) -> list[ColumnElement[bool]]:
    if face is None:
        return []
    return [_ROW.target_id.in_(select(tables.target.c.id).where(tables.target.c.face == face))]


def _is_taken(tx: Transaction, target_id: int, name: str) -> bool:
    return (
        tx.backups.count(
            _ROW.target_id == target_id,
            _ROW.name == name,
            _ROW.state.in_([str(state) for state in VISIBLE]),
        )
        > 0
    )


def _taken(tx: Transaction, orders: Sequence[Order]) -> set[tuple[int, str]]:
    """Which of their targets have a visible backup of which of their names: in one look."""
    if not orders:
        return set()
    query = select(_ROW.target_id, _ROW.name).where(
        _ROW.target_id.in_({order.target.id for order in orders}),
        _ROW.name.in_({order.name for order in orders}),
        _ROW.state.in_([str(state) for state in VISIBLE]),
    )
    return {(target_id, name) for target_id, name in tx.connection.execute(query)}


def _known_targets(tx: Transaction, ids: set[int]) -> set[int]:
    query = select(tables.target.c.id).where(tables.target.c.id.in_(ids))
    return set(tx.connection.scalars(query))
