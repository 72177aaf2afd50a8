"""Uploads while another process prunes: neither waits long for the other; nothing is lost."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import threading
import time

import pytest

from holdfast.core.errors import HoldfastError, LockLostError
from holdfast.core.progress import Silence
from holdfast.core.secret import Secret
from holdfast.repo.browsing.streaming import ReadPool, open_file
from holdfast.repo.lock import acquire
from holdfast.repo.repository import Repository
from holdfast.repo.saving.intake import UNFINISHED, About, Intake, remove_unfinished
from holdfast.repo.saving.intake_unfinished import Unfinished
from holdfast.repo.upkeep.check import ALL, check
from holdfast.repo.upkeep.prune import prune
from holdfast.repo.upkeep.prune_plan import PruneOptions, UnusedLimit
from holdfast.store.contract import FileKind
from holdfast.store.directory import DirectoryStore
from holdfast.store.memory import MemoryStore

PASSWORD = Secret("secret")
MIB = 1 << 20
HERE = About(host="here")
SECONDS = 60.0


def _random(size, seed=1):
    return random.Random(seed).randbytes(size)


def _keep(intake, content, name=b"file"):
    upload = intake.begin(name, HERE)
    for at in range(0, len(content), 1 << 18):
        upload.write(content[at : at + (1 << 18)])
    return upload.finish().result(SECONDS)


def _content(repository, kept, path=b"/file"):
    fresh = Repository.unlocked(repository.store, repository.objects.key)
    with ReadPool(fresh) as pool:
        return b"".join(open_file(pool, kept.tree, path).pieces())


def _assert_sound(repository):
    fresh = Repository.unlocked(repository.store, repository.objects.key)
    assert check(fresh, read=ALL, lock=None, progress=Silence(), workers=0).sound


def _prune(repository, wait=10.0, **options):
    """As another process would, with a repository of its own."""
    other = Repository.unlocked(repository.store, repository.objects.key)
    lock = acquire(other.objects, exclusive=True, clock=other.clock, wait=wait)
    try:
        return prune(other, PruneOptions(**options), lock=lock, progress=Silence(), workers=0)
    finally:
        lock.release()


def _wait(condition):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _forget(repository, kept):
    repository.store.remove(FileKind.SNAPSHOT, kept.snapshot)


def test_a_blob_that_was_pruned_is_stored_again():
    """I1: what the intake knew before a prune is not taken for stored after it."""
    repository = Repository.init(MemoryStore(), PASSWORD)
    content = _random(3 * MIB)
    with Intake(repository) as intake:
        _forget(repository, _keep(intake, content))
        report = _prune(repository)
        assert report.removed
        kept = _keep(intake, content)
        assert kept.added > len(content)
    assert _content(repository, kept) == content
    _assert_sound(repository)


def test_an_upload_under_way_survives_a_prune():
    """What was stored of it is let be, and nothing of that shows afterwards."""
    repository = Repository.init(MemoryStore(), PASSWORD)
    content = _random(60 * MIB)
    with Intake(repository) as intake:
        upload = intake.begin(b"file", HERE)
        half = 40 * MIB
        for at in range(0, half, MIB):
            upload.write(content[at : at + MIB])
        _wait(lambda: list(repository.store.list(FileKind.PACK)))
        _prune(repository)
        unfinished = [s for s in repository.snapshots() if UNFINISHED in s.tags]
        for at in range(half, len(content), MIB):
            upload.write(content[at : at + MIB])
        kept = upload.finish().result(SECONDS)
    assert [s.id for s in repository.snapshots()] == [kept.snapshot]
    assert len(unfinished) <= 1
    assert kept.added < len(content) * 1.05
    assert kept.sha256 == hashlib.sha256(content).digest()
    assert _content(repository, kept) == content
    _assert_sound(repository)


def test_an_upload_whose_blobs_were_pruned_is_not_answered(monkeypatch):
    """I1: where they could not be protected, it fails, and the next try stores all of it."""
    monkeypatch.setattr(Unfinished, "protect", lambda *_: None)
    repository = Repository.init(MemoryStore(), PASSWORD)
    content = _random(40 * MIB)
    with Intake(repository) as intake:
        upload = intake.begin(b"file", HERE)
        for at in range(0, len(content), MIB):
            upload.write(content[at : at + MIB])
        _wait(lambda: list(repository.store.list(FileKind.PACK)))
        _prune(repository)
        with pytest.raises(LockLostError):
            upload.finish().result(SECONDS)
        kept = _keep(intake, content)
    assert _content(repository, kept) == content
    _assert_sound(repository)


def test_an_upload_that_found_all_its_blobs_survives_a_prune():
    """What it relies on is nobody's any more: the snapshot that had it was forgotten."""
    repository = Repository.init(MemoryStore(), PASSWORD)
    content = _random(20 * MIB)
    with Intake(repository) as intake:
        first = _keep(intake, content)
        upload = intake.begin(b"file", HERE)
        for at in range(0, len(content), MIB):
            upload.write(content[at : at + MIB])
        _forget(repository, first)
        _prune(repository, max_unused=UnusedLimit(size=0))
        kept = upload.finish().result(SECONDS)
    assert _content(repository, kept) == content
    _assert_sound(repository)


def test_what_a_dead_process_protected_goes_at_the_next_start():
    """I5: killed while it waited, an intake leaves a snapshot that the next start removes."""
    repository = Repository.init(MemoryStore(), PASSWORD)
    with Intake(repository) as intake:
        upload = intake.begin(b"file", HERE)
        upload.write(_random(40 * MIB))
        _wait(lambda: list(repository.store.list(FileKind.PACK)))
        assert intake.yield_lock(pause=1.0)
        found = [s for s in repository.snapshots() if UNFINISHED in s.tags]
        assert len(found) == 1
        assert remove_unfinished(repository, found) == 0  # its maker lives
        upload.abandon()
    (own,) = found
    tags = [own.tags[0], own.tags[1].replace(f"={os.getpid()}/", "=999999999/")]
    own.file.tags = tags
    dead = repository.save_snapshot(own.file)
    assert remove_unfinished(repository, [dead]) == 1
    assert not list(repository.snapshots())


_PRUNE = """
import sys, time
from holdfast.cli.main import main
sys.argv = ["holdfast", "-r", {path!r}, "--retry-lock", "60s", "prune", "--max-unused", "0"]
main()
"""


@pytest.mark.parametrize("rounds", [2, pytest.param(12, marks=pytest.mark.long, id="long")])
def test_prunes_in_another_process_beside_uploads(tmp_path, rounds):
    """I1, I3: every prune gets its turn within seconds although uploads never stop; every answered
    upload is whole; and no upload fails for more than being told to come again.
    """
    repository = Repository.init(DirectoryStore(tmp_path / "r"), PASSWORD)
    stop = threading.Event()
    answered, refused, failures = [], [], []

    def small(seed):
        rnd = random.Random(seed)
        while not stop.is_set():
            content = rnd.randbytes(rnd.randint(1, 30_000))
            began = time.monotonic()
            try:
                kept = _keep(intake, content)
            except HoldfastError as error:
                refused.append((error, time.monotonic() - began))
                continue
            if rnd.random() < 0.5:
                _forget(repository, kept)
            else:
                answered.append((kept, hashlib.sha256(content).digest()))

    def large():
        seed = 100
        while not stop.is_set():
            seed += 1
            content = _random(24 * MIB, seed % 3)
            try:
                upload = intake.begin(b"file", HERE)
                for at in range(0, len(content), 1 << 18):
                    upload.write(content[at : at + (1 << 18)])
                    time.sleep(0.002)
                kept = upload.finish().result(SECONDS)
            except Exception as error:  # noqa: BLE001  asserted on below
                failures.append(error)
                return
            answered.append((kept, hashlib.sha256(content).digest()))

    environment = os.environ | {"HOLDFAST_PASSWORD": "secret", "HOLDFAST_CACHE_DIR": str(tmp_path)}
    with Intake(repository) as intake:
        threads = [threading.Thread(target=small, args=(n,)) for n in range(3)]
        threads.append(threading.Thread(target=large))
        for thread in threads:
            thread.start()
        for _ in range(rounds):
            time.sleep(1)
            began = time.monotonic()
            done = subprocess.run(
                [sys.executable, "-c", _PRUNE.format(path=str(tmp_path / "r"))],
                env=environment, capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
            assert time.monotonic() - began < 25
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures, failures
    assert all(error.retryable for error, _ in refused), refused
    assert len(answered) > 20
    for kept, digest in answered:
        assert kept.sha256 == digest
        assert hashlib.sha256(_content(repository, kept)).digest() == digest
    assert not [s for s in repository.snapshots() if UNFINISHED in s.tags]
    _assert_sound(repository)
