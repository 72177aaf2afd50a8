"""A repository as a keeper: what its snapshots say, how its store fails, what a crash leaves."""

from __future__ import annotations

import os
import signal
import time
from itertools import count

import pytest

from holdfast.core.errors import DamagedError, HoldfastError, UnreadableError
from holdfast.core.progress import Silence
from holdfast.repo.format.snapshot import Snapshot, SnapshotFile
from holdfast.repo.repository import Repository
from holdfast.repo.saving.intake import UNFINISHED
from holdfast.service.keeping.facts import found_in
from holdfast.service.keeping.in_repository import RepositoryKeeper
from holdfast.service.pooling.upkeep import free_space, problems_of
from holdfast.store.contract import FileKind
from holdfast.store.directory import DirectoryStore
from holdfast.store.memory import MemoryStore
from holdfast.testing.faulty_store import FaultyStore, Trouble, nth

MIB = 1 << 20
FILES = {b"a": b"first", b"d/b": os.urandom(400_000)}


@pytest.fixture
def keeper_on(empty_repository):
    def make(store, record):
        opened = Repository.unlocked(store, empty_repository[1])
        return RepositoryKeeper(opened, 5, record)

    return make


@pytest.fixture
def new_store(empty_repository):
    """A store in memory with an empty repository."""

    def make():
        source, store = DirectoryStore(empty_repository[0]), MemoryStore()
        store.create()
        for kind in (FileKind.CONFIG, FileKind.KEY):
            for each in source.list(kind):
                store.put(kind, each.name, source.get(kind, each.name))
        return store

    return make


def tell(place):
    """Everything that a keeper does; what was acknowledged."""
    kept, going = set(), set()
    acts = [
        lambda: place.put(b"small", name="small", uid="small"),
        lambda: place.put(os.urandom(MIB), name="large", uid="large"),
        lambda: place.put_tree(FILES, name="tree", uid="tree"),
        lambda: place.content_of(place.keeper.open(place.rows["large"])),
    ]
    for act in acts:
        try:
            done = act()
        except (HoldfastError, KeyError):
            continue
        if hasattr(done, "uid"):
            kept.add(done.uid)
    if "small" in place.rows:
        going.add("small")
        try:
            place.keeper.delete(place.rows["small"])
        except HoldfastError:
            pass
    return kept, going


@pytest.mark.parametrize(
    "trouble", [Trouble.BROKEN, Trouble.BUSY_AFTER, Trouble.FULL, Trouble.MISSING]
)
def test_where_any_call_of_the_store_fails_it_loses_nothing(
    new_place, new_store, keeper_on, trouble
):
    """I1."""
    for number in count(1):
        inner = new_store()
        store = FaultyStore(inner, nth(number, trouble))
        try:
            place = new_place(lambda record, store=store: keeper_on(store, record))
        except HoldfastError:
            continue
        kept, going = tell(place)
        place.keeper.close()
        after = keeper_on(inner, lambda _: {})
        found = {each.order.uid: each for each in after.found()}
        assert kept - going <= set(found)
        for uid, each in found.items():
            row = place.rows.get(uid)
            if row is not None:
                assert after.verify(row, lambda _: None).good, (number, uid)
                assert row.sha256 == each.kept.sha256
        after.close()
        if not store.fired:
            assert number > 10
            return


def test_killed_before_its_row_is_written_a_backup_is_found_with_all_its_facts(
    repository, new_place, keeper_on
):
    """It was never acknowledged, and it is whole: the next start records it."""
    store = repository.keeper.repository.store.address
    content = os.urandom(MIB)
    pid = os.fork()
    if pid == 0:

        def die(_group):
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)

        try:
            place = new_place(lambda _: keeper_on(DirectoryStore(store), die))
            place.put(content, name="dump.sql", uid="u", facts={"n": 1}, manual=False)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    (found,) = repository.keeper.found()
    assert (found.order.uid, found.order.facts, found.order.manual) == ("u", {"n": 1}, False)
    repository.record([(found.order, found.kept)])
    assert repository.read(repository.rows["u"]) == content
    # The lock of the dead is in nobody's way.
    assert repository.read(repository.put(b"more")) == b"more"


def test_each_flipped_byte_is_found_and_none_is_given(repository, keeper_on):
    """I4."""
    backup = repository.put(b"some content")
    address = repository.keeper.repository.store.address
    store = DirectoryStore(address)
    (pack,) = [
        store.path_of(FileKind.PACK, each.name)
        for each in store.list(FileKind.PACK)
        if _holds_data(repository, each.name)
    ]
    pack.chmod(0o600)
    raw = pack.read_bytes()
    (blob,) = repository.keeper.repository.read_pack_header(bytes.fromhex(pack.name), len(raw))
    for at in range(blob.offset, blob.offset + blob.length):
        pack.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        assert not repository.keeper.verify(backup, lambda _: None).good
        with pytest.raises((UnreadableError, DamagedError)):
            repository.read(backup)
    pack.write_bytes(raw)
    assert repository.keeper.verify(backup, lambda _: None).good


def _holds_data(place, name):
    repository = place.keeper.repository
    size = repository.store.stat(FileKind.PACK, name).size
    return repository.read_pack_header(bytes.fromhex(name), size)[0].kind == 0


def test_verifying_names_the_files_that_are_hit(repository):
    tree = repository.put_tree({b"d/good": b"good", b"d/bad": os.urandom(600_000)})
    address = repository.keeper.repository.store.address
    store = DirectoryStore(address)
    largest = max(store.list(FileKind.PACK), key=lambda each: each.size)
    path = store.path_of(FileKind.PACK, largest.name)
    raw = bytearray(path.read_bytes())
    raw[300_000] ^= 1
    path.chmod(0o600)
    path.write_bytes(raw)
    verified = repository.keeper.verify(tree, lambda _: None)
    assert [each.split(":")[0] for each in verified.damaged] == ["/d/bad"]


def test_a_prune_by_another_process_disturbs_no_open_keeper(repository, keeper_on):
    """I3: it moves what is kept and takes away what is not: readers and writers go on."""
    going = [repository.put(os.urandom(700_000)) for _ in range(3)]
    kept = repository.put(b"kept" * 100_000)
    tree = repository.put_tree(FILES)
    list(repository.keeper.entries(tree))
    for each in going:
        repository.keeper.delete(each)
    other = keeper_on(DirectoryStore(repository.keeper.repository.store.address), lambda _: {})
    assert free_space(other.repository, Silence()) > MIB
    assert repository.read(kept) == b"kept" * 100_000
    assert {each.path for each in repository.keeper.entries(tree)} == {"a", "d", "d/b"}
    assert repository.keeper.verify(tree, lambda _: None).good
    again = repository.put(b"kept" * 100_000, name="again")
    assert repository.read(again) == b"kept" * 100_000
    repository.keeper.close()
    assert problems_of(other.repository, read_data=True, progress=Silence()) == []
    other.close()


def test_what_is_unfinished_or_somebody_elses_is_no_backup(repository):
    backup = repository.put(b"content")
    opened = repository.keeper.repository
    file = opened.load_snapshot(backup.snapshot).file
    for tags in ([UNFINISHED], ["nightly"], None):
        opened.save_snapshot(SnapshotFile(time=file.time, tree=file.tree, paths=["/x"], tags=tags))
    assert set(repository.found()) == {backup.uid}


def test_tags_that_somebody_changed_into_nonsense_hide_no_backup(repository):
    backup = repository.put(b"content", facts={"a": 1})
    snapshot = repository.keeper.repository.load_snapshot(backup.snapshot)
    tags = [
        "holdfast:backup=u", "holdfast:face=none", "holdfast:shape=", "holdfast:size=many",
        "holdfast:facts={", "holdfast:name=a%2Cb", "holdfast:=x", "holdfast:",
    ]  # fmt: skip
    file = SnapshotFile(time=snapshot.file.time, tree=snapshot.file.tree, paths=["/x"], tags=tags)
    found = found_in(Snapshot(snapshot.id, file), 5)
    assert (found.order.uid, found.order.name, found.order.facts) == ("u", "a,b", {})
    assert found.order.target.face == "holdfast"


def test_two_backups_of_the_same_content_are_stored_once(repository):
    content = os.urandom(MIB)
    one, two = repository.put(content), repository.put(content)
    assert one.stored >= MIB
    assert two.stored < 10_000
    assert one.sha256 == two.sha256


def test_thousands_of_backups_are_found_within_a_minute(repository):
    """The bar is a thousand in a minute."""
    streams = [repository.keeper.begin(repository.order(f"{n}")) for n in range(300)]
    for stream in streams:
        stream.write(b"x")
    for future in [stream.finish() for stream in streams]:
        future.result(60)
    began = time.monotonic()
    assert len(repository.found()) == 300
    assert time.monotonic() - began < 18
