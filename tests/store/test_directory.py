"""What a directory store promises beyond the contract: on its disk, and when that fails."""

import errno
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from holdfast.core.errors import (
    ObjectExistsError,
    ObjectNotFoundError,
    StorageFullError,
    StoreDeniedError,
    StoreError,
)
from holdfast.store import directory
from holdfast.store.contract import FileKind
from holdfast.store.directory import RESERVE, DirectoryStore
from holdfast.store.files import SystemFiles
from holdfast.testing.fake_clock import FakeClock
from holdfast.testing.store_contract import keep, named, sample

PACK, INDEX = FileKind.PACK, FileKind.INDEX
DATA = sample(100_000)


@pytest.fixture
def store(tmp_path):
    store = DirectoryStore(tmp_path / "repository")
    store.create()
    return store


def everything(folder):
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


def test_layout_is_restic_s(store, tmp_path):
    """Stock restic finds each object where it looks for it."""
    names = {kind: keep(store, kind, b"x") for kind in FileKind}
    root = tmp_path / "repository"
    assert everything(root) == sorted(
        [
            root / "config",
            root / "data" / names[PACK][:2] / names[PACK],
            *(root / kind / names[kind] for kind in FileKind if kind not in {PACK, "config"}),
        ]
    )
    assert len(list((root / "data").iterdir())) == 256
    assert store.path_of(PACK, names[PACK]).read_bytes() == b"x"


def test_nobody_else_can_read(store, tmp_path):
    """Files 0600, folders 0700, under any umask."""
    before = os.umask(0)
    try:
        store = DirectoryStore(tmp_path / "open" / "repository")
        store.create()
        for kind in FileKind:
            keep(store, kind, b"x")
    finally:
        os.umask(before)
    for path in (tmp_path / "open").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_strangers_are_neither_listed_nor_touched(store, tmp_path):
    """Whatever lies in the folders: other names, other types, packs in the wrong folder."""
    root = tmp_path / "repository"
    name = keep(store, PACK, DATA)
    strangers = [
        root / "data" / "00" / f"{named(b'')[:2]}{named(b'')[2:]}",
        root / "data" / name,
        root / "data" / name[:2] / f"{name}-tmp-123",
        root / "data" / name[:2] / "README",
        root / "data" / "xyz" / name,
        root / "index" / "0",
        root / "snapshots" / ".hidden",
    ]
    for path in strangers:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"stranger")
    (root / "index" / named(b"folder")).mkdir()
    (root / "index" / named(b"dangling")).symlink_to("nowhere")
    assert [each.name for each in store.list(PACK)] == [name]
    assert list(store.list(INDEX)) == list(store.list(FileKind.SNAPSHOT)) == []
    store.sweep(0)
    assert all(path.read_bytes() == b"stranger" for path in strangers)


class FailingFiles(SystemFiles):
    """Fails the n-th step with an error, and each one after it while `lasting`."""

    def __init__(self, at, code, *, lasting=False):
        self.at, self.code, self.lasting, self.count = at, code, lasting, 0
        self.fired = False

    def step(self):
        self.count += 1
        if self.count == self.at or (self.lasting and self.count > self.at):
            self.fired = True
            raise OSError(self.code, os.strerror(self.code))

    def make_folder(self, path):
        self.step()
        super().make_folder(path)

    def create(self, path):
        self.step()
        return super().create(path)

    def write(self, descriptor, data):
        self.step()
        return super().write(descriptor, data[:30_000])

    def sync(self, descriptor):
        self.step()
        super().sync(descriptor)

    def link(self, path, other):
        self.step()
        super().link(path, other)

    def sync_folder(self, path):
        self.step()
        super().sync_folder(path)


def each_step_failing(root, code, *, lasting=False):
    """Stores of which the first fails at its first step, the second at its second, ..."""
    for at in range(1, 100):
        files = FailingFiles(at, code, lasting=lasting)
        yield DirectoryStore(root, files=files)
        if not files.fired:
            return
    raise AssertionError("a put has fewer steps than that")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (errno.ENOSPC, StorageFullError),
        (errno.EDQUOT, StorageFullError),
        (errno.EACCES, StoreDeniedError),
        (errno.EROFS, StoreDeniedError),
        (errno.EIO, StoreError),
    ],
)
@pytest.mark.parametrize("lasting", [False, True])
def test_put_fails_whole_at_each_step(tmp_path, code, error, lasting):
    """F2, F3: an error of the registry, no part under the name, no temporary file left."""
    (tmp_path / "data").mkdir()
    failures = 0
    for number, store in enumerate(each_step_failing(tmp_path, code, lasting=lasting)):
        data = DATA + bytes([number])
        failure = None
        try:
            store.put(PACK, named(data), data)
        except StoreError as caught:
            failure = caught
            failures += 1
        assert failure is None or (type(failure) is error and named(data) in str(failure))
        assert all(path.name == named(path.read_bytes()) for path in everything(tmp_path))
        healthy = DirectoryStore(tmp_path)
        if named(data) not in {each.name for each in healthy.list(PACK)}:
            healthy.put(PACK, named(data), data)
        assert healthy.get(PACK, named(data)) == data
        healthy.remove(PACK, named(data))
        (tmp_path / "data" / named(data)[:2]).rmdir()
    assert failures == 11  # create, folder, its sync, create, four writes, sync, link, sync


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EIO])
def test_init_and_removal_fail_with_errors_of_the_registry(tmp_path, code):
    """F2: at each of their steps; and both can be done again."""
    for at in (1, 2, 5, 20, 200):
        with pytest.raises(StoreError):
            DirectoryStore(tmp_path / "new", files=FailingFiles(at, code)).create()
    store = DirectoryStore(tmp_path / "new", files=FailingFiles(0, code))
    store.create()
    name = keep(store, PACK, DATA)
    with pytest.raises(StoreError):
        DirectoryStore(tmp_path / "new", files=FailingFiles(1, code)).remove(PACK, name)
    with pytest.raises(ObjectNotFoundError):
        store.remove(PACK, name)


@pytest.mark.parametrize("size", [0, 1, 50_000, len(DATA) - 1])
def test_torn_object_is_never_read_as_whole(store, size):
    """F3: a file cut short under its name gives an error for each range that reaches beyond it."""
    name = keep(store, PACK, DATA)
    assert store.get_range(PACK, name, -10, 10) == DATA[-10:]
    os.truncate(store.path_of(PACK, name), size)
    for reader in (store, DirectoryStore(store.address)):  # with an open descriptor, and without
        with pytest.raises(StoreError):
            reader.get_range(PACK, name, len(DATA) - 10, 10)
    assert len(DirectoryStore(store.address).get(PACK, name)) == size
    store.remove(PACK, name)
    assert store.get(PACK, keep(store, PACK, DATA)) == DATA


def test_interrupted_writer_s_files_are_swept_when_old(store, tmp_path):
    """They are listed by nobody; others' young ones stay."""
    clock = FakeClock(now=time.time_ns())

    class Dies(SystemFiles):
        def sync(self, descriptor):
            raise KeyboardInterrupt

        def unlink(self, path):
            raise OSError(errno.EIO, "dies before that")

    for kind in FileKind:
        with pytest.raises(KeyboardInterrupt):
            keep(DirectoryStore(store.address, files=Dies()), kind, b"x")
    left = everything(tmp_path)
    assert len(left) == 6
    assert all(list(store.list(kind)) == [] for kind in FileKind)
    watched = DirectoryStore(store.address, clock=clock)
    assert watched.sweep(3600) == 0
    clock.advance(3700)
    assert watched.sweep(3600) == 6
    assert everything(tmp_path) == []
    assert watched.sweep(0) == 0


def test_room_is_kept_aside(store, tmp_path):
    """It takes real blocks, grows, is kept where there is no more to be had, and is given back."""

    class Full(SystemFiles):
        def write(self, descriptor, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    file = tmp_path / "repository" / RESERVE
    assert store.reserve(100_000) == 100_000
    assert store.reserve(50_000) == 100_000
    assert store.reserve(200_000) == 200_000
    assert file.stat().st_blocks * 512 >= 200_000
    assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(StorageFullError):
        DirectoryStore(store.address, files=Full()).reserve(300_000)
    assert everything(tmp_path) == [file]
    assert file.stat().st_size == 200_000
    assert store.reserve(0) == 0
    assert everything(tmp_path) == []
    assert store.reserve(0) == 0


def test_a_process_that_must_end_leaves_nothing(store, tmp_path):
    """What it is writing is removed without waiting for the disk."""

    class Slow(SystemFiles):
        def sync(self, descriptor):
            os.fsync(descriptor)
            directory.drop_unfinished()

    with pytest.raises(StoreError):
        keep(DirectoryStore(store.address, files=Slow()), PACK, DATA)
    assert everything(tmp_path) == []


def test_interrupt_leaves_nothing(store, tmp_path):
    """Ctrl-C in the middle of a put takes its temporary file away."""

    class Interrupted(SystemFiles):
        def sync(self, descriptor):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep(DirectoryStore(store.address, files=Interrupted()), PACK, DATA)
    assert everything(tmp_path) == []


def test_finder_of_a_taken_name_can_rely_on_it(store):
    """The name is durable when a put says that it is taken: its folder is synced again."""
    synced = []

    class Watched(SystemFiles):
        def sync_folder(self, path):
            synced.append(path)

    name = keep(store, PACK, DATA)
    with pytest.raises(ObjectExistsError):
        keep(DirectoryStore(store.address, files=Watched()), PACK, DATA)
    assert synced == [str(store.path_of(PACK, name).parent)]


def test_file_systems_without_hard_links_work(tmp_path):
    """With a check and a rename instead; the store says that this is not atomic."""

    class NoLinks(SystemFiles):
        def link(self, path, other):
            raise OSError(errno.EPERM, "no hard links here")

    store = DirectoryStore(tmp_path, files=NoLinks())
    store.create()
    assert store.properties.put_if_absent
    name = keep(store, PACK, DATA)
    assert not store.properties.put_if_absent
    with pytest.raises(ObjectExistsError):
        keep(store, PACK, DATA)
    assert everything(tmp_path) == [store.path_of(PACK, name)]


def test_missing_disk_is_not_filled_at_its_mount_point(tmp_path):
    """A put into a repository whose folders are gone makes none of them."""
    store = DirectoryStore(tmp_path / "mnt" / "repository")
    (tmp_path / "mnt").mkdir()
    with pytest.raises(StoreError) as caught:
        keep(store, PACK, DATA)
    assert "mounted" in caught.value.advice
    assert list((tmp_path / "mnt").iterdir()) == []


def test_permission_errors_are_denials(tmp_path):
    """A real refusal of the kernel: a folder where the store's file should be is no such case."""
    path = tmp_path / "file"
    path.write_text("not a folder")
    with pytest.raises(StoreError):
        DirectoryStore(path).create()
    with pytest.raises(StoreError):
        list(DirectoryStore(path).list(PACK))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_full_disk_is_met_for_real(tmp_path):
    """F2: a file system of one megabyte fills up: the error says so, and the rest can be read."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        store = DirectoryStore(small / "repository")
        store.create()
        kept = []

        def fill():
            kept.extend(keep(store, PACK, sample(100_000, seed)) for seed in range(100))

        with pytest.raises(StorageFullError):
            fill()
        assert len(kept) > 5
        assert all(named(store.get(PACK, name)) == name for name in kept)
        assert sorted(each.name for each in store.list(PACK)) == sorted(kept)
        assert len(everything(small)) == len(kept)
        store.remove(PACK, kept[0])
        keep(store, INDEX, b"there is room again")
    finally:
        subprocess.run(["umount", small], check=True)


def open_descriptors():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_open_descriptors_are_bounded_and_let_go(store, monkeypatch):
    """Reading from many packs keeps few of them open; closing and removing keeps none."""
    monkeypatch.setattr(directory, "OPEN_PACKS", 4)
    store = DirectoryStore(store.address)
    names = [keep(store, PACK, sample(1000, seed)) for seed in range(10)]
    before = open_descriptors()
    for name in names * 2:
        store.get_range(PACK, name, 0, 10)
    assert open_descriptors() - before == 4
    store.remove(PACK, names[0])
    assert open_descriptors() == before
    store.get_range(PACK, names[1], 0, 10)
    store.close()
    assert open_descriptors() == before


def test_large_objects_are_written_and_read_in_pieces(tmp_path, monkeypatch):
    """The kernel takes and gives at most 2 GiB at once; here it is 7 bytes."""
    real_read = os.pread

    class Stingy(SystemFiles):
        def write(self, descriptor, data):
            return super().write(descriptor, data[:7])

    store = DirectoryStore(tmp_path, files=Stingy())
    store.create()
    name = keep(store, PACK, DATA[:1000])
    monkeypatch.setattr(os, "pread", lambda fd, length, at: real_read(fd, min(length, 7), at))
    assert store.get(PACK, name) == DATA[:1000]
    assert store.get_range(PACK, name, 100, 800) == DATA[100:900]


def test_disk_that_cannot_be_read_is_an_error(store, monkeypatch):
    """Whole and in parts, and also where a file shrinks meanwhile; never fewer bytes."""
    name = keep(store, PACK, DATA)

    def failing(*_):
        raise OSError(errno.EIO, "Input/output error")

    for read in (failing, lambda *_: b""):
        monkeypatch.setattr(os, "pread", read)
        with pytest.raises(StoreError, match=name):
            store.get(PACK, name)
        with pytest.raises(StoreError, match=name):
            store.get_range(PACK, name, 0, 10)


def test_objects_removed_during_a_listing_are_passed_over(store):
    """They are gone, which is no error; a file that cannot be looked at is one."""
    names = [keep(store, INDEX, b"%d" % number) for number in range(3)]
    listing = store.list(INDEX)
    seen = next(listing).name
    for name in names:
        if name != seen:
            store.remove(INDEX, name)
    assert list(listing) == []
    loop = store.path_of(INDEX, named(b"loop"))
    loop.symlink_to(loop)
    with pytest.raises(StoreError, match="cannot find"):
        list(store.list(INDEX))


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_file_systems_that_cannot_sync_folders_are_used(store, monkeypatch, code):
    """Some network file systems say so; any other failure of a sync is an error."""
    real = os.fsync

    def sync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    assert store.get(PACK, keep(store, PACK, DATA)) == DATA
    code = errno.EIO
    with pytest.raises(StoreError):
        keep(store, PACK, b"other")


def test_range_reads_are_fast(store):
    """64 KiB from an open pack in well under a tenth of a millisecond, with a wide margin."""
    name = keep(store, PACK, sample(1 << 20))
    best = min(timed(lambda: store.get_range(PACK, name, 4096, 65536)) for _ in range(200))
    assert best < 100e-6


def timed(call):
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def test_import_is_light():
    """A directory is what most command lines open: nothing for networks or other formats."""
    program = (
        "import sys; import holdfast.store.directory;"
        "print({'obstore', 'urllib3', 'stamina', 'ssl', 'socket', 'asyncio'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"
