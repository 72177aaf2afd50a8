"""What an agent met, as the error that it was there: with its code, message and remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core import errors
from holdfast.core.errors import AgentError, HoldfastError

if TYPE_CHECKING:
    from holdfast.core.records import Json

_LONGEST = 4000


def of_outcome(outcome: Json) -> HoldfastError:
    code, message, remedy = (outcome.get(name) for name in ("code", "message", "remedy"))
    said = message if isinstance(message, str) and message else "the agent does not say why"
    kind = _by_code().get(code) if isinstance(code, str) else None
    advice = remedy[:_LONGEST] if isinstance(remedy, str) else None
    return (kind or AgentError)(said[:_LONGEST], remedy=advice)


def _by_code() -> dict[str, type[HoldfastError]]:
    return {
        each.code: each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, HoldfastError)
    }
