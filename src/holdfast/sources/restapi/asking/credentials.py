"""Who the API thinks we are: secrets from wherever they are kept, and the tokens that come of
them.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shlex
import subprocess
import time
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from holdfast.core.errors import AuthError, ProjectError
from holdfast.core.secret import Secret
from holdfast.net.aio import AsyncClient, Call, shown
from holdfast.sources.restapi.project.references import read_secret_file
from holdfast.sources.restapi.records.documents import parse

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.sources.restapi.asking.redact import Redactor
    from holdfast.sources.restapi.project.project import Project
    from holdfast.sources.restapi.project.sections import Auth

_COMMAND_LIMIT = 60.0
_LAST_WORDS = 300
_DEFAULT_HEADER = "X-API-Key"
_EARLY = 30.0
"""Seconds before its end at which a token is renewed."""


def find_secret(auth: Auth, word: str, folder: Path) -> Secret | None:
    """A secret from the file itself, another file, the environment or a command; None where none
    is given.

    Raises:
        ProjectError: it is said to be somewhere and is not there.
    """
    given: Secret | None = getattr(auth, word)
    if given is not None:
        return given
    if name := getattr(auth, f"{word}_file", None):
        try:
            return Secret(read_secret_file(folder, name))
        except ProjectError as error:
            raise ProjectError(f"auth.{word}_file: {error.message}") from None
    if name := getattr(auth, f"{word}_env", None):
        value = os.environ.get(name, "")
        if not value:
            raise ProjectError(f"auth.{word}_env: the environment has no variable {name}")
        return Secret(value)
    if command := getattr(auth, f"{word}_command", None):
        return Secret(_run(command, folder, word))
    return None


def _run(command: str, folder: Path, word: str) -> str:
    try:
        done = subprocess.run(
            shlex.split(command), cwd=folder, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=_COMMAND_LIMIT, check=False,
        )  # fmt: skip
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        reason = "it took too long" if isinstance(error, subprocess.TimeoutExpired) else str(error)
        raise ProjectError(f"auth.{word}_command failed: {reason}") from None
    value = done.stdout.decode(errors="replace").strip()
    if done.returncode or not value:
        words = done.stderr.decode(errors="replace").strip()[-_LAST_WORDS:]
        said = f": {words}" if words else ""
        raise ProjectError(
            f"auth.{word}_command gave no secret (exit code {done.returncode}){said}",
            remedy="Nothing was fetched. It runs without a shell; for pipes and variables write"
            " sh -c '...'.",
        )
    return value


class Credentials:
    """What is added to each request. Made by `open_credentials`."""

    def __init__(
        self,
        redactor: Redactor,
        *,
        headers: dict[str, Secret] | None = None,
        query: tuple[str, Secret] | None = None,
    ) -> None:
        self._headers = headers or {}
        self._query = query
        self._redactor = redactor

    @property
    def private(self) -> frozenset[str]:
        """Lower-case names of headers that must stay with the host they are meant for."""
        return frozenset(name.lower() for name in self._headers)

    def headers(self) -> dict[str, str]:
        return {name: value.reveal() for name, value in self._headers.items()}

    def query(self) -> tuple[str, str] | None:
        return (self._query[0], self._query[1].reveal()) if self._query else None

    async def prepare(self, client: AsyncClient) -> None:
        """Gets a token where one is needed before the first request.

        Raises:
            AuthError: none is given.
        """

    async def renew(self, client: AsyncClient, *, refused: dict[str, str]) -> bool:
        """After a 401 to a request with these headers: whether trying again makes sense."""
        del client, refused
        return False


class OAuth(Credentials):
    """A bearer token that is renewed by a refresh token or by the client's own credentials.

    A rotated refresh token is on disk before it is used, so that neither a crash nor the next run
    is locked out.
    """

    def __init__(self, redactor: Redactor, auth: Auth, *, folder: Path, state: Path) -> None:
        super().__init__(redactor)
        self._auth = auth
        self._state = state
        self._folder = folder
        self._lock = asyncio.Lock()
        self._refresh = find_secret(auth, "refresh_token", folder)
        self._client_secret = find_secret(auth, "client_secret", folder)
        self._token = find_secret(auth, "token", folder)
        self._expires = float("inf")
        self._given_token = self._token
        self._seed = _fingerprint(self._refresh, self._client_secret, self._token)
        self._recall()
        self._apply()

    async def prepare(self, client: AsyncClient) -> None:
        if self._token is None or time.time() > self._expires - _EARLY:
            await self.renew(client, refused=self.headers())

    async def renew(self, client: AsyncClient, *, refused: dict[str, str]) -> bool:
        async with self._lock:
            if self.headers() != refused:
                return True  # somebody else has renewed it meanwhile
            if self._auth.auth_url is None or not (self._refresh or self._client_secret):
                return False
            await self._fetch_token(client, self._auth.auth_url)
            return True

    async def _fetch_token(self, client: AsyncClient, address: str) -> None:
        by_refresh = self._refresh is not None and self._auth.grant_type != "client_credentials"
        form = {"grant_type": "refresh_token" if by_refresh else "client_credentials"}
        if by_refresh and self._refresh:
            form["refresh_token"] = self._refresh.reveal()
        if self._auth.scope:
            form["scope"] = self._auth.scope
        named = dict(form)
        if self._auth.client_id:
            named["client_id"] = self._auth.client_id
        if self._client_secret:
            named["client_secret"] = self._client_secret.reveal()
        reply = await client.send(_form_call(address, named))
        if reply.status in {400, 401} and self._auth.client_id and self._client_secret:
            # some servers take the client's secret in the header only
            pair = f"{self._auth.client_id}:{self._client_secret.reveal()}".encode()
            basic = {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
            reply = await client.send(_form_call(address, form, basic))
        try:
            answer = parse(reply.body)
        except ValueError:
            answer = None
        token = answer.get("access_token") if isinstance(answer, dict) else None
        if reply.status >= 400 or not isinstance(token, str):  # noqa: PLR2004 - where errors begin
            reason = answer.get("error", "") if isinstance(answer, dict) else ""
            raise AuthError(
                f"{shown(address)} gave no token: HTTP {reply.status} {reason}".rstrip(),
                status=reply.status,
            )
        self._token = Secret(token)
        lifetime = answer.get("expires_in")
        self._expires = (
            time.time() + lifetime if isinstance(lifetime, (int, float)) else float("inf")
        )
        if isinstance(rotated := answer.get("refresh_token"), str) and rotated:
            self._refresh = Secret(rotated)
        self._keep()
        self._apply()

    def _apply(self) -> None:
        for value in (self._token, self._refresh, self._client_secret):
            if value:
                self._redactor.learn(value.reveal())
        if self._token:
            self._headers = {"Authorization": Secret(f"Bearer {self._token.reveal()}")}

    def _keep(self) -> None:
        """Where a refresh token came from a file of its own, that file stays the place to find
        it.
        """
        file = self._auth.refresh_token_file
        if self._refresh and file and not self._auth.refresh_token:
            _write_private(self._folder / file, self._refresh.reveal() + "\n")
            self._seed = _fingerprint(self._refresh, self._client_secret, self._given_token)
        kept = {
            "seed": self._seed,
            "token": self._token.reveal() if self._token else None,
            "refresh_token": self._refresh.reveal() if self._refresh else None,
            "expires": None if self._expires == float("inf") else self._expires,
        }
        _write_private(self._state, json.dumps(kept))

    def _recall(self) -> None:
        """Tokens of the last run, unless the project was given other secrets since."""
        try:
            kept = json.loads(self._state.read_text())
        except (OSError, ValueError):
            return
        if not isinstance(kept, dict) or kept.get("seed") != self._seed:
            return
        if kept.get("token"):
            self._token = Secret(kept["token"])
        if kept.get("refresh_token"):
            self._refresh = Secret(kept["refresh_token"])
        self._expires = kept.get("expires") or float("inf")


def open_credentials(project: Project, redactor: Redactor) -> Credentials:
    """The credentials that a project asks for; their secrets are made known to the redactor.

    Raises:
        ProjectError: a secret cannot be found.
    """
    auth = project.auth
    if auth is None:
        return Credentials(redactor)
    match auth.type:
        case "basic":
            password = find_secret(auth, "password", project.folder) or Secret("")
            pair = f"{auth.username}:{password.reveal()}".encode()
            encoded = base64.b64encode(pair).decode()
            redactor.learn(password.reveal())
            redactor.learn(encoded)
            return Credentials(redactor, headers={"Authorization": Secret(f"Basic {encoded}")})
        case "bearer":
            token = find_secret(auth, "token", project.folder) or Secret("")
            redactor.learn(token.reveal())
            return Credentials(
                redactor, headers={"Authorization": Secret(f"Bearer {token.reveal()}")}
            )
        case "apikey":
            value = find_secret(auth, "api_key", project.folder) or Secret("")
            redactor.learn(value.reveal())
            if auth.api_key_param:
                return Credentials(redactor, query=(auth.api_key_param, value))
            return Credentials(redactor, headers={auth.api_key_header or _DEFAULT_HEADER: value})
    state = project.folder / ".holdfast" / "oauth2.json"
    return OAuth(redactor, auth, folder=project.folder, state=state)


def _fingerprint(*parts: Secret | None) -> str:
    return sha256("\0".join(part.reveal() if part else "" for part in parts).encode()).hexdigest()


def _form_call(address: str, form: dict[str, str], headers: dict[str, str] | None = None) -> Call:
    return Call(
        method="POST",
        url=address,
        headers={
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
            **(headers or {}),
        },
        body=urlencode(form).encode(),
    )


def _write_private(path: Path, text: str) -> None:
    """Durable, readable by its owner alone, never half-written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(path)
