"""Where the access url and the passphrase lie, by the names that RestBackup's programs use."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from holdfast.core.errors import UsageError
from holdfast.core.secret import Secret

ACCESS_URL_FILE: Final = "~/.restbackup-backup-api-access-url"
PASSPHRASE_FILE: Final = "~/.restbackup-file-encryption-passphrase"  # noqa: S105  a name

_WHITE: Final = b" \t\r\n\v\f"
_VOWELS: Final[tuple[str, ...]] = tuple("aeiou")
_CONSONANTS: Final[tuple[str, ...]] = (*"bcdfghjklmnprsvwxyz", "ch", "ph", "st")
_LETTERS: Final = 8
_WORDS: Final = 3


def read_secret(path: str) -> Secret:
    """The text of a file without white space around it; ~ is the home folder.

    Raises:
        UsageError: it cannot be read, is empty or is not UTF-8.
    """
    remedy = "Nothing was sent. Name a file that holds it and nothing else, readable by you alone."
    try:
        text = Path(path).expanduser().read_bytes().strip(_WHITE).decode()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", remedy=remedy) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text", remedy=remedy) from error
    if not text:
        raise UsageError(f"{path} is empty", remedy=remedy)
    return Secret(text)


def random_passphrase() -> str:
    """Three words that can be spoken, each with a digit; 108 bits in all."""
    return " ".join(_word() for _ in range(_WORDS))


def _word() -> str:
    """Neither more than two consonants in a row nor two vowels."""
    word: list[str] = []
    while len(word) < _LETTERS:
        after_vowel = bool(word) and word[-1] in _VOWELS
        crowded = len(word) > 1 and not {word[-1], word[-2]} & set(_VOWELS)
        word.append(_letter(vowel=not after_vowel and (crowded or not secrets.randbelow(2))))
    return "".join(word).capitalize() + str(secrets.randbelow(10))


def _letter(*, vowel: bool) -> str:
    return secrets.choice(_VOWELS if vowel else _CONSONANTS)
