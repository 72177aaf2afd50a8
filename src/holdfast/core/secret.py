"""A value that must not be shown."""

from __future__ import annotations

import hmac
import re

_USER = re.compile(r"(?:(?<=//)|^)\S*@")


def without_password(address: str) -> str:
    """An address, however broken, without user and password, and without its query."""
    return _USER.sub("***@", address).partition("?")[0]


class Secret:
    """Wraps a password or token so that printing, logging or formatting it shows only stars."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(
            self._value.encode(), other._value.encode()
        )

    def __hash__(self) -> int:
        raise TypeError("secrets are not keys")

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("secrets are not serialised")
