"""Trees made by an enemy, and an enemy at work in the destination: nothing outside is touched."""

from __future__ import annotations

import os
import random
import signal
import stat
import time

import pytest

from holdfast.core.secret import Secret
from holdfast.repo.repository import Repository
from holdfast.repo.restoring.restore import restore
from holdfast.repo.restoring.restore_options import Overwrite, RestoreOptions
from holdfast.store.memory import MemoryStore
from holdfast.testing.hostile_trees import Forger, hostile_trees

PLANTED = [b"a", b"b", b"c", b"dir", b"file", b"A"]


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """A canary beside the place for targets, and a repository full of hostile snapshots."""
    ground = tmp_path_factory.mktemp("ground")
    outside = ground / "outside"
    (outside / "dir").mkdir(parents=True)
    for name in ("secret", "file", "dir/file", "c"):
        (outside / name).write_bytes(b"canary")
    (outside / "link").symlink_to("secret")
    repository = Repository.init(MemoryStore(), Secret("x"))
    forger = Forger(repository)
    trees = list(hostile_trees(forger, str(outside)))
    assert len(trees) >= 200
    return ground, repository, [(each.what, forger.snapshot(each.tree)) for each in trees]


def _canary(outside):
    """Everything that could be seen of what is outside."""
    seen = {}
    for above, folders, files in os.walk(outside):
        for name in ["", *folders, *files]:
            path = os.path.join(above, name)
            found = os.lstat(path)
            content = b""
            if stat.S_ISREG(found.st_mode):
                with open(path, "rb") as file:
                    content = file.read()
            seen[path] = (
                found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns, found.st_ino, content
            )  # fmt: skip
    return seen


def _restore_all(ground, repository, snapshots, target_of, **options):
    for number, (_, snapshot) in enumerate(snapshots):
        target = os.fsencode(target_of(number))
        report = restore(repository, snapshot, target, options=RestoreOptions(workers=0, **options))
        assert all(failure.message for failure in report.failures)


def _plant(target, outside):
    """Puts links to the outside where directories and files are going to be."""
    ways = [
        lambda path: os.symlink(outside, path),
        lambda path: os.symlink(outside / "secret", path),
    ]
    if os.fsencode(target).endswith(b"hard"):
        ways = [lambda path: os.link(outside / "secret", path)]
    target.mkdir()
    (target / "dir").mkdir()
    for number, name in enumerate(PLANTED):
        for above in (os.fsencode(target), os.fsencode(target / "dir")):
            path = os.path.join(above, name)
            if not os.path.lexists(path):
                ways[number % len(ways)](path)


def test_hostile_trees_reach_nothing_outside_of_an_empty_target(ground, tmp_path):
    """I10: no tree writes outside of the directory that is restored into, as seen by a canary."""
    place, repository, snapshots = ground
    before = _canary(place / "outside")
    _restore_all(place, repository, snapshots, lambda number: place / f"empty-{number}")
    assert _canary(place / "outside") == before
    assert {path.name.split("-")[0] for path in place.iterdir()} == {"outside", "empty"}
    real = os.path.realpath(place)
    for above, folders, _ in os.walk(place / "empty-0"):
        assert all(os.path.realpath(os.path.join(above, each)).startswith(real) for each in folders)


@pytest.mark.parametrize("overwrite", list(Overwrite))
@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_planted_links_are_not_followed(ground, overwrite, kind):
    """I10: links that wait in the target lead no write outside, whatever --overwrite says."""
    place, repository, snapshots = ground
    outside = place / "outside"
    before = _canary(outside)

    def target(number):
        path = place / f"planted-{overwrite}-{number}-{kind}"
        _plant(path, outside)
        return path

    _restore_all(place, repository, snapshots[::3], target, overwrite=overwrite, delete=True)
    assert _canary(outside) == before


def test_a_planter_at_work_is_not_followed(ground):
    """I10: somebody who exchanges names for links while the restore runs gains nothing."""
    place, repository, snapshots = ground
    outside, target = place / "outside", place / "raced"
    target.mkdir()
    before = _canary(outside)
    planter = os.fork()
    if planter == 0:
        _plant_for_ever(os.fsencode(target), os.fsencode(outside))
    try:
        until = time.monotonic() + 6
        rounds = 0
        while time.monotonic() < until:
            _restore_all(place, repository, snapshots, lambda _: target, delete=bool(rounds % 2))
            rounds += 1
    finally:
        os.kill(planter, signal.SIGKILL)
        _, status = os.waitpid(planter, 0)
    assert rounds
    assert os.WIFSIGNALED(status), "the planter was at work to the end"
    assert _canary(outside) == before


def _plant_for_ever(target, outside):
    """Never returns: the other process kills this one. Goes through no link itself."""
    rnd = random.Random(4711)
    ways = [
        lambda name, folder: os.symlink(outside, name, dir_fd=folder),
        lambda name, folder: os.symlink(outside + b"/secret", name, dir_fd=folder),
        lambda name, folder: os.link(outside + b"/secret", name, dst_dir_fd=folder),
        lambda name, folder: os.mkdir(name, dir_fd=folder),
    ]
    try:
        while True:
            folder = os.open(target, os.O_RDONLY)
            try:
                for name in rnd.choice([(), (b"dir",), (b"a",), (b"a", b"b")]):
                    above = folder
                    folder = os.open(
                        name, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY, dir_fd=above
                    )
                    os.close(above)
                name = rnd.choice(PLANTED)
                old = name + b"%d" % rnd.randrange(4)
                os.rename(name, old, src_dir_fd=folder, dst_dir_fd=folder)
                rnd.choice(ways)(name, folder)
            except OSError:
                pass
            finally:
                os.close(folder)
    finally:
        os._exit(1)
