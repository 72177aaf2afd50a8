"""LVM logical volumes, read from a snapshot that is there for the time of the backup.

The tree is that of a block device (`block`), under the name of the volume.
"""

from __future__ import annotations

import json
import os
import secrets
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.core.errors import InvalidError, SourceError, SourceMissingError
from holdfast.sources.devices.block import BlockDestination, device_tree, put_device_back
from holdfast.sources.devices.images import look, mounted
from holdfast.sources.modules import Resource
from holdfast.sources.parameters import described, parameters_of, read_settings
from holdfast.sources.tools import ask, find_tool

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holdfast.core.source import Kept, Source
    from holdfast.sources.modules import Asked

NAME = "lvm"
_SBIN = (Path("/usr/sbin"), Path("/sbin"))
_LIMIT = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LvmSettings:
    snapshot: bool = described(
        default=True,
        meaning="Read from a snapshot. If not, from the volume itself, which nobody may use then.",
    )
    snapshot_size: int = described(
        10,
        "Room of the snapshot for what is written to the volume meanwhile, in percent of it.",
        least=1,
    )
    tools: str = described("", "Folder of LVM's programs; they are looked for where empty.")


class LvmModule:
    """See `modules.Module`. A resource is a volume: `vg/lv`, or the path of its device."""

    name = NAME
    parameters = parameters_of(LvmSettings)
    putting_back = parameters_of(BlockDestination)

    def available(self) -> bool:
        try:
            find_tool(["lvs"], "", elsewhere=_SBIN)
        except SourceError:
            return False
        return True

    def check(self, asked: Asked) -> None:
        read_settings(LvmSettings, asked.parameters)
        if not asked.resource.strip("/"):
            text = "no volume was named"
            raise InvalidError(text, fields={"resource": ("missing", text)})

    def resources(self, asked: Asked) -> Sequence[Resource]:
        settings = read_settings(LvmSettings, asked.parameters)
        return [
            Resource(name=each["lv_path"], kind="volume", size=int(each["lv_size"]))
            for each in _volumes(settings)
        ]

    @contextmanager
    def open(self, asked: Asked) -> Iterator[Source]:
        self.check(asked)
        settings = read_settings(LvmSettings, asked.parameters)
        volume = _volume(asked.resource, settings)
        path = Path(volume["lv_path"])
        if not settings.snapshot:
            place = look(path)
            if use := mounted(path):
                raise SourceError(
                    f"{path} is {use}", remedy="Nothing was done. Say snapshot=true, or unmount it."
                )
            yield device_tree(NAME, place, path, asked)
            return
        with _snapshot(volume, settings) as taken:
            still_whole = partial(_refuse_overrun, settings, f"{volume['vg_name']}/{taken.name}")
            yield device_tree(NAME, look(taken), path, asked, ended=still_whole)

    def put_back(self, asked: Asked, kept: Kept) -> str:
        name = asked.resource
        if name and not name.startswith("/"):
            asked = replace(asked, resource=f"/dev/{name}")
        return put_device_back(asked, kept, NAME)


def _run(settings: LvmSettings, tool: str, *words: str) -> bytes:
    found = find_tool([tool], settings.tools, elsewhere=_SBIN)
    return ask([found, *words], os.environ | {"LC_ALL": "C"}, limit=_LIMIT)


def _volumes(settings: LvmSettings) -> list[dict[str, Any]]:
    """Those with a device. Raises SourceError where LVM does not answer."""
    words = ("--reportformat", "json", "--units", "b", "--nosuffix")
    answer = _run(settings, "lvs", *words, "-o", "lv_path,lv_size,vg_name,lv_name")
    report = json.loads(answer)["report"]
    return [each for part in report for each in part["lv"] if each["lv_path"]]


def _volume(name: str, settings: LvmSettings) -> dict[str, Any]:
    wanted = name if name.startswith("/") else f"/dev/{name}"
    volumes = _volumes(settings)
    for each in volumes:
        path = Path(each["lv_path"])
        if each["lv_path"] == wanted or (
            path.exists() and path.resolve() == Path(wanted).resolve()
        ):
            return each
    known = ", ".join(each["lv_path"] for each in volumes) or "none"
    raise SourceMissingError(f"there is no logical volume {name}; there is {known}")


@contextmanager
def _snapshot(volume: dict[str, Any], settings: LvmSettings) -> Iterator[Path]:
    """The path of a snapshot, which is removed again, however this ends.

    Raises:
        SourceError: there is no room for one.
    """
    name = f"holdfast_{secrets.token_hex(4)}"
    group = volume["vg_name"]
    _run(
        settings, "lvcreate", "--yes", "--quiet", "--snapshot", "--permission", "r",
        "--extents", f"{settings.snapshot_size}%ORIGIN", "--name", name,
        f"{group}/{volume['lv_name']}",
    )  # fmt: skip
    try:
        yield Path(volume["lv_path"]).with_name(name)
    finally:
        _run(settings, "lvremove", "--yes", "--quiet", f"{group}/{name}")


def _refuse_overrun(settings: LvmSettings, snapshot: str) -> None:
    """A snapshot that has no room left is invalid: what was read of it counts for nothing."""
    [status] = _run(settings, "lvs", "--noheadings", "-o", "lv_attr", snapshot).split()
    if status[4:5] in {b"I", b"S"}:
        raise SourceError(
            f"the snapshot {snapshot} ran full while it was read",
            remedy="What was read is no backup. Give it more room with snapshot_size.",
        )
