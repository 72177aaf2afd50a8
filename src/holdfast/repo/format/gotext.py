"""How restic's Go writes names and times into JSON, and back.

Names are Go-quoted before they become JSON strings, so that any bytes survive; times are RFC 3339
with nanoseconds and the local offset. Writing them to the letter makes trees byte-identical with
restic's, and so deduplicates them.
"""

from __future__ import annotations

import re
import time
from calendar import timegm
from functools import lru_cache

_PLAIN_NAME = re.compile(rb"[A-Za-z0-9 ._\-+,=@#%()\[\]{}~!$';:^`?*|/]*")
_SHORT_ESCAPES = {
    7: "\\a",
    8: "\\b",
    12: "\\f",
    10: "\\n",
    13: "\\r",
    9: "\\t",
    11: "\\v",
    92: "\\\\",
    34: '\\"',
}
_UNESCAPES = {
    "a": 7,
    "b": 8,
    "f": 12,
    "n": 10,
    "r": 13,
    "t": 9,
    "v": 11,
    "\\": 92,
    '"': 34,
    "'": 39,
}
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))", re.DOTALL
)
_JSON_SPECIAL = re.compile('[\\x00-\\x1f"\\\\<>&\u2028\u2029\ufffd\ud800-\udfff]')
_JSON_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_SURROGATE_LOW, _SURROGATE_HIGH = 0xDC80, 0xDCFF


def json_string(text: str) -> str:
    """A JSON string as Go's encoder writes it; bytes that were not UTF-8 (surrogate escapes) become
    U+FFFD.
    """

    def escape(match: re.Match[str]) -> str:
        char = match[0]
        if char == "\ufffd":
            return char
        if "\ud800" <= char <= "\udfff":
            return "\\ufffd"
        return _JSON_SHORT.get(char) or f"\\u{ord(char):04x}"

    return f'"{_JSON_SPECIAL.sub(escape, text)}"'


def _quote_char(char: str) -> str:
    code = ord(char)
    if code in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[code]
    if _SURROGATE_LOW <= code <= _SURROGATE_HIGH:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if char.isprintable():
        return char
    if code < 0x20 or code == 0x7F:  # noqa: PLR2004  ASCII control characters
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"  # noqa: PLR2004  the BMP


def quote_name(name: bytes) -> str:
    """The JSON string of a node's name: Go's strconv.Quote without its quotes, then JSON."""
    if _PLAIN_NAME.fullmatch(name):
        return f'"{name.decode("ascii")}"'
    return json_string("".join(map(_quote_char, name.decode("utf-8", "surrogateescape"))))


def unquote_name(quoted: str) -> bytes:
    """The bytes of a decoded `name` field.

    Raises:
        ValueError: an escape that Go would not write.
    """
    if "\\" not in quoted:
        return quoted.encode("utf-8", "surrogatepass")
    out = bytearray()
    position = 0
    for match in _ESCAPE.finditer(quoted):
        out += quoted[position : match.start()].encode()
        hexadecimal, short, long, octal, single = match.groups()
        if hexadecimal:
            out.append(int(hexadecimal, 16))
        elif octal:
            out.append(int(octal, 8) & 0xFF)
        elif single:
            if single not in _UNESCAPES:
                raise ValueError(f"unknown escape \\{single} in a name")
            out.append(_UNESCAPES[single])
        else:
            out += chr(int(short or long, 16)).encode()
        position = match.end()
    out += quoted[position:].encode()
    return bytes(out)


_FIRST = -62167219200  # year 0
_LAST = 253402300799  # the end of year 9999: Go's JSON goes no further


@lru_cache(maxsize=4096)  # files that were written together share their seconds
def _second(seconds: int) -> tuple[str, str]:
    """Date and time of a second in local time, and its offset."""
    at = time.localtime(seconds)
    offset = at.tm_gmtoff // 60
    if offset == 0:
        zone = "Z"
    else:
        sign, offset = ("-", -offset) if offset < 0 else ("+", offset)
        zone = f"{sign}{offset // 60:02}:{offset % 60:02}"
    date = f"{at.tm_year:04}-{at.tm_mon:02}-{at.tm_mday:02}"
    return f"{date}T{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02}", zone


def format_time(nanoseconds: int) -> str:
    """RFC 3339 with the local offset, zeros at the end of the fraction left out."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    text, zone = _second(min(max(seconds, _FIRST), _LAST))
    if fraction:
        return f"{text}.{fraction:09}".rstrip("0") + zone
    return text + zone


_TIME = re.compile(r"(-?\d{4}-\d\d-\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)")


def parse_time(text: str) -> int:
    """Nanoseconds since 1970 UTC.

    Raises:
        ValueError: not RFC 3339.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a time")
    date, hour, minute, second, fraction, zone = match.groups()
    seconds = _midnight(date, zone) + int(hour) * 3600 + int(minute) * 60 + int(second)
    return seconds * 1_000_000_000 + (int(fraction.ljust(9, "0")) if fraction else 0)


@lru_cache(maxsize=4096)  # there are fewer days than files
def _midnight(date: str, zone: str) -> int:
    """When a day starts, in seconds since 1970."""
    year, month, day = date.rsplit("-", 2)
    seconds = _days(int(year), int(month), int(day)) * 86400
    if zone != "Z":
        offset = (int(zone[1:3]) * 60 + int(zone[4:])) * 60
        seconds -= offset if zone[0] == "+" else -offset
    return seconds


def _days(year: int, month: int, day: int) -> int:
    if year < 1:  # year 0 and Go's zero time are legal there; calendar's arithmetic starts at 1
        return timegm((year + 400, month, day, 0, 0, 0)) // 86400 - 146097
    return timegm((year, month, day, 0, 0, 0)) // 86400
