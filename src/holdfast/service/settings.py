"""Settings: named JSON documents that people change while the server runs.

A secret in one is sealed with the master key before the catalog sees it, and reads as stars.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from holdfast.core.access import Verb
from holdfast.core.errors import InvalidError, StateError
from holdfast.core.records import Setting
from holdfast.core.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from holdfast.core.access import Principal
    from holdfast.service.ground import Ground

MASK = "******"
"""What a secret reads as; writing it leaves the secret as it is."""
_SEALED = "$sealed"
"""The one key of the object that stands where a secret is."""


class Settings:
    def __init__(self, ground: Ground) -> None:
        self.ground = ground

    def get(self, who: Principal, name: str) -> Setting:
        """Secrets are masked. `value` is None and `rev` 0 where it was never set."""
        with self.ground.read(who, Verb.SETTING_READ, f"setting {name}") as tx:
            found = tx.settings.find(name=name)
        return _masked(found) if found else Setting(name=name)

    def set(
        self,
        who: Principal,
        name: str,
        value: Any,
        *,
        secrets: Collection[str] = (),
        rev: int | None = None,
    ) -> Setting:
        """Replaces the document. `secrets`: dotted paths of texts in it that are sealed with the
        master key; `rev`: what it is based on, where that matters.

        Raises:
            InvalidError: a secret is to stay as it is, and there is none.
            StateError: somebody else has changed it since `rev`.
        """
        with self.ground.act(who, Verb.SETTING_CHANGE, f"setting {name}") as tx:
            before = tx.settings.find(name=name) or Setting(name=name)
            if rev is not None and rev != before.rev:
                raise StateError(
                    f"somebody else has changed {name} meanwhile",
                    remedy="Nothing was changed. Read it again, and change that.",
                )
            sealed = _walked(value, lambda path, leaf: self._seal(name, path, leaf, secrets))
            kept = _walked(sealed, lambda path, leaf: _unmasked(path, leaf, before.value))
            after = Setting(id=before.id, name=name, value=kept, rev=before.rev + 1)
            if before.id:
                tx.settings.change(before.id, value=after.value, rev=after.rev)
            else:
                after = tx.settings.add(after)
        return _masked(after)

    def opened(self, name: str) -> Any:
        """The document with its secrets as `Secret`, for the server's own use. Never hand it up.

        Raises:
            DamagedError: sealed under another master key.
        """
        with self.ground.catalog.read() as tx:
            found = tx.settings.find(name=name)
        if found is None:
            return None
        return _walked(found.value, lambda path, leaf: self._open(name, path, leaf))

    def _seal(self, name: str, path: str, leaf: Any, secrets: Collection[str]) -> Any:
        if _is_sealed(leaf):
            raise InvalidError(f"{path} cannot hold a key {_SEALED!r}")
        if path not in secrets or leaf in (None, "", MASK):
            return leaf
        return {_SEALED: self.ground.master.seal(str(leaf).encode(), _purpose(name, path))}

    def _open(self, name: str, path: str, leaf: Any) -> Any:
        if not _is_sealed(leaf):
            return leaf
        return Secret(self.ground.master.open(leaf[_SEALED], _purpose(name, path)).decode())


def _purpose(name: str, path: str) -> str:
    return f"setting {name} {path}"


def _is_sealed(leaf: Any) -> bool:
    return isinstance(leaf, dict) and _SEALED in leaf


def _walked(value: Any, leaf_of: Callable[[str, Any], Any], path: str = "") -> Any:
    """The same document with every leaf replaced; a sealed secret is one. Lists count from 0."""
    if isinstance(value, dict) and not _is_sealed(value):
        return {key: _walked(each, leaf_of, _below(path, key)) for key, each in value.items()}
    if isinstance(value, list):
        return [_walked(each, leaf_of, _below(path, str(i))) for i, each in enumerate(value)]
    return leaf_of(path, value)


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _masked(setting: Setting) -> Setting:
    """As it may leave `service`."""
    shown = _walked(setting.value, lambda _, leaf: MASK if _is_sealed(leaf) else leaf)
    return replace(setting, value=shown)


def _unmasked(path: str, leaf: Any, before: Any) -> Any:
    """What was sealed there before, where the mask was written back."""
    if leaf != MASK:
        return leaf
    old = before
    for key in path.split("."):
        old = old.get(key) if isinstance(old, dict) else None
    if not _is_sealed(old):
        raise InvalidError(
            f"{path} is to stay as it is, and there is nothing",
            fields={path: ("required", "Give the secret itself.")},
        )
    return old
