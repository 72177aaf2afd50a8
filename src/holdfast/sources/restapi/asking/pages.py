"""Judging an answer: is it a page of records, will another try help, or is it wrong for good?"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from holdfast.core.errors import AnswerError
from holdfast.sources.restapi.asking.session import Answer, Wanting
from holdfast.sources.restapi.records.documents import (
    MISSING,
    ShapeError,
    as_json,
    key_of,
    parse,
    records_of,
    value_at,
    whole_number,
)
from holdfast.sources.restapi.records.xml import parse_xml

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from holdfast.sources.restapi.project.project import Project

_ERROR_KEYS = (
    "error", "errors", "fault", "exception", "error_code", "errorcode", "error_message",
    "errormessage", "error_description",
)  # fmt: skip
_CHATTER = {
    *_ERROR_KEYS, "code", "message", "messages", "status", "detail", "details", "title", "type",
    "timestamp", "path", "success", "request_id", "requestid", "traceid",
}  # fmt: skip
_TITLE = re.compile(rb"(?is)<title[^>]*>(.*?)</title>")
_LOGIN = re.compile(r"(?i)log[-_ ]?in|sign[-_ ]?in|auth|sso|session")
_PASSWORD_FIELD = re.compile(rb"""(?i)type\s*=\s*["']?password""")
_FEW = 2
_NO_CONTENT = 204


@dataclass(frozen=True, slots=True)
class Page:
    """One page, read. Any: JSON."""

    document: Any
    records: list[Any]
    body: bytes
    """What is stored: the answer's own bytes, or for XML and HTML the JSON made of them."""
    digest: int
    """Of the records alone, to recognise a page that comes again."""
    total: int | None
    """Records that the API announces."""
    pages: int | None
    """Pages that the API announces."""


class PageReader:
    """Judges the pages of one run. It remembers the first page's shape, so that a later one that
    changes it is noticed.
    """

    def __init__(self, project: Project, *, script: Callable[[bytes], Any] | None = None) -> None:
        """`script` reads HTML. Any: what it returns is JSON."""
        self._project = project
        self._script = script
        self._listed: bool | None = None

    def judge(self, answer: Answer) -> Page | Awaitable[Page]:
        """The judge of a session's `fetch`.

        Raises:
            Wanting: another try may bring what this one lacks.
            AnswerError: it is wrong for good.
        """
        if self._project.source.resp_type == "html":
            return self._judge_html(answer)
        return self._read(answer, self._document(answer))

    def read_stored(self, body: bytes) -> Page:
        """A page from the archive.

        Raises:
            AnswerError: it is not what this project stores.
        """
        try:
            document = parse(body)
        except ValueError as error:
            raise AnswerError(f"a stored page is not JSON: {error}") from None
        records = records_of(self._project, document)
        self._listed = True if self._listed is None and records else self._listed
        return self._page(document, records, body)

    async def _judge_html(self, answer: Answer) -> Page:
        assert self._script is not None, "checked when the project was read"
        return self._read(answer, await asyncio.to_thread(self._script, answer.body))

    def _document(self, answer: Answer) -> Any:
        if answer.status == _NO_CONTENT:
            return None
        if not answer.body.strip():
            raise Wanting("answered with nothing at all", tries=_FEW)
        if self._project.source.resp_type == "xml":
            try:
                return parse_xml(answer.body)
            except ValueError as error:
                raise Wanting(f"answered with {error}") from None
        try:
            return parse(answer.body)
        except UnicodeDecodeError:
            return parse(_as_utf8(answer))
        except ValueError:
            raise _no_json(answer) from None

    def _read(self, answer: Answer, document: Any) -> Page:
        records = [] if document is None else self._records(document)
        error = _error_in(document)
        if error and not records:
            raise Wanting(f"answered with an error: {error}")
        if document is None:
            body = b"null"
        elif self._project.source.resp_type == "json":
            body = _as_utf8(answer)
        else:
            body = as_json(document).encode()
        return self._page(document, records, body)

    def _records(self, document: Any) -> list[Any]:
        project = self._project
        key = project.data.data_key
        found = value_at(document, key, project.settings.splitter) if key else document
        if found is None:
            return []
        if found is MISSING or not isinstance(found, (list, dict)):
            return self._without_records(document, found)
        if self._listed and not isinstance(found, list):
            if error := _error_in(document):
                raise Wanting(f"answered with an error: {error}")
            raise Wanting(
                "changes its shape: a list of records before, a single object now", tries=_FEW
            )
        if not key and isinstance(found, dict) and _is_only_error(found):
            raise Wanting(f"answered with an error: {_error_in(found)}")
        if self._listed is None:
            self._listed = isinstance(found, list)
        return records_of(project, document)

    def _without_records(self, document: Any, found: Any) -> list[Any]:
        key = self._project.data.data_key
        if error := _error_in(document):
            raise Wanting(f"answered with an error: {error}")
        if found is not MISSING:
            raise ShapeError(f"the answer has no records at data_key {key!r} but a plain value")
        if self._listed is not None:
            raise Wanting(f"changes its shape: nothing stands at data_key {key!r} now", tries=_FEW)
        return records_of(self._project, document)

    def _page(self, document: Any, records: list[Any], body: bytes) -> Page:
        data, splitter = self._project.data, self._project.settings.splitter
        total = data.total_number_key
        pages = data.pages_number_key
        digest = blake2b(as_json(records).encode(errors="surrogatepass"), digest_size=8).digest()
        return Page(
            document, records, body,
            digest=int.from_bytes(digest, "big") >> 1,
            total=whole_number(document, total, splitter) if total else None,
            pages=whole_number(document, pages, splitter) if pages else None,
        )  # fmt: skip


def keys_of(project: Project, records: list[Any]) -> list[Hashable | None]:
    """What tells a page's records apart; None for a record without a key. Any: JSON."""
    keys = project.data.item_key
    if len(keys) == 1 and project.settings.splitter not in keys[0]:
        return [_plain_key(record, keys[0]) for record in records]
    return [key_of(project, record) for record in records]


def _plain_key(record: Any, key: str) -> Hashable | None:
    """The quick way for the ordinary case; 1 and "1" and true are different keys."""
    value = record.get(key) if isinstance(record, dict) else None
    if value is None or value.__class__ is str or value.__class__ is int:
        return value
    return as_json(value), None


def _as_utf8(answer: Answer) -> bytes:
    """The body as UTF-8, whatever character set the answer says it has."""
    kind = answer.header("Content-Type") or ""
    _, mark, charset = kind.lower().partition("charset=")
    charset = charset.split(";")[0].strip(" \"'") if mark else ""
    if not charset or charset.replace("-", "") in {"utf8", "usascii", "ascii"}:
        return answer.body
    try:
        answer.body.decode()
    except UnicodeDecodeError:
        try:
            return answer.body.decode(charset).encode()
        except (LookupError, UnicodeDecodeError):
            raise Wanting(f"is not {charset} although it says so", tries=_FEW) from None
    return answer.body


def _no_json(answer: Answer) -> Exception:
    """Why the body is not JSON, and whether that may pass."""
    if answer.body.lstrip()[:1] != b"<":
        return Wanting("answered with JSON that is cut off or malformed")
    title = _TITLE.search(answer.body)
    named = title[1].decode(errors="replace").strip()[:80] if title else ""
    what = f"an HTML page ({named!r}) instead of JSON" if named else "an HTML page instead of JSON"
    moved = urlsplit(answer.url).path != urlsplit(answer.request.url).path
    remedy = "Give credentials in [auth], or check project.url. The archive is untouched."
    if (
        _PASSWORD_FIELD.search(answer.body)
        or _LOGIN.search(named)
        or (moved and _LOGIN.search(urlsplit(answer.url).path))
    ):
        place = urlsplit(answer.url).hostname
        return AnswerError(f"{place} answered with {what}: it asks for a login", remedy=remedy)
    return Wanting(f"answered with {what}", tries=_FEW, remedy=remedy)


def _error_in(document: Any) -> str:
    """What an answer with status 200 says went wrong; "" for nothing."""
    if not isinstance(document, dict):
        return ""
    for name, value in document.items():
        if name.lower() in _ERROR_KEYS and value not in (None, False, "", [], {}, 0):
            if isinstance(value, dict):
                value = value.get("message") or value.get("code") or value
            return str(value)[:200]
    if str(document.get("status", "")).lower() in {"error", "fail", "failed", "failure"}:
        return str(document.get("message", document["status"]))[:200]
    return ""


def _is_only_error(document: dict[str, Any]) -> bool:
    return bool(_error_in(document)) and all(name.lower() in _CHATTER for name in document)
