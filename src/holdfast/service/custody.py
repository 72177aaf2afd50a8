"""The server's master key, which seals the keys of repositories and other secrets at rest.

It lives outside the catalog: in a file of mode 0600 in the data folder, in a file named by the
configuration, in the environment, or in the output of a command.
"""

from __future__ import annotations

import base64
import os
import stat
from typing import TYPE_CHECKING, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from holdfast.core.errors import ConfigurationError, DamagedError

if TYPE_CHECKING:
    from pathlib import Path

KEY_FILE = "master.key"
_KEY_BYTES = 32
_NONCE_BYTES = 12
_PREFIX = "hf1:"


class MasterKey:
    """Seals and opens small secrets; `purpose` binds a sealed text to its place."""

    def __init__(self, key: bytes) -> None:
        if len(key) != _KEY_BYTES:
            raise ConfigurationError("a master key has 32 bytes, in base64")
        self._cipher = AESGCM(key)
        self._key = key

    @classmethod
    def of_folder(cls, folder: Path) -> Self:
        """The key of a data folder, made where there is none."""
        path = folder / KEY_FILE
        if not path.exists():
            _write_new(path, base64.b64encode(os.urandom(_KEY_BYTES)) + b"\n")
        return cls.of_file(path)

    @classmethod
    def of_file(cls, path: Path) -> Self:
        """Raises ConfigurationError: not there, readable to others, or no key."""
        try:
            mode = path.stat().st_mode
            text = path.read_text()
        except OSError as error:
            raise ConfigurationError(
                f"the master key {path} cannot be read: {error.strerror}"
            ) from error
        if stat.S_IMODE(mode) & 0o077:
            raise ConfigurationError(
                f"the master key {path} is readable to others", remedy=f"chmod 600 {path}"
            )
        return cls.of_text(text)

    @classmethod
    def of_text(cls, text: str) -> Self:
        try:
            return cls(base64.b64decode(text.strip(), validate=True))
        except ValueError as error:
            raise ConfigurationError("the master key is not base64") from error

    def seal(self, plain: bytes, purpose: str) -> str:
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, plain, purpose.encode())
        return _PREFIX + base64.b64encode(nonce + sealed).decode()

    def open(self, sealed: str, purpose: str) -> bytes:
        """Raises DamagedError: sealed under another key, for another purpose, or damaged."""
        try:
            raw = base64.b64decode(sealed.removeprefix(_PREFIX), validate=True)
            return self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], purpose.encode())
        except (InvalidTag, ValueError) as error:
            raise DamagedError(
                f"a sealed secret ({purpose}) does not open with this master key",
                remedy="Bring back the master key that it was sealed with (recovery kit).",
            ) from error

    def derive(self, purpose: str) -> bytes:
        """A key of 32 bytes for something else, always the same for one purpose."""
        import hashlib
        import hmac

        return hmac.new(self._key, purpose.encode(), hashlib.sha256).digest()

    def text(self) -> str:
        """For the recovery kit."""
        return base64.b64encode(self._key).decode()


def _write_new(path: Path, content: bytes) -> None:
    """Whole, synced, and never over another: two processes that start together get one key."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
