"""Names of files in a plain pool: from templates, and checked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from holdfast.core.errors import InvalidError

NAME_BYTES: Final = 255
"""What Linux file systems take."""
_BILLION: Final = 1_000_000_000


def expanded(template: str, *, uid: str, created: int, manual: bool) -> str:
    """The name that a template gives: `$I` is the backup's uid, `$D` its time (ISO 8601, UTC, whole
    seconds), `$M` `manual` or `auto`. Checked as by `safe_name`.
    """
    moment = datetime.fromtimestamp(created // _BILLION, UTC).replace(tzinfo=None)
    values = {"I": uid, "D": moment.isoformat(), "M": "manual" if manual else "auto"}
    text = template
    for letter, value in values.items():
        text = text.replace(f"${letter}", value)
    return safe_name(text)


def safe_name(name: str) -> str:
    """The same name.

    Raises:
        InvalidError: it cannot be the name of one file: empty, `.`, `..`, with a slash or control
            character, longer than 255 bytes, or not UTF-8.
    """
    if name in {"", ".", ".."} or "/" in name or any(ord(c) < 0x20 or ord(c) == 0x7F for c in name):  # noqa: PLR2004
        raise InvalidError(f"{name!r} cannot be the name of a file")
    try:
        length = len(name.encode())
    except UnicodeEncodeError as error:
        raise InvalidError(f"{name!r} cannot be the name of a file: it is not UTF-8") from error
    if length > NAME_BYTES:
        raise InvalidError(f"the name {name[:40]!r}... has {length} bytes; a file's has up to 255")
    return name
