"""The facts of a backup as tags of its snapshot, from which a catalog is made anew (I7).

restic separates tags by commas on its command line, so values carry none: commas, percent signs,
control characters and what is not text are percent-encoded.
"""

from __future__ import annotations

import json
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import unquote_to_bytes

from holdfast.core.records import Face, Shape, Target
from holdfast.service.keeping.contract import FoundBackup, Kept, Order

if TYPE_CHECKING:
    from holdfast.repo.format.snapshot import Snapshot

E = TypeVar("E", bound=StrEnum)

_PREFIX: Final = "holdfast:"
_NOT_PLAIN = re.compile(r"[%,\x00-\x1f\x7f\ud800-\udfff]")
_YES: Final = "yes"


def tags_of(order: Order) -> list[str]:
    """What is known before the content has come."""
    target = order.target
    values = {
        "backup": order.uid,
        "target": target.uid,
        "target-name": target.name,
        "face": str(target.face),
        "shape": str(target.shape),
        "name": order.name,
        "manual": _YES if order.manual else "no",
        "location": target.location,
        "template": target.name_template or "",
        "alias": target.alias or "",
        "facts": json.dumps(order.facts, sort_keys=True) if order.facts else "",
    }
    return [_tag(name, value) for name, value in values.items() if value]


def closing_tags(*, folder: str, size: int, files: int, sha256: str) -> list[str]:
    """What is known at its end. `folder`: the one of the snapshot below which the content lies."""
    values = {"folder": folder, "size": str(size), "files": str(files), "sha256": sha256}
    return [_tag(name, value) for name, value in values.items()]


def folder_of(snapshot: Snapshot) -> str:
    """Below which folder the content of a snapshot lies; empty: its top."""
    return _values(snapshot).get("folder", "")


def forgotten_tags(snapshot: Snapshot) -> list[str]:
    """The tags of a snapshot that shall be a backup no more."""
    was, now = f"{_PREFIX}backup=", f"{_PREFIX}forgotten="
    return [now + tag.removeprefix(was) if tag.startswith(was) else tag for tag in snapshot.tags]


def is_backup(snapshot: Snapshot) -> bool:
    return any(tag.startswith(f"{_PREFIX}backup=") for tag in snapshot.tags)


def found_in(snapshot: Snapshot, repository_id: int) -> FoundBackup:
    """The backup that a snapshot says it is. Only where `is_backup`. Tags that somebody else has
    changed into nonsense count as not there: the backup is found all the same.
    """
    values = _values(snapshot)
    target = Target(
        uid=values.get("target", ""),
        name=values.get("target-name", ""),
        face=_one_of(Face, values.get("face"), Face.HOLDFAST),
        shape=_one_of(Shape, values.get("shape"), Shape.SINGLE),
        pool_id=0,
        location=values.get("location", ""),
        name_template=values.get("template"),
        alias=values.get("alias"),
    )
    order = Order(
        uid=values["backup"],
        target=target,
        name=values.get("name", ""),
        received=snapshot.time,
        manual=values.get("manual", _YES) == _YES,
        facts=_facts(values.get("facts", "")),
    )
    summary = snapshot.file.summary
    kept = Kept(
        size=_number(values.get("size"), summary.total_bytes_processed if summary else 0),
        stored=summary.data_added_packed if summary else 0,
        files=_number(values.get("files"), summary.total_files_processed if summary else 1),
        sha256=values.get("sha256", ""),
        repository_id=repository_id,
        snapshot=snapshot.id,
    )
    return FoundBackup(order, kept)


def _one_of(kind: type[E], text: str | None, otherwise: E) -> E:
    return kind(text) if text in set(kind) else otherwise


def _number(text: str | None, otherwise: int) -> int:
    return int(text) if text is not None and text.isdecimal() else otherwise


def _facts(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _tag(name: str, value: str) -> str:
    return f"{_PREFIX}{name}={_NOT_PLAIN.sub(_encoded, value)}"


def _encoded(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", "surrogatepass"))


def _values(snapshot: Snapshot) -> dict[str, str]:
    values = {}
    for tag in snapshot.tags:
        name, found, value = tag.partition("=")
        if found and name.startswith(_PREFIX):
            values[name.removeprefix(_PREFIX)] = unquote_to_bytes(value).decode(
                "utf-8", "surrogatepass"
            )
    return values
