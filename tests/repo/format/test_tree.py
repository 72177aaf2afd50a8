from __future__ import annotations

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.entries import Entry, Kind
from holdfast.core.errors import DamagedError
from holdfast.core.ids import BlobId
from holdfast.repo.format.tree import (
    decode_tree,
    decode_tree_texts,
    node_text,
    to_go_mode,
    to_unix_mode,
    tree_text,
)

_TYPES = {
    Kind.FILE: stat.S_IFREG,
    Kind.DIR: stat.S_IFDIR,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.DEV: stat.S_IFBLK,
    Kind.CHARDEV: stat.S_IFCHR,
    Kind.FIFO: stat.S_IFIFO,
    Kind.SOCKET: stat.S_IFSOCK,
}


@given(st.sampled_from(list(Kind)), st.integers(0, 0o7777))
def test_modes_survive(kind, permissions):
    """Every mode of every kind comes back from Go's form, set-id and sticky bits included."""
    mode = _TYPES[kind] | permissions
    assert to_unix_mode(to_go_mode(mode, kind), kind) == mode


names = st.binary(min_size=1, max_size=20).filter(lambda n: b"/" not in n and b"\0" not in n)
times = st.integers(0, 4_000_000_000 * 10**9)
number = st.integers(0, 2**31)
entries = st.builds(
    Entry,
    name=names,
    kind=st.just(Kind.FILE),
    mode=st.integers(0, 0o7777).map(lambda m: m | stat.S_IFREG),
    size=number,
    mtime=times,
    ctime=times,
    atime=times,
    uid=number,
    gid=number,
    user=st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    group=st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    inode=number,
    device=number,
    links=number,
    xattrs=st.lists(st.tuples(st.sampled_from([b"user.a", b"user.b"]), st.binary(max_size=9))),
)


@given(entries, st.lists(st.binary(min_size=32, max_size=32).map(BlobId), max_size=3))
def test_files_survive(entry, content):
    """A file's node, written and read, is the entry that was written."""
    (node,) = decode_tree(tree_text([node_text(entry, content=content)]))
    assert node.entry() == entry
    assert list(node.blobs()) == content


def test_a_link_target_that_is_not_utf8_survives():
    """Byte-exact link targets go into a field of their own, as newer restic does."""
    entry = Entry(b"link", Kind.SYMLINK, mode=stat.S_IFLNK | 0o777, linktarget=b"to/\xff\n")
    (node,) = decode_tree(tree_text([node_text(entry)]))
    assert node.entry().linktarget == b"to/\xff\n"


def test_texts_are_kept_to_the_letter():
    """Reading with texts gives exactly the bytes of each node."""
    texts = [
        node_text(Entry(name, Kind.FILE, mode=stat.S_IFREG), content=[]) for name in (b"a", b"b")
    ]
    assert [text for _, text in decode_tree_texts(tree_text(texts))] == texts


def test_the_text_is_restics():
    """The order and form of the fields are restic's."""
    entry = Entry(
        b"f", Kind.FILE, mode=stat.S_IFREG | 0o644, size=3, mtime=0, ctime=0, inode=7, links=1
    )
    text = node_text(entry, content=[BlobId(bytes(32))]).decode()
    fields = [part.split(":")[0].strip('{"') for part in text.split(',"')]
    assert fields == [
        "name", "type", "mode", "mtime", "atime", "ctime", "uid", "gid",
        "inode", "size", "links", "content",
    ]  # fmt: skip


@pytest.mark.parametrize("document", [b"", b"{}", b"[]", b'{"nodes":3}', b'{"nodes":[{"name":1}]}'])
def test_what_is_no_tree_is_damage(document):
    """I4: anything but a tree is an error, never an empty directory."""
    with pytest.raises(DamagedError):
        decode_tree(document)


def test_a_null_list_is_an_empty_directory():
    """restic writes null for no nodes; that is a tree."""
    assert decode_tree(b'{"nodes":null}\n') == []


@pytest.mark.parametrize("field", ['"type":"door"', '"mtime":"never"', '"linktarget_raw":"%%"'])
def test_impossible_fields_are_damage(field):
    """A node whose fields cannot be is an error when it is to be restored."""
    base = '"type":"file",' if "type" not in field else ""
    (node,) = decode_tree(
        b'{"nodes":[{"name":"a",%s%s,"content":null}]}' % (base.encode(), field.encode())
    )
    with pytest.raises(DamagedError):
        node.entry()
