"""Sizes, rates and durations as people write and read them."""

from __future__ import annotations

import re

_SIZE = re.compile(r"(?i)^\s*(\d+(?:\.\d+)?)\s*([kmgtpe]?)(?:i?b)?\s*$")
_STEPS = " kmgtpe"
_DURATION = re.compile(r"(?i)(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w|y)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31557600}


def parse_size(text: str) -> int:
    """Bytes of "10", "64k", "1.5G", "16 MiB"; steps are of 1024 as in restic.

    Raises:
        ValueError: not a size.
    """
    match = _SIZE.match(text)
    if not match:
        raise ValueError(f"{text!r} is not a size; write for example 500M or 2G")
    return int(float(match[1]) * 1024 ** _STEPS.index(match[2].lower() or " "))


def parse_duration(text: str) -> float:
    """Seconds of "90", "30s", "1h30m", "7d".

    Raises:
        ValueError: not a duration.
    """
    if re.fullmatch(r"\d+(\.\d+)?", text.strip()):
        return float(text)
    parts = _DURATION.findall(text)
    if not parts or _DURATION.sub("", text).strip():
        raise ValueError(f"{text!r} is not a duration; write for example 90s, 1h30m or 7d")
    return sum(float(number) * _SECONDS[unit.lower()] for number, unit in parts)


def format_size(count: float) -> str:
    """As restic shows it: "1.234 MiB"."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":  # noqa: PLR2004
            return f"{count:.0f} B" if unit == "B" else f"{count:.3f} {unit}"
        count /= 1024
    raise AssertionError


def counted(number: int, noun: str, nouns: str = "") -> str:
    """Like 1 pack, 2 packs; `nouns` where the noun does not just take an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {nouns or noun + 's'}"


def format_duration(seconds: float) -> str:
    """As a clock shows it: "1:02:03" above an hour, "2:03" below."""
    whole = int(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
