"""Settings: named JSON documents that people change while the server runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

    from holdfast.core.access import Principal
    from holdfast.core.records import Setting
    from holdfast.service.ground import Ground

MASK = "******"
"""What a secret reads as; writing it leaves the secret as it is."""


class Settings:
    def __init__(self, ground: Ground) -> None:
        self.ground = ground

    def get(self, who: Principal, name: str) -> Setting:
        """Secrets are masked. `value` is None and `rev` 0 where it was never set."""
        raise NotImplementedError

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
            StateError: somebody else has changed it since `rev`.
        """
        raise NotImplementedError

    def opened(self, name: str) -> Any:
        """The document with its secrets as `Secret`, for the server's own use. Never hand it up."""
        raise NotImplementedError
