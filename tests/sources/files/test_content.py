"""A file is read as it is, and never another one in its place."""

import errno
import os
import pickle
import shutil
import stat
import subprocess
import time
from unittest import mock

import pytest

from holdfast.core.entries import Kind
from holdfast.sources.files import descriptors
from holdfast.sources.files.source import FileSource

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def seen(root, walk):
    """Opens a file as a worker does, by what the walk saw of it at a given moment."""
    source = FileSource([root])

    class Seen:
        def __init__(self):
            self.entries = walk(source).entries

        def open(self, name):
            path = os.path.join(root, name)
            return source.open(path, self.entries[path])

        def xattrs(self, name):
            path = os.path.join(root, name)
            return source.xattrs(path, self.entries[path])

    return Seen


def _read(content):
    parts = []
    buffer = bytearray(1000)
    while count := content.readinto(memoryview(buffer)):
        parts.append(bytes(buffer[:count]))
    return b"".join(parts)


def test_a_file_is_read_to_its_end_and_again(root, make, seen):
    """Reading goes on from the position, which can be set."""
    data = os.urandom(2500)
    make(root, {"file": data})

    content = seen().open(b"file")

    assert _read(content) == data
    content.seek(2000)
    assert _read(content) == data[2000:]
    assert content.unchanged()
    content.close()


def test_the_entry_of_an_open_file_is_what_the_descriptor_says(root, make, seen):
    """Not what the scan saw, if that has changed."""
    make(root, {"file": b"old"})
    before = seen()
    with open(root + b"/file", "ab") as file:
        file.write(b" and new")

    content = before.open(b"file")

    assert before.entries[root + b"/file"].size == 3
    assert content.entry.size == 11
    assert content.entry.name == b"file"
    assert content.entry.user == before.entries[root + b"/file"].user
    content.close()


@pytest.mark.parametrize("change", ["append", "truncate", "touch", "rewrite", "chmod"])
def test_a_change_while_reading_is_noticed(root, make, seen, change):
    """F27: size, mtime or ctime give it away."""
    make(root, {"file": b"some content"})
    path = root + b"/file"
    content = seen().open(b"file")
    assert content.unchanged()
    time.sleep(0.02)  # file times tick with the kernel's timer

    if change == "append":
        with open(path, "ab") as file:
            file.write(b"x")
    elif change == "truncate":
        os.truncate(path, 3)
    elif change == "touch":
        os.utime(path)
    elif change == "rewrite":
        mtime = os.stat(path).st_mtime_ns
        with open(path, "r+b") as file:
            file.write(b"SOME")
        os.utime(path, ns=(mtime, mtime))
    else:
        os.chmod(path, 0o640)

    assert not content.unchanged()
    content.close()


@pytest.mark.timeout(30)
@pytest.mark.parametrize("put", ["link", "pipe", "folder", "nothing", "folder above"])
def test_what_was_put_in_place_of_a_file_is_not_read(root, make, seen, put):
    """F28: only a regular file is, and through no link; a pipe there blocks nobody."""
    make(root, {"in/file": b"seen", "other/file": b"secret"})
    before = seen()
    path = root + b"/in/file"
    os.rename(path, root + b"/was")
    if put == "link":
        os.symlink(b"../other/file", path)
    elif put == "pipe":
        os.mkfifo(path)
    elif put == "folder":
        os.mkdir(path)
    elif put == "folder above":
        os.rename(root + b"/in", root + b"/was above")
        os.symlink(b"other", root + b"/in")

    with pytest.raises(OSError) as raised:  # noqa: PT011  the number is compared
        before.open(b"in/file")

    assert raised.value.errno == (errno.ENOENT if put == "nothing" else errno.ESTALE)


@pytest.mark.parametrize("put", ["file", "file, without /proc", "folder above"])
def test_a_file_that_was_replaced_is_read_as_it_is_now(root, make, seen, monkeypatch, put):
    """Editors and browsers write a new file and rename it: the new one is kept, not none."""
    if put.endswith("/proc"):
        monkeypatch.setattr(descriptors, "name_of", lambda _: b"/no/proc")
    make(root, {"in/file": b"old", "new/file": b"new content"})
    before = seen()
    if put.startswith("file"):
        os.rename(root + b"/new/file", root + b"/in/file")
    else:
        os.rename(root + b"/in", root + b"/was")
        os.rename(root + b"/new", root + b"/in")

    content = before.open(b"in/file")

    facts = os.stat(root + b"/in/file")
    assert _read(content) == b"new content"
    assert (content.entry.name, content.entry.size) == (b"file", 11)
    assert (content.entry.inode, content.entry.mtime) == (facts.st_ino, facts.st_mtime_ns)
    assert content.unchanged()
    content.close()


def test_a_replaced_file_is_found_below_each_kind_of_root(root, make, walk, monkeypatch):
    """A root that is a file, one behind a link, the working directory, and roots in each other."""
    make(root, {"real/folder/file": b"old", "alone": b"old", "here/in/file": b"old"})
    os.symlink(b"real", root + b"/link")
    monkeypatch.chdir(os.fsdecode(root + b"/here"))
    source = FileSource([root + b"/link/folder", b"../alone", b".", b"in/file"])
    entries = walk(source, relative=True).entries
    count = len(os.listdir("/proc/self/fd"))

    for path, entry in entries.items():
        if entry.kind is Kind.FILE:
            make(root, {"new": b"new"})
            os.rename(root + b"/new", path)
            content = source.open(path, entry)
            assert _read(content) == b"new"
            content.close()
    assert {os.path.relpath(p, root) for p, e in entries.items() if e.kind is Kind.FILE} == {
        b"link/folder/file", b"alone", b"here/in/file",
    }  # fmt: skip
    assert len(os.listdir("/proc/self/fd")) == count


def test_a_file_that_is_replaced_all_the_time_is_read_each_time(root, make, seen):
    """Whatever is there when it is opened is whole: none is lost to the next replacement."""
    make(root, {"file": b"first"})
    before = seen()
    child = os.fork()
    if child == 0:
        try:
            while True:
                make(root, {"new": b"other"})
                os.rename(root + b"/new", root + b"/file")
        finally:
            os._exit(1)
    try:
        read = []
        for _ in range(2000):
            content = before.open(b"file")
            read.append(_read(content))
            content.close()
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert {b"other"} <= set(read) <= {b"first", b"other"}


def test_a_file_is_read_where_its_folder_is_reached_by_another_way(root, make, seen):
    """A folder that moved and left a link behind still leads to the very file."""
    make(root, {"in/file": b"seen"})
    before = seen()
    os.rename(root + b"/in", root + b"/moved")
    os.symlink(b"moved", root + b"/in")

    content = before.open(b"in/file")

    assert _read(content) == b"seen"
    content.close()


def test_only_regular_files_are_opened(root, make, seen):
    """A folder has no content."""
    make(root, {"folder/": b""})
    with pytest.raises(OSError, match="not a regular file"):
        seen().open(b"folder")


def test_reading_leaves_the_access_time_alone(root, make, seen):
    """A backup is not a use."""
    make(root, {"file": b"content"})
    os.utime(root + b"/file", ns=(0, time.time_ns()))  # older than the change: would be updated

    content = seen().open(b"file")
    _read(content)
    content.close()

    assert os.stat(root + b"/file").st_atime_ns == 0


@needs_root
def test_foreign_files_can_be_read_too(public, make, walk, unprivileged):
    """Who may not leave the access time alone reads all the same."""
    make(public, {"file": b"of root"})
    os.chmod(public + b"/file", 0o644)
    source = FileSource([public])
    entry = walk(source).entries[public + b"/file"]

    def read():
        content = source.open(public + b"/file", entry)
        return _read(content)

    assert unprivileged(read) == b"of root"


def test_a_file_that_may_not_be_read_is_an_error(public, make, walk, unprivileged):
    """F26: the keeper hears why."""
    make(public, {"file": b"closed"})
    os.chmod(public + b"/file", 0)
    source = FileSource([public])
    entry = walk(source).entries[public + b"/file"]

    def read():
        with pytest.raises(PermissionError):
            source.open(public + b"/file", entry)
        return "denied"

    assert unprivileged(read) == "denied"


def test_a_source_works_in_other_processes(root, make, walk, in_child):
    """By fork as it is, and pickled."""
    make(root, {"file": b"content"})
    os.symlink(b"file", root + b"/link")
    source = FileSource([root])
    entries = walk(source).entries
    copy = pickle.loads(pickle.dumps(source))

    for each in (source, copy):
        content = in_child(
            lambda each=each: _read(each.open(root + b"/file", entries[root + b"/file"]))
        )
        assert content == b"content"
    assert list(copy.walk()) == list(source.walk())


def test_without_proc_files_are_still_compared_before_reading(root, make, seen, monkeypatch):
    """Where no /proc is mounted, a file is opened by its path and compared once open."""
    monkeypatch.setattr(descriptors, "name_of", lambda descriptor: b"/no/proc/%d" % descriptor)
    monkeypatch.setattr("holdfast.sources.files.source.name_of", lambda _: b"/no/proc")
    make(root, {"file": b"seen", "folder/": b""})
    os.setxattr(root + b"/folder", "user.a", b"1")
    before = seen()

    content = before.open(b"file")
    assert _read(content) == b"seen"
    content.close()
    assert before.xattrs(b"folder") == [(b"user.a", b"1")]


def test_without_o_path_files_are_still_compared_before_reading(root, make, seen, monkeypatch):
    """Systems without it open by path: never a link, never waiting, and compared once open."""
    monkeypatch.setattr(descriptors, "HOLD", 0)
    make(root, {"file": b"seen", "other": b"replaced"})
    before = seen()
    content = before.open(b"file")
    assert _read(content) == b"seen"
    content.close()

    count = len(os.listdir("/proc/self/fd"))
    os.rename(root + b"/other", root + b"/file")
    content = before.open(b"file")
    assert _read(content) == b"replaced"
    content.close()
    os.unlink(root + b"/file")
    os.mkfifo(root + b"/file")
    with pytest.raises(OSError, match="exchanged"):
        before.open(b"file")
    assert len(os.listdir("/proc/self/fd")) == count


# --- holes ----------------------------------------------------------------------------------------

BLOCK = 1 << 20


def _sparse(path, blocks):
    """Writes data and holes: blocks is a string of D and H."""
    with open(path, "wb") as file:
        for number, block in enumerate(blocks):
            if block == "D":
                file.seek(number * BLOCK)
                file.write(bytes([number + 1]) * BLOCK)
        file.truncate(len(blocks) * BLOCK)
    if os.stat(path).st_blocks * 512 >= len(blocks) * BLOCK:
        pytest.skip("this file system makes no holes")


@pytest.mark.parametrize("blocks", ["HDHHD", "DHHHH", "HHHH", "DHDHD"])
def test_holes_are_known(root, seen, blocks):
    """F22: at each position the length of the hole that begins there; asking does not move."""
    _sparse(root + b"/file", blocks)
    content = seen().open(b"file")

    for number, block in enumerate(blocks):
        content.seek(number * BLOCK)
        rest = blocks[number:]
        hole = len(rest) - len(rest.lstrip("H")) if block == "H" else 0
        assert content.skip_hole() == hole * BLOCK
        buffer = bytearray(10)
        assert content.readinto(memoryview(buffer)) == 10
        assert buffer == bytes([number + 1 if block == "D" else 0]) * 10
    content.seek(len(blocks) * BLOCK)
    assert content.skip_hole() == 0
    content.close()


def test_a_dense_file_has_no_holes(root, make, seen):
    """Nor has an empty one."""
    make(root, {"file": b"x" * 10_000, "empty": b""})
    before = seen()
    for name in (b"file", b"empty"):
        content = before.open(name)
        assert content.skip_hole() == 0
        content.close()


def test_a_file_that_shrinks_has_no_hole_of_negative_length(root, seen):
    """The size that counts is that at opening; what is gone meanwhile reads as the end."""
    _sparse(root + b"/file", "HHHHD")
    content = seen().open(b"file")
    content.seek(3 * BLOCK)
    os.truncate(root + b"/file", BLOCK)

    assert content.skip_hole() >= 0
    assert _read(content) == b""
    assert not content.unchanged()
    content.close()


def test_holes_are_unknown_where_the_system_does_not_tell(root, seen, monkeypatch):
    """Then they read as zeros."""
    _sparse(root + b"/file", "HD")
    content = seen().open(b"file")
    lseek = os.lseek

    def hooked(descriptor, offset, whence):
        if whence == os.SEEK_DATA:
            raise OSError(errno.EINVAL, "Invalid argument")
        return lseek(descriptor, offset, whence)

    monkeypatch.setattr(os, "lseek", hooked)
    assert content.skip_hole() == 0
    content.close()


# --- extended attributes --------------------------------------------------------------------------


def test_extended_attributes_are_byte_exact(root, make, seen):
    """F24: names and values are bytes of any kind, empty ones too; the order is the kernel's."""
    make(root, {"file": b"", "folder/": b""})
    values = {b"user.z": b"\0\xff\n", b"user.a": b"", b"user.\xff\xfe": b"x" * 1000}
    for path in (root + b"/file", root + b"/folder"):
        for name, value in values.items():
            os.setxattr(path, name, value)
    before = seen()

    content = before.open(b"file")
    assert sorted(content.xattrs()) == sorted(values.items())
    content.close()
    assert sorted(before.xattrs(b"folder")) == sorted(values.items())


@needs_root
def test_attributes_of_links_and_pipes_are_their_own(root, make, seen):
    """F24: those of the link, not of what it leads to; nothing is opened."""
    make(root, {"file": b""})
    os.setxattr(root + b"/file", "user.of", b"file")
    os.symlink(b"file", root + b"/link")
    os.mkfifo(root + b"/pipe")
    for name in (b"/link", b"/pipe"):
        os.setxattr(root + name, "trusted.of", name, follow_symlinks=False)
    before = seen()

    assert before.xattrs(b"link") == [(b"trusted.of", b"/link")]
    assert before.xattrs(b"pipe") == [(b"trusted.of", b"/pipe")]


@pytest.mark.skipif(not shutil.which("setfacl"), reason="no setfacl here")
def test_access_lists_and_capabilities_come_as_attributes(root, make, seen):
    """F24: POSIX ACLs, default ACLs and file capabilities."""
    make(root, {"file": b"", "folder/": b""})
    try:
        subprocess.run(["setfacl", "-m", "u:12345:r", root + b"/file"], check=True)
        subprocess.run(["setfacl", "-d", "-m", "g:54321:rw", root + b"/folder"], check=True)
    except subprocess.CalledProcessError:
        pytest.skip("this file system keeps no access lists")
    names = [b"system.posix_acl_access"]
    if os.geteuid() == 0:
        capability = b"\1\0\0\2\0\4\0\0" + bytes(12)
        os.setxattr(root + b"/file", "security.capability", capability)
        names.insert(0, b"security.capability")
    before = seen()

    content = before.open(b"file")
    assert sorted(name for name, _ in content.xattrs()) == names
    assert dict(content.xattrs())[b"system.posix_acl_access"] == os.getxattr(
        root + b"/file", "system.posix_acl_access"
    )
    content.close()
    assert [name for name, _ in before.xattrs(b"folder")] == [b"system.posix_acl_default"]


def test_attributes_of_something_else_are_not_given(root, make, seen):
    """F28: here, too, device and inode are compared."""
    make(root, {"folder/": b"", "other/": b""})
    before = seen()
    os.rmdir(root + b"/folder")
    os.symlink(b"other", root + b"/folder")

    with pytest.raises(OSError, match="exchanged"):
        before.xattrs(b"folder")


def test_attributes_that_do_not_exist_are_none_and_forbidden_ones_an_error(root, make, seen):
    """A file system without attributes is no trouble; not being allowed to read them is."""
    make(root, {"folder/": b""})
    before = seen()

    def refuse(number):
        return mock.patch.object(os, "listxattr", side_effect=OSError(number, "refused"))

    with refuse(errno.ENOTSUP):
        assert before.xattrs(b"folder") == []
    for number in (errno.EACCES, errno.EPERM):
        with refuse(number), pytest.raises(PermissionError):
            before.xattrs(b"folder")


def test_a_value_that_cannot_be_read_is_an_error(root, make, seen, monkeypatch):
    """It is not passed over in silence."""
    make(root, {"folder/": b""})
    os.setxattr(root + b"/folder", "user.a", b"1")
    before = seen()
    monkeypatch.setattr(os, "getxattr", mock.Mock(side_effect=OSError(errno.EIO, "broken")))
    with pytest.raises(OSError, match="broken"):
        before.xattrs(b"folder")


def test_an_attribute_removed_meanwhile_is_left_out(root, make, seen, monkeypatch):
    """Between the list of names and the values one may go."""
    make(root, {"folder/": b""})
    os.setxattr(root + b"/folder", "user.stays", b"1")
    before = seen()
    monkeypatch.setattr(os, "listxattr", lambda *_, **__: ["user.gone", "user.stays"])

    assert before.xattrs(b"folder") == [(b"user.stays", b"1")]


@needs_root
def test_setuid_bits_and_devices_survive_opening(root, make, seen):
    """What the open file says of itself is a whole entry."""
    make(root, {"file": b"x"})
    os.chmod(root + b"/file", 0o6755)
    content = seen().open(b"file")
    assert content.entry.mode == stat.S_IFREG | 0o6755
    assert (content.entry.user, content.entry.group) == ("root", "root")
    content.close()
