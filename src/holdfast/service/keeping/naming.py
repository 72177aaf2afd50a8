"""Where a backup lies in a plain pool: names from templates and from uploads, all checked.

A path within a pool is text with slashes, relative, and each of its parts is one plain name.
"""

from __future__ import annotations

import posixpath
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from holdfast.core.errors import InvalidError
from holdfast.core.records import Shape

if TYPE_CHECKING:
    from holdfast.core.records import Target

HOUSE: Final = ".holdfast"
"""The folder at the root of a plain pool that is ours and holds no backup's files but those in the
recycle bin."""
NAME_BYTES: Final = 255
"""What Linux file systems take."""
_BILLION: Final = 1_000_000_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_UID = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,63}")
_SHORT: Final = 8
_LONGEST_SUFFIX: Final = 32


def expanded(template: str, *, uid: str, created: int, manual: bool) -> str:
    """The name that a template gives: `$I` is the backup's uid, `$D` its time (ISO 8601, UTC, whole
    seconds), `$M` `manual` or `auto`. Checked as by `safe_name`.
    """
    moment = datetime.fromtimestamp(created // _BILLION, UTC).replace(tzinfo=None)
    values = {"$I": uid, "$D": moment.isoformat(), "$M": "manual" if manual else "auto"}
    return safe_name(re.sub(r"\$[IDM]", lambda found: values[found[0]], template))


def place(target: Target, *, name: str, uid: str, received: int, manual: bool) -> str:
    """The path at which a backup of `target` lies if nothing else does.

    With a template: the name it gives, and for a single file the last extension of `name`. Without:
    `name` itself, below a folder of the target.

    Raises:
        InvalidError: the template or the folder gives what no path can be.
    """
    if target.name_template is not None:
        file = expanded(target.name_template, uid=uid, created=received, manual=manual)
        if target.shape is Shape.SINGLE:
            suffix = posixpath.splitext(file_name(name))[1]
            file += _cut(suffix, NAME_BYTES - len(file.encode()))
        folder = target.folder
    else:
        file, folder = file_name(name), target.folder or file_name(target.name)
    return "/".join(parts_of(f"{folder}/{file}" if folder else file))


def beside(path: str, uid: str) -> str:
    """Another path in the folder, for when `path` is taken: `a.txt` becomes `a~1f3c5d7e.txt`."""
    folder, name = posixpath.split(path)
    stem, suffix = posixpath.splitext(name)
    tail = f"~{uid[:_SHORT]}{suffix[:_LONGEST_SUFFIX]}"
    return posixpath.join(folder, _cut(stem, NAME_BYTES - len(tail.encode())) + tail)


def safe_name(name: str) -> str:
    """The same name.

    Raises:
        InvalidError: it cannot be the name of one file: empty, `.`, `..`, with a slash or control
            character, longer than 255 bytes, or not UTF-8.
    """
    if name in {"", ".", ".."} or "/" in name or _CONTROL.search(name):
        raise InvalidError(f"{name!r} cannot be the name of a file")
    try:
        length = len(name.encode())
    except UnicodeEncodeError as error:
        raise InvalidError(f"{name!r} cannot be the name of a file: it is not UTF-8") from error
    if length > NAME_BYTES:
        raise InvalidError(f"the name {name[:40]!r}... has {length} bytes; a file's has up to 255")
    return name


def file_name(name: str) -> str:
    """A name that a file can have, from any text: what it cannot hold is percent-encoded."""
    text = name.encode("utf-8", "replace").decode()
    text = re.sub(r"[\x00-\x1f\x7f/%]", lambda found: quote(found[0], safe=""), text)
    if text in {"", ".", "..", HOUSE}:
        text = "_" + text
    return shortened(text)


def shortened(name: str) -> str:
    """A name of up to 255 bytes that has the beginning and, as far as can be, the extension."""
    if len(name.encode()) <= NAME_BYTES:
        return name
    stem, suffix = posixpath.splitext(name)
    suffix = _cut(suffix, _LONGEST_SUFFIX)
    return _cut(stem, NAME_BYTES - len(suffix.encode())) + suffix


def _cut(text: str, length: int) -> str:
    return text.encode()[: max(length, 0)].decode("utf-8", "ignore")


def parts_of(path: str) -> list[str]:
    """The names in a path of a pool.

    Raises:
        InvalidError: a part is no plain name, or it leads into the folder that is ours.
    """
    parts = [safe_name(part) for part in path.split("/") if part]
    if not parts or path.startswith("/") or parts[0] == HOUSE:
        raise InvalidError(f"{path!r} is no path within a pool")
    return parts


def safe_uid(uid: str) -> str:
    """The same uid, which names files of ours. Raises InvalidError."""
    if not _UID.fullmatch(uid):
        raise InvalidError(f"{uid!r} cannot be the uid of a backup")
    return uid
