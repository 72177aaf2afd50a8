"""Signing in to the RuBackup face, going on and signing out, as its document's curl calls do."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

import pytest
from tests.web.conftest import PASSWORD, Answer, Server
from tests.web.rubackup import ROOT, Caller, log_in, login_body, opened


def claims(token: str) -> dict[str, Any]:
    middle = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    return found


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def refresh(server: Server, caller: Caller) -> Answer:
    """With both headers and an empty body, as documented."""
    headers = bearer(caller.tokens["refresh_token"])
    headers["Authorization-Access-Token"] = f"Bearer {caller.tokens['access_token']}"
    headers["Content-Type"] = "application/x-www-form-urlencoded"  # what curl -d '' says
    return server.request("POST", f"{ROOT}auth/refresh", b"", headers)


def test_login_answers_as_documented(server: Server) -> None:
    answer = server.request("POST", f"{ROOT}auth/login", login_body("root", PASSWORD))
    said = opened(answer)
    assert said["errors"] == {}
    assert set(said["data"]) == {
        "access_token", "csrf_token", "refresh_token", "role", "rubackup_server_address",
        "user_name",
    }  # fmt: skip
    assert (said["data"]["role"], said["data"]["user_name"]) == (["superuser"], "root")
    access, again = (claims(said["data"][f"{each}_token"]) for each in ("access", "refresh"))
    for each, kind, seconds in ((access, "access", 900), (again, "refresh", 86_400)):
        assert set(each) == {
            "fresh", "iat", "jti", "type", "sub", "nbf", "csrf", "exp", "family",
        }  # fmt: skip
        assert (each["fresh"], each["type"], each["sub"]) == (False, kind, "root")
        assert each["iat"] == each["nbf"] == each["exp"] - seconds
        assert each["csrf"] == said["data"]["csrf_token"] == str(uuid.UUID(each["csrf"]))
        assert len(each["family"]) == 16
        assert each["family"].isalpha()
        assert each["family"].islower()
    assert access["family"] == again["family"]
    assert access["jti"] != again["jti"]
    assert base64.urlsafe_b64decode(said["data"]["access_token"].split(".")[0] + "==") == (
        b'{"typ":"JWT","alg":"HS256"}'
    )


def test_cookies(server: Server) -> None:
    """Both, for the browser's session only; an address has no domain above it."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    body = json.dumps(login_body("root", PASSWORD))
    connection.request("POST", f"{ROOT}auth/login", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    data = json.loads(answer.read())["data"]
    cookies = answer.headers.get_all("Set-Cookie")
    connection.close()
    assert len(cookies) == 2
    for cookie, name in zip(cookies, ("refresh", "access"), strict=True):
        value, *attributes = [each.strip() for each in cookie.split(";")]
        assert value == f"{name}_token_cookie={data[f'{name}_token']}"
        assert {each.lower() for each in attributes} == {
            "httponly", "path=/", "samesite=lax", "secure",
        }  # fmt: skip
    held = "; ".join(
        f"{name}_token_cookie={data[f'{name}_token']}" for name in ("refresh", "access")
    )
    nobody = Caller(server)
    csrf = {"X-CSRF-TOKEN": data["csrf_token"]}
    assert nobody.send("GET", "users", Cookie=held).status == 401
    assert nobody.send("GET", "users", **{"Cookie": held} | csrf).status == 200
    assert nobody.send("POST", "auth/refresh", Cookie=held).status == 401
    renewed = opened(nobody.send("POST", "auth/refresh", **{"Cookie": held} | csrf))["data"]
    held = f"access_token_cookie={renewed['access_token']}"
    assert nobody.send("DELETE", "auth/logout", Cookie=held).status == 401
    assert nobody.send("DELETE", "auth/logout", **{"Cookie": held} | csrf).status == 200
    assert nobody.send("GET", "users", **{"Cookie": held} | csrf).status == 401


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("api.rubackup.local", ".rubackup.local"),
        ("localhost", None),
        ("backup.local", None),
        ("127.0.0.1", None),
        ("::1", None),
    ],
)
def test_the_domain_of_cookies(host: str, domain: str | None) -> None:
    from holdfast.web.dialects.rubackup.sessions import _domain

    assert _domain(host) == domain


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (login_body("root", "wrong"), 401),
        (login_body("nobody-there", PASSWORD), 401),
        (login_body("root", PASSWORD, database="other"), 401),
        ({"rubackup_user": "root", "password": PASSWORD}, 400),
        (login_body("root", PASSWORD) | {"more": 1}, 400),
        ({"data": login_body("root", PASSWORD)}, 400),
        (login_body("root", PASSWORD) | {"password": 5}, 400),
        (b"{", 400),
        (b"", 400),
        ([1], 400),
    ],
)
def test_login_is_refused(server: Server, body: Any, status: int) -> None:
    headers = {"Content-Type": "application/json"}
    said = opened(server.request("POST", f"{ROOT}auth/login", body, headers), status)
    assert said["data"] == {}
    if status == 401:
        assert said["message"] == "Verification failed"


def test_a_body_that_is_no_json_is_not_taken(server: Server) -> None:
    body = b"rubackup_user=root"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    opened(server.request("POST", f"{ROOT}auth/login", body, headers), 415)


def test_refresh_gives_a_new_pair_of_the_family(server: Server) -> None:
    """The session ends a day after the login, however often it is refreshed."""
    first = log_in(server, "root", PASSWORD)
    second = Caller(server, opened(refresh(server, first))["data"])
    before, after = claims(first.tokens["refresh_token"]), claims(second.tokens["refresh_token"])
    assert (after["family"], after["exp"]) == (before["family"], before["exp"])
    assert after["jti"] != before["jti"]
    assert second("GET", "users")["total"] >= 1


def test_a_refresh_token_is_good_once(server: Server) -> None:
    """One that comes again has been copied: its family ends, other sessions live on."""
    first, other = log_in(server, "root", PASSWORD), log_in(server, "root", PASSWORD)
    second = Caller(server, opened(refresh(server, first))["data"])
    opened(refresh(server, first), 401)
    second("GET", "users", status=401)
    opened(refresh(server, second), 401)
    other("GET", "users")


def test_tokens_of_two_sessions_are_no_pair(server: Server) -> None:
    one, two = log_in(server, "root", PASSWORD), log_in(server, "root", PASSWORD)
    mixed = Caller(server, one.tokens | {"access_token": two.tokens["access_token"]})
    opened(refresh(server, mixed), 401)
    opened(refresh(server, one))


@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
def test_logout_ends_the_family(server: Server, which: str) -> None:
    """By either token; other sessions of the same user live on."""
    first, other = log_in(server, "root", PASSWORD), log_in(server, "root", PASSWORD)
    headers = bearer(first.tokens[which])
    said = opened(server.request("DELETE", f"{ROOT}auth/logout", None, headers))
    assert "deactivated" in said["message"]
    first("GET", "users", status=401)
    opened(refresh(server, first), 401)
    opened(server.request("DELETE", f"{ROOT}auth/logout", None, headers), 401)
    other("GET", "users")


def test_what_is_no_access_token(server: Server) -> None:
    """Every other token, and every other CSRF token, is nobody's."""
    good = log_in(server, "root", PASSWORD)
    head, body, signature = good.tokens["access_token"].split(".")
    none = base64.urlsafe_b64encode(b'{"typ":"JWT","alg":"none"}').rstrip(b"=").decode()
    forged = base64.urlsafe_b64encode(
        json.dumps(claims(good.tokens["access_token"]) | {"sub": "anna"}).encode()
    ).decode()
    for token in (
        "", "x", "a.b.c", good.tokens["refresh_token"], f"{head}.{body}.{signature[:-2]}AA",
        f"{none}.{body}.", f"{head}.{forged.rstrip('=')}.{signature}", "bakch-" + "0" * 64,
    ):  # fmt: skip
        headers = bearer(token) | {"X-CSRF-TOKEN": good.tokens["csrf_token"]}
        opened(server.request("GET", f"{ROOT}users", None, headers), 401)
    for csrf in ({}, {"X-CSRF-TOKEN": ""}, {"X-CSRF-TOKEN": str(uuid.uuid4())}):
        headers = bearer(good.tokens["access_token"]) | csrf
        opened(server.request("GET", f"{ROOT}users", None, headers), 401)
    good("GET", "users")
