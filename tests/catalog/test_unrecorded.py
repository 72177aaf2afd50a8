"""F5: what is killed between a pool and the catalog is put right by one look, without a human."""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import event

from holdfast.core.access import SERVER, SHELL
from holdfast.core.errors import StateError
from holdfast.core.records import BackupState, Face, PoolKind, Shape
from holdfast.service.backups import MOVED_FROM, VISIBLE
from holdfast.service.keeping import in_folder
from holdfast.service.keeping.disk import Disk
from holdfast.service.server import open_service
from holdfast.service.targets import Draft
from holdfast.service.unrecorded import find_unrecorded
from holdfast.store import directory
from holdfast.store.contract import FileKind
from holdfast.testing.killed import KillingFiles

CONTENT = b"content of a backup " * 50


# --- a data folder that each run begins from ------------------------------------------------------


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """One of each: a target in a repository and in a plain pool, with a backup each; a host."""
    home = tmp_path_factory.mktemp("home") / "home"
    service = open_service(home / "data")
    service.pools.add(SHELL, "main", [str(home / "main")])
    service.pools.add(SHELL, "plain", [str(home / "plain")], kind=PoolKind.PLAIN)
    for name in ("main", "plain"):
        pool = service.pools.named(name)
        draft = Draft(name=name, pool_id=pool.id, alias=name, name_template=f"{name}-$I")
        put(service, service.targets.create(SHELL, draft), "first")
    service.hosts.add(SHELL, "web1")
    with service.ground.catalog.read() as tx:
        [host], pool = tx.hosts.all(), tx.pools.find(name="main")
    hosted = service.storing.open(SERVER, "main", "web1", create=True)
    hosted.create()
    put_object(hosted, b"first")
    assert (host.name, pool.name) == ("web1", "main")
    service.close()
    shutil.copytree(home, home.with_name("pristine"))
    return home


@pytest.fixture
def home(pristine):
    """The data folder as it was made, where it was made."""
    shutil.rmtree(pristine)
    shutil.copytree(pristine.with_name("pristine"), pristine)
    return pristine


@contextmanager
def opened(home):
    service = open_service(home / "data")
    try:
        yield service
    finally:
        service.close()


def put(service, target, name, content=CONTENT):
    arriving = service.backups.receive(SHELL, target, name)
    arriving.write(content)
    return arriving.finish().result(30)


def put_object(hosted, content):
    hosted.put(FileKind.SNAPSHOT, hashlib.sha256(content).hexdigest(), content)


def target(service, alias):
    return service.targets.get(SHELL, alias)


def first(service, alias):
    return service.backups.find(SHELL, target(service, alias), "first")


# --- what is done to it ---------------------------------------------------------------------------


def upload(alias, service):
    put(service, target(service, alias), "second")
    return lambda later: service_has(later, alias, "second")


def delete(alias, service):
    service.backups.delete(SHELL, first(service, alias))
    return lambda later: first(later, alias) is None


def recycle(alias, service):
    service.backups.recycle(SHELL, first(service, alias))
    return lambda later: first(later, alias).state is BackupState.RECYCLED


def forget(alias, service):
    service.backups.delete(SHELL, first(service, alias), files=False)
    return lambda later: first(later, alias) is None


def move(alias, service):
    other = service.pools.named("plain" if alias == "main" else "main")
    service.backups.transfer(
        first(service, alias), target(service, alias), other, keep_first=False, watch=lambda _: None
    )
    return lambda later: first(later, alias).pool_id == other.id


def hosted_put(_alias, service):
    put_object(service.storing.open(SERVER, "main", "web1"), b"second")
    return lambda later: len(of_host(later)) == 2


def hosted_remove(_alias, service):
    hosted = service.storing.open(SERVER, "main", "web1")
    hosted.remove(FileKind.SNAPSHOT, hashlib.sha256(b"first").hexdigest())
    return lambda later: not of_host(later)


def service_has(service, alias, name):
    return service.backups.find(SHELL, target(service, alias), name) is not None


def of_host(service):
    [found] = service.targets.list(SHELL, face=Face.RESTIC)
    return service.backups.list(SHELL, found)


ACTS = [
    *(
        (act, alias)
        for act in (upload, delete, recycle, forget, move)
        for alias in ("main", "plain")
    ),
    (hosted_put, ""),
    (hosted_remove, ""),
]


# --- killing --------------------------------------------------------------------------------------


class KillingDisk(Disk):
    """Counts with the steps of a store."""

    files: KillingFiles

    def __getattribute__(self, name):
        if name in vars(Disk):
            KillingDisk.files._step()
        return super().__getattribute__(name)


def killed_at(home, act, at):
    """In a process of its own, killed before that step; (whether it was, whether it had answered).

    A step changes a file of a pool, or makes a transaction durable.
    """
    with TemporaryDirectory() as folder:
        answered = Path(folder) / "answered"
        child = os.fork()
        if child == 0:
            try:
                files = KillingFiles(Path(folder) / "count", at=at)
                directory.SystemFiles = lambda: files
                KillingDisk.files = files
                in_folder.Disk = KillingDisk
                service = open_service(home / "data")
                event.listen(service.ground.catalog.engine, "commit", lambda _: files._step())
                act(service)
                answered.touch()
            finally:
                os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, -9)
        assert answered.exists() == (status == 0)
        return status == -9


def steps(long):
    return count(1) if long else (2, 7, 16, 33, 10_000)


@pytest.mark.parametrize("long", [False, pytest.param(True, marks=pytest.mark.long)])
@pytest.mark.parametrize(("act", "alias"), ACTS, ids=lambda each: getattr(each, "__name__", each))
def test_killed_between_pool_and_catalog(home, act, alias, long):
    """I5, I1: nothing is there twice, nothing without a row, no row without content; what was
    there before is, or is as the act would have it.
    """
    for at in steps(long):
        shutil.rmtree(home)
        shutil.copytree(home.with_name("pristine"), home)
        killed = killed_at(home, partial(act, alias), at)
        with opened(home) as service:
            service.backups.reconcile()
            find_unrecorded(service.ground, service.pools, service.backups, wait=0)
            entered = find_unrecorded(service.ground, service.pools, service.backups, wait=0)
            assert entered == 0, f"step {at}: one look was not enough"
            check(service, f"step {at}")
        if not killed:
            return
    raise AssertionError("it was killed each time")


def check(service, where):
    """Rows and storage say the same, and everything can be read."""
    with service.ground.catalog.read() as tx:
        rows = tx.backups.all()
        pools, records = tx.pools.all(), tx.repositories.all()
    assert all(row.state in (*VISIBLE, BackupState.FORGOTTEN) for row in rows), where
    assert not [row for row in rows if MOVED_FROM in row.facts], where
    visible = [row for row in rows if row.state in VISIBLE]
    said = sorted((row.uid, row.pool_id, row.snapshot, row.path) for row in visible if row.sha256)
    found = []
    for pool in pools:
        if pool.kind is PoolKind.PLAIN:
            there = list(service.pools.keeper(pool).found())
            found += [(each.order.uid, pool.id, "", each.kept.path) for each in there]
            in_bin = {each.order.uid for each in there if each.recycled}
            assert in_bin == {
                row.uid for row in visible
                if row.pool_id == pool.id and row.state is BackupState.RECYCLED
            }, where  # fmt: skip
    for record in records:
        if record.repository_uid:
            there = service.pools.keeper(record).found()
            found += [(each.order.uid, record.pool_id, each.kept.snapshot, "") for each in there]
        elif record.host_id:
            store = service.pools.store(record)
            kept = {each.name for each in store.list(FileKind.SNAPSHOT)}
            assert kept == {row.snapshot for row in rows if row.repository_id == record.id}, where
            store.close()
    assert sorted(found) == said, where
    for row in visible:
        if row.sha256:
            content = b"".join(service.backups.open(SHELL, row).pieces())
            assert content == CONTENT, where


# --- each kind of left-over -----------------------------------------------------------------------


def test_what_is_on_its_way_is_left_alone(home, monkeypatch):
    """Whoever brought it has some seconds to write its row; then it has one, not two."""
    with opened(home) as service:
        record = service.backups.record
        waited = []

        def later(group):
            def look(_seconds):
                waited.append(True)
                assert record(group) == {}

            monkeypatch.setattr("holdfast.service.unrecorded.time.sleep", look)
            assert find_unrecorded(service.ground, service.pools, service.backups) == 0
            return {}

        service.pools.record = later
        put(service, target(service, "main"), "second")
        assert waited == [True]
        assert service_has(service, "main", "second")


def test_unreachable_pools_are_passed_over(home):
    """The others are looked through all the same."""
    with opened(home) as service:
        with service.ground.catalog.write() as tx:
            tx.backups.remove(uid=first(service, "plain").uid)
            tx.backups.change(first(service, "main").id, state=BackupState.GONE)
        (home / "main").rename(home / "unmounted")
        service.backups.reconcile()
        assert find_unrecorded(service.ground, service.pools, service.backups, wait=0) == 1
        assert first(service, "plain") is not None


def test_a_lost_target_comes_back_with_its_backup(home):
    """As far as the backup tells of it; an alias that is taken meanwhile stays with who has it."""
    with opened(home) as service:
        lost = target(service, "main")
        with service.ground.catalog.write() as tx:
            tx.backups.remove(target_id=lost.id)
            tx.targets.remove(id=lost.id)
        other = service.targets.create(
            SHELL, Draft(name="other", pool_id=lost.pool_id, alias="main", shape=Shape.MULTI)
        )
        assert find_unrecorded(service.ground, service.pools, service.backups, wait=0) == 1
        back = service.targets.get(SHELL, lost.uid)
        assert (back.name, back.name_template, back.alias) == ("main", "main-$I", None)
        assert service.targets.get(SHELL, "main").id == other.id
        assert service.backups.find(SHELL, back, "first").size == len(CONTENT)


def test_a_second_copy_that_nobody_here_made_stays(home):
    """Of a backup that did not move, nothing is deleted."""
    with opened(home) as service:
        row = first(service, "plain")
        with service.ground.catalog.write() as tx:
            elsewhere = tx.pools.find(name="main")
            tx.backups.change(row.id, pool_id=elsewhere.id)
        find_unrecorded(service.ground, service.pools, service.backups, wait=0)
        plain = service.pools.named("plain")
        assert [each.order.uid for each in service.pools.keeper(plain).found()] == [row.uid]


def test_a_backup_that_is_deleted_while_it_moves_is_gone(home):
    """No row comes back, and no file stays."""
    with opened(home) as service:
        row, plain = first(service, "main"), service.pools.named("plain")

        def watch(_count):
            if service.backups.find(SHELL, target(service, "main"), "first"):
                service.backups.delete(SHELL, row)

        with pytest.raises(StateError, match="deleted meanwhile"):
            service.backups.transfer(
                row, target(service, "main"), plain, keep_first=False, watch=watch
            )
        find_unrecorded(service.ground, service.pools, service.backups, wait=0)
        check(service, "")
        assert first(service, "main") is None
