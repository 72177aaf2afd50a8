"""What every path answers while the catalog cannot be used: what is safe, and what to do."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, JSONResponse, Response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from holdfast.core.errors import CatalogError

_RETRY_AFTER = {"Retry-After": "30"}
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Holdfast: not available</title>
<h1>This server takes and gives no backups at present</h1>
<p>This is why: {message}.</p>
<p>{advice}</p>
<p>Stored backups do not depend on the catalog. The server looks again every few seconds and goes on
by itself as soon as the catalog is whole.</p>
</html>
"""


def closed(error: CatalogError) -> ASGIApp:
    """A page for browsers; JSON, in which each face's clients find what they look for, for all
    others.
    """
    page = _PAGE.format(message=escape(error.message), advice=escape(error.advice))
    said = {
        "success": False,
        "status": "failed",
        "code": error.http_status,
        "message": f"{error.message}. {error.advice}",
        "error": error.code,
        "data": {},
    }

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        response: Response = JSONResponse(said, error.http_status, _RETRY_AFTER)
        if "text/html" in Headers(scope=scope).get("accept", ""):
            response = HTMLResponse(page, error.http_status, _RETRY_AFTER)
        await response(scope, receive, send)

    return answer
