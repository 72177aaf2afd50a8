"""The interface's description (OpenAPI 3.0), made from the table."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from holdfast import __version__
from holdfast.core.fields import LARGEST, Field, Kind
from holdfast.web.dialects.rubackup import sessions
from holdfast.web.dialects.rubackup.table import ROWS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdfast.web.dialects.rubackup.describing import Body, Row

Schema = dict[str, Any]
_TYPES: Final[Mapping[Kind, Schema]] = {
    Kind.NUMBER: {"type": "integer", "format": "int64"},
    Kind.SHARE: {"type": "number"},
    Kind.TEXT: {"type": "string"},
    Kind.FLAG: {"type": "boolean"},
    Kind.TIME: {"type": "string", "format": "date-time", "nullable": True},
    Kind.CLOCK: {"type": "string", "example": "14:33:31"},
    Kind.REFERENCE: {"type": "string"},
    Kind.NUMBERS: {"type": "array", "items": {"type": "integer"}, "minItems": 1},
    Kind.NAMES: {"type": "array", "items": {"type": "string"}},
}
_EVERY_ROW: Final = (401, 403, 500)


def document() -> Schema:
    paths: dict[str, Schema] = {}
    for row in ROWS:
        paths.setdefault(f"/{row.path}", {})[row.method.lower()] = _operation(row)
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "RuBackup REST API",
            "version": __version__,
            "description": "Log in with /auth/login, then give its csrf_token to Authorize.",
        },
        "servers": [{"url": "/api/v1"}],
        "tags": [{"name": "Auth"}]
        + [{"name": name} for name in dict.fromkeys(row.group for row in ROWS)],
        "paths": {**_sessions(), **paths},
        "components": {
            "securitySchemes": {
                "csrf": {"type": "apiKey", "in": "header", "name": sessions.CSRF},
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": sessions.ACCESS_COOKIE},
            },
            "schemas": {"Envelope": _envelope({})},
        },
        "security": [{"csrf": [], "cookie": []}, {"csrf": [], "bearer": []}],
    }


def _operation(row: Row) -> Schema:
    made: Schema = {
        "tags": [row.group],
        "summary": row.purpose,
        "operationId": _name(row),
        "parameters": [*_numbers(row), *map(_query, row.query)],
        "responses": _responses(row),
    }
    if row.body is not None:
        made["requestBody"] = _request(row.body)
    return made


def _name(row: Row) -> str:
    return f"{row.method.lower()}_{row.path.replace('/{id}', '_by_id').replace('/', '_')}"


def _numbers(row: Row) -> list[Schema]:
    if "{id}" not in row.path:
        return []
    return [
        {
            "name": "id",
            "in": "path",
            "required": True,
            "schema": {**_TYPES[Kind.NUMBER], "minimum": 1},
        }
    ]


def _query(field: Field) -> Schema:
    schema = _schema(field)
    schema.pop("nullable", None)
    return {
        "name": field.name,
        "in": "query",
        "required": False,
        "schema": schema,
        "description": field.meaning,
    }


def _request(body: Body) -> Schema:
    schema = _object(body, written=True)
    if body.wrapped:
        schema = {
            "type": "object",
            "required": ["data"],
            "properties": {"data": schema},
            "additionalProperties": False,
        }
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _object(body: Body, *, written: bool) -> Schema:
    fields = [each for each in body.fields if not (each.read_only if written else each.secret)]
    made: Schema = {
        "type": "object",
        "properties": {body.key(each.name): _schema(each) for each in fields},
    }
    if written:
        made["additionalProperties"] = False
        needed = [body.key(each.name) for each in fields if each.needed and not body.partial]
        made |= {"required": needed} if needed else {}
    else:
        made["properties"] = {"id": _TYPES[Kind.NUMBER], **made["properties"]}
    return made


def _schema(field: Field) -> Schema:
    made = dict(_TYPES[field.kind])
    if field.meaning:
        made["description"] = field.meaning
    if field.choices:
        made["enum"] = list(field.choices)
    if field.default not in {None, ""} and field.kind is not Kind.REFERENCE:
        made["default"] = field.default
    least, most = (
        ("minimum", "maximum") if field.kind is Kind.NUMBER else ("minLength", "maxLength")
    )
    if field.kind in {Kind.NUMBER, Kind.TEXT} and not field.choices and not field.read_only:
        made |= {least: field.least} if field.least else {}
        made |= {most: field.most} if field.most != LARGEST else {}
    return made


def _responses(row: Row) -> Schema:
    more = (400,) if row.body is not None else ()
    statuses = sorted({*row.answers, *_EVERY_ROW, *more, *((409,) if row.body else ())})
    return {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "content": {"application/json": {"schema": _answer(row, status)}},
        }
        for status in statuses
    }


def _answer(row: Row, status: int) -> Schema:
    if status != row.status or row.shown is None:
        return {"$ref": "#/components/schemas/Envelope"}
    shown = _object(row.shown, written=False)
    if row.listed:
        number = _TYPES[Kind.NUMBER]
        shown = {
            "type": "object",
            "properties": {
                "items": {"type": "array", "items": shown},
                "total": number,
                "page": number,
                "limit": number,
            },
        }
    return _envelope(shown)


def _envelope(data: Schema) -> Schema:
    return {
        "type": "object",
        "required": ["data", "errors", "is_error", "message"],
        "properties": {
            "data": data,
            "errors": {
                "type": "object",
                "additionalProperties": {"type": "array", "items": {"type": "string"}},
            },
            "is_error": {"type": "boolean"},
            "message": {"type": "string"},
        },
    }


def _sessions() -> dict[str, Schema]:
    """Rows that are there before anybody is signed in."""
    answers = {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Envelope"}}},
        }
        for status in (200, 401)
    }
    headers = [
        {
            "name": name,
            "in": "header",
            "required": False,
            "schema": {"type": "string"},
            "description": f"Bearer and the {which} token; or cookies.",
        }
        for name, which in ((sessions.SECOND, "access"),)
    ]
    security: list[Schema] = [{}, {"bearer": []}, {"csrf": []}]
    rows: tuple[tuple[str, str, str, Schema], ...] = (
        ("/auth/login", "post", "Signs in, and gives a pair of tokens and the CSRF token.",
         {"requestBody": _request(sessions.LOGIN), "security": []}),
        ("/auth/refresh", "post", "Gives a new pair for a refresh token.",
         {"parameters": headers, "security": security}),
        ("/auth/logout", "delete", "Deactivates the tokens.", {"security": security}),
    )  # fmt: skip
    return {
        path: {method: {"tags": ["Auth"], "summary": purpose, "responses": answers, **more}}
        for path, method, purpose, more in rows
    }
