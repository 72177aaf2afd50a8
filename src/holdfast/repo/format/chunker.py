"""Where to cut a file into chunks.

Exactly where restic cuts, so that equal content is stored once, whichever program met it first.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.repo.format import _kernel
from holdfast.repo.format._reference import DEGREE, MAX_SIZE, MIN_SIZE, remainder

if TYPE_CHECKING:
    from holdfast.repo.format.crypto import Buffer

__all__ = ["MAX_SIZE", "MIN_SIZE", "Chunker", "is_irreducible", "random_polynomial"]


@dataclass(frozen=True, slots=True)
class Chunker:
    """Cuts by the Rabin fingerprint of the last 64 bytes; chunks have 1.5 MiB in the mean."""

    polynomial: int

    def next_cut(self, view: Buffer, *, at_end: bool) -> int | None:
        """Length of the chunk that begins where `view` does; None if it takes more bytes to tell.

        Depends on nothing but those bytes. MAX_SIZE bytes always tell. With `at_end` all that is
        left may be the last chunk, and only an empty view gives None.
        """
        return _kernel.next_cut(self.polynomial, view, at_end) or None


def is_irreducible(polynomial: int) -> bool:
    """Whether a chunker may use it: degree 53, and no product of smaller polynomials."""
    if polynomial.bit_length() != DEGREE + 1:
        return False
    # The degree is prime. So x^(2^53) equals x just where there is one factor or all are linear,
    # and a linear one has 0 or 1 as its root.
    if not polynomial & 1 or polynomial.bit_count() % 2 == 0:
        return False
    x = power = 0b10
    for _ in range(DEGREE):
        power = remainder(_square(power), polynomial)
    return power == x


def _square(value: int) -> int:
    """Its digits with a zero between each two, which is how they read in base four."""
    return int(f"{value:b}", 4)


def random_polynomial(rng: random.Random | None = None) -> int:
    """An irreducible polynomial for a new repository, of the system's randomness if no other."""
    rng = rng or random.SystemRandom()
    while True:
        candidate = 1 << DEGREE | rng.getrandbits(DEGREE - 1) << 1 | 1
        if is_irreducible(candidate):
            return candidate
