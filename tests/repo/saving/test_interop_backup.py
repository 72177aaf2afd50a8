"""I6: what we write, the real restic lists, checks, restores and builds upon; and the reverse."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time

import pytest

from holdfast.core.clock import SystemClock
from holdfast.core.errors import LockedError
from holdfast.core.outcome import Outcome
from holdfast.core.secret import Secret
from holdfast.repo.format.tree import blob_id
from holdfast.repo.lock import acquire
from holdfast.repo.repository import Repository
from holdfast.repo.saving.backup import BackupOptions, back_up
from holdfast.repo.saving.sealing import SealingPlan
from holdfast.sources.files.source import FileSource
from holdfast.store.directory import DirectoryStore

pytestmark = pytest.mark.interop
PASSWORD = Secret("secret")
WEIRD = [
    b"new\nline",
    b"bad\xff\xfeutf8",
    "ümläut ☃".encode(),
    b"-dash",
    b"tr ail ",
    b'q"uo\\te',
    b"<&>",
]


class Nobody:
    """An observer that is not interested."""

    def item(self, *_):
        pass

    def problem(self, _):
        pass

    def progress(self, *_):
        pass


def _open(path):
    return Repository.open(DirectoryStore(path), PASSWORD)


def _backup(repository, *roots, workers=2):
    latest = max(repository.snapshots(), key=lambda s: s.time, default=None)
    lock = acquire(repository.objects, exclusive=False, clock=repository.clock)
    try:
        return back_up(
            repository,
            FileSource([os.fsencode(root) for root in roots]),
            BackupOptions(hostname="h", parent=latest, sealing=SealingPlan(workers=workers)),
            observer=Nobody(),
            lock=lock,
        )
    finally:
        lock.release()


@pytest.fixture
def tree(tmp_path):
    """Files of every sort and size that matter to chunks, nodes and names."""
    rng = random.Random(1)
    root = tmp_path / "tree"
    folder = os.fsencode(root)
    os.makedirs(folder + b"/sub/deep")
    for name in WEIRD:
        with open(folder + b"/" + name, "wb") as file:
            file.write(rng.randbytes(100))
        if b"\xff" not in name:  # restic 0.14 loses such targets; newer ones keep them as we do
            os.symlink(name, folder + b"/sub/link-" + name)
    for size in (0, 1, 4096, 524287, 524288, 524289, 3 << 20, 9 << 20):
        (root / "sub" / f"random-{size}").write_bytes(rng.randbytes(size))
    (root / "zeros").write_bytes(bytes(3 << 20))
    with (root / "sparse").open("wb") as file:
        file.truncate(12 << 20)
        file.seek(5 << 20)
        file.write(b"island")
    (root / "text").write_text("the same line again\n" * 100_000)
    os.link(root / "text", root / "sub" / "hard")
    os.mkfifo(root / "fifo")
    (root / "sub" / "setuid").write_bytes(b"x")
    (root / "sub" / "setuid").chmod(0o4755)
    (root / "sub" / "deep").chmod(0o1777)
    os.utime(root / "text", ns=(1, 1_234_567_890_123_456_789))
    try:
        os.setxattr(root / "text", "user.note", b"\x00binary\xff")
    except OSError:
        pass  # a file system without them
    return root


def _subtree(repository, snapshot, root):
    """The name of the tree of one folder: what is above it changes with everything else on the
    machine.
    """
    tree = snapshot.tree
    for name in os.fsencode(root).strip(b"/").split(b"/"):
        (node,) = (node for node in repository.load_tree(tree) if node.raw_name() == name)
        tree = blob_id(node.subtree)
    return tree


def _by_time(repository):
    repository.load_index()
    return sorted(repository.snapshots(), key=lambda snapshot: snapshot.time)


def test_restic_checks_and_restores_what_we_wrote(tree, tmp_path, stock_restic):
    """Our repository passes `check --read-data`, and restic restores it byte for byte."""
    repository = Repository.init(DirectoryStore(tmp_path / "repo"), PASSWORD)
    assert _backup(repository, tree).outcome is Outcome.SUCCEEDED
    stock = stock_restic(tmp_path / "repo")
    stock("check", "--read-data")
    stock("restore", "latest", "--target", str(tmp_path / "out"))
    left, right = tree, tmp_path / "out" / str(tree).lstrip("/")
    listing = ["find", ".", "-printf", "%P %y %m %U %G %s %T@ %l\\n"]
    assert sorted(subprocess.check_output(listing, cwd=left).splitlines()) == sorted(
        subprocess.check_output(listing, cwd=right).splitlines()
    )
    for path in left.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert path.read_bytes() == (right / path.relative_to(left)).read_bytes()


def test_restic_adds_nothing_after_us(tree, tmp_path, stock_restic):
    """Chunks and trees are restic's to the letter: its full backup after ours stores no data."""
    repository = Repository.init(DirectoryStore(tmp_path / "repo"), PASSWORD)
    _backup(repository, tree)
    output = stock_restic(tmp_path / "repo")("backup", "--json", "--force", str(tree))
    assert json.loads(output.strip().splitlines()[-1])["data_blobs"] == 0
    ours, theirs = _by_time(repository)
    assert _subtree(repository, ours, tree) == _subtree(repository, theirs, tree)


def test_restic_takes_our_snapshot_as_parent(tree, tmp_path, stock_restic):
    """restic sees every file unchanged since our snapshot."""
    repository = Repository.init(DirectoryStore(tmp_path / "repo"), PASSWORD)
    result = _backup(repository, tree)
    output = stock_restic(tmp_path / "repo")("backup", "--json", "--host", "h", str(tree))
    summary = json.loads(output.strip().splitlines()[-1])
    assert summary["files_new"] == summary["files_changed"] == 0
    assert summary["files_unmodified"] == result.counts.files_new


@pytest.mark.parametrize("version", ["1", "2"])
def test_we_take_restics_snapshot_as_parent(tree, tmp_path, stock_restic, version):
    """In restic's repository, of either version, we find every file unchanged and store nothing."""
    stock = stock_restic(tmp_path / "repo")
    stock("init", "--repository-version", version)
    stock("backup", "--host", "h", str(tree))
    repository = _open(tmp_path / "repo")
    result = _backup(repository, tree)
    assert result.counts.files_new == result.counts.files_changed == 0
    assert result.counts.data.blobs == 0
    theirs, ours = _by_time(repository)
    assert _subtree(repository, ours, tree) == _subtree(repository, theirs, tree)
    stock("check", "--read-data")


@pytest.mark.parametrize("version", ["1", "2"])
def test_we_store_nothing_new_in_restics_repository(tree, tmp_path, stock_restic, version):
    """Read in full, without a parent, restic's chunks and trees are ours."""
    stock = stock_restic(tmp_path / "repo")
    stock("init", "--repository-version", version)
    stock("backup", "--host", "h", str(tree))
    repository = _open(tmp_path / "repo")
    lock = acquire(repository.objects, exclusive=False, clock=SystemClock())
    source = FileSource([os.fsencode(tree)])
    result = back_up(repository, source, BackupOptions(), observer=Nobody(), lock=lock)
    lock.release()
    assert result.counts.data.blobs == 0
    theirs, ours = _by_time(repository)
    assert _subtree(repository, ours, tree) == _subtree(repository, theirs, tree)
    stock("check")


def test_both_write_into_one_repository_in_turn(tree, tmp_path, stock_restic):
    """Snapshots of both stand in one list, and each is whole."""
    repository = Repository.init(DirectoryStore(tmp_path / "repo"), PASSWORD)
    stock = stock_restic(tmp_path / "repo")
    for number in range(3):
        (tree / f"ours-{number}").write_bytes(os.urandom(700_000))
        _backup(repository, tree)
        (tree / f"theirs-{number}").write_bytes(os.urandom(700_000))
        stock("backup", "-q", "--host", "h", str(tree))
        repository.load_index()
    stock("check", "--read-data")
    assert len(json.loads(stock("snapshots", "--json"))) == 6
    assert len(list(repository.snapshots())) == 6


def test_restics_prune_leaves_our_snapshots_whole(tree, tmp_path, stock_restic):
    """After restic forgets and prunes, what is left of ours still checks, and we back up into it
    again.
    """
    repository = Repository.init(DirectoryStore(tmp_path / "repo"), PASSWORD)
    for _ in range(3):
        (tree / "changing").write_bytes(os.urandom(900_000))
        _backup(repository, tree)
    stock = stock_restic(tmp_path / "repo")
    stock("forget", "--keep-last", "1", "--prune")
    stock("check", "--read-data")
    again = _backup(_open(tmp_path / "repo"), tree)
    assert again.counts.data.blobs == 0


def test_restic_respects_our_exclusive_lock(tmp_path, stock_restic, tree):
    """While we hold the repository alone, restic does not write into it."""
    repository = Repository.init(DirectoryStore(tmp_path / "repo"), PASSWORD)
    lock = acquire(repository.objects, exclusive=True, clock=repository.clock)
    refused = stock_restic(tmp_path / "repo").run("backup", str(tree))
    assert refused.returncode != 0
    assert "locked" in refused.stderr
    lock.release()
    stock_restic(tmp_path / "repo")("backup", "-q", str(tree))


def test_we_respect_a_running_restic_and_outlive_a_killed_one(tmp_path, stock_restic, tree):
    """I5: a running restic is waited for; one that was killed leaves a lock that nobody has to
    remove.
    """
    repository = Repository.init(DirectoryStore(tmp_path / "repo"), PASSWORD)
    locks = tmp_path / "repo" / "locks"
    restic = stock_restic(tmp_path / "repo")
    running = restic.start(
        "backup",
        "--stdin",
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not any(locks.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    with pytest.raises(LockedError):
        acquire(repository.objects, exclusive=True, clock=repository.clock)
    running.send_signal(signal.SIGKILL)
    running.wait()
    running.stdin.close()
    assert any(locks.iterdir())
    acquire(repository.objects, exclusive=True, clock=repository.clock).release()
    assert not any(locks.iterdir())
    restic("check")


def test_many_small_files_through_the_workers(tmp_path, stock_restic):
    """Thousands of files in hundreds of batches end up in one tree that restic finds whole."""
    rng = random.Random(3)
    for folder in range(60):
        (tmp_path / "tree" / str(folder)).mkdir(parents=True)
        for number in range(40):
            path = tmp_path / "tree" / str(folder) / f"{number:03}"
            path.write_bytes(rng.randbytes(rng.randrange(3000)))
    repository = Repository.init(DirectoryStore(tmp_path / "repo"), PASSWORD)
    result = _backup(repository, tmp_path / "tree")
    assert result.counts.files_new == 2400
    stock = stock_restic(tmp_path / "repo")
    stock("check", "--read-data")
    stock("backup", "-q", "--force", str(tmp_path / "tree"))
    ours, theirs = _by_time(repository)
    root = tmp_path / "tree"
    assert _subtree(repository, ours, root) == _subtree(repository, theirs, root)
