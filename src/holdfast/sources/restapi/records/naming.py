"""Addresses made of what records say, and the names under which the answers are kept.

What a record says is foreign: it must not lead an address to another place than meant, nor a file
out of the archive.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final
from urllib.parse import quote, urlsplit

from holdfast.net.addresses import led_to

_ABSOLUTE: Final = re.compile(r"^https?://", re.IGNORECASE)
_LINK: Final = re.compile(r"^/|\?[^=]+=")
_CLIMBING: Final = re.compile(r"(^|/)\.{1,2}(/|$)")
_LINK_SAFE: Final = "/?&=%#:;,@!$'()*+~"
_FOREIGN: Final = re.compile(r"[\x00-\x1f\x7f\\]")
_UNPORTABLE: Final = re.compile(r'[<>:"|?*]')
_PLAIN_QUERY: Final = re.compile(r"^[\w.,=+-]{1,80}$")
_LONGEST_PART: Final = 200
"""Bytes of one part of a name; file systems end at 255."""


def joined(prefix: str, value: str, start: str) -> str:
    """The address of `value` under a prefix; an address that is whole already stays.

    A relative link ("/bill/17", "view?id=5") is appended as it is; a key is escaped.

    Raises:
        AddressError: that makes no address.
    """
    return led_to(start, value if _ABSOLUTE.match(value) else prefix + escaped(value))


def filled(pattern: str, value: str, start: str) -> str:
    """The address that a pattern with {} makes of a value. Raises AddressError, as `joined`."""
    if _ABSOLUTE.match(value):
        return led_to(start, value)
    return led_to(start, pattern.replace("{0}", "{}").replace("{}", escaped(value)))


def escaped(value: str) -> str:
    """A value as part of an address; it cannot end the path nor climb out of it."""
    if _CLIMBING.search(value):
        below = value.lstrip("/")
        return value[:1] * (below != value) + quote(below, safe="")
    return quote(value, safe=_LINK_SAFE if _LINK.search(value) else "/~")


def detail_name(key: str, *, page: int | None = None) -> str:
    """Where the answer about a key is kept: `<key>.json`, or `<key>_page_<N>.json`."""
    tail = ".json" if page is None else f"_page_{page}.json"
    return safe_name(key) + tail


def path_name(url: str, *, secret: bool = False) -> str:
    """A file's name after its address: the path, and what sets apart addresses that differ only in
    the query. `secret`: the query holds one, which the name must not show.
    """
    parts = urlsplit(url)
    path = parts.path.lstrip("/")
    if not path or path.endswith("/"):
        path += "index"
    if parts.query:
        stem, dot, suffix = path.rpartition(".")
        plain = not secret and _PLAIN_QUERY.match(parts.query)
        mark = parts.query if plain else _digest(parts.query)
        path = f"{stem}~{mark}.{suffix}" if dot and "/" not in suffix else f"{path}~{mark}"
    return safe_name(path)


def key_name(value: str, extension: str | None) -> str:
    """A file's name after its id."""
    return safe_name(value) + (f".{extension.lstrip('.')}" if extension else "")


def safe_name(name: str, *, portable: bool = False) -> str:
    """A relative name that stays where it belongs; equal names only for equal input.

    `portable`: also one that every file system takes.
    """
    cleaned = _FOREIGN.sub("_", name)
    if portable:
        cleaned = _UNPORTABLE.sub("_", cleaned)
    parts = [_safe_part(part, portable=portable) for part in cleaned.split("/")]
    safe = "/".join(parts)
    return safe if safe == name else _marked(safe, _digest(name))


def _safe_part(part: str, *, portable: bool) -> str:
    if part in {"", ".", ".."}:
        return "_"
    if portable and part[-1] in " .":
        part = part[:-1] + "_"
    raw = part.encode("utf-8", "surrogatepass")
    return raw[:_LONGEST_PART].decode("utf-8", "ignore") if len(raw) > _LONGEST_PART else part


def _marked(name: str, mark: str) -> str:
    """With a mark before the extension, so that two names which were made safe stay apart."""
    stem, dot, suffix = name.rpartition(".")
    if dot and stem and "/" not in suffix and len(suffix) < 8:  # noqa: PLR2004 - longer is no extension
        return f"{stem}~{mark}.{suffix}"
    return f"{name}~{mark}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
