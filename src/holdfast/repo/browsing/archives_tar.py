"""A tar, part by part. Most members have a plain name, and get their header from here; for the
others, and for all that is rare, `tarfile` makes it. Both make the same.
"""

from __future__ import annotations

import os
import stat
import struct
import tarfile
from functools import lru_cache
from typing import TYPE_CHECKING

from holdfast.core.entries import Kind
from holdfast.core.errors import DamagedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.core.entries import Entry
    from holdfast.repo.browsing.archives_members import Member, Parts

_SECOND = 1_000_000_000
_BLOCK = tarfile.BLOCKSIZE
_TYPES = {
    Kind.FILE: tarfile.REGTYPE,
    Kind.DIR: tarfile.DIRTYPE,
    Kind.SYMLINK: tarfile.SYMTYPE,
    Kind.DEV: tarfile.BLKTYPE,
    Kind.CHARDEV: tarfile.CHRTYPE,
    Kind.FIFO: tarfile.FIFOTYPE,
}


def tar_parts(read: Parts) -> Iterator[bytes]:
    """Of what `Members.wanted` wants."""
    written = left = 0
    while batch := read.next():
        for member, content in batch:
            if member is not None:
                header = tar_header(member)
                written += len(header)
                left = member.size
                yield header
            if content:
                left -= len(content)
                written += len(content)
                yield content
                if not left:
                    padding = -written % _BLOCK
                    written += padding
                    yield bytes(padding)
    yield bytes(2 * _BLOCK + -(written + 2 * _BLOCK) % tarfile.RECORDSIZE)


def tar_header(member: Member) -> bytes:
    """All that comes before the content."""
    return _plain_header(member) or _tar_info(member).tobuf(tarfile.PAX_FORMAT, "utf-8")


# --- the usual case -------------------------------------------------------------------------------

_USTAR = struct.Struct("100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x")
_CHECKSUM_AT = 148
_LONGEST_NAME, _LONGEST_USER = 100, 32
_MOST_ID, _MOST_SIZE = 8**7, 8**11


def _plain_header(member: Member) -> bytes | None:
    """The header of what fits it, None of what does not."""
    path, entry, size, _, same_as = member
    name = path + b"/" if entry.kind is Kind.DIR else path
    link = same_as or entry.linktarget or b""
    seconds, fraction = divmod(entry.mtime, _SECOND)
    if (
        len(name) > _LONGEST_NAME
        or len(link) > _LONGEST_NAME
        or entry.xattrs
        or entry.kind in {Kind.DEV, Kind.CHARDEV}
        or not (name.isascii() and link.isascii())
        or not (0 <= entry.uid < _MOST_ID and 0 <= entry.gid < _MOST_ID)
        or not (0 <= seconds < _MOST_SIZE and size < _MOST_SIZE)
    ):
        return None
    owner = _owner(entry.uid, entry.gid, entry.user, entry.group)
    if owner is None:
        return None
    kind = tarfile.LNKTYPE if same_as is not None else _TYPES[entry.kind]
    header = _ustar(name, stat.S_IMODE(entry.mode), owner, size, seconds, kind, link)
    return _pax_mtime(_decimal(entry.mtime)) + header if fraction else header


_Owner = tuple[bytes, bytes, bytes, bytes]


@lru_cache(maxsize=1024)
def _owner(uid: int, gid: int, user: str, group: str) -> _Owner | None:
    if not (user.isascii() and group.isascii()) or max(len(user), len(group)) > _LONGEST_USER:
        return None
    return b"%07o" % uid, b"%07o" % gid, user.encode(), group.encode()


def _ustar(  # noqa: PLR0917  as the fields stand
    name: bytes, mode: int, owner: _Owner, size: int, seconds: int, kind: bytes, link: bytes
) -> bytes:
    uid, gid, user, group = owner
    block = bytearray(
        _USTAR.pack(
            name, b"%07o" % mode, uid, gid, b"%011o" % size, b"%011o" % seconds, b" " * 8,
            kind, link, tarfile.POSIX_MAGIC, user, group, b"", b"", b"",
        )
    )  # fmt: skip
    block[_CHECKSUM_AT : _CHECKSUM_AT + 7] = b"%06o\0" % sum(block)
    return bytes(block)


@lru_cache(maxsize=32)
def _pax_block(length: int) -> bytes:
    nobody = (b"%07o" % 0, b"%07o" % 0, b"", b"")
    return _ustar(b"././@PaxHeader", 0, nobody, length, 0, tarfile.XHDTYPE, b"")


def _pax_mtime(text: str) -> bytes:
    length = len(text) + len("NN mtime=\n")  # two digits for a length from 10 to 99
    record = b"%d mtime=%s\n" % (length, text.encode())
    return _pax_block(len(record)) + record.ljust(_BLOCK, b"\0")


# --- everything else ------------------------------------------------------------------------------


def _tar_info(member: Member) -> tarfile.TarInfo:
    path, entry, size, _, same_as = member
    info = tarfile.TarInfo(os.fsdecode(path))
    info.type = _TYPES[entry.kind]
    info.size = size
    info.mode = stat.S_IMODE(entry.mode)
    info.uid, info.gid = entry.uid, entry.gid
    info.uname, info.gname = entry.user, entry.group
    info.mtime = entry.mtime // _SECOND
    if same_as is not None:
        info.type, info.linkname = tarfile.LNKTYPE, os.fsdecode(same_as)
    elif entry.linktarget is not None:
        info.linkname = os.fsdecode(entry.linktarget)
    if entry.kind in {Kind.DEV, Kind.CHARDEV}:
        info.devmajor, info.devminor = os.major(entry.rdev), os.minor(entry.rdev)
    info.pax_headers = _pax_headers(entry)
    return info


def _pax_headers(entry: Entry) -> dict[str, str]:
    headers = {"mtime": _decimal(entry.mtime)} if entry.mtime % _SECOND else {}
    for name, value in entry.xattrs:
        acl = _ACL_HEADERS.get(name)
        if acl is not None:
            headers[acl] = acl_text(value)
        else:
            headers["SCHILY.xattr." + os.fsdecode(name)] = os.fsdecode(value)
    return headers


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
