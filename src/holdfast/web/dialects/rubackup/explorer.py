"""Swagger UI, from its package's files: nothing comes from elsewhere."""

from __future__ import annotations

import mimetypes
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import swagger_ui_bundle
from starlette.responses import Response

from holdfast.web.dialects.rubackup.openapi import document

if TYPE_CHECKING:
    from collections.abc import Mapping

_FILES: Final = frozenset(
    {"swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png", "favicon-16x16.png"}
)
_POLICY: Final = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'none'",
}
_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>RuBackup REST API</title>
<link rel="stylesheet" href="ui/swagger-ui.css">
<link rel="icon" href="ui/favicon-32x32.png">
<div id="swagger-ui"></div>
<script src="ui/swagger-ui-bundle.js"></script>
<script src="ui/start.js"></script>
</html>
"""
_START: Final = """SwaggerUIBundle({
  url: "swagger.json",
  dom_id: "#swagger-ui",
  presets: [SwaggerUIBundle.presets.apis],
  docExpansion: "none",
  withCredentials: true,
  validatorUrl: null
});
"""


def answer(path: str) -> Response | None:
    """For a path below the API's; None where it is none of these."""
    if path == "/":
        return _text(_PAGE, "text/html", _POLICY)
    if path == "/ui/start.js":
        return _text(_START, "text/javascript")
    if path == "/swagger.json":
        return Response(_document(), media_type="application/json")
    name = path.removeprefix("/ui/")
    if path.startswith("/ui/") and name in _FILES:
        return Response(_file(name), media_type=mimetypes.guess_type(name)[0])
    return None


def _text(text: str, kind: str, headers: Mapping[str, str] | None = None) -> Response:
    return Response(text, media_type=f"{kind}; charset=utf-8", headers=headers)


@lru_cache(maxsize=1)
def _document() -> bytes:
    return msgspec.json.encode(document())


@lru_cache(maxsize=len(_FILES))
def _file(name: str) -> bytes:
    return (Path(swagger_ui_bundle.swagger_ui_path) / name).read_bytes()
