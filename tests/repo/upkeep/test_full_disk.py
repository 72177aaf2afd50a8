from __future__ import annotations

import os
import random
import shutil
import subprocess

import pytest

from holdfast.core.errors import StorageFullError
from holdfast.core.progress import Silence
from holdfast.repo.lock import acquire
from holdfast.repo.repository import Repository
from holdfast.repo.room import acquire_on_full_disk
from holdfast.repo.upkeep.check import ALL, check
from holdfast.repo.upkeep.forget import forget, lock_to_forget
from holdfast.repo.upkeep.prune import prune
from holdfast.repo.upkeep.prune_plan import PruneOptions, UnusedLimit
from holdfast.store.contract import FileKind
from holdfast.store.directory import RESERVE, DirectoryStore
from holdfast.testing.memory_source import File

SILENCE = Silence()
SIZE = 6 << 20


def _mount(kind, folder):
    disk = folder / "disk"
    disk.mkdir()
    if kind == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(disk)]
    else:
        image = folder / "image"
        image.touch()
        os.truncate(image, SIZE)
        command = ["mount", "-o", "loop", str(image), str(disk)]
        if not shutil.which("mkfs.ext4"):
            pytest.skip("no mkfs.ext4 here")
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True, timeout=30)
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
    return disk


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request, tmp_path):
    """A file system of a few megabytes."""
    folder = _mount(request.param, tmp_path)
    yield folder
    # lazily: a store keeps packs open
    subprocess.run(["umount", "-l", str(folder)], check=True, timeout=30)


def _fill(disk):
    """Takes the last byte of a disk."""
    with (disk / "ballast").open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            while True:
                try:
                    file.write(bytes(size))
                except OSError:
                    break
        try:
            os.fsync(file.fileno())
        except OSError:
            pass  # what could not be written is not meant to be


def _names(store, kind):
    return {item.name for item in store.list(kind)}


def _forget_and_prune(repository, names):
    """As the command line does it."""
    lock = lock_to_forget(repository)
    forget(repository, names, lock=lock, progress=SILENCE)
    if lock is None:
        lock = lock_to_forget(repository)
    try:
        options = PruneOptions(max_unused=UnusedLimit.parse("0"))
        return prune(repository, options, lock=lock, progress=SILENCE, workers=0)
    finally:
        lock.release()


def test_a_disk_that_is_full_to_the_last_byte_is_freed(disk, story, kept):
    """I1, F2: forget and prune get back the room that forgotten snapshots took, and every other
    file reads as before.
    """
    repository = story(DirectoryStore(disk / "r"), days=12, files=8)
    before = kept(repository)
    _fill(disk)
    with pytest.raises(StorageFullError):
        repository.store.put(FileKind.PACK, "0" * 64, bytes(1 << 20))
    packs = _names(repository.store, FileKind.PACK)
    ids = [s.id for s in sorted(repository.snapshots(), key=lambda s: s.time)]
    report = _forget_and_prune(repository, ids[:8])
    assert report.removed > 0
    assert len(_names(repository.store, FileKind.PACK)) < len(packs)
    assert kept(repository) == {name: before[name] for name in ids[8:]}
    assert check(repository, read=ALL, lock=None, progress=SILENCE, workers=0).sound


def test_a_prune_of_its_own_starts_on_a_full_disk(disk, story, kept, stock_restic):
    """I1, F2: nothing is left but what was kept aside, and that is enough for the lock and for the
    new index; restic does not mind the file.
    """
    repository = story(DirectoryStore(disk / "r"), days=12, files=8)
    ids = [s.id for s in sorted(repository.snapshots(), key=lambda s: s.time)]
    forget(repository, ids[:8], lock=None, progress=SILENCE)
    before = kept(repository)
    assert (disk / "r" / RESERVE).stat().st_size >= 128 << 10
    _fill(disk)
    with pytest.raises(StorageFullError):
        acquire(repository.objects, exclusive=True, clock=repository.clock)
    packs = _names(repository.store, FileKind.PACK)
    lock = acquire_on_full_disk(repository)
    try:
        options = PruneOptions(max_unused=UnusedLimit.parse("0"))
        report = prune(repository, options, lock=lock, progress=SILENCE, workers=0)
    finally:
        lock.release()
    assert report.removed > 0
    assert len(_names(repository.store, FileKind.PACK)) < len(packs)
    assert kept(repository) == before
    assert (disk / "r" / RESERVE).exists()  # for the next time
    (disk / "ballast").unlink()
    restic = stock_restic(disk / "r")
    restic("check", "--read-data")
    restic("prune", "--max-unused", "0")
    assert (disk / "r" / RESERVE).exists()
    assert kept(Repository.unlocked(repository.store, repository.objects.key)) == before


def test_where_nothing_was_kept_aside(disk, story):
    """F2: what restic made has no room of its own; the error names a way that needs none."""
    repository = story(DirectoryStore(disk / "r"), days=12, files=8)
    repository.store.reserve(0)
    _fill(disk)
    with pytest.raises(StorageFullError) as caught:
        acquire_on_full_disk(repository)
    assert "`holdfast forget` needs no room" in caught.value.advice
    ids = [s.id for s in sorted(repository.snapshots(), key=lambda s: s.time)]
    assert _forget_and_prune(repository, ids[:8]).removed > 0
    assert (disk / "r" / RESERVE).exists()


def test_a_backup_that_filled_the_disk_is_tidied_up(disk, story, kept, back_up_tree):
    """I1, I5: the failed backup leaves the others whole, prune gives its room back, and a smaller
    one then fits.
    """
    repository = story(DirectoryStore(disk / "r"), days=2)
    before = kept(repository)
    rnd = random.Random(2)
    big = {b"data": {b"f%d" % n: File(rnd.randbytes(400_000)) for n in range(40)}}
    with pytest.raises(StorageFullError):
        back_up_tree(repository, big)
    assert kept(repository) == before
    fresh = Repository.unlocked(repository.store, repository.objects.key)
    _forget_and_prune(fresh, [])
    assert kept(fresh) == before
    assert check(fresh, read=ALL, lock=None, progress=SILENCE, workers=0).findings == []
    small = back_up_tree(fresh, {b"data": {b"small": File(rnd.randbytes(100_000))}})
    assert small.id in kept(fresh)
