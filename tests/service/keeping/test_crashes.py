"""A plain pool whose disk fails, or whose process is killed, at every single step."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from itertools import count

import pytest

from holdfast.core.errors import HoldfastError
from holdfast.core.progress import Silence
from holdfast.service.keeping.disk import Disk
from holdfast.service.keeping.in_folder import FolderKeeper

MIB = 1 << 20
STEPS = (
    "make_folder", "create", "symlink", "write", "sync", "link", "rename", "unlink",
    "remove_folder", "cut",
)  # fmt: skip


class CountingDisk(Disk):
    """Comes to `meet` before each step; a write is half done by then."""

    def __init__(self, at):
        self.at = at
        self.taken = 0
        self._lock = threading.Lock()

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if name not in STEPS:
            return found

        def step(*args):
            with self._lock:
                self.taken += 1
                last = self.taken == self.at
            if last:
                if name == "write":
                    os.write(args[0], args[1][: len(args[1]) // 2])
                self.meet()
            return found(*args)

        return step

    def meet(self):
        raise NotImplementedError


class DyingDisk(CountingDisk):
    def meet(self):
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)


class FailingDisk(CountingDisk):
    def __init__(self, at, number):
        super().__init__(at)
        self.number = number

    def meet(self):
        raise OSError(self.number, os.strerror(self.number))


def keeper_on(root, record, disk=None):
    keeper = FolderKeeper(root, record, pool="pool-1", disk=disk)
    keeper.prepare(create=True)
    return keeper


class Story:
    """Everything a keeper does, one act after another; `told` says what has been acknowledged."""

    def __init__(self, place, told):
        self.place = place
        self.told = told

    def acts(self):
        return [
            self.put, self.put_large, self.put_tree, self.recycle, self.bring_back, self.rename,
            self.put_together, self.delete, self.delete_tree,
        ]  # fmt: skip

    def put(self):
        backup = self.place.put(b"small", name="small", uid="small")
        self.told("kept", backup.uid)

    def put_large(self):
        backup = self.place.put(b"x" * (MIB + 1), name="large", uid="large")
        self.told("kept", backup.uid)

    def put_tree(self):
        files = {b"a": b"1", b"d/b": b"22"}
        self.told("kept", self.place.put_tree(files, name="tree", uid="tree").uid)

    def recycle(self):
        for uid in ("small", "tree"):
            self.place.keeper.move(self.place.rows[uid], recycled=True)

    def bring_back(self):
        for uid in ("small", "tree"):
            self.place.keeper.move(self.place.rows[uid], recycled=False)

    def rename(self):
        for uid in ("small", "tree"):
            self.place.keeper.rename(self.place.rows[uid], f"new/{uid}")

    def put_together(self):
        streams = []
        try:
            for number in range(3):
                wanted = self.place.order("same", uid=f"u{number}")
                streams.append(self.place.keeper.begin(wanted))
                streams[-1].write(b"together")
        except HoldfastError:
            for stream in streams:
                stream.abandon()
            raise
        for number, future in enumerate([stream.finish() for stream in streams]):
            future.result(20)
            self.told("kept", f"u{number}")

    def delete(self):
        self.told("going", "large")
        self.place.keeper.delete(self.place.rows["large"])
        self.told("gone", "large")

    def delete_tree(self):
        self.told("going", "tree")
        self.place.keeper.delete(self.place.rows["tree"])
        self.told("gone", "tree")


def check(root, lines):
    """What must hold after any crash, and after the start that follows it."""
    words = [line.split() for line in lines]
    kept = {uid for word, uid in words if word == "kept"}
    going = {uid for word, uid in words if word == "going"}
    gone = {uid for word, uid in words if word == "gone"}
    for _ in range(2):  # a second start finds nothing to do
        keeper = keeper_on(root, lambda _: {})
        found = {each.order.uid for each in keeper.found()}
        assert kept - going <= found, "acknowledged and lost"
        assert not gone & found, "deleted and there"
        assert keeper.problems(read_data=True, progress=Silence()) == [], "half of something"
        keeper.close()
        assert list((root / ".holdfast" / "tmp").glob("*")) == []
        lists = {path.name.removesuffix(".jsonl") for path in (root / ".holdfast/lists").glob("*")}
        assert lists <= found
    return found


def _lived(pid):
    """Whether a child came to its end by itself."""
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.WEXITSTATUS(status) == 0
    return True


def _tell_story(new_place, root, at, into):
    """In the child."""
    ok = False
    try:
        with open(into, "ab", buffering=0) as file:
            place = new_place(lambda record: keeper_on(root, record, DyingDisk(at)))
            story = Story(place, lambda word, uid: file.write(f"{word} {uid}\n".encode()))
            for act in story.acts():
                act()
            place.keeper.close()
            ok = True
    finally:
        os._exit(0 if ok else 1)


def _killed_at(new_place, folder, at):
    """Whether it came to its end before that step."""
    folder.mkdir()
    root, into = folder / "plain", folder / "told"
    pid = os.fork()
    if pid == 0:
        _tell_story(new_place, root, at, into)
    lived = _lived(pid)
    check(root, into.read_text().splitlines() if into.exists() else [])
    return lived


def _killed_at_steps(new_place, tmp_path, first, stride):
    for at in count(first, stride):
        if _killed_at(new_place, tmp_path / str(at), at):
            assert at > 90
            return


@pytest.mark.parametrize("first", [1, 4])
def test_killed_before_some_steps_it_loses_nothing(new_place, tmp_path, first):
    """I1, I5."""
    _killed_at_steps(new_place, tmp_path, first, 7)


@pytest.mark.long
def test_killed_before_every_step_it_loses_nothing(new_place, tmp_path):
    """I1, I5."""
    _killed_at_steps(new_place, tmp_path, 1, 1)


def _fail_at(new_place, root, at, number):
    disk = FailingDisk(at, number)
    lines = []
    try:
        place = new_place(lambda record: keeper_on(root, record, disk))
    except HoldfastError:
        check(root, [])
        return disk.taken >= at
    story = Story(place, lambda word, uid: lines.append(f"{word} {uid}"))
    for act in story.acts():
        try:
            act()
        except (HoldfastError, KeyError):
            continue  # what was not kept cannot be moved
    place.keeper.close()
    check(root, lines)
    return disk.taken >= at


@pytest.mark.parametrize(("number", "first"), [(errno.EIO, 1), (errno.EIO, 4), (errno.ENOSPC, 2)])
def test_where_some_steps_fail_it_loses_nothing(new_place, tmp_path, number, first):
    """I1."""
    for at in count(first, 7):
        if not _fail_at(new_place, tmp_path / str(at), at, number):
            assert at > 90
            return


@pytest.mark.long
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EACCES])
def test_where_every_step_fails_once_it_loses_nothing(new_place, tmp_path, number):
    """I1."""
    for at in count(1):
        if not _fail_at(new_place, tmp_path / str(at), at, number):
            return
