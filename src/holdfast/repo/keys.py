"""Key files: the master key of a repository, sealed under a password that scrypt stretches."""

from __future__ import annotations

import base64
import binascii
import getpass
import hashlib
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from holdfast.core.errors import (
    DamagedError,
    NoRepositoryError,
    ObjectExistsError,
    ObjectNotFoundError,
    UsageError,
    VerificationError,
    WrongPasswordError,
)
from holdfast.core.ids import ObjectId
from holdfast.repo.format.crypto import Cipher, Key
from holdfast.repo.format.gotext import format_time
from holdfast.store.contract import FileKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.core.clock import Clock
    from holdfast.core.secret import Secret
    from holdfast.store.contract import Store

SCRYPT_N, SCRYPT_R, SCRYPT_P = 1 << 15, 8, 1
"""32 MiB and about 80 ms; restic calibrates to parameters of the same memory."""
_MAX_MEMORY = 1 << 30
"""A key file may not ask for more than this to be opened."""
_SALT_SIZE = 64
MAX_KEYS_TRIED = 20


class KeyFile(msgspec.Struct, omit_defaults=True):
    created: str
    username: str
    hostname: str
    kdf: str
    N: int
    r: int
    p: int
    salt: str
    data: str


class _MacKey(msgspec.Struct):
    k: str
    r: str


class _MasterKey(msgspec.Struct):
    mac: _MacKey
    encrypt: str


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """What `key list` shows of a key; nothing secret."""

    id: ObjectId
    username: str
    hostname: str
    created: str


@dataclass(frozen=True, slots=True)
class OpenedKey:
    id: ObjectId
    master: Key


def _stretch(password: Secret, *, salt: bytes, n: int, r: int, p: int) -> Key:
    memory = 128 * n * r
    if n < 2 or n & (n - 1) or r < 1 or p < 1 or memory > _MAX_MEMORY or p > 64:  # noqa: PLR2004
        raise DamagedError("a key file asks for scrypt parameters that nobody uses")
    raw = hashlib.scrypt(
        password.reveal().encode(), salt=salt, n=n, r=r, p=p, maxmem=memory + (64 << 20), dklen=64
    )
    return Key.from_bytes(raw)


def _seal_master(master: Key, password: Secret, salt: bytes) -> str:
    def text(raw: bytes) -> str:
        return base64.b64encode(raw).decode()

    document = msgspec.json.encode(
        _MasterKey(_MacKey(text(master.mac_k), text(master.mac_r)), text(master.encrypt))
    )
    stretched = _stretch(password, salt=salt, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P)
    return base64.b64encode(Cipher(stretched).seal(document)).decode()


def _open_master(file: KeyFile, password: Secret) -> Key:
    """Raises DamagedError where the password does not open it, or the file is damaged: the two look
    alike.
    """
    if file.kdf != "scrypt":
        raise DamagedError(f"a key file uses the unknown key derivation {file.kdf!r}")
    try:
        salt = base64.b64decode(file.salt, validate=True)
        sealed = base64.b64decode(file.data, validate=True)
    except binascii.Error as error:
        raise DamagedError("a key file is damaged") from error
    stretched = _stretch(password, salt=salt, n=file.N, r=file.r, p=file.p)
    document = Cipher(stretched).open(sealed)
    try:
        key = msgspec.json.decode(document, type=_MasterKey)
        master = Key(
            encrypt=base64.b64decode(key.encrypt),
            mac_k=base64.b64decode(key.mac.k),
            mac_r=base64.b64decode(key.mac.r),
        )
    except (msgspec.DecodeError, binascii.Error) as error:
        raise DamagedError("a key file is damaged inside") from error
    if (len(master.encrypt), len(master.mac_k), len(master.mac_r)) != (32, 16, 16):
        raise DamagedError("a key file holds keys of the wrong size")
    return master


def read_key_file(store: Store, name: str) -> KeyFile:
    """Raises DamagedError where content and name, or content and form, do not agree."""
    raw = store.get(FileKind.KEY, name)
    if hashlib.sha256(raw).hexdigest() != name:
        raise DamagedError(f"key file {name[:8]} is damaged: its content does not match its name")
    try:
        return msgspec.json.decode(raw, type=KeyFile)
    except msgspec.DecodeError as error:
        raise DamagedError(f"key file {name[:8]} is damaged: {error}") from error


def add_key(
    store: Store,
    master: Key,
    password: Secret,
    *,
    clock: Clock,
    username: str | None = None,
    hostname: str | None = None,
) -> ObjectId:
    """Stores a new key file that opens `master` with `password`; durable before it returns."""
    salt = os.urandom(_SALT_SIZE)
    file = KeyFile(
        created=format_time(clock.now()),
        username=username or getpass.getuser(),
        hostname=hostname or socket.gethostname(),
        kdf="scrypt",
        N=SCRYPT_N,
        r=SCRYPT_R,
        p=SCRYPT_P,
        salt=base64.b64encode(salt).decode(),
        data=_seal_master(master, password, salt),
    )
    raw = msgspec.json.encode(file)
    name = hashlib.sha256(raw).hexdigest()
    try:
        store.put(FileKind.KEY, name, raw)
    except ObjectExistsError:
        pass  # the name is the digest of fresh randomness: it is this very file
    return ObjectId(name)


def open_key(
    store: Store, password: Secret, *, fits: Callable[[Key], bool], hint: str = ""
) -> OpenedKey:
    """The first key file that the password opens; one whose name starts with `hint` is tried first.

    `fits` tells whether a master key opens the config: an `init` that was cut short leaves a key of
    its own behind.

    Raises:
        NoRepositoryError: there is no key file.
        WrongPasswordError: it opens none.
        DamagedError: it opens none, and at least one is damaged.
    """
    names = sorted(item.name for item in store.list(FileKind.KEY))
    if not names:
        raise NoRepositoryError(
            f"there is no key file in {store.address}",
            remedy="Bring one back from a copy: without it nobody can read these backups.",
        )
    if hint:
        names.sort(key=lambda name: not name.startswith(hint))
    damaged: list[DamagedError] = []
    opened = 0
    for name in names[:MAX_KEYS_TRIED]:
        try:
            file = read_key_file(store, name)
        except DamagedError as error:
            damaged.append(error)
            continue
        try:
            master = _open_master(file, password)
        except DamagedError:
            continue  # not this one's password
        if fits(master):
            return OpenedKey(ObjectId(name), master)
        opened += 1
    if opened:
        raise DamagedError(
            f"the password is right, but the config file in {store.address} is damaged",
            remedy="Bring the config file back from a copy; the backups are untouched.",
        )
    if damaged:
        raise DamagedError(
            f"{damaged[0].message}; "
            f"the password opens none of the other {len(names) - len(damaged)} key files",
            remedy="Use another key's password, or bring the key file back from a copy.",
        )
    raise WrongPasswordError(f"wrong password, or no key found for it in {store.address}")


def list_keys(store: Store) -> list[KeyInfo]:
    infos = []
    for item in store.list(FileKind.KEY):
        file = read_key_file(store, item.name)
        infos.append(KeyInfo(ObjectId(item.name), file.username, file.hostname, file.created))
    return sorted(infos, key=lambda info: (info.created, info.id))


def choose_key(store: Store, wanted: str) -> ObjectId:
    """The one key file whose name begins so.

    Raises:
        UsageError: none does, or several do.
    """
    names = [item.name for item in store.list(FileKind.KEY) if item.name.startswith(wanted)]
    if len(names) != 1 or not wanted:
        raise UsageError(
            f"{wanted!r} fits {len(names)} keys", remedy="`holdfast key list` shows their names."
        )
    return ObjectId(names[0])


def remove_key(store: Store, name: ObjectId, *, in_use: ObjectId | None) -> None:
    """Removes a key file for good: its password no longer opens the repository. Wants the exclusive
    lock.

    Raises:
        UsageError: it is the key that the repository is open with.
    """
    if name == in_use:
        raise UsageError(
            "this key opens the repository right now; it is not removed",
            remedy="Open the repository with another key, or change the password of this one.",
        )
    store.remove(FileKind.KEY, name)


def change_password(
    store: Store, master: Key, password: Secret, *, in_use: ObjectId, clock: Clock
) -> ObjectId:
    """Replaces the key file in use by one with another password; the name of the new one.

    The new one is durable, and was read back and opened, before the old one goes: a crash in
    between leaves both passwords valid. Wants the exclusive lock.

    Raises:
        VerificationError: the new key file does not open; it was removed, the old one stays.
    """
    new = add_key(store, master, password, clock=clock)
    try:
        opens = _open_master(read_key_file(store, new), password) == master
    except DamagedError:
        opens = False
    if not opens:
        store.remove(FileKind.KEY, new)
        raise VerificationError("the new key file does not open with the new password")
    try:
        store.remove(FileKind.KEY, in_use)
    except ObjectNotFoundError:
        pass  # somebody else removed it
    return new
