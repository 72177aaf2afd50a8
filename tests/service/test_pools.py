"""Pools: where backups are kept, and what is made, opened, noticed and refused there."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from holdfast.core.access import ANONYMOUS, SERVER, SHELL, Principal
from holdfast.core.errors import (
    DeniedError,
    EgressDeniedError,
    HoldfastError,
    InvalidError,
    NoRepositoryError,
    NotSignedInError,
    RecordExistsError,
    RecordNotFoundError,
    StateError,
    StoreDeniedError,
    WrongPasswordError,
)
from holdfast.core.records import (
    Backup,
    BackupState,
    Custody,
    Face,
    Host,
    PoolKind,
    Shape,
    Target,
)
from holdfast.core.secret import Secret
from holdfast.repo import keys
from holdfast.repo.repository import Repository
from holdfast.service.audit import first_broken
from holdfast.service.backups import Backups
from holdfast.service.ground import new_uid
from holdfast.service.opening import open_ground
from holdfast.service.pools import Pools
from holdfast.store.contract import FileKind
from holdfast.store.directory import DirectoryStore


class Shop:
    """Pools on a data folder, with what other nouns would do."""

    def __init__(self, folder):
        self.folder = folder
        self.open()

    def open(self):
        self.ground = open_ground(self.folder)
        self.pools = Pools(self.ground)
        self.backups = Backups(self.ground, self.pools)

    def close(self):
        self.pools.close()
        self.ground.catalog.close()

    def lose_catalog(self):
        """All of the data folder but the master key."""
        for left in self.folder.iterdir():
            if left.name != "master.key":
                shutil.rmtree(left) if left.is_dir() else left.unlink()

    def reopen(self):
        self.close()
        self.open()

    def target(self, pool, **more):
        with self.ground.catalog.write() as tx:
            return tx.targets.add(
                Target(
                    uid=new_uid(),
                    name="nightly",
                    pool_id=pool.id,
                    **{"face": Face.HOLDFAST, "shape": Shape.SINGLE} | more,
                )
            )

    def put(self, target, content=b"content", name="dump.sql"):
        arriving = self.backups.receive(SERVER, target, name)
        arriving.write(content)
        return arriving.finish().result(20)

    def read(self, backup):
        return b"".join(bytes(each) for each in self.backups.open(SERVER, backup).pieces())


@pytest.fixture(autouse=True)
def _passwords_open_fast(monkeypatch):
    monkeypatch.setattr(keys, "SCRYPT_N", 16)


@pytest.fixture
def shop(tmp_path):
    made = Shop(tmp_path / "data")
    yield made
    made.close()


@pytest.fixture
def pool(shop, tmp_path):
    return shop.pools.add(SHELL, "main", [str(tmp_path / "disk")])


# --- adding, listing, removing --------------------------------------------------------------------


def test_a_pool_may_exist_before_its_storage_does(shop, pool, tmp_path):
    state = shop.pools.get(SHELL, "main")
    assert not state.reachable
    assert "no such folder" in state.locations[0].problem
    backup = shop.put(shop.target(pool))
    assert shop.read(backup) == b"content"
    state = shop.pools.get(SHELL, "main")
    assert state.reachable
    assert state.free > 0
    assert (state.repositories, state.backups) == (1, 1)
    assert [each.pool.name for each in shop.pools.list(SHELL)] == ["main"]


@pytest.mark.parametrize("name", ["", "a/b", "..", "-x", "x" * 65, "a b", "a\nb"])
def test_names_that_no_path_can_have_are_refused(shop, tmp_path, name):
    with pytest.raises(InvalidError):
        shop.pools.add(SHELL, name, [str(tmp_path)])


@pytest.mark.parametrize("places", [[], ["relative"], ["/a", "/a/"], ["/a", "s3"], ["http://x/"]])
def test_places_that_make_no_sense_are_refused(shop, places):
    with pytest.raises(InvalidError):
        shop.pools.add(SHELL, "new", places)


def test_a_name_and_a_place_belong_to_one_pool(shop, pool, tmp_path):
    with pytest.raises(RecordExistsError):
        shop.pools.add(SHELL, "main", [str(tmp_path / "elsewhere")])
    for taken in ("disk", "disk/", "disk/below", ""):
        with pytest.raises(RecordExistsError):
            shop.pools.add(SHELL, "second", [str(tmp_path / taken)])


@pytest.mark.parametrize(
    "places", [["/a", "/b"], ["s3:https://s3.example.org/bucket"], ["rest:https://example.org/"]]
)
def test_a_plain_pool_is_one_directory(shop, places):
    with pytest.raises(InvalidError):
        shop.pools.add(SHELL, "plain", places, kind=PoolKind.PLAIN)


@pytest.mark.parametrize(
    "options", [{"colour": 1}, {"quota": "much"}, {"append_only": "yes"}, {"uid": "x"}]
)
def test_unknown_options_are_refused(shop, tmp_path, options):
    with pytest.raises(InvalidError):
        shop.pools.add(SHELL, "new", [str(tmp_path)], options=options)


@pytest.mark.parametrize(
    "address",
    [
        "s3:http://127.0.0.1:9000/bucket",
        "s3:https://169.254.169.254/b",
        "rest:http://10.0.0.1:8000/",
    ],
)
def test_the_server_goes_to_no_private_address_for_a_pool(shop, address):
    def use():
        shop.pools.repository_for(shop.pools.add(SHELL, "far", [address]))

    with pytest.raises((EgressDeniedError, StoreDeniedError), match="may not go"):
        use()


def test_credentials_are_kept_sealed(shop):
    pool = shop.pools.add(
        SHELL, "far", ["rest:https://anna:hush%21@192.0.2.7:8000/path/"], credentials={}
    )
    assert pool.locations == ["rest:https://192.0.2.7:8000/path"]
    with shop.ground.catalog.read() as tx:
        text = repr(tx.pools.all()) + repr(tx.audit.all())
    assert "hush" not in text
    assert "anna" not in text


def test_a_pool_with_something_in_it_is_not_removed(shop, pool):
    target = shop.target(pool)
    backup = shop.put(target)
    with pytest.raises(StateError, match="1 backups"):
        shop.pools.remove(SHELL, "main")
    shop.backups.delete(SHELL, backup)
    with pytest.raises(StateError, match="1 targets"):
        shop.pools.remove(SHELL, "main")
    with shop.ground.catalog.write() as tx:
        tx.targets.remove(id=target.id)
    shop.pools.remove(SHELL, "main")
    with pytest.raises(RecordNotFoundError):
        shop.pools.get(SHELL, "main")


def test_what_was_removed_can_be_added_again_with_all_that_is_in_it(shop, pool, tmp_path):
    record = shop.pools.repository_for(pool)
    shop.pools.remove(SHELL, "main")
    again = shop.pools.add(SHELL, "again", [str(tmp_path / "disk")])
    assert shop.pools.repository_for(again).repository_uid == record.repository_uid


def test_who_may_not_changes_nothing_and_that_is_written_down(shop, pool, tmp_path):
    nobody = Principal("user:eve")
    for act in (
        lambda who: shop.pools.add(who, "x", [str(tmp_path / "x")]),
        shop.pools.list,
        lambda who: shop.pools.get(who, "main"),
        lambda who: shop.pools.remove(who, "main"),
        lambda who: shop.pools.check(who, "main"),
    ):
        with pytest.raises(DeniedError):
            act(nobody)
        with pytest.raises(NotSignedInError):
            act(ANONYMOUS)
    with shop.ground.catalog.read() as tx:
        assert [each.outcome for each in tx.audit.all()] == ["allowed"] + ["denied"] * 5
        assert first_broken(tx) is None


def test_the_default_is_the_first_repository_pool(shop, tmp_path):
    with pytest.raises(StateError):
        shop.pools.default()
    shop.pools.add(SHELL, "plain", [str(tmp_path / "p")], kind=PoolKind.PLAIN)
    one = shop.pools.add(SHELL, "one", [str(tmp_path / "1")])
    shop.pools.add(SHELL, "another", [str(tmp_path / "2")])
    assert shop.pools.default() == one


# --- repositories ---------------------------------------------------------------------------------


def test_a_repository_is_made_once_however_many_ask(shop, pool):
    with ThreadPoolExecutor(8) as many:
        records = list(many.map(lambda _: shop.pools.repository_for(pool), range(8)))
    assert len({record.repository_uid for record in records}) == 1
    assert shop.pools.repository(records[0]) is shop.pools.repository(records[1])


def test_each_host_has_a_repository_of_its_own(shop, pool, tmp_path):
    with shop.ground.catalog.write() as tx:
        hosts = [tx.hosts.add(Host(name=name)) for name in ("web1", "web2")]
    records = [shop.pools.repository_for(pool, host) for host in hosts]
    own = shop.pools.repository_for(pool)
    assert len({record.repository_uid for record in (*records, own)}) == 3
    assert records[0].location == str(tmp_path / "disk" / "hosts" / "web1+server")


def test_new_repositories_go_where_most_is_free(shop, tmp_path, monkeypatch):
    from holdfast.service.pooling import vaults

    places = [str(tmp_path / name) for name in ("small", "large", "gone")]
    for place in places[:2]:
        os.mkdir(place)
    pool = shop.pools.add(SHELL, "wide", places)
    measured = vaults.state_of

    def state_of(ground, pool, address):
        state = measured(ground, pool, address)
        return replace(state, free=10 if address == places[0] else 20) if state.reachable else state

    monkeypatch.setattr(vaults, "state_of", state_of)
    assert shop.pools.repository_for(pool).location == places[1] + "/server"


def test_what_the_kit_says_opens_a_repository(shop, pool):
    backup = shop.put(shop.target(pool), b"x" * 1000)
    (entry,) = shop.pools.kit()
    assert (entry.pool, entry.host) == ("main", "")
    opened = Repository.open(DirectoryStore(entry.address), entry.password)
    assert opened.config.id == entry.repository_uid
    assert [each.id for each in opened.snapshots()] == [backup.snapshot]


def test_a_lost_catalog_is_no_lost_repository(shop, pool, tmp_path):
    """I7."""
    content = os.urandom(5000)
    backup = shop.put(shop.target(pool), content)
    shop.close()
    shop.lose_catalog()
    shop.open()
    pool = shop.pools.add(SHELL, "main", [str(tmp_path / "disk")])
    (found,) = shop.pools.keeper(pool).found()
    assert found.order.uid == backup.uid
    assert found.kept.sha256 == backup.sha256


def test_another_master_key_takes_over_nothing(shop, pool, tmp_path):
    shop.pools.repository_for(pool)
    shop.close()
    other = Shop(tmp_path / "other")
    theirs = other.pools.add(SHELL, "main", [str(tmp_path / "disk")])
    with pytest.raises(StateError, match="another master key"):
        other.pools.repository_for(theirs)
    with pytest.raises(WrongPasswordError):
        other.pools.adopt(theirs, str(tmp_path / "disk" / "server"))
    other.close()
    shop.open()


def test_making_a_repository_goes_on_after_a_crash_between_any_two_steps(tmp_path, monkeypatch):
    """I5. Steps: row, key, config, second key, row again."""
    from holdfast.service.pooling import vaults

    class Crash(BaseException):
        pass

    def crash(*_, **__):
        raise Crash

    for number, (where, name) in enumerate(
        [(vaults.Repository, "init"), (vaults, "add_key"), (vaults.Vaults, "_write_down")]
    ):
        shop = Shop(tmp_path / f"data{number}")
        pool = shop.pools.add(SHELL, "main", [str(tmp_path / f"disk{number}")])
        with monkeypatch.context() as patched:
            patched.setattr(where, name, crash)
            with pytest.raises(Crash):
                shop.pools.repository_for(pool)
        shop.reopen()
        record = shop.pools.repository_for(pool)
        backup = shop.put(shop.target(pool))
        assert shop.read(backup) == b"content"
        (entry,) = shop.pools.kit()
        assert entry.repository_uid == record.repository_uid
        Repository.open(DirectoryStore(entry.address), entry.password)
        shop.close()


def test_a_disk_that_is_not_there_is_not_made_anew(shop, pool, tmp_path):
    backup = shop.put(shop.target(pool))
    shop.close()
    (tmp_path / "disk").rename(tmp_path / "away")
    shop.open()
    with pytest.raises(NoRepositoryError, match="not there"):
        shop.read(backup)
    with pytest.raises(NoRepositoryError):
        shop.put(shop.target(pool))
    assert not (tmp_path / "disk").exists()
    (tmp_path / "away").rename(tmp_path / "disk")
    assert shop.read(backup) == b"content"


def test_a_client_held_repository_is_listed_and_deleted_from_but_not_read(shop, pool, tmp_path):
    with shop.ground.catalog.write() as tx:
        host = tx.hosts.add(Host(name="web1"))
    record = shop.pools.repository_for(pool, host, custody=Custody.CLIENT)
    assert record.sealed_key == ""
    store = shop.pools.store(record)
    made = Repository.init(store, Secret("theirs"))
    name = "ab" * 32
    store.put(FileKind.SNAPSHOT, name, b"sealed")
    keeper = shop.pools.keeper(record)
    backup = Backup(
        uid="u", target_id=1, pool_id=pool.id, repository_id=record.id, snapshot=name, name="n",
        created=1, received=1,
    )  # fmt: skip
    for act in (keeper.open, keeper.entries, lambda b: keeper.verify(b, print)):
        with pytest.raises(StateError, match="with its host"):
            act(backup)
    with pytest.raises(StateError):
        shop.pools.repository(record)
    assert shop.pools.check(SHELL, "main") == []
    assert "is damaged" in shop.pools.check(SHELL, "main", read_data=True)[0]
    keeper.delete(backup)
    keeper.delete(backup)
    assert list(made.snapshots()) == []
    assert shop.pools.kit() == []


# --- upkeep ---------------------------------------------------------------------------------------


def test_pruning_frees_what_was_deleted_and_nothing_else(shop, pool):
    target = shop.target(pool)
    kept, going = shop.put(target, os.urandom(3 << 20)), shop.put(target, os.urandom(3 << 20))
    shop.backups.delete(SHELL, going)
    record = shop.pools.repository_for(pool)
    before = shop.pools.measure(pool)
    freed = shop.pools.prune(record)
    assert freed > 2 << 20
    assert shop.pools.measure(pool) < before - (2 << 20)
    assert shop.pools.get(SHELL, "main").stored == shop.pools.measure(pool)
    assert len(shop.read(kept)) == 3 << 20
    again = shop.put(target, b"after the prune")
    assert shop.read(again) == b"after the prune"
    assert shop.pools.check(SHELL, "main", read_data=True) == []


def test_checking_names_what_is_damaged(shop, pool, tmp_path):
    shop.put(shop.target(pool), os.urandom(100_000))
    assert shop.pools.check(SHELL, "main", read_data=True) == []
    packs = sorted((tmp_path / "disk" / "server" / "data").glob("??/*"), key=os.path.getsize)
    raw = bytearray(packs[-1].read_bytes())
    raw[len(raw) // 2] ^= 1
    packs[-1].chmod(0o600)
    packs[-1].write_bytes(raw)
    (problem,) = shop.pools.check(SHELL, "main", read_data=True)
    assert "is damaged" in problem
    assert "/nightly/dump.sql" in problem


def test_copying_takes_snapshots_into_another_repository(shop, pool, tmp_path):
    backup = shop.put(shop.target(pool), b"x" * 5000)
    other = shop.pools.add(SHELL, "second", [str(tmp_path / "second")])
    source, target = shop.pools.repository_for(pool), shop.pools.repository_for(other)
    names = shop.pools.copy(source, target, [backup.snapshot])
    there = replace(backup, repository_id=target.id, snapshot=names[backup.snapshot])
    assert shop.read(there) == b"x" * 5000
    with pytest.raises(HoldfastError):
        shop.pools.copy(source, target, ["ab" * 32])


@pytest.mark.parametrize("what", ["snapshots", "data", "cut short", "config", "all", "rolled back"])
def test_the_tripwire_notices_what_nobody_here_did(shop, pool, tmp_path, what):
    disk, earlier = tmp_path / "disk", tmp_path / "earlier"
    target = shop.target(pool)
    shop.put(target, os.urandom(1000))
    record = shop.pools.repository_for(pool)
    shutil.copytree(disk, earlier)
    newer = shop.put(target, os.urandom(1000))
    assert shop.pools.tripwire(record) == []
    with shop.ground.catalog.read() as tx:
        seen = tx.repositories.get(record.id)
    assert (seen.snapshots, seen.newest) == (2, newer.snapshot)
    assert seen.checked
    if what in {"all", "rolled back"}:
        shutil.rmtree(disk)
        if what == "rolled back":
            earlier.rename(disk)
    elif what == "cut short":
        victim = next(each for each in (disk / "server" / "data").rglob("*") if each.is_file())
        victim.chmod(0o600)
        victim.write_bytes(victim.read_bytes()[:-1])
    elif what == "config":
        (disk / "server" / "config").unlink()
    else:
        victim = next(each for each in (disk / "server" / what).rglob("*") if each.is_file())
        victim.unlink()
    (alarm, *_) = shop.pools.tripwire(record)
    assert str(disk) in alarm.problem


def test_deleting_trips_no_wire(shop, pool):
    target = shop.target(pool)
    for backup in [shop.put(target, os.urandom(1000)) for _ in range(3)][:2]:
        shop.backups.delete(SHELL, backup)
    record = shop.pools.repository_for(pool)
    assert shop.pools.tripwire(record) == []
    shop.pools.prune(record)
    assert shop.pools.tripwire(record) == []


# --- plain pools ----------------------------------------------------------------------------------


def test_a_plain_pool_keeps_ordinary_files(shop, tmp_path):
    pool = shop.pools.add(SHELL, "plain", [str(tmp_path / "files")], kind=PoolKind.PLAIN)
    assert shop.pools.check(SHELL, "plain") == []
    assert shop.pools.measure(pool) == 0
    backup = shop.put(shop.target(pool))
    assert (tmp_path / "files" / "nightly" / "dump.sql").read_bytes() == b"content"
    assert shop.read(backup) == b"content"
    shop.reopen()
    assert shop.pools.measure(pool) == 7
    assert shop.pools.get(SHELL, "plain").stored == 7
    assert shop.pools.check(SHELL, "plain", read_data=True) == []
    (tmp_path / "files" / "nightly" / "dump.sql").write_bytes(b"changed")
    (problem,) = shop.pools.check(SHELL, "plain", read_data=True)
    assert "not what was kept" in problem


def test_a_plain_pool_whose_disk_is_gone_is_not_made_anew(shop, tmp_path):
    pool = shop.pools.add(SHELL, "plain", [str(tmp_path / "files")], kind=PoolKind.PLAIN)
    backup = shop.put(shop.target(pool))
    shop.close()
    (tmp_path / "files").rename(tmp_path / "away")
    (tmp_path / "files").mkdir()
    shop.open()
    with pytest.raises(NoRepositoryError, match="no pool in"):
        shop.read(backup)
    with pytest.raises(NoRepositoryError):
        shop.put(shop.target(pool))
    assert list((tmp_path / "files").iterdir()) == []


def test_a_location_below_a_root_has_one_plain_pool(shop, tmp_path):
    root = tmp_path / "backups"
    root.mkdir()
    shop.ground.configuration.backupchan.location_roots = [str(root)]
    pool = shop.pools.plain_pool_at(f"{root}/one/two")
    assert pool.kind is PoolKind.PLAIN
    for same in (f"{root}/one/two/", f"{root}/one/../one/two"):
        assert shop.pools.plain_pool_at(same) == pool
    assert shop.pools.plain_pool_at(str(root)).id != pool.id
    assert shop.pools.plain_pool_at("/elsewhere") is None
    shop.put(shop.target(pool, name_template="db-$M"), name="x.tar.gz")
    assert (root / "one/two/db-manual.gz").read_bytes() == b"content"


def test_several_who_ask_for_a_location_get_the_same_pool(shop, tmp_path):
    shop.ground.configuration.backupchan.location_roots = [str(tmp_path)]
    with ThreadPoolExecutor(8) as many:
        found = list(many.map(lambda _: shop.pools.plain_pool_at(f"{tmp_path}/x"), range(8)))
    assert len({each.id for each in found}) == 1


def test_no_location_leads_out_of_the_roots(shop, tmp_path):
    root, outside = tmp_path / "backups", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "door").symlink_to(outside)
    shop.ground.configuration.backupchan.location_roots = [str(root)]
    for place in (f"{root}/door", f"{root}/door/in"):
        with pytest.raises(InvalidError, match="leads out"):
            shop.pools.plain_pool_at(place)
    assert shop.pools.plain_pool_at(f"{root}/../outside") is None
    with pytest.raises(InvalidError):
        shop.pools.plain_pool_at("relative")
    pool = shop.pools.plain_pool_at(f"{root}/later")
    (root / "later").symlink_to(outside)
    with pytest.raises(HoldfastError):
        shop.put(shop.target(pool))
    assert list(outside.iterdir()) == []


def test_a_plain_pool_that_was_there_keeps_being_itself(shop, tmp_path):
    pool = shop.pools.add(SHELL, "plain", [str(tmp_path / "files")], kind=PoolKind.PLAIN)
    backup = shop.put(shop.target(pool))
    shop.close()
    shop.lose_catalog()
    shop.open()
    again = shop.pools.add(SHELL, "plain", [str(tmp_path / "files")], kind=PoolKind.PLAIN)
    (found,) = shop.pools.keeper(again).found()
    assert found.order.uid == backup.uid
    with shop.ground.catalog.read() as tx:
        assert tx.backups.count(state=BackupState.KEPT) == 0
