"""Which names are ours, and where restic's repository layout puts them."""

from __future__ import annotations

import re
from typing import Final

from holdfast.store.contract import CONFIG_NAME, FileKind

_DIGEST = re.compile(r"[0-9a-f]{64}")
_PACK_FOLDER = re.compile(r"[0-9a-f]{2}")

FOLDERS: Final = tuple(kind.value for kind in FileKind if kind is not FileKind.CONFIG)
PACK_FOLDERS: Final = tuple(f"{number:02x}" for number in range(256))


def is_name(kind: FileKind, name: str) -> bool:
    """64 hexadecimal digits in lower case, or "config" for CONFIG."""
    if kind is FileKind.CONFIG:
        return name == CONFIG_NAME
    return _DIGEST.fullmatch(name) is not None


def check_name(kind: FileKind, name: str) -> None:
    """Every store calls this at its door, so that no caller's mistake becomes a path.

    Raises:
        ValueError: not a name of this kind.
    """
    if not is_name(kind, name):
        wanted = f"only {CONFIG_NAME!r}" if kind is FileKind.CONFIG else "64 hexadecimal digits"
        raise ValueError(f"{name!r} names nothing in {kind}: {wanted} would")


def is_pack_folder(name: str) -> bool:
    return _PACK_FOLDER.fullmatch(name) is not None


def relative_path(kind: FileKind, name: str) -> str:
    """The object's place below a repository's root: "data/2f/2f1c...", "keys/90ab...", "config".

    Raises:
        ValueError: not a name of this kind.
    """
    check_name(kind, name)
    if kind is FileKind.PACK:
        return f"data/{name[:2]}/{name}"
    return CONFIG_NAME if kind is FileKind.CONFIG else f"{kind}/{name}"


def describe(kind: FileKind, name: str) -> str:
    """As messages name an object: "pack 2f1c96aa", "config"."""
    noun = {FileKind.PACK: "pack", FileKind.INDEX: "index"}.get(kind, kind.value.removesuffix("s"))
    return CONFIG_NAME if kind is FileKind.CONFIG else f"{noun} {name[:8]}"
