"""Backups, from taking in to deletion, in both kinds of pools."""

from __future__ import annotations

import os

import pytest

from holdfast.core.access import ANONYMOUS, SHELL, Principal, Scope, Verb
from holdfast.core.errors import (
    DeniedError,
    HeldError,
    NotSignedInError,
    RecordExistsError,
    RecordNotFoundError,
    StateError,
)
from holdfast.core.keeping import DAY, Action, Criteria, KeepRule
from holdfast.core.records import BackupState, PoolKind, Shape
from holdfast.service.targets import Draft

DAY_SECONDS = 86400


def test_what_was_acknowledged_comes_back(make_target, put, content, service):
    """I1: byte for byte, with its facts."""
    target = make_target()
    backup = put(target, b"hello" * 1000, manual=False)
    assert content(backup) == b"hello" * 1000
    assert (backup.size, backup.manual, backup.state) == (5000, False, BackupState.KEPT)
    assert backup.received == service.ground.now()


def test_an_abandoned_one_was_never_there(make_target, service):
    """Nothing of it is listed, and its name stays free."""
    target = make_target()
    arriving = service.backups.receive(SHELL, target, "x", exclusive=True)
    arriving.write(b"part")
    arriving.abandon()
    assert service.backups.list(SHELL, target) == []
    service.backups.receive(SHELL, target, "x", exclusive=True).abandon()


def test_a_name_is_taken_once(make_target, put, content, service):
    """Also where two began while it was free: the second to end is refused, the first stays."""
    target = make_target()
    first = service.backups.receive(SHELL, target, "x", exclusive=True)
    second = service.backups.receive(SHELL, target, "x", exclusive=True)
    first.write(b"one")
    second.write(b"two")
    kept = first.finish().result(30)
    with pytest.raises(RecordExistsError):
        second.finish().result(30)
    with pytest.raises(RecordExistsError):
        service.backups.receive(SHELL, target, "x", exclusive=True)
    assert [each.uid for each in service.backups.list(SHELL, target)] == [kept.uid]
    assert content(kept) == b"one"


def test_the_recycle_bin(make_target, put, content, service):
    """What lies in it is readable and comes back; doing either twice is told."""
    backup = put(make_target())
    service.backups.recycle(SHELL, backup)
    recycled = service.backups.get(SHELL, backup.uid)
    assert recycled.state is BackupState.RECYCLED
    assert content(recycled) == b"content"
    with pytest.raises(StateError):
        service.backups.recycle(SHELL, backup)
    service.backups.bring_back(SHELL, recycled)
    again = service.backups.get(SHELL, backup.uid)
    assert (again.state, content(again)) == (BackupState.KEPT, b"content")
    with pytest.raises(StateError):
        service.backups.bring_back(SHELL, again)


def test_deleting_is_final(make_target, put, service, pool, tmp_path):
    """Gone for every reader, and from the disk of a plain pool."""
    backup = put(make_target(), b"unmistakable")
    service.backups.delete(SHELL, backup)
    with pytest.raises(RecordNotFoundError):
        service.backups.get(SHELL, backup.uid)
    with pytest.raises(RecordNotFoundError):
        service.backups.delete(SHELL, backup)
    if pool.name == "plain":
        left = [p for p in (tmp_path / "plain").rglob("*") if p.is_file()]
        assert not any(p.read_bytes() == b"unmistakable" for p in left)


def test_deleting_from_the_list_only(make_target, put, service, pool, tmp_path):
    """Files stay where they are."""
    backup = put(make_target(), b"unmistakable")
    service.backups.delete(SHELL, backup, files=False)
    assert service.backups.list(SHELL) == []
    service.backups.reconcile()
    assert list(service.pools.keeper(pool).found()) == []
    if pool.name == "plain":
        assert (tmp_path / "plain" / backup.path).read_bytes() == b"unmistakable"


def test_a_crash_between_row_and_keeper_is_ended_at_the_start(make_target, put, service):
    """I5: the row says that it is to go, and the next start does it."""
    backup = put(make_target())
    with service.ground.catalog.write() as tx:
        tx.backups.change(backup.id, state=BackupState.GONE)
    service.backups.reconcile()
    with service.ground.catalog.read() as tx:
        assert tx.backups.find(id=backup.id) is None


def test_a_hold_protects_from_everything(make_target, put, service):
    """I3: and it can be made longer, never shorter."""
    target = make_target(keep=KeepRule(Criteria.COUNT, 0, Action.DELETE))
    backup = put(target)
    now = service.ground.now()
    service.backups.hold(SHELL, backup, now + DAY)
    for shorter in (None, now + DAY // 2):
        with pytest.raises(HeldError):
            service.backups.hold(SHELL, backup, shorter)
    with pytest.raises(HeldError):
        service.backups.delete(SHELL, backup)
    with pytest.raises(HeldError):
        service.targets.remove(SHELL, target, files=True)
    assert service.backups.expire(SHELL, target) == []
    service.ground.clock.advance(2 * DAY_SECONDS)
    assert len(service.backups.expire(SHELL, target)) == 1


def test_deduplication_keeps_the_newest(make_target, put, service):
    """A, A, B: the newer A and B stay; what lies in the bin counts for nothing."""
    target = make_target(deduplicate=True)
    first = put(target, b"A")
    service.ground.clock.advance(1)
    second = put(target, b"A")
    service.ground.clock.advance(1)
    third = put(target, b"B")
    gone = service.backups.deduplicate(SHELL, target)
    assert [each.uid for each in gone] == [first.uid]
    service.backups.recycle(SHELL, second)
    service.ground.clock.advance(1)
    fourth = put(target, b"A")
    assert service.backups.deduplicate(SHELL, target) == []
    kept = {e.uid for e in service.backups.list(SHELL, target, states=[BackupState.KEPT])}
    assert kept == {third.uid, fourth.uid}


@pytest.mark.parametrize("damage", ["gone", "shorter", "changed"])
@pytest.mark.parametrize("shape", list(Shape))
def test_deduplication_takes_no_damaged_copy_for_one(service, put, tmp_path, shape, damage):
    """I3: of two files with the same content, the newer one has rotted on the disk."""
    pool = service.pools.named("plain")
    target = service.targets.create(
        SHELL,
        Draft(name="t", pool_id=pool.id, shape=shape, name_template="$I", deduplicate=True),
    )
    backups = []
    for _ in range(2):
        service.ground.clock.advance(1)
        if shape is Shape.SINGLE:
            backups.append(put(target, b"x" * 3_000_000, "file"))
        else:
            tree = service.backups.receive_tree(SHELL, target, "all")
            for name in (b"a", b"file"):
                file = tree.incoming.file(name)
                file.write(b"x" * 3_000_000)
                file.end()
            backups.append(tree.finish().result(30))
    path = tmp_path / "plain" / backups[1].path
    path = path / "file" if shape is Shape.MULTI else path
    if damage == "gone":
        path.unlink()
    elif damage == "shorter":
        os.truncate(path, 2_000_000)
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"y")
    assert service.backups.deduplicate(SHELL, target) == []
    assert service.backups.get(SHELL, backups[1].uid).damaged
    assert not service.backups.get(SHELL, backups[0].uid).damaged


def test_retention_goes_by_the_servers_clock(make_target, put, service):
    """A keep rule of two: the older ones go into the bin, in their order."""
    target = make_target(keep=KeepRule(Criteria.COUNT, 2))
    made = []
    for content in (b"1", b"2", b"3", b"4"):
        made.append(put(target, content))
        service.ground.clock.advance(60)
    went = service.backups.expire(SHELL, target)
    assert [each.uid for each in went] == [made[0].uid, made[1].uid]
    assert service.backups.expire(SHELL, target) == []


def test_nobody_sees_or_does_anything(make_target, put, service):
    """Authorisation is here, whatever the face."""
    target = make_target()
    backup = put(target)
    stranger = Principal("account:X", frozenset({Verb.BACKUP_LIST, Verb.BACKUP_READ}))
    elsewhere = Principal(
        "account:Y", frozenset(Verb), scope=Scope(targets=frozenset({target.id + 1}))
    )
    for who, error in ((ANONYMOUS, NotSignedInError), (elsewhere, DeniedError)):
        for act in (
            lambda who=who: service.backups.get(who, backup.uid),
            lambda who=who: service.backups.list(who, target),
            lambda who=who: service.backups.list(who),
            lambda who=who: service.backups.open(who, backup),
            lambda who=who: service.backups.delete(who, backup),
            lambda who=who: service.backups.receive(who, target, "x"),
            lambda who=who: service.targets.remove(who, target, files=True),
        ):
            with pytest.raises(error):
                act()
    with pytest.raises(DeniedError):
        service.backups.delete(stranger, backup)
    assert service.backups.get(SHELL, backup.uid).uid == backup.uid


def test_every_deletion_is_in_the_audit_once(make_target, put, service):
    """I9."""
    backup = put(make_target())
    service.backups.delete(SHELL, backup)
    with service.ground.catalog.read() as tx:
        found = [e for e in tx.audit.all() if e.verb == Verb.BACKUP_DELETE]
    assert [(e.subject, e.outcome) for e in found] == [(f"backup {backup.uid}", "allowed")]


def test_moving_keeps_the_uid_and_the_bytes(make_target, put, content, service, pool):
    """I2: copied first, readable all the time; a copy has a uid of its own."""
    target = make_target()
    backup = put(target, b"x" * 100_000)
    other = service.pools.named("plain" if pool.name == "main" else "main")
    copied = service.backups.transfer(backup, target, other, keep_first=True, watch=lambda _: None)
    assert copied.uid != backup.uid
    service.backups.delete(SHELL, copied)
    moved = service.backups.transfer(backup, target, other, keep_first=False, watch=lambda _: None)
    assert (moved.uid, moved.id, moved.pool_id) == (backup.uid, backup.id, other.id)
    assert content(moved) == b"x" * 100_000
    assert len(service.backups.list(SHELL, target)) == 1


def test_a_move_that_is_stopped_changes_nothing(make_target, put, content, service, pool):
    """The backup stays where it was."""
    target = make_target()
    backup = put(target, b"x" * 100_000)
    other = service.pools.named("plain" if pool.name == "main" else "main")

    def stop(_count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        service.backups.transfer(backup, target, other, keep_first=False, watch=stop)
    assert content(service.backups.get(SHELL, backup.uid)) == b"x" * 100_000


def test_what_is_in_the_bin_moves_into_the_bin(make_target, put, content, service, tmp_path):
    """Nobody sees it among the files, and it is there still when a catalog is made anew."""
    target = make_target()
    backup = put(target, b"x" * 100_000)
    service.backups.recycle(SHELL, backup)
    service.pools.add(SHELL, "another", [str(tmp_path / "another")], kind=PoolKind.PLAIN)
    other = service.pools.named("another")
    moved = service.backups.transfer(backup, target, other, keep_first=False, watch=lambda _: None)
    assert [path.name for path in (tmp_path / "another").iterdir()] == [".holdfast"]
    assert [each.recycled for each in service.pools.keeper(moved).found()] == [True]
    assert content(moved) == b"x" * 100_000
    service.backups.bring_back(SHELL, moved)
    assert len(list((tmp_path / "another").iterdir())) == 2
