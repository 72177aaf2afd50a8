"""What a face answers where something was raised that nobody foresaw."""

from __future__ import annotations

import structlog

from holdfast.core.errors import HoldfastError

_log = structlog.get_logger("holdfast.web")


class UnexpectedError(HoldfastError):
    code = "unexpected"
    remedy = "Nothing of the request was kept. What happened is in the server's log."


def known(raised: Exception, path: str) -> HoldfastError:
    """The error to tell: the one raised, or one that says nothing of the server's insides, with the
    traceback in the log.
    """
    if isinstance(raised, HoldfastError):
        return raised
    _log.error("unexpected", path=path, exc_info=raised)
    return UnexpectedError("the server failed in a way that nobody foresaw")
