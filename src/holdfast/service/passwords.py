"""Passwords: a hash that costs memory, few of them at a time."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

from argon2 import Parameters, PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from holdfast.core.errors import BusyError, InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.core.secret import Secret

COST = Parameters(
    Type.ID, version=19, salt_len=16, hash_len=32, time_cost=2, memory_cost=46 << 10, parallelism=1
)
"""46 MiB, twice over: 60 to 80 ms of one core."""
_HASHER = PasswordHasher.from_parameters(COST)
_SLOTS = threading.BoundedSemaphore(min(4, os.cpu_count() or 1))
"""So many at once in a process, in time and in memory, however many ask."""
_PATIENCE = 10.0
"""Seconds after which whoever waits for a slot is told to come again."""
SHORTEST, LONGEST = 8, 255
"""Characters of a new password."""


@contextmanager
def hashing() -> Iterator[None]:
    """The right to hash, for a moment. Not to be taken twice by one caller.

    Raises:
        BusyError
    """
    if not _SLOTS.acquire(timeout=_PATIENCE):
        raise BusyError("too many people are signing in at once")
    try:
        yield
    finally:
        _SLOTS.release()


def hashed(password: Secret) -> str:
    """For the catalog. The caller is `hashing`.

    Raises:
        InvalidError: too short, or too long.
    """
    length = len(password.reveal())
    if not SHORTEST <= length <= LONGEST:
        said = f"A password has {SHORTEST} to {LONGEST} characters."
        raise InvalidError(
            f"the password has {length} characters",
            fields={"password": ("length_out_of_range", said)},
            remedy=f"Nothing was changed. {said}",
        )
    return _HASHER.hash(password.reveal())


def is_right(password: Secret, stored: str | None) -> bool:
    """Takes as long where nothing is stored: nobody learns who exists. The caller is `hashing`."""
    try:
        _HASHER.verify(stored or _nobodys(), password.reveal())
    except (VerificationError, InvalidHashError):
        return False
    return stored is not None


def is_dated(stored: str) -> bool:
    """Made when hashing cost less; to be replaced now that the password is at hand."""
    return _HASHER.check_needs_rehash(stored)


@lru_cache(maxsize=1)
def _nobodys() -> str:
    return _HASHER.hash(os.urandom(32))
