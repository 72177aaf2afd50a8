"""Snapshots that nobody's backup program would make, to see that giving them back does no harm."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from holdfast.core.ids import BlobId
from holdfast.repo.format.codec import Codec
from holdfast.repo.format.gotext import quote_name
from holdfast.repo.format.pack import BlobKind, PackBuffer, store_pack
from holdfast.repo.format.snapshot import Snapshot, SnapshotFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from holdfast.repo.repository import Repository

_TIME = "2020-02-02T02:02:02Z"
_MODES = {
    "dir": 0o755 | 1 << 31,
    "symlink": 0o777 | 1 << 27,
    "dev": 0o600 | 1 << 26,
    "chardev": 0o600 | 1 << 26 | 1 << 21,
    "fifo": 0o600 | 1 << 25,
    "socket": 0o600 | 1 << 24,
}

Fields = dict[str, object]


@dataclass(slots=True)
class Forger:
    """Writes any tree into a repository, whatever it says."""

    repository: Repository
    _written: set[BlobId] = field(default_factory=set)

    def blob(self, content: bytes, kind: BlobKind = BlobKind.DATA) -> BlobId:
        """Stores one blob; its id."""
        blob = BlobId(hashlib.sha256(content).digest())
        if blob not in self._written:
            buffer = PackBuffer(self.repository.objects.cipher, Codec(), capacity=len(content))
            buffer.add(blob, kind, content)
            blobs = list(buffer.blobs)
            pack = store_pack(self.repository.store, buffer.finish(), blobs)
            self.repository.index.add_pack(pack.id, pack.blobs)
            self._written.add(blob)
        return blob

    def tree(self, nodes: Sequence[bytes]) -> BlobId:
        """Stores a tree with these nodes, in this order."""
        return self.blob(b'{"nodes":[' + b",".join(nodes) + b"]}\n", BlobKind.TREE)

    def snapshot(self, tree: BlobId) -> Snapshot:
        file = SnapshotFile(time=_TIME, tree=tree.hex(), paths=["/"], hostname="mallory")
        return self.repository.save_snapshot(file)

    def file(self, name: bytes, content: bytes = b"hostile", fields: Fields | None = None) -> bytes:
        blobs = [self.blob(content).hex()] if content else []
        return node(name, "file", {"content": blobs, "size": len(content), **(fields or {})})

    def folder(self, name: bytes, nodes: Sequence[bytes] = ()) -> bytes:
        return node(name, "dir", {"subtree": self.tree(nodes).hex()})


def node(name: bytes, kind: str, fields: Mapping[str, object] | None = None) -> bytes:
    """The text of a node; `fields` may say anything."""
    said: Fields = {
        "type": kind, "mode": _MODES.get(kind, 0o4777),
        "mtime": _TIME, "atime": _TIME, "ctime": _TIME,
        "uid": 4711, "gid": 4711,
    }  # fmt: skip
    said.update(fields or {})
    return b'{"name":' + quote_name(name).encode() + b"," + msgspec.json.encode(said)[1:]


def symlink(name: bytes, target: str) -> bytes:
    return node(name, "symlink", {"linktarget": target})


@dataclass(frozen=True, slots=True)
class HostileTree:
    what: str
    tree: BlobId


def hostile_trees(forger: Forger, outside: str) -> Iterator[HostileTree]:
    """More than two hundred trees that try to reach the directory `outside`, beside the target.

    Names that are likely to be planted: a, b, c, dir, file.
    """
    for what, nodes in _attacks(forger, outside):
        yield HostileTree(what, forger.tree(nodes))
        inner = forger.folder(b"dir", nodes)
        yield HostileTree(f"{what}, one directory down", forger.tree([inner]))
        yield HostileTree(
            f"{what}, three directories down",
            forger.tree([forger.folder(b"a", [forger.folder(b"b", [inner])])]),
        )


def _attacks(forger: Forger, outside: str) -> Iterator[tuple[str, list[bytes]]]:
    yield from _names(forger, outside)
    yield from _links(forger, outside)
    yield from _twins(forger, outside)
    yield from _confusions(forger, outside)


def hostile_names(outside: str) -> tuple[bytes, ...]:
    """Names that are not what a single file can be called."""
    return (
        b"", b".", b"..", b"/", b"//", b"../outside/new", b"../../outside/new",
        outside.encode() + b"/new", b"a/../../outside/new", b"a/b", b"dir/", b"/file", b"\0",
        b"file\0/../../outside", b"..\0", b"../", b"./", b"..//outside",
    )  # fmt: skip


def _names(forger: Forger, outside: str) -> Iterator[tuple[str, list[bytes]]]:
    for name in hostile_names(outside):
        yield f"a file named {name!r}", [forger.file(name)]
        yield f"a directory named {name!r}", [forger.folder(name, [forger.file(b"file")])]
    yield "a link named ..", [symlink(b"..", outside), forger.file(b"file")]
    yield "a device named ../outside/null", [node(b"../outside/null", "chardev", {"device": 259})]


def _links(forger: Forger, outside: str) -> Iterator[tuple[str, list[bytes]]]:
    tree = forger.tree([forger.file(b"file")]).hex()
    for target in (outside, "../outside", "../../../../outside", "/proc/self/cwd", ".", ".."):
        link = symlink(b"dir", target)
        child = forger.folder(b"dir", [forger.file(b"file"), symlink(b"c", outside)])
        yield f"a link to {target}, then a directory of its name", [link, child]
        yield f"a directory, then a link to {target} of its name", [child, link]
        yield f"a link to {target}, then a file of its name", [link, forger.file(b"dir")]
        yield f"a link to {target} with a tree", [
            node(b"dir", "symlink", {"linktarget": target, "subtree": tree})
        ]  # fmt: skip


def _twins(forger: Forger, outside: str) -> Iterator[tuple[str, list[bytes]]]:
    same: Fields = {"inode": 77, "device_id": 5, "links": 2}
    link = {"linktarget": outside + "/secret", **same}
    yield "two files of one name", [forger.file(b"file", b"one"), forger.file(b"file", b"two")]
    yield (
        "two directories of one name",
        [
            forger.folder(b"dir", [symlink(b"a", outside)]),
            forger.folder(b"dir", [forger.folder(b"a", [forger.file(b"file")])]),
        ],
    )
    yield "a hard link to a link to a file outside", [
        node(b"a", "symlink", link), forger.file(b"b", b"hostile", same),
    ]  # fmt: skip
    yield "hard links of different contents", [
        forger.file(b"a", b"one", same), forger.file(b"b", b"two", same),
    ]  # fmt: skip
    yield "a hard link named ../outside/x", [
        forger.file(b"a", b"hostile", same), forger.file(b"../outside/x", b"hostile", same),
    ]  # fmt: skip
    yield (
        "hard links of one name",
        [forger.file(b"a", b"hostile", same), forger.file(b"a", b"hostile", same)],
    )
    yield "a device that is a hard link of a file", [
        node(b"a", "chardev", {"device": 259, **same}), forger.file(b"b", b"hostile", same),
    ]  # fmt: skip
    yield "linked links", [node(b"a", "symlink", link), node(b"b", "symlink", link)]
    yield "names that differ in case only", [
        symlink(b"A", outside), forger.folder(b"a", [forger.file(b"file")]),
    ]  # fmt: skip
    yield "names that differ in composition only", [
        symlink("é".encode(), outside), forger.folder("e\u0301".encode(), [forger.file(b"file")]),
    ]  # fmt: skip


def _confusions(forger: Forger, outside: str) -> Iterator[tuple[str, list[bytes]]]:
    tree = forger.tree([forger.file(b"file")]).hex()
    blob = forger.blob(b"hostile").hex()
    empty: Fields = {"content": []}
    for what, hostile in (
        ("a directory without a tree", node(b"dir", "dir")),
        ("a directory whose tree is data", node(b"dir", "dir", {"subtree": blob})),
        ("a directory whose tree is nowhere", node(b"dir", "dir", {"subtree": "ab" * 32})),
        ("a directory whose tree is no name", node(b"dir", "dir", {"subtree": "../../x"})),
        ("a file with a tree", node(b"file", "file", {"subtree": tree, **empty})),
        ("a file whose content is a tree", node(b"file", "file", {"content": [tree], "size": 9})),
        ("a file whose content is nowhere", node(b"file", "file", {"content": ["cd" * 32]})),
        ("a file whose content is no name", node(b"file", "file", {"content": ["/etc/passwd"]})),
        ("a file of a wild size", node(b"file", "file", {"size": 1 << 62, "content": [blob]})),
        ("a file of a wild mode", node(b"file", "file", {"mode": (1 << 32) - 1, **empty})),
        ("a file of a far time", node(b"file", "file", {"mtime": "9999-12-31T00:00:00Z", **empty})),
        ("a file with no time", node(b"file", "file", {"mtime": "yesterday", **empty})),
        ("a file of a wild owner", node(b"file", "file", {"uid": (1 << 32) - 2, **empty})),
        ("a file with a wild attribute", node(b"file", "file", {
            "extended_attributes": [{"name": "user." + "x" * 300, "value": "eA=="}], **empty})),
        ("a file with an attribute that is no base64", node(b"file", "file", {
            "extended_attributes": [{"name": "user.x", "value": "?"}], **empty})),
        ("a link without a target", node(b"a", "symlink")),
        ("a link with a NUL", symlink(b"a", outside + "\0x")),
        ("a thing of no type", node(b"a", "")),
        ("a thing of an unknown type", node(b"a", "irregular")),
        ("a disk", node(b"a", "dev", {"device": 64768})),
        ("a device of a wild number", node(b"a", "chardev", {"device": (1 << 63) + 5})),
        ("a socket with content", node(b"a", "socket", {"content": [blob]})),
    ):  # fmt: skip
        yield what, [hostile, forger.file(b"c", b"harmless")]
