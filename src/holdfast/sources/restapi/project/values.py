"""What may stand behind a key: conversions from what a file says to a value, each with a sentence
for what it refuses.
"""

from __future__ import annotations

import json
from dataclasses import field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from holdfast.core.secret import Secret, without_password
from holdfast.core.units import parse_duration, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_TRUE = {"true", "yes", "on", "1"}
_HOW_TO_ESCAPE = "in a password, @ is written %40, # %23, / %2F and ? %3F"
_FALSE = {"false", "no", "off", "0"}


def key(convert: Callable[[object], Any], default: Any = None, *, required: bool = False) -> Any:
    """A field of a section. Any: dataclasses type their defaults so."""
    metadata = {"convert": convert, "required": required}
    if isinstance(default, (dict, list)):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


def text(value: object) -> str:
    if isinstance(value, (dict, list)):
        raise ValueError("must be one value, not several")  # noqa: TRY004 - one kind of error for all mistakes in files
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def secret(value: object) -> Secret:
    return Secret(text(value))


def flag(value: object) -> bool:
    word = str(value).strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError("must be true or false")


def whole(low: int = 0, high: int | None = None) -> Callable[[object], int]:
    def convert(value: object) -> int:
        found = _float(value, "must be a whole number")
        if found != found // 1:
            raise ValueError("must be a whole number")
        number = int(found)
        if number < low or (high is not None and number > high):
            bound = f"from {low} to {high}" if high is not None else f"{low} or more"
            raise ValueError(f"must be {bound}")
        return number

    return convert


def number(low: float = 0) -> Callable[[object], float]:
    def convert(value: object) -> float:
        found = _float(value, "must be a number")
        if not low <= found < float("inf"):
            raise ValueError(f"must be {low:g} or more")
        return found

    return convert


def choice(*words: str, also: Mapping[str, str] | None = None) -> Callable[[object], str]:
    """One of the words in any case; `also` maps other spellings to them."""
    known = {word.lower(): word for word in words} | dict(also or {})

    def convert(value: object) -> str:
        found = known.get(str(value).strip().lower())
        if found is None:
            raise ValueError(f"must be one of {', '.join(words)}")
        return found

    return convert


def words(value: object) -> tuple[str, ...]:
    """A list, or words separated by commas."""
    if isinstance(value, (list, tuple)):
        return tuple(text(part).strip() for part in value)
    return tuple(part.strip() for part in text(value).split(",") if part.strip())


def statuses(value: object) -> tuple[int, ...]:
    """HTTP status codes as a list, as JSON or separated by commas."""
    try:
        parts = json.loads(value) if isinstance(value, str) and value.strip()[:1] == "[" else value
        listed = parts if isinstance(parts, (list, tuple)) else words(parts)
        codes = tuple(int(str(part)) for part in listed)
    except ValueError:
        raise ValueError("must be HTTP status codes, for example 500, 502") from None
    if any(not 100 <= code <= 599 for code in codes):  # noqa: PLR2004 - the protocol's range
        raise ValueError("must be HTTP status codes from 100 to 599")
    return codes


def url(value: object) -> str:
    address = text(value).strip()
    if mistake := wrong_address(address):
        raise ValueError(mistake)
    return address


def is_moment(value: str) -> bool:
    """Whether it is a date, with or without a time, or "now"."""
    try:
        datetime.fromisoformat(value.strip())
    except ValueError:
        return value.strip() == "now"
    return True


def wrong_address(address: str) -> str:
    """What keeps it from being an address of HTTP; nothing where it is one."""
    scheme, _, rest = address.partition("://")
    if scheme.lower() not in {"http", "https"} or not rest.strip("/"):
        return "must be an http:// or https:// address"
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018 - looking at it is what tells
    except ValueError as error:
        if "@" in address:
            return f"is no address ({_HOW_TO_ESCAPE})"
        return f"is no address ({error})"
    if not parts.hostname:
        return "must name a host"
    return ""


def proxies(value: object) -> dict[str, str]:
    """A mapping, or "http=http://proxy:8080,https=https://proxy:8080"."""
    if isinstance(value, dict):
        pairs = {
            text(scheme).strip().lower(): text(address).strip() for scheme, address in value.items()
        }
    else:
        pairs = {}
        for part in words(value):
            scheme, sign, address = part.partition("=")
            if not sign:
                raise ValueError('must look like "http=http://proxy:8080,https=http://proxy:8080"')
            pairs[scheme.strip().lower()] = address.strip()
    for scheme, address in pairs.items():
        if scheme not in {"http", "https", "all"}:
            raise ValueError(f"names {scheme!r}; proxies are for http and https")
        if wrong_address(address):
            raise ValueError(
                f"gives {without_password(address)!r} for {scheme}; a proxy is an http:// address"
            )
    return pairs


def verify(value: object) -> bool | str:
    """Whether to verify, or the path of a bundle of trusted certificates."""
    try:
        return flag(value)
    except ValueError:
        return text(value)


def duration(value: object) -> float:
    """Seconds of "1d", "12h" or a bare number."""
    return parse_duration(text(value))


def size(value: object) -> int:
    """Bytes of "500M" or a bare number."""
    return parse_size(text(value))


def _float(value: object, refusal: str) -> float:
    try:
        found = float("nan") if isinstance(value, bool) else float(str(value))
    except ValueError:
        found = float("nan")
    if not abs(found) < float("inf"):
        raise ValueError(refusal)
    return found
