"""What files a backup of a plain pool is made of, and what each must be.

`.holdfast/lists/<uid>.jsonl` has one line for each file, directory and link, checked like those of
the journal, and a last one that counts them. A backup of one file has a list only where that file
has several blocks; its line's path is empty.
"""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from holdfast.core.entries import Kind
from holdfast.core.errors import DamagedError
from holdfast.service.keeping.digests import Content
from holdfast.service.keeping.disk import write_all
from holdfast.service.keeping.journal import line_of, record_of
from holdfast.service.keeping.naming import HOUSE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from holdfast.service.keeping.disk import Root

FOLDER: Final = "lists"
_GATHERED: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Member:
    """One file, directory or link of a backup. `path` is relative; `mode` permission bits only."""

    path: bytes
    kind: Kind
    mode: int = 0
    mtime: int = 0
    content: Content | None = None
    """of a file"""
    target: bytes = b""
    """of a link"""

    def digest_line(self) -> bytes:
        """What of it counts for the digest of a tree: name, kind and content."""
        what = self.content.sha256.encode() if self.content else self.target
        return self.path + b"\0" + self.kind.encode() + b"\0" + what + b"\n"


def tree_digest(lines: Iterable[bytes]) -> str:
    """Of a tree, from its members' lines in any order, in hexadecimal."""
    whole = hashlib.sha256()
    for line in sorted(lines):
        whole.update(line)
    return whole.hexdigest()


def list_parts(uid: str) -> tuple[str, ...]:
    return HOUSE, FOLDER, f"{uid}.jsonl"


class ListWriter:
    """A new list. It stands when `end` has returned."""

    def __init__(self, root: Root, uid: str) -> None:
        self._root = root
        self._uid = uid
        self._count = 0
        self._gathered = bytearray()
        *folder, name = list_parts(uid)
        with root.folder(folder, create=True) as lists:
            self._descriptor = root.disk.create(lists, name)

    def add(self, member: Member) -> None:
        self._count += 1
        self._gathered += line_of(_plain(member))
        if len(self._gathered) >= _GATHERED:
            self._write()

    def end(self) -> None:
        """Durable when it returns."""
        self._gathered += line_of({"end": self._count})
        self._write()
        self._root.disk.sync(self._descriptor)
        with self._root.folder(list_parts(self._uid)[:-1]) as lists:
            self._root.disk.sync(lists)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self) -> None:
        write_all(self._root.disk, self._descriptor, self._gathered)
        self._gathered.clear()


def members(root: Root, uid: str) -> Iterator[Member]:
    """What the list says, in the order in which it came.

    Raises:
        DamagedError: it is not there, a line is damaged, or lines are missing.
    """
    count = 0
    try:
        descriptor = root.open_file(list_parts(uid))
    except FileNotFoundError as error:
        raise _damaged(uid, "is gone") from error
    with os.fdopen(descriptor, "rb") as lines:
        for line in lines:
            record = record_of(line.rstrip(b"\n"))
            if record is None:
                raise _damaged(uid, "is damaged")
            if "end" in record:
                if record["end"] == count:
                    return
                break
            count += 1
            yield _member(record)
    raise _damaged(uid, "is not whole")


def _damaged(uid: str, how: str) -> DamagedError:
    return DamagedError(
        f"the list of the files of backup {uid} {how}",
        remedy="The files themselves are where they were. Bring the list back from another copy of "
        f"the pool: {'/'.join(list_parts(uid))}.",
    )


def _plain(member: Member) -> dict[str, Any]:
    record: dict[str, Any] = {"kind": str(member.kind), "mode": member.mode, "mtime": member.mtime}
    record |= _text("path", member.path)
    if member.content is not None:
        record |= {"size": member.content.size, "sha256": member.content.sha256}
        if member.content.blocks:
            record["blocks"] = list(member.content.blocks)
    if member.kind is Kind.SYMLINK:
        record |= _text("target", member.target)
    return record


def _text(name: str, value: bytes) -> dict[str, str]:
    """As text, or where it is none in base64 under another name."""
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}


def _bytes(record: dict[str, Any], name: str) -> bytes:
    if f"{name}_base64" in record:
        return base64.b64decode(record[f"{name}_base64"])
    return str(record.get(name, "")).encode()


def _member(record: dict[str, Any]) -> Member:
    kind = Kind(record["kind"])
    content = None
    if kind is Kind.FILE:
        content = Content(record["size"], record["sha256"], tuple(record.get("blocks", ())))
    return Member(
        path=_bytes(record, "path"),
        kind=kind,
        mode=record["mode"],
        mtime=record["mtime"],
        content=content,
        target=_bytes(record, "target"),
    )
