"""Trees: a directory as the format keeps it, one JSON document whose nodes are sorted by raw name.

The text of a node is written by hand, to the letter as restic writes it, because equal text is
equal blobs.
"""

from __future__ import annotations

import base64
import binascii
import stat
from typing import TYPE_CHECKING

import msgspec

from holdfast.core.entries import Entry, Kind
from holdfast.core.errors import DamagedError
from holdfast.core.ids import BlobId
from holdfast.repo.format.gotext import (
    format_time,
    json_string,
    parse_time,
    quote_name,
    unquote_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_DIR, _SYMLINK, _DEVICE, _FIFO, _SOCKET = (1 << bit for bit in (31, 27, 26, 25, 24))
_SETUID, _SETGID, _CHARDEV, _STICKY = (1 << bit for bit in (23, 22, 21, 20))
_GO_TYPE = {
    Kind.FILE: 0,
    Kind.DIR: _DIR,
    Kind.SYMLINK: _SYMLINK,
    Kind.DEV: _DEVICE,
    Kind.CHARDEV: _DEVICE | _CHARDEV,
    Kind.FIFO: _FIFO,
    Kind.SOCKET: _SOCKET,
}
_UNIX_TYPE = {
    Kind.FILE: stat.S_IFREG,
    Kind.DIR: stat.S_IFDIR,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.DEV: stat.S_IFBLK,
    Kind.CHARDEV: stat.S_IFCHR,
    Kind.FIFO: stat.S_IFIFO,
    Kind.SOCKET: stat.S_IFSOCK,
}
_KINDS = {kind.value: kind for kind in Kind}
_LINKED = frozenset({Kind.FILE, Kind.SYMLINK, Kind.DEV, Kind.CHARDEV})


def to_go_mode(mode: int, kind: Kind) -> int:
    """Go's os.FileMode of an st_mode."""
    go = (mode & 0o777) | _GO_TYPE[kind]
    if mode & 0o7000:
        go |= (_SETUID if mode & stat.S_ISUID else 0) | (_SETGID if mode & stat.S_ISGID else 0)
        go |= _STICKY if mode & stat.S_ISVTX else 0
    return go


def to_unix_mode(go: int, kind: Kind) -> int:
    """The st_mode of Go's os.FileMode."""
    mode = (go & 0o777) | _UNIX_TYPE[kind]
    if go & _SETUID:
        mode |= stat.S_ISUID
    if go & _SETGID:
        mode |= stat.S_ISGID
    if go & _STICKY:
        mode |= stat.S_ISVTX
    return mode


class Xattr(msgspec.Struct, frozen=True, gc=False):
    name: str
    value: str | None = None


class Outline(msgspec.Struct, gc=False):
    """What of a node tells how it is restored: read in a third of the time."""

    type: str
    size: int = 0
    links: int = 0
    inode: int = 0


class Node(msgspec.Struct, gc=False):
    """One name in a tree, as stored. `content` holds hexadecimal blob names, `subtree` that of a
    directory's tree.
    """

    name: str
    type: str
    mode: int = 0
    mtime: str = ""
    atime: str = ""
    ctime: str = ""
    uid: int = 0
    gid: int = 0
    user: str = ""
    group: str = ""
    inode: int = 0
    device_id: int = 0
    size: int = 0
    links: int = 0
    linktarget: str = ""
    linktarget_raw: str = ""
    extended_attributes: tuple[Xattr, ...] | None = None
    device: int = 0
    content: list[str] | None = None
    subtree: str | None = None

    def raw_name(self) -> bytes:
        """Raises DamagedError where the name is not one that Go writes."""
        try:
            return unquote_name(self.name)
        except ValueError as error:
            raise DamagedError(f"a tree has an unreadable name: {error}") from error

    def blobs(self) -> Iterator[BlobId]:
        return map(blob_id, self.content or ())

    def times(self) -> tuple[int, int]:
        """Of access and modification, in nanoseconds since 1970. Raises DamagedError."""
        try:
            mtime = _time(self.mtime)
            return (mtime if self.atime == self.mtime else _time(self.atime)), mtime
        except ValueError as error:
            raise DamagedError(f"the entry {self.name!r} of a tree is damaged: {error}") from error

    def entry(self) -> Entry:
        """The node as an entry, for restoring.

        Raises:
            DamagedError: a field does not hold what it must.
        """
        try:
            kind = _KINDS.get(self.type) or Kind(self.type)
            mtime = _time(self.mtime)
            return Entry(  # in the order of its fields: this is called for every name restored
                self.raw_name(),
                kind,
                to_unix_mode(self.mode, kind),
                self.size,
                mtime,
                mtime if self.ctime == self.mtime else _time(self.ctime),
                mtime if self.atime == self.mtime else _time(self.atime),
                self.uid,
                self.gid,
                self.user,
                self.group,
                self.inode,
                self.device_id,
                self.device,
                self.links,
                self._link_target(),
                self._attributes(),
            )
        except (ValueError, binascii.Error) as error:
            raise DamagedError(f"the entry {self.name!r} of a tree is damaged: {error}") from error

    def _attributes(self) -> list[tuple[bytes, bytes]]:
        return [
            (
                x.name.encode("utf-8", "surrogateescape"),
                base64.b64decode(x.value or "", validate=True),
            )
            for x in self.extended_attributes or ()
        ]

    def points_to(self, target: bytes | None) -> bool:
        """Whether a symbolic link has this target; for anything else, whether that is none."""
        if self.linktarget_raw:
            return self.linktarget_raw == base64.b64encode(target or b"").decode()
        return self.linktarget.encode() == (target or b"")

    def has_attributes(self, attributes: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether these are its extended attributes, in whatever order."""
        try:
            return sorted(self._attributes()) == sorted(attributes)
        except ValueError:
            return False

    def _link_target(self) -> bytes | None:
        if self.linktarget_raw:
            return base64.b64decode(self.linktarget_raw, validate=True)
        return self.linktarget.encode() if self.linktarget else None


class _Tree(msgspec.Struct):
    nodes: list[Node] | None


class _TreeOutline(msgspec.Struct):
    nodes: list[Outline] | None


class _RawTree(msgspec.Struct):
    nodes: list[msgspec.Raw] | None


_decode_tree = msgspec.json.Decoder(_Tree).decode
_decode_outline = msgspec.json.Decoder(_TreeOutline).decode
_decode_raw_tree = msgspec.json.Decoder(_RawTree).decode


def _time(text: str) -> int:
    return parse_time(text) if text else 0


def blob_id(hexadecimal: str) -> BlobId:
    """Raises DamagedError where it is not 64 digits."""
    try:
        raw = bytes.fromhex(hexadecimal)
    except ValueError:
        raw = b""
    if len(raw) != 32:  # noqa: PLR2004  SHA-256
        raise DamagedError(f"{hexadecimal[:80]!r} is not the name of a blob")
    return BlobId(raw)


def decode_tree(document: bytes) -> list[Node]:
    """The nodes of a stored tree, in their order.

    Raises:
        DamagedError: it is not a tree.
    """
    try:
        return _decode_tree(document).nodes or []
    except msgspec.DecodeError as error:
        raise DamagedError(f"a tree cannot be read: {error}") from error


def decode_outline(document: bytes) -> list[Outline]:
    """As `decode_tree`, of each node what its outline has."""
    try:
        return _decode_outline(document).nodes or []
    except msgspec.DecodeError as error:
        raise DamagedError(f"a tree cannot be read: {error}") from error


def node_texts(document: bytes) -> list[bytes]:
    """The text of each node of a stored tree, in their order, so that it can be kept to the letter.

    Raises:
        DamagedError: it is not a tree.
    """
    try:
        return [bytes(raw) for raw in _decode_raw_tree(document).nodes or []]
    except msgspec.DecodeError as error:
        raise DamagedError(f"a tree cannot be read: {error}") from error


def decode_tree_texts(document: bytes) -> list[tuple[Node, bytes]]:
    """As `decode_tree`, each node with its own text."""
    return list(zip(decode_tree(document), node_texts(document), strict=True))


def node_text(
    entry: Entry, *, content: Sequence[BlobId] | None = None, subtree: BlobId | None = None
) -> bytes:
    """The JSON text of one node. `content` for files ([] for an empty one), `subtree` for
    directories.
    """
    mtime = format_time(entry.mtime)
    atime = mtime if entry.atime == entry.mtime else format_time(entry.atime)
    parts = [
        f'{{"name":{quote_name(entry.name)},"type":"{entry.kind}"',
        f',"mode":{to_go_mode(entry.mode, entry.kind)}',
        f',"mtime":"{mtime}","atime":"{atime}","ctime":"{format_time(entry.ctime)}"',
        f',"uid":{entry.uid},"gid":{entry.gid}',
    ]
    if entry.user:
        parts.append(f',"user":{json_string(entry.user)}')
    if entry.group:
        parts.append(f',"group":{json_string(entry.group)}')
    if entry.inode:
        parts.append(f',"inode":{entry.inode}')
    if entry.device:
        parts.append(f',"device_id":{entry.device}')
    if entry.size and entry.kind is Kind.FILE:
        parts.append(f',"size":{entry.size}')
    if entry.links and entry.kind in _LINKED:
        parts.append(f',"links":{entry.links}')
    if entry.linktarget:
        parts.append(_link_text(entry.linktarget))
    if entry.xattrs:
        parts.append(_xattr_text(entry.xattrs))
    if entry.rdev and entry.kind in {Kind.DEV, Kind.CHARDEV}:
        parts.append(f',"device":{entry.rdev}')
    if content is None:
        parts.append(',"content":null')
    elif content:
        parts.append(',"content":["' + '","'.join([blob.hex() for blob in content]) + '"]')
    else:
        parts.append(',"content":[]')
    if subtree is not None:
        parts.append(f',"subtree":"{subtree.hex()}"')
    parts.append("}")
    return "".join(parts).encode()


def _link_text(target: bytes) -> str:
    text = f',"linktarget":{json_string(target.decode("utf-8", "surrogateescape"))}'
    try:
        target.decode()
    except UnicodeDecodeError:
        text += f',"linktarget_raw":"{base64.b64encode(target).decode()}"'
    return text


def _xattr_text(xattrs: Iterable[tuple[bytes, bytes]]) -> str:
    items = ",".join(
        f'{{"name":{json_string(name.decode("utf-8", "surrogateescape"))}'
        f',"value":"{base64.b64encode(value).decode()}"}}'
        for name, value in xattrs
    )
    return f',"extended_attributes":[{items}]'


def tree_text(nodes: Iterable[bytes]) -> bytes:
    """The document of a tree from the texts of its nodes, which must be sorted by raw name. Ends
    with a newline as restic's.
    """
    return b'{"nodes":[' + b",".join(nodes) + b"]}\n"
