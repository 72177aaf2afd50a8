"""The secret by which an agent is known, and the number that follows from it.

The agent draws it once and keeps it; a server keeps its digest. As the hwid follows from the
secret, nobody can come with the hwid of another.
"""

from __future__ import annotations

import hashlib
import re
import secrets

from holdfast.core.secret import Secret

_SHAPE = re.compile(r"hfa-[0-9a-f]{64}")
_HWID_DIGITS = 16


def new_secret() -> Secret:
    """256 bits at random."""
    return Secret(f"hfa-{secrets.token_hex(32)}")


def is_secret(secret: Secret) -> bool:
    return _SHAPE.fullmatch(secret.reveal()) is not None


def hwid_of(secret: Secret) -> str:
    """16 lower-case hexadecimal digits, always the same for one secret."""
    return hashlib.sha256(b"hwid " + secret.reveal().encode()).hexdigest()[:_HWID_DIGITS]
