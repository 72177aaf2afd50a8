"""Backups of the server itself and of the application beside it, and bringing them back."""

from __future__ import annotations

import io
import json
import sqlite3
import zipfile
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from holdfast.core.access import SHELL
from holdfast.core.errors import (
    DamagedError,
    HeldError,
    InvalidError,
    RecordExistsError,
    RecordNotFoundError,
    RestoreError,
    SourceMissingError,
    UnknownVersionError,
)
from holdfast.core.records import Plan, Role
from holdfast.core.secret import Secret
from holdfast.service import app_archive
from holdfast.service.application import AUTOMATIC, ApplicationBusyError
from holdfast.service.generation import current
from holdfast.service.targets import Draft
from holdfast.service.work import own


@dataclass
class FakeRun:
    """What a body needs of a task, without one."""

    key: str = ""
    stopping: bool = False
    lines: list[str] = field(default_factory=list)

    @property
    def task(self):
        return SimpleNamespace(id=7, spec={"key": self.key}, plan_id=None)

    def progress(self, **_values):
        pass

    def log(self, _level, text):
        self.lines.append(text)

    def fence(self, _tx):
        pass

    def commit(self, _tx, _ended=None):
        pass


@pytest.fixture
def app(service, tmp_path):
    """A folder of an application, with a live database."""
    folder = tmp_path / "app"
    (folder / "storage").mkdir(parents=True)
    (folder / "storage" / "file").write_bytes(b"stored")
    (folder / "backups").mkdir()
    (folder / "backups" / "theirs.zip").write_bytes(b"not ours")
    database = sqlite3.connect(folder / "data.db")
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("CREATE TABLE t (x)")
    database.execute("INSERT INTO t VALUES ('first')")
    database.commit()
    service.ground.configuration.application.include = [str(folder)]
    yield folder
    database.close()


def unzipped(service, key):
    _, content = service.application.open(SHELL, key)
    raw = b"".join(content.pieces())
    assert content.size == len(raw)
    return zipfile.ZipFile(io.BytesIO(raw))


def restore(service, key):
    service.application.restore(SHELL, key)
    return own.self_restore(service, FakeRun(key))


def test_a_backup_holds_state_and_application(service, app):
    """A live database goes in as one that can be opened; what belongs beside it is left out."""
    made = service.application.create(SHELL, "one.zip")
    with unzipped(service, "one.zip") as archive:
        assert archive.testzip() is None
        names = set(archive.namelist())
        assert names == {"holdfast/state.json", "storage/file", "data.db"}
        copy = app.parent / "copy.db"
        copy.write_bytes(archive.read("data.db"))
    with sqlite3.connect(copy) as database:
        assert database.execute("SELECT x FROM t").fetchall() == [("first",)]
    assert made.name == "one.zip"


def test_a_name_is_used_once_and_is_free_after_deletion(service, app):
    service.application.create(SHELL, "one.zip")
    with pytest.raises(RecordExistsError):
        service.application.create(SHELL, "one.zip")
    service.application.delete(SHELL, "one.zip")
    with pytest.raises(RecordNotFoundError):
        service.application.delete(SHELL, "one.zip")
    service.application.create(SHELL, "one.zip")


def test_automatic_names_do_not_collide_within_a_second(service, app):
    service.ground.configuration.application.name = "AcmeTest 2"
    first, second = (service.application.create(SHELL) for _ in range(2))
    assert first.name.startswith("pb_backup_acme_test_2_")
    assert first.name != second.name


def test_one_at_a_time(service, app):
    """And busy shows, whichever process is."""
    assert not service.application.is_busy
    with service.application.busy():
        assert service.application.is_busy
        with pytest.raises(ApplicationBusyError):
            service.application.create(SHELL, "x.zip")
        with pytest.raises(ApplicationBusyError):
            service.application.restore(SHELL, "x.zip")
    assert not service.application.is_busy


def test_a_folder_that_is_gone_is_no_empty_backup(service, tmp_path):
    service.ground.configuration.application.include = [str(tmp_path / "nothing")]
    with pytest.raises(SourceMissingError):
        service.application.create(SHELL, "x.zip")
    assert service.application.list(SHELL) == []
    assert not service.application.is_busy


def test_restoring_brings_files_and_state_back(service, app):
    """Users, plans and targets as they were; the application's folder as it was, and what it keeps
    beside its data stays.
    """
    anna = service.users.add(
        SHELL, name="anna", role=Role.SUPERUSER, email="a@b.c", password=Secret("pass word 1")
    )
    plan = service.plans.add(SHELL, Plan(uid="", name="p", kind="expire", every=60))
    target = service.targets.create(SHELL, Draft(name="t", name_template="t-$I"))
    service.application.create(SHELL, "one.zip")

    service.users.change(SHELL, anna.id, email="other@b.c")
    service.plans.change(SHELL, plan, every=999)
    service.targets.change(SHELL, target, Draft(name="renamed", name_template="t-$I"))
    (app / "storage" / "file").write_bytes(b"changed")
    (app / "storage" / "new").write_bytes(b"new")
    before = current(service.ground.catalog)

    restore(service, "one.zip")
    assert service.users.get(SHELL, anna.id).email == "a@b.c"
    assert service.plans.get(SHELL, "p").every == 60
    assert service.targets.get(SHELL, target.id).name == "t"
    assert (app / "storage" / "file").read_bytes() == b"stored"
    assert not (app / "storage" / "new").exists()
    assert (app / "backups" / "theirs.zip").read_bytes() == b"not ours"
    assert current(service.ground.catalog) == before + 1
    assert [p.name for p in app.parent.glob(".app.*")] == []


def test_links_and_empty_folders_come_back(service, app):
    """One that leads out of the folder, too, where it is there."""
    (app / "empty" / "below").mkdir(parents=True)
    (app / "storage" / "up").symlink_to("../data.db")
    (app / "folder").symlink_to("storage")
    (app / "out").symlink_to("/etc/hostname")
    (app / "gone").symlink_to("/etc/hosts")
    service.application.create(SHELL, "one.zip")
    (app / "storage" / "up").unlink()
    (app / "folder").unlink()
    (app / "gone").unlink()
    (app / "empty" / "below").rmdir()
    restore(service, "one.zip")
    assert (app / "empty" / "below").is_dir()
    assert (app / "storage" / "up").readlink().as_posix() == "../data.db"
    assert (app / "folder").readlink().as_posix() == "storage"
    assert (app / "out").readlink().as_posix() == "/etc/hostname"
    assert not (app / "gone").is_symlink()


@pytest.mark.parametrize(
    ("name", "to", "inside"),
    [
        ("a", "b", True), ("a", "./b/c", True), ("x/a", "../b", True), ("a", ".", True),
        ("a", "..", False), ("a", "../b", False), ("x/a", "../../b", False), ("a", "/etc", False),
        ("a", "b/../c", False), ("a", "", False),
    ],
)  # fmt: skip
def test_where_a_link_leads(name, to, inside):
    """I10"""
    assert app_archive._stays_inside(name, to) is inside


def link(name, to):
    member = zipfile.ZipInfo(name)
    member.external_attr = 0o120777 << 16
    return member, to


@pytest.mark.parametrize(
    "entries",
    [
        [link("a", "storage"), ("a/file", b"x")],
        [("a/file", b"x"), link("a", "storage")],
        [("a", b"x"), ("a/file", b"y")],
        [link("a", "storage"), link("a", "data.db")],
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_nothing_is_written_through_a_link(service, app, entries):
    """I10 And nothing is left of what was unpacked."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for name, content in [("data.db", b"theirs"), *entries]:
            archive.writestr(name, content)
    upload(service, "pb.zip", raw.getvalue())
    with pytest.raises(InvalidError):
        own.self_restore(service, FakeRun("pb.zip"))
    assert (app / "storage" / "file").read_bytes() == b"stored"
    assert [p.name for p in app.parent.glob(".app.*")] == []


def test_restoring_takes_nothing_back_that_happened_since(service, app, put, pool):
    """Later backups, the audit, a changed password, and users that were made since stay."""
    anna = service.users.add(
        SHELL, name="anna", role=Role.SUPERUSER, email="a@b.c", password=Secret("pass word 1")
    )
    service.application.create(SHELL, "one.zip")
    target = service.targets.create(SHELL, Draft(name="t", name_template="t-$I", pool_id=pool.id))
    backup = put(target)
    service.users.change(SHELL, anna.id, password=Secret("pass word 2"))
    service.users.add(SHELL, name="bert", role=Role.USER, password=Secret("pass word 3"))
    with service.ground.catalog.read() as tx:
        audited = tx.audit.count()
        key = tx.users.get(anna.id).token_key

    restore(service, "one.zip")
    assert service.backups.get(SHELL, backup.uid) == backup
    assert {each.name for each in service.users.list(SHELL)} == {"anna", "bert"}
    service.signing_in.password("anna", Secret("pass word 2"), "127.0.0.1")
    with service.ground.catalog.read() as tx:
        assert tx.audit.count() >= audited
        assert tx.users.get(anna.id).token_key == key


def test_somebody_who_was_removed_comes_back_with_new_keys(service, app):
    """No token of theirs from before is good again."""
    bert = service.users.add(SHELL, name="bert", role=Role.USER, password=Secret("pass word 3"))
    with service.ground.catalog.read() as tx:
        key = tx.users.get(bert.id).token_key
    service.application.create(SHELL, "one.zip")
    service.users.remove(SHELL, bert.id)
    restore(service, "one.zip")
    with service.ground.catalog.read() as tx:
        found = tx.users.find(name="bert")
    assert found is not None
    assert found.token_key != key


def test_a_restart_that_fails_undoes_the_restore(service, app):
    """Files and state are as they were before it."""
    service.application.create(SHELL, "one.zip")
    plan = service.plans.add(SHELL, Plan(uid="", name="p", kind="expire", every=60))
    (app / "storage" / "file").write_bytes(b"now")
    service.ground.configuration.application.restart = ["/bin/false"]
    before = current(service.ground.catalog)
    with pytest.raises(RestoreError):
        restore(service, "one.zip")
    assert not service.application.starts_anew
    assert (app / "storage" / "file").read_bytes() == b"now"
    assert service.plans.get(SHELL, "p") == plan
    assert current(service.ground.catalog) == before
    assert [p.name for p in app.parent.glob(".app.*")] == []


def test_a_restore_that_died_in_the_middle_goes_on(service, app):
    """Killed after the folders were swapped: the next start begins from what was there first."""
    service.application.create(SHELL, "one.zip")
    (app / "storage" / "file").write_bytes(b"now")
    _, content = service.application.open(SHELL, "one.zip")
    _, swaps = app_archive.extract(service.ground, content, "restore-7", lambda _: None)
    app_archive.swap_in(swaps)
    assert (app / "storage" / "file").read_bytes() == b"stored"
    restore(service, "one.zip")
    assert (app / "storage" / "file").read_bytes() == b"stored"
    assert [p.name for p in app.parent.glob(".app.*")] == []


def upload(service, name, raw):
    arriving = service.application.receive(SHELL, name)
    arriving.write(raw)
    return arriving.finish().result(30)


def archive_of(files, **values):
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", **values) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return raw.getvalue()


def test_an_archive_of_the_application_itself_is_restored_into_its_folder(service, app):
    """As PocketBase makes them: `data.db` at the top, and no state of ours."""
    raw = archive_of({"data.db": b"theirs", "storage/file": b"theirs too"})
    upload(service, "pb.zip", raw)
    restore(service, "pb.zip")
    assert service.application.starts_anew, "this process has not taken it up yet"
    assert (app / "data.db").read_bytes() == b"theirs"
    assert (app / "storage" / "file").read_bytes() == b"theirs too"


STATE = json.dumps({"version": 1})


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"PK\x03\x04 no zip at all", DamagedError),
        (archive_of({"some": b"thing"}), InvalidError),
        (archive_of({"data.db": b"", "../escape": b"x"}), InvalidError),
        (archive_of({"data.db": b"", "/etc/passwd": b"x"}), InvalidError),
        (archive_of({"data.db": b"", "a\\..\\b": b"x"}), InvalidError),
        (archive_of({"holdfast/state.json": b"{"}), DamagedError),
        (archive_of({"holdfast/state.json": STATE.encode()}), DamagedError),
        (archive_of({"holdfast/state.json": b'{"version": 99}'}), UnknownVersionError),
        (
            archive_of({"data.db": b"\0" * 10_000_000}, compression=zipfile.ZIP_DEFLATED),
            InvalidError,
        ),
    ],
)
def test_what_cannot_be_restored_is_told_at_once_and_changes_nothing(service, app, raw, error):
    """F31: judged by its list, before anything of it is written."""
    upload(service, "bad.zip", raw)
    with pytest.raises(error):
        service.application.restore(SHELL, "bad.zip")
    assert not service.application.is_busy
    assert (app / "storage" / "file").read_bytes() == b"stored"


def test_damage_within_shows_before_anything_is_swapped(service, app):
    """The list is whole, a member is not."""
    raw = bytearray(archive_of({"data.db": b"A" * 1000, "storage/file": b"B" * 1000}))
    raw[raw.index(b"B" * 1000) + 5] ^= 1
    upload(service, "bad.zip", bytes(raw))
    with pytest.raises(DamagedError):
        restore(service, "bad.zip")
    assert (app / "storage" / "file").read_bytes() == b"stored"
    assert [p.name for p in app.parent.glob(".app.*")] == []


def test_the_schedule_keeps_only_its_own_newest(service, app):
    """Others are never removed; an uploaded one with the prefix counts."""
    service.application.create(SHELL, "mine.zip")
    service.app_schedule.change(SHELL, {"cron": "0 0 * * *", "cronMaxKeep": 2})
    for _ in range(3):
        service.ground.clock.advance(10)
        own.self_backup(service, FakeRun())
    names = [each.name for each in service.application.list(SHELL)]
    assert len([name for name in names if name.startswith(AUTOMATIC)]) == 2
    assert "mine.zip" in names


@pytest.mark.parametrize(
    ("patch", "field", "code"),
    [
        ({"cron": "x y"}, "backups.cron", "validation_invalid_cron"),
        ({"cron": 5}, "backups.cron", "validation_invalid_cron"),
        ({"cron": "@daily", "cronMaxKeep": 0}, "backups.cronMaxKeep", "validation_required"),
        (
            {"cronMaxKeep": -1},
            "backups.cronMaxKeep",
            "validation_min_greater_equal_than_required",
        ),
        ({"s3": {"enabled": True}}, "backups.s3.bucket", "validation_required"),
    ],
)
def test_settings_that_cannot_be(service, patch, field, code):
    before = service.app_schedule.get(SHELL)
    with pytest.raises(InvalidError) as caught:
        service.app_schedule.change(SHELL, patch)
    assert caught.value.fields[field][0] == code
    assert service.app_schedule.get(SHELL) == before


def test_a_backup_in_use_is_not_deleted(service, app):
    service.application.create(SHELL, "one.zip")
    service.application.restore(SHELL, "one.zip")
    with pytest.raises(HeldError):
        service.application.delete(SHELL, "one.zip")
