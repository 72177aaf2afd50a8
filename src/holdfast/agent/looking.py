"""What an agent sees on its machine, for people who choose what to back up or where to restore."""

from __future__ import annotations

import os
import stat
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from holdfast.core.clock import SystemClock
from holdfast.core.errors import InvalidError, SourceMissingError
from holdfast.sources.modules import Asked, module

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.core.records import Json

_MOST: Final = 10_000
_SECTOR: Final = 512
_KINDS: Final = {
    stat.S_IFDIR: "dir", stat.S_IFREG: "file", stat.S_IFLNK: "symlink", stat.S_IFBLK: "dev",
    stat.S_IFCHR: "chardev", stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket",
}  # fmt: skip


def files(spec: Json) -> Json:
    """One level of a folder, by name; `more` where it has more than is told. Times are nanoseconds.

    Raises:
        InvalidError: the path is not absolute.
        SourceMissingError: it cannot be listed.
    """
    path = _path(spec, "/")
    found: list[Json] = []
    try:
        with os.scandir(os.fsencode(path)) as entries:
            for entry in entries:
                if len(found) >= _MOST:
                    return {"entries": _by_name(found), "more": True}
                found.append(_entry(entry))
    except OSError as error:
        raise SourceMissingError(f"{path} cannot be listed: {error.strerror}") from error
    return {"entries": _by_name(found), "more": False}


def _entry(entry: os.DirEntry[bytes]) -> Json:
    shown = {"name": _shown(entry.name), "path": _shown(entry.path)}
    try:
        seen = entry.stat(follow_symlinks=False)
    except OSError:  # it went, or nobody may look
        return shown | {"type": "", "size": 0, "mtime": 0}
    kind = _KINDS.get(stat.S_IFMT(seen.st_mode), "")
    return shown | {"type": kind, "size": seen.st_size, "mtime": seen.st_mtime_ns}


def devices(spec: Json, *, system: Path = Path("/sys/class/block")) -> Json:
    """The block devices below a folder of device files: disks, partitions, logical volumes.

    Raises:
        InvalidError: the path is not absolute.
    """
    below = _path(spec, "/dev").rstrip("/") + "/"
    mounts = dict(_mounts())
    found = []
    for place in sorted(system.iterdir()) if system.is_dir() else ():
        name = _read(place / "dm" / "name")
        path = f"/dev/mapper/{name}" if name else f"/dev/{place.name.replace('!', '/')}"
        if not path.startswith(below):
            continue
        found.append(
            {
                "name": name or place.name,
                "path": path,
                "size": int(_read(place / "size") or 0) * _SECTOR,
                "type": _device_kind(place),
                "mountpoint": mounts.get(path, ""),
            }
        )
    return {"devices": found}


def _device_kind(place: Path) -> str:
    if (place / "partition").exists():
        return "part"
    if (uuid := _read(place / "dm" / "uuid")).startswith("LVM-"):
        return "lvm"
    if uuid:
        return "dm"
    return "loop" if place.name.startswith("loop") else "disk"


def resources(spec: Json, scratch: Path) -> Json:
    """What a module could back up.

    Raises:
        InvalidError: there is no such module.
        SourceError: it cannot look.
    """
    asked = Asked(
        resource=str(spec.get("resource") or ""),
        parameters=dict(spec.get("parameters") or {}),
        scratch=scratch,
        clock=SystemClock(),
    )
    found = module(str(spec.get("module") or "")).resources(asked)
    return {"resources": [asdict(each) for each in found[:_MOST]], "more": len(found) > _MOST}


def _path(spec: Json, otherwise: str) -> str:
    path: Any = spec.get("path") or otherwise
    if not isinstance(path, str) or not path.startswith("/") or "\0" in path:
        text = f"{path!r} is no absolute path"
        raise InvalidError(text, fields={"path": ("relative", text)})
    return path


def _mounts() -> Iterator[tuple[str, str]]:
    for line in _read(Path("/proc/self/mounts")).splitlines():
        device, _, rest = line.partition(" ")
        if device.startswith("/"):
            yield device, rest.partition(" ")[0].encode().decode("unicode_escape")


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _by_name(found: list[Json]) -> list[Json]:
    return sorted(found, key=lambda each: str(each["name"]))
