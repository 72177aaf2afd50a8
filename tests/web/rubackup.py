"""Callers of the RuBackup face, as the documents' curl calls are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from tests.web.conftest import Answer, Server

ROOT = "/api/v1/"


@dataclass
class Caller:
    """Somebody with the tokens of one sign-in, or nobody."""

    server: Server
    tokens: dict[str, Any] = field(default_factory=dict)

    @property
    def headers(self) -> dict[str, str]:
        if not self.tokens:
            return {}
        return {
            "Authorization": f"Bearer {self.tokens['access_token']}",
            "X-CSRF-TOKEN": self.tokens["csrf_token"],
        }

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Quotes and signs of a filter may stand in `path` as they are."""
        path = quote(path, safe="/?&=%,:+")
        return self.server.request(method, ROOT + path, body, self.headers | headers)

    def __call__(self, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        """The `data` of an answer, which must have this status and the envelope."""
        answer = self.send(method, path, body)
        return opened(answer, status)["data"]

    def names(self, path: str, key: str = "name") -> list[Any]:
        return [each[key] for each in self("GET", path)["items"]]


def opened(answer: Answer, status: int = 200) -> dict[str, Any]:
    """The whole envelope."""
    assert answer.status == status, answer.body
    found = answer.json()
    assert list(found) == ["data", "errors", "is_error", "message"]
    assert found["is_error"] is (status >= 400)
    assert answer.headers["content-type"] == "application/json"
    return found


def log_in(server: Server, name: str, password: str) -> Caller:
    answer = server.request("POST", f"{ROOT}auth/login", login_body(name, password))
    return Caller(server, opened(answer)["data"])


def login_body(name: str, password: str, database: str = "rubackup") -> dict[str, str]:
    return {"rubackup_database": database, "rubackup_user": name, "password": password}
