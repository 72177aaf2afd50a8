"""Writes a file's content, or a directory as one archive, into a stream, in memory that does not
grow with their size.

Names keep their bytes: a tar says so in its PAX headers, a zip has them as they are.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import tarfile
import zipfile
from dataclasses import dataclass, field
from enum import StrEnum
from time import gmtime
from typing import TYPE_CHECKING, BinaryIO

from holdfast.core.entries import Kind
from holdfast.core.errors import DamagedError, RestoreError, UsageError
from holdfast.repo.browsing.names import check_name
from holdfast.repo.browsing.reading import BlobReader
from holdfast.repo.browsing.walk import resolve, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdfast.core.entries import Entry
    from holdfast.core.ids import BlobId
    from holdfast.repo.browsing.walk import Step
    from holdfast.repo.format.crypto import Buffer
    from holdfast.repo.format.tree import Node
    from holdfast.repo.repository import Repository

_SECOND = 1_000_000_000
_AHEAD = 64
"""Blobs that are asked of a distant store together."""
_ZIP_FIRST_YEAR, _ZIP_LAST_YEAR = 1980, 2107


class Archive(StrEnum):
    TAR = "tar"
    ZIP = "zip"


def dump(
    repository: Repository,
    tree: BlobId,
    path: bytes,
    out: BinaryIO,
    *,
    archive: Archive = Archive.TAR,
    on_problem: Callable[[bytes, str], None] | None = None,
) -> None:
    """Writes what `path` leads to: the content of a file, or an archive of a directory.

    What an archive cannot hold (a socket, an impossible name) is told to `on_problem` and left out.

    Raises:
        PathNotFoundError: the snapshot has no such path.
        UnreadableError: a blob is in no place whole; what was written before is incomplete.
        UsageError: it is neither a file nor a directory.
    """
    found = resolve(repository, tree, path)
    reader = BlobReader(repository)
    try:
        if found.tree is not None:
            entries = _entries(repository, found.tree, on_problem or _pass_over)
            write = _write_tar if archive is Archive.TAR else _write_zip
            write(entries, reader, out, on_problem or _pass_over)
        elif found.node is not None and found.node.type == "file":
            out.writelines(_content(reader, found.node))
        else:
            shown = path.decode("utf-8", "backslashreplace")
            raise UsageError(f"{shown!r} has no content", remedy="Name a file or a directory.")
    finally:
        reader.close()


def _pass_over(_path: bytes, _message: str) -> None:
    pass


def _content(reader: BlobReader, node: Node) -> Iterator[memoryview]:
    blobs = list(node.blobs())
    for start in range(0, len(blobs), _AHEAD):
        ahead = blobs[start : start + _AHEAD]
        reader.expect(ahead)
        for blob in ahead:
            yield reader.read(blob)


def _entries(
    repository: Repository, tree: BlobId, on_problem: Callable[[bytes, str], None]
) -> Iterator[tuple[bytes, Entry, Node]]:
    """What an archive shall hold, with paths relative to its top."""

    def enter(step: Step) -> bool:
        return step.path not in refused

    refused: set[bytes] = set()
    for step in walk(
        repository,
        tree,
        enter=enter,
        unreadable=lambda path, error: on_problem(path, error.message),
    ):
        try:
            entry = step.node.entry()
            check_name(entry.name)
        except (DamagedError, RestoreError) as error:
            refused.add(step.path)
            on_problem(step.path, error.message)
            continue
        yield step.path[1:], entry, step.node


class _Stream(io.RawIOBase):
    """A file's content, read once from its beginning."""

    def __init__(self, pieces: Iterator[memoryview]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        parts = []
        while size > 0:
            if not self._rest:
                self._rest = next(self._pieces, memoryview(b""))
                if not self._rest:
                    break
            part = bytes(self._rest[:size])
            self._rest = self._rest[len(part) :]
            size -= len(part)
            parts.append(part)
        return b"".join(parts)


# --- tar ------------------------------------------------------------------------------------------

_TAR_TYPES = {
    Kind.FILE: tarfile.REGTYPE,
    Kind.DIR: tarfile.DIRTYPE,
    Kind.SYMLINK: tarfile.SYMTYPE,
    Kind.DEV: tarfile.BLKTYPE,
    Kind.CHARDEV: tarfile.CHRTYPE,
    Kind.FIFO: tarfile.FIFOTYPE,
}


@dataclass(slots=True)
class _Links:
    """Which files of an archive are further names of one that is in it already."""

    first: dict[tuple[int, int, int], bytes] = field(default_factory=dict)

    def earlier(self, path: bytes, entry: Entry, node: Node) -> bytes | None:
        if entry.kind is not Kind.FILE or entry.links < 2 or not entry.inode:  # noqa: PLR2004
            return None
        content = hash(tuple(node.content or ()))
        first = self.first.setdefault((entry.device, entry.inode, content), path)
        return None if first is path else first


def _write_tar(
    entries: Iterator[tuple[bytes, Entry, Node]],
    reader: BlobReader,
    out: BinaryIO,
    on_problem: Callable[[bytes, str], None],
) -> None:
    links = _Links()
    with tarfile.open(
        fileobj=out, mode="w|", format=tarfile.PAX_FORMAT, encoding="utf-8"
    ) as archive:
        for path, entry, node in entries:
            kind = _TAR_TYPES.get(entry.kind)
            if kind is None:
                on_problem(b"/" + path, f"a tar cannot hold a {entry.kind}")
                continue
            member = _tar_member(path, entry, kind)
            earlier = links.earlier(path, entry, node)
            if earlier is not None:
                member.type, member.linkname = tarfile.LNKTYPE, os.fsdecode(earlier)
            if member.type == tarfile.REGTYPE:
                member.size = sum(map(reader.length, node.blobs()))
                archive.addfile(member, _Stream(_content(reader, node)))
            else:
                archive.addfile(member)
            archive.members = []  # type: ignore[attr-defined]  # or it would keep each of them


def _tar_member(path: bytes, entry: Entry, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(os.fsdecode(path))
    member.type = kind
    member.mode = stat.S_IMODE(entry.mode)
    member.uid, member.gid = entry.uid, entry.gid
    member.uname, member.gname = entry.user, entry.group
    member.mtime = entry.mtime // _SECOND
    headers = {"mtime": _decimal(entry.mtime)} if entry.mtime % _SECOND else {}
    if entry.linktarget is not None:
        member.linkname = os.fsdecode(entry.linktarget)
    if entry.kind in {Kind.DEV, Kind.CHARDEV}:
        member.devmajor, member.devminor = os.major(entry.rdev), os.minor(entry.rdev)
    for name, value in entry.xattrs:
        acl = _ACL_HEADERS.get(name)
        if acl is not None:
            headers[acl] = acl_text(value)
        else:
            headers["SCHILY.xattr." + os.fsdecode(name)] = os.fsdecode(value)
    member.pax_headers = headers
    return member


def _decimal(nanoseconds: int) -> str:
    sign = "-" if nanoseconds < 0 else ""
    seconds, fraction = divmod(abs(nanoseconds), _SECOND)
    return f"{sign}{seconds}.{fraction:09}"


_ACL_HEADERS = {
    b"system.posix_acl_access": "SCHILY.acl.access",
    b"system.posix_acl_default": "SCHILY.acl.default",
}
_ACL_ENTRY = struct.Struct("<HHI")
_ACL_TAGS = {1: "user", 2: "user", 4: "group", 8: "group", 16: "mask", 32: "other"}
_ACL_NAMED = {2, 8}


def acl_text(value: bytes) -> str:
    """An access control list as the kernel keeps it, in the words of `setfacl`.

    Raises:
        DamagedError: it is none.
    """
    lines = []
    try:
        for tag, permissions, who in _ACL_ENTRY.iter_unpack(value[4:]):
            letters = "".join(
                letter if permissions & bit else "-"
                for letter, bit in (("r", 4), ("w", 2), ("x", 1))
            )
            lines.append(f"{_ACL_TAGS[tag]}:{who if tag in _ACL_NAMED else ''}:{letters}")
    except (struct.error, KeyError) as error:
        raise DamagedError("an access control list is damaged") from error
    return "\n".join(lines) + "\n"


# --- zip ------------------------------------------------------------------------------------------


class _ZipMember(zipfile.ZipInfo):
    """A member whose name is bytes: the standard library would only take what is UTF-8."""

    _UTF8 = 0x800

    def __init__(self, path: bytes, mtime: int) -> None:
        super().__init__(os.fsdecode(path), _zip_time(mtime))
        self._path = path

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802  the name of what it overrides
        try:
            self._path.decode()
        except UnicodeDecodeError:
            return self._path, self.flag_bits
        return self._path, self.flag_bits | (0 if self._path.isascii() else self._UTF8)


def _zip_time(nanoseconds: int) -> tuple[int, int, int, int, int, int]:
    at = gmtime(max(nanoseconds // _SECOND, 0))
    year = min(max(at.tm_year, _ZIP_FIRST_YEAR), _ZIP_LAST_YEAR)
    return year, at.tm_mon, at.tm_mday, at.tm_hour, at.tm_min, at.tm_sec


def _write_zip(
    entries: Iterator[tuple[bytes, Entry, Node]],
    reader: BlobReader,
    out: BinaryIO,
    on_problem: Callable[[bytes, str], None],
) -> None:
    with zipfile.ZipFile(_Forward(out), "w", zipfile.ZIP_DEFLATED) as archive:
        for path, entry, node in entries:
            if entry.kind not in {Kind.FILE, Kind.DIR, Kind.SYMLINK}:
                on_problem(b"/" + path, f"a zip cannot hold a {entry.kind}")
                continue
            member = _ZipMember(path + (b"/" if entry.kind is Kind.DIR else b""), entry.mtime)
            member.create_system = 3  # Unix: the mode is in the upper half
            member.external_attr = entry.mode << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            if entry.kind is Kind.DIR:
                member.external_attr |= 0x10
                member.compress_type = zipfile.ZIP_STORED
            with archive.open(member, "w", force_zip64=entry.size >= zipfile.ZIP64_LIMIT) as into:
                if entry.kind is Kind.SYMLINK:
                    into.write(entry.linktarget or b"")
                for piece in _content(reader, node) if entry.kind is Kind.FILE else ():
                    into.write(piece)


class _Forward(io.RawIOBase):
    """A stream that cannot go back, whatever the one below can: sizes then follow each member."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out

    def writable(self) -> bool:
        return True

    def write(self, content: Buffer, /) -> int:  # type: ignore[override]  # one kind less
        self._out.write(content)
        return len(content)

    def flush(self) -> None:
        if not self.closed:
            self._out.flush()
