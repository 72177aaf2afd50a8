"""Entries of a tree as `ls` and `find` show them."""

import base64
from typing import TYPE_CHECKING, Any

from holdfast.cli.snapshots import local_time
from holdfast.repo.format.gotext import parse_time

if TYPE_CHECKING:
    from holdfast.cli.output import Output
    from holdfast.repo.format.tree import Node

_LETTERS = "dalTLDpSugct?"
_RIGHTS = "rwxrwxrwx"


def permissions(go_mode: int) -> str:
    """As Go and so restic writes a mode: "drwxr-xr-x", "Lrwxrwxrwx", "ugtrwx..."."""
    kind = "".join(letter for bit, letter in enumerate(_LETTERS) if go_mode & 1 << (31 - bit))
    rights = "".join(
        letter if go_mode & 1 << (8 - bit) else "-" for bit, letter in enumerate(_RIGHTS)
    )
    return (kind or "-") + rights


def long_line(output: "Output", path: bytes, node: "Node") -> str:
    """restic's `-l`: mode, owner, group, size, time, path, target of a link."""
    target = f" -> {output.shown(node.linktarget)}" if node.type == "symlink" else ""
    return (
        f"{permissions(node.mode)} {node.uid:5} {node.gid:5} {node.size:6} "
        f"{local_time(parse_time(node.mtime))} {output.shown(path)}{target}"
    )


def node_json(path: bytes, node: "Node") -> dict[str, Any]:
    """restic's object. Where the path is not UTF-8, `path_raw` has its bytes in base64."""
    fields: dict[str, Any] = {
        "name": path.rpartition(b"/")[2].decode(errors="replace"),
        "type": node.type,
        "path": path.decode(errors="replace"),
        "uid": node.uid,
        "gid": node.gid,
    }
    if node.type == "file":
        fields["size"] = node.size
    fields |= {
        "mode": node.mode,
        "permissions": permissions(node.mode),
        "mtime": node.mtime,
        "atime": node.atime,
        "ctime": node.ctime,
        "inode": node.inode,
    }
    return _with_raw(fields, path)


def found_json(path: bytes, node: "Node") -> dict[str, Any]:
    """restic's object of a match of `find`."""
    fields: dict[str, Any] = {
        "path": path.decode(errors="replace"),
        "permissions": permissions(node.mode),
        "type": node.type,
        "mode": node.mode,
        "mtime": node.mtime,
        "atime": node.atime,
        "ctime": node.ctime,
        "uid": node.uid,
        "gid": node.gid,
    }
    named = (
        ("user", node.user),
        ("group", node.group),
        ("device_id", node.device_id),
        ("size", node.size),
        ("links", node.links),
        ("linktarget", node.linktarget),
    )
    fields |= {name: value for name, value in named if value}
    return _with_raw(fields, path)


def _with_raw(fields: dict[str, Any], path: bytes) -> dict[str, Any]:
    try:
        path.decode()
    except UnicodeDecodeError:
        fields["path_raw"] = base64.b64encode(path).decode()
    return fields
