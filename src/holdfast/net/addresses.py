"""Addresses that others name: in redirects, in links, in records. They may be none."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from holdfast.core.errors import AddressError
from holdfast.core.secret import without_password

_LONGEST_SHOWN = 120


def led_to(start: str, link: str) -> str:
    """Where a link leads that was found at `start`.

    Raises:
        AddressError: it is no address that can be asked.
    """
    try:
        target = urljoin(start, link)
        parts = urlsplit(target)
        parts.port  # noqa: B018 - looking at it is what tells
    except ValueError:
        raise not_an_address(link) from None
    if parts.scheme.lower() not in {"http", "https"} or not parts.hostname:
        raise not_an_address(link)
    return target


def not_an_address(link: str) -> AddressError:
    """The error that says so, without a password that may stand in it."""
    return AddressError(f"{without_password(link)[:_LONGEST_SHOWN]!r} is not an address")
