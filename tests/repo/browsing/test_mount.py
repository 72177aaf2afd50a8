"""A mounted repository looks like what was kept."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time

import pytest

from holdfast.core.errors import MountError
from holdfast.core.secret import Secret
from holdfast.repo.browsing.mount import REFRESH, View, mount
from holdfast.repo.format.snapshot import SnapshotFile
from holdfast.repo.repository import Repository
from holdfast.store.memory import MemoryStore
from holdfast.testing.fake_clock import FakeClock
from holdfast.testing.hostile_trees import Forger, node, symlink

NO_FUSE = not os.access("/dev/fuse", os.R_OK | os.W_OK)

SERVE = """
import sys
from pathlib import Path
from holdfast.core.secret import Secret
from holdfast.repo.browsing.mount import mount
from holdfast.repo.repository import Repository
from holdfast.store.directory import DirectoryStore
repository = Repository.open(DirectoryStore(sys.argv[1]), Secret("secret"))
mount(repository, Path(sys.argv[2]), wanted=lambda: list(repository.snapshots()),
      ready=lambda: print("ready", flush=True))
"""


@pytest.mark.interop
@pytest.mark.skipif(NO_FUSE, reason="this machine has no FUSE")
def test_a_real_mount_shows_restics_layout_and_content(stock_restic, tmp_path):
    """ids, snapshots, hosts and tags, each with `latest`; all of a file to the byte."""
    source, point = tmp_path / "source", tmp_path / "point"
    source.mkdir()
    point.mkdir()
    content = os.urandom(3 << 20)
    (source / "big").write_bytes(content)
    (source / "caf\u00e9 \n").write_text("text")
    (source / "link").symlink_to("big")
    with open(os.fsencode(source) + b"/\xff", "wb") as file:
        file.write(b"raw")
    os.setxattr(source / "big", "user.note", b"\0value")
    os.utime(source / "big", ns=(1, 1_600_000_000_123_456_789))
    restic = stock_restic(tmp_path / "repository")
    restic("init")
    restic("backup", "--tag", "one/two", "--host", "here", str(source))
    command = [sys.executable, "-c", SERVE, str(tmp_path / "repository"), str(point)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"ready\n"
            deadline = time.monotonic() + 10
            while not os.path.ismount(point) and time.monotonic() < deadline:
                time.sleep(0.01)
            assert sorted(os.listdir(point)) == ["hosts", "ids", "snapshots", "tags"]
            for way in ("snapshots/latest", "hosts/here/latest", "tags/one_two/latest"):
                kept = point / way / source.relative_to("/")
                assert sorted(os.listdir(os.fsencode(kept))) == sorted(
                    os.listdir(os.fsencode(source))
                )
            assert (kept / "big").read_bytes() == content
            with (kept / "big").open("rb") as file:
                file.seek((2 << 20) - 5)
                assert file.read(10) == content[(2 << 20) - 5 : (2 << 20) + 5]
            assert (kept / "big").stat().st_mtime_ns == 1_600_000_000_123_456_789
            assert os.getxattr(kept / "big", "user.note") == b"\0value"
            assert os.readlink(kept / "link") == "big"
            with pytest.raises(OSError, match="Read-only"):
                (kept / "new").touch()
            with pytest.raises(FileNotFoundError):
                (kept / "nothing").stat()
        finally:
            subprocess.run(["fusermount3", "-u", point], check=True)
            assert process.wait(10) == 0


@pytest.fixture
def forger():
    return Forger(Repository.init(MemoryStore(), Secret("x"), clock=FakeClock()))


def test_hostile_names_are_not_shown(forger):
    """What no name may be, and the second entry of a name, cannot be reached."""
    forger.snapshot(
        forger.tree([
            forger.file(b"..", b"1"), forger.file(b"a/b", b"2"), forger.file(b"", b"3"),
            forger.file(b"ok", b"4"), symlink(b"ok", "/"), node(b"dir", "dir"),
        ])
    )  # fmt: skip
    view = View(forger.repository, lambda: list(forger.repository.snapshots()))
    (snapshot,) = forger.repository.snapshots()
    top = b"/ids/" + snapshot.short.encode()
    assert view.names(top) == [b"ok", b"dir"]
    handle = view.open(top + b"/ok")
    assert view.read(handle, 0, 100) == b"4"
    view.release(handle)
    with pytest.raises(OSError, match="tree") as caught:
        view.names(top + b"/dir")
    assert caught.value.errno == errno.EIO


def test_new_snapshots_show_up(forger):
    """A minute later what was backed up meanwhile is there; equal times get a number."""
    repository = forger.repository
    view = View(repository, lambda: list(repository.snapshots()))
    assert view.names(b"/snapshots") == []
    tree = forger.tree([]).hex()
    for host in ("..", "b"):
        repository.save_snapshot(
            SnapshotFile(time="2020-02-02T02:02:02.5Z", tree=tree, paths=["/"], hostname=host)
        )
    assert view.names(b"/") == [b"ids", b"snapshots", b"hosts", b"tags"]
    assert view.names(b"/snapshots") == []
    repository.clock.sleep(REFRESH)
    repository.load_index = lambda: repository.index
    assert view.names(b"/") == [b"ids", b"snapshots", b"hosts", b"tags"]
    assert sorted(view.names(b"/hosts")) == [b"_", b"b"]
    times = sorted(view.names(b"/snapshots"))
    assert len(times) == 3
    assert times[1] == times[0] + b"-1"
    assert view.link_target(b"/snapshots/latest") == times[1]


def test_a_mount_without_a_folder_is_refused(forger, tmp_path):
    """The message says what is missing."""
    with pytest.raises(MountError, match="not a directory"):
        mount(forger.repository, tmp_path / "none", wanted=list)


def test_where_fuse_refuses_that_is_said(forger, tmp_path, monkeypatch):
    """What keeps FUSE from mounting becomes a sentence, not a traceback."""
    mfusepy = pytest.importorskip("mfusepy")

    def refuse(*args, **kwargs):
        raise RuntimeError(1)

    monkeypatch.setattr(mfusepy, "FUSE", refuse)
    with pytest.raises(MountError, match="does not mount"):
        mount(forger.repository, tmp_path, wanted=list)
